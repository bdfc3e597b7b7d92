"""Reads the requests that the fast path answers: GET in HTTP/1.1, without a body or an upgrade.

httptools (llhttp) parses, as it does for uvicorn, so both ways read the same bytes alike. A request that
is not of this kind is not refused: uvicorn gets all its bytes, and decides.

A parser of our own, with regular expressions, was measured: 2.3 µs for the request of a script (103 bytes),
11.0 µs for that of a browser (886 bytes). httptools takes 3.9 and 10.8 µs, so the second parser was removed.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from functools import lru_cache
from typing import Any, Final

import httptools

MAX_BYTES: Final = 8 * 1024
"""Of a request on the fast path. It is the limit of a request line alone, so no limit of
`proxy.server.http.request_limits` can be exceeded within it but the number of headers."""
MAX_HEADERS: Final = 50
"""Half of what `proxy.server.http.request_limits` allows."""

_HOST: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")

_OTHER_HEADERS: Final = frozenset(
    {"content-length", "expect", "http2-settings", "proxy-connection", "transfer-encoding", "upgrade"}
)
"""Requests with one of these are left to uvicorn: they have a body, or ask for another protocol."""


@lru_cache(maxsize=128)  # nearly all clients name the same host
def is_host(text: str) -> bool:
    """Whether `text` can be the value of a Host header, by its characters (RFC 9110, 7.2)."""
    return _HOST.fullmatch(text) is not None


class Progress(Enum):
    """How far a request has been read."""

    INCOMPLETE = auto()
    COMPLETE = auto()
    OTHER = auto()  # not one for the fast path


INCOMPLETE, COMPLETE, OTHER = Progress  # Python 3.11 takes 50 ns to look a member up in its class


class RequestParser:
    """Parses one request.

    Once it is complete: `path` (still quoted) and `query`, `headers` by their names in lower case (the first
    of each name), all Cookie headers, and `keep_alive`, whether the connection can be used again.
    """

    __slots__ = (
        "_count", "_lines", "_parser", "_progress", "_size", "_url",
        "cookies", "headers", "keep_alive", "on_url", "path", "query",
    )  # fmt: skip

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.cookies: list[str] = []
        self.keep_alive = True
        self.path = self.query = ""
        self._url: list[bytes] = []
        self.on_url = self._url.append  # called by httptools
        self._size = self._count = self._lines = 0
        self._progress = INCOMPLETE
        self._parser: Any = httptools.HttpRequestParser(self)  # None once the request is read

    def feed(self, data: bytes) -> Progress:
        """Parse the next bytes of the connection."""
        self._size += len(data)
        self._lines += data.count(b"\n")
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._progress = OTHER
        if self._size > MAX_BYTES:
            self._progress = OTHER
        elif self._progress is COMPLETE and (
            self._lines != self._count + 2 or data[-1:] != b"\n"  # the request line, and the empty line
        ):
            self._progress = OTHER  # something follows the request, or a header takes several lines
        if self._progress is not INCOMPLETE:
            self._parser = None  # it holds this object's methods: a reference cycle
        return self._progress

    # -- called by httptools --

    def on_header(self, raw_name: bytes, raw_value: bytes) -> None:
        self._count += 1
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name not in self.headers:
            self.headers[name] = value
        elif name in ("connection", "host"):
            self._progress = OTHER
        if name == "cookie":  # HTTP/2 in front may have split it (RFC 9113, 8.2.3)
            self.cookies.append(value)

    def on_headers_complete(self) -> None:
        """Check the request. It has no body, so this is also its end."""
        parser, url = self._parser, b"".join(self._url)
        if (
            self._progress is not INCOMPLETE
            or parser.get_method() != b"GET"
            or parser.get_http_version() != "1.1"
            or self._count > MAX_HEADERS
            or not _OTHER_HEADERS.isdisjoint(self.headers)
            or url[:1] != b"/"
            or url[:2] == b"//"  # which would be read as an authority
            or b"#" in url
            or not is_host(self.headers.get("host", "\0"))  # none at all is a bad request too
        ):
            self._progress = OTHER
            return
        path, _, query = url.partition(b"?")
        self.path, self.query = path.decode("ascii"), query.decode("ascii")
        self.keep_alive = parser.should_keep_alive()
        self._progress = COMPLETE
