"""The REST history over HTTP with aiohttp; each answer is bounded in time and size.

The history is optional: every failure here is a HistoryAway, and streams continue without it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from proxy.core.json_codec import NestedTooDeeply, decode
from proxy.hatchet.endpoint import Endpoint
from proxy.hatchet.errors import HistoryAway

TIMEOUT: Final = aiohttp.ClientTimeout(total=10, connect=4)
CONNECTIONS: Final = 16  # behind the API is one Postgres: more requests at once would only queue there
PIECE: Final = 64 * 1024  # bytes that are read at once
ROOM: Final = 4  # an answer may have this many times max_message: several outputs, escaped as JSON


class Rest:
    """A client of Hatchet's REST API with one tenant's token."""

    def __init__(self, endpoint: Endpoint, timeout: aiohttp.ClientTimeout = TIMEOUT) -> None:
        assert endpoint.api is not None
        self._root = endpoint.api
        self.name = f"the REST history at {urlsplit(endpoint.api).netloc.rpartition('@')[2]}"
        self._limit = endpoint.max_message * ROOM
        self._headers = {"Authorization": f"Bearer {endpoint.token}", "Accept": "application/json"}
        self._ssl = _trust(endpoint)
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None  # created in the loop that uses it
        self._closed = False

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """GET `path`; return the parsed JSON of the answer, None for 404. Raises HistoryAway."""
        if not self._root.startswith(("http://", "https://")):
            raise HistoryAway(
                "hatchet.api or HATCHET_CLIENT_SERVER_URL is no URL like https://hatchet.example.com"
            )
        try:
            async with self._opened().get(
                self._root + path, params=query, ssl=self._ssl, allow_redirects=False
            ) as response:
                if response.status == 404:
                    return None
                if response.status != 200:
                    raise HistoryAway(f"{self.name} {_status_text(response.status)}")
                return self._parsed(await self._body(response))
        except TimeoutError:
            raise HistoryAway(f"{self.name} does not answer in time") from None
        except aiohttp.ClientSSLError:
            raise HistoryAway(f"{self.name}: its certificate is not accepted; look at hatchet.ca") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise HistoryAway(f"{self.name} cannot be reached ({type(error).__name__})") from None

    def _parsed(self, body: bytes) -> Any:
        try:
            return decode(body.decode())
        except NestedTooDeeply:
            raise HistoryAway(f"{self.name}: an answer is nested too deeply to be read") from None
        except ValueError:
            raise HistoryAway(f"{self.name} answers with no JSON: is hatchet.api Hatchet's API?") from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for piece in response.content.iter_chunked(PIECE):
            body += piece
            if len(body) > self._limit:
                raise HistoryAway(f"{self.name}: an answer is over {self._limit} bytes")
        return bytes(body)

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise HistoryAway("the client is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        self._closed = True
        if self._session is not None:
            await self._session.close()


def _trust(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """True for the system's certificates; with a configured CA a context that trusts it as well, as in the
    SDK."""
    if endpoint.tls.ca is None:
        return True
    context = ssl.create_default_context()
    ca, _, _ = endpoint.tls.read()
    if ca:
        context.load_verify_locations(cadata=ca.decode("ascii", "ignore"))
    return context


def _status_text(status: int) -> str:
    if status in (401, 403):
        return f"does not accept hatchet.token (HTTP {status})"
    if 300 <= status < 400:
        return f"redirects (HTTP {status}): set hatchet.api to its final address"
    return f"answers HTTP {status}"
