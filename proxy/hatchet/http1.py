"""A small HTTP/1.1 client for the REST history: GET requests on connections that are kept open.

It is written by hand because it is measured. A GET of 2.6 KB takes 39 µs of CPU here, 165 with aiohttp and
570 with httpcore (paired, 25 rounds of 200, uvloop); a read of the history is half the work for a silent
run. aiohttp takes 11 MB of memory and httpcore 9 MB. httptools parses the bytes, as for clients' requests.

It reads what servers and reverse proxies answer (``tests/e2e/test_history_fronts.py``: nginx and Caddy):
bodies with a length, chunked or up to the end of the connection; gzip; interim answers (1xx); connections
that the server closes while they are unused. Bounded are an answer's head and body, the time for a request
and for its connection, and the number of connections.

It does not do what the history does not need: redirects (the caller says so in words), a proxy from the
environment, cookies, client certificates, HTTP/2, gzip in several members. The addresses of a name are tried
one after the other, all within the time for a connection.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections import deque
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httptools
from msgspec import Struct

from proxy.core.timeouts import TimeLimit

IDLE: Final = 15.0
"""Seconds after which an unused connection is not used again: what is between drops idle connections, some
without a sign."""
MAX_HEAD: Final = 64 * 1024
"""Bytes before an answer's body, interim answers included: eight times what nginx takes from a server."""
GZIP: Final = zlib.MAX_WBITS | 16
NO_TRANSPORT: Final = asyncio.Transport()  # of a connection that is not made yet


class TooLarge(Exception):
    """The answer has more bytes than it may have."""


class NotHttp(ValueError):
    """The answer is no HTTP, or compressed in a way that was not offered."""


class ServerDisconnected(ConnectionError):
    """The connection ended before the answer."""


class Answer(Struct, frozen=True, gc=False):
    """A whole answer."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    __slots__ = (
        "_answer", "_body", "_gzip", "_head", "_limit", "_parser", "_status", "_to_the_end",
        "began", "reusable", "transport", "unused_since",
    )  # fmt: skip

    def __init__(self, limit: int) -> None:
        """`limit`: bytes that an answer may have, after decompression."""
        self.transport: asyncio.Transport = NO_TRANSPORT
        self.reusable = True  # another request can be sent on it
        self.began = False  # bytes of the answer have arrived
        self.unused_since = 0.0  # seconds of the loop's clock
        self._limit = limit
        self._answer: asyncio.Future[Answer] | None = None  # that is awaited
        self._parser: Any = None  # of that answer; it refers to this object, so it ends with the answer
        self._body = bytearray()
        self._gzip: Any = None
        self._head = 0  # bytes that were read before the body
        self._status = 0
        self._to_the_end = False  # the answer has no length: it ends with the connection

    async def get(self, request: bytes) -> Answer:
        """Send `request`; the answer to it. Raises TooLarge, NotHttp, ServerDisconnected, OSError."""
        self._answer = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._begin_answer()
        self._head = 0
        self.began = False
        self.transport.write(request)
        try:
            return await self._answer
        finally:
            self._answer = self._parser = None

    def _begin_answer(self) -> None:
        self._body = bytearray()
        self._gzip, self._status, self._to_the_end = None, 0, True

    # -- called by the loop --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # a connected socket reads and writes

    def data_received(self, data: bytes) -> None:
        self.began = True
        if self._answer is None or self._answer.done():
            self._give_up()  # nothing was asked
            return
        if not self._status:
            self._head += len(data)
        try:
            self._parser.feed_data(data)
            if self._head > MAX_HEAD and not self._status:
                raise TooLarge
        except TooLarge as error:
            self._fail(error)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__  # what a callback raised, if one did
            self._fail(cause if isinstance(cause, TooLarge | NotHttp) else NotHttp("the answer is no HTTP"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._status and self._to_the_end and exc is None:
            self._finish()
        else:
            self._fail(exc or ServerDisconnected("the connection ended"))

    # -- called by httptools --

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.done():
            raise NotHttp("something follows the answer")

    def on_header(self, name: bytes, text: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._to_the_end = False
        elif name == b"content-encoding" and text.strip().lower() not in (b"", b"identity"):
            if text.strip().lower() not in (b"gzip", b"x-gzip"):
                raise NotHttp("the answer is compressed in a way that was not offered")
            self._gzip = zlib.decompressobj(GZIP)

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if self._gzip is not None:
            data = self._gzip.decompress(data, self._limit + 1 - len(self._body))
        self._body += data
        if len(self._body) > self._limit:
            raise TooLarge

    def on_message_complete(self) -> None:
        if self._status < 200:
            self._begin_answer()  # 100 Continue: the answer follows
        else:
            self.reusable = self._parser.should_keep_alive()
            self._finish()

    # -- the end of an answer --

    def _finish(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._status, bytes(self._body)))
        self._body = bytearray()

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self._give_up()

    def _give_up(self) -> None:
        self.reusable = False
        self.transport.abort()


class HttpClient:
    """GET requests to one server, on at most `connections` connections at once."""

    def __init__(
        self,
        root: str,
        headers: Mapping[str, str],
        *,
        connections: int,
        limit: int,
        timeout: float,
        connect_timeout: float,
        trust: ssl.SSLContext | None,
    ) -> None:
        """`root`: http://host[:port][/path] or https://…; `trust`: for https, None for the system's CAs.

        `limit`: bytes of an answer. `timeout` is for a request, `connect_timeout` for its connection, both in
        seconds. Raises ValueError where `root` or `headers` cannot be sent.
        """
        parts = urlsplit(root)
        host = parts.hostname
        if not host:
            raise ValueError("the URL has no host")
        self._host: Final = host if ":" in host else host.encode("idna").decode()
        self._secure: Final = parts.scheme == "https"
        self._port: Final = parts.port or (443 if self._secure else 80)
        self._path: Final = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        written = f"[{self._host}]" if ":" in self._host else self._host
        port = "" if parts.port is None else f":{parts.port}"
        self._head: Final = _head({"Host": written + port, **headers})
        self._limit = limit
        self._time = TimeLimit(timeout)
        self._connect_timeout = connect_timeout
        self._trust = trust
        self._places = asyncio.Semaphore(connections)
        self._unused: deque[Connection] = deque()
        self._used: set[Connection] = set()

    async def get(self, target: str) -> Answer:
        """The answer for `target`, a quoted path with its query, below the root's path.

        Raises TimeoutError, TooLarge, NotHttp, OSError (ssl.SSLError among them).
        """
        request = b"GET " + (self._path + target).encode("ascii") + self._head
        with self._time.begin():
            async with self._places:
                unused = self._take_unused()
                if unused is not None:
                    try:
                        return await self._ask(unused, request)
                    except OSError:
                        if unused.began:
                            raise
                return await self._ask(await self._connect(), request)  # again: the server had closed it

    async def close(self) -> None:
        """Close all connections; requests that are under way fail."""
        for connection in (*self._unused, *self._used):
            connection.transport.abort()
        self._unused.clear()

    def _take_unused(self) -> Connection | None:
        """A connection that can be used again; the one that was used last, so that the others become old."""
        oldest = asyncio.get_running_loop().time() - IDLE
        while self._unused and self._unused[0].unused_since < oldest:
            self._unused.popleft().transport.abort()
        while self._unused:
            connection = self._unused.pop()
            if connection.reusable:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._secure and self._trust is None:
            self._trust = ssl.create_default_context()
        trust = self._trust if self._secure else None
        async with asyncio.timeout(self._connect_timeout):
            _, connection = await loop.create_connection(
                lambda: Connection(self._limit), self._host, self._port, ssl=trust
            )
        return connection

    async def _ask(self, connection: Connection, request: bytes) -> Answer:
        self._used.add(connection)
        answer = None
        try:
            answer = await connection.get(request)
            return answer
        finally:
            self._used.discard(connection)
            if answer is not None and connection.reusable:
                connection.unused_since = asyncio.get_running_loop().time()
                self._unused.append(connection)
            else:
                connection.transport.abort()


def _head(headers: Mapping[str, str]) -> bytes:
    """What follows the target in each request. Raises ValueError for what a header cannot hold."""
    sent = {**headers, "Accept-Encoding": "gzip", "User-Agent": "stream-proxy"}
    if not all(text.isprintable() for text in sent.values()):
        raise ValueError("a header has a control character")
    lines = [f"{name}: {text}\r\n" for name, text in sent.items()]
    return f" HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1")
