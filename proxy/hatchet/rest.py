"""The REST history over HTTP; each answer is bounded in time and size.

The history is optional: every failure here is a HistoryAway, and streams continue without it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from proxy.core.json_codec import NestedTooDeeply, decode
from proxy.hatchet.endpoint import Endpoint
from proxy.hatchet.errors import HistoryAway
from proxy.hatchet.http1 import HttpClient, TooLarge

TIMEOUT: Final = 10.0  # seconds for a request, the wait for a connection included
CONNECT_TIMEOUT: Final = 4.0  # seconds
CONNECTIONS: Final = 16  # behind the API is one Postgres: more requests at once would only queue there
ANSWER_FACTOR: Final = 4  # an answer may have this many times max_message: several outputs, escaped as JSON


class Rest:
    """A client of Hatchet's REST API with one tenant's token."""

    def __init__(self, endpoint: Endpoint, timeout: float = TIMEOUT) -> None:
        assert endpoint.api is not None
        self._root = endpoint.api
        self.name = f"the REST history at {urlsplit(endpoint.api).netloc.rpartition('@')[2]}"
        self._limit = endpoint.max_message * ANSWER_FACTOR
        self._headers = {"Authorization": f"Bearer {endpoint.token}", "Accept": "application/json"}
        self._trust = _trust(endpoint)
        self._timeout = timeout
        self._client: HttpClient | None = None  # made when it is first needed: the root may be no URL
        self._closed = False

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """GET `path`; return the parsed JSON of the answer, None for 404. Raises HistoryAway."""
        if not self._root.startswith(("http://", "https://")):
            raise HistoryAway(
                "hatchet.api or HATCHET_CLIENT_SERVER_URL must be a URL like https://hatchet.example.com"
            )
        target = path if query is None else f"{path}?{urlencode(query, quote_via=quote)}"
        try:
            answer = await self._opened().get(target)
        except TimeoutError:
            raise HistoryAway(f"{self.name} does not answer in time") from None
        except ssl.SSLError:
            raise HistoryAway(f"{self.name}: its certificate is not accepted; look at hatchet.ca") from None
        except TooLarge:
            raise HistoryAway(f"{self.name}: an answer is over {self._limit} bytes") from None
        except (OSError, ValueError) as error:
            raise HistoryAway(f"{self.name} cannot be reached ({type(error).__name__})") from None
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise HistoryAway(f"{self.name} {_status_text(answer.status)}")
        return self._parsed(answer.body)

    def _parsed(self, body: bytes) -> Any:
        try:
            return decode(body.decode())
        except NestedTooDeeply:
            raise HistoryAway(f"{self.name}: an answer is nested too deeply to be read") from None
        except ValueError:
            raise HistoryAway(
                f"{self.name} does not answer with JSON: is hatchet.api the address of Hatchet's API?"
            ) from None

    def _opened(self) -> HttpClient:
        if self._closed:
            raise HistoryAway("the client is closed")
        if self._client is None:
            self._client = HttpClient(
                self._root,
                self._headers,
                connections=CONNECTIONS,
                limit=self._limit,
                timeout=self._timeout,
                connect_timeout=CONNECT_TIMEOUT,
                trust=self._trust,
            )
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        self._closed = True
        if self._client is not None:
            await self._client.close()


def _trust(endpoint: Endpoint) -> ssl.SSLContext | None:
    """None for the system's certificates; with a configured CA a context that trusts it as well, as in the
    SDK."""
    if endpoint.tls.ca is None:
        return None
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
