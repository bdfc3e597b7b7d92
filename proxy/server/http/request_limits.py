"""Limits on the size, the duration and the number of requests, for uvicorn's HTTP/1.1 protocol.

uvicorn itself has none: a client could send a request byte by byte for ever, or one without end.

    what                        limit               answer
    request line                LINE_BYTES          414
    all headers with the line   HEAD_BYTES          431
    number of headers           HEAD_COUNT          431
    body                        BODY_BYTES          413
    whole request               REQUEST_SECONDS     408, counted from its first byte (a connection's first
                                                    request: from being accepted)
    requests in the pipeline    PIPELINED           429

The connection is closed after the answer. Where another response is under way it is closed without one, which
would be read as a part of that response.

Sizes are counted twice: as the parser reports headers, which is exact, and as raw bytes, because the parser
reports a header only once it is complete.

Connections over the process's ceiling are closed at once. To a browser that is a network error, after which
an EventSource reconnects, while any status would make it give up.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_SECONDS: Final = 10.0
"""nginx waits 60 s for a head; browsers and proxies send a request, even one for a ticket, at once."""
LINE_BYTES: Final = 8 * 1024
"""Bytes of the target, which may hold a ticket and a cursor; nginx and Apache take 8 KiB."""
HEAD_BYTES: Final = 32 * 1024
"""Bytes of all headers with the target; nginx takes 4 x 8 KiB, Node 16 KiB: a large site's cookies fit."""
HEAD_COUNT: Final = 100
"""Headers of a request; Apache takes 100, a browser behind two proxies sends 30."""
BODY_BYTES: Final = 16 * 1024
"""Bytes of a body; the only one that is read is a request for a ticket, of 4 KiB at most."""
PIPELINED: Final = 8
"""Requests that may wait behind the one that is being answered; browsers send none."""
PER_HEADER: Final = 4
"""Bytes that separate a header's name, its value and the next header."""
ABORT: Final = "stream_proxy.connection"
"""The ASGI extension whose ``abort()`` closes the client's connection at once."""


class _Refused(Exception):
    """Raised in a callback of the parser, to stop it."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, within limits. Its requests carry the extension `ABORT`."""

    def __init__(
        self, *args: Any, ceiling: int | None = None, seconds: float = REQUEST_SECONDS, **kwargs: Any
    ) -> None:
        """`ceiling`: connections that are held at once, None for no limit; `seconds` as `REQUEST_SECONDS`."""
        super().__init__(*args, **kwargs)
        self._ceiling: Final = ceiling
        self._seconds: Final = seconds
        self._timer: asyncio.TimerHandle | None = None  # runs while a request is coming in
        self._refusal = HTTPStatus.BAD_REQUEST
        self._raw = self._head = self._count = self._body = 0

    # -- the connection --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if self._ceiling is not None and len(self.connections) > self._ceiling:
            self.transport.abort()
        else:
            self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_request()
        super().connection_lost(exc)

    # -- a request --

    def data_received(self, data: bytes) -> None:
        if self._timer is None and not self._answering:
            self._begin()  # empty lines begin no request, but they stop uvicorn's keep-alive timer
        self._raw += len(data)
        super().data_received(data)
        if self._timer is not None and self._raw > HEAD_BYTES + BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}
        if self._timer is None:
            self._begin()

    def on_url(self, url: bytes) -> None:
        self._head += len(url)
        if self._head > LINE_BYTES:
            self._stop(HTTPStatus.REQUEST_URI_TOO_LONG)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value) + PER_HEADER
        self._count += 1
        if self._head > HEAD_BYTES or self._count > HEAD_COUNT:
            self._stop(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= PIPELINED:
            self._stop(HTTPStatus.TOO_MANY_REQUESTS)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        if self._body > BODY_BYTES:
            self._stop(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._end_request()
        super().on_message_complete()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _begin(self) -> None:
        self._raw = self._head = self._count = self._body = 0
        self._timer = self.loop.call_later(self._seconds, self._is_late)

    def expect_by(self, due: float) -> None:
        """The request that has just begun must be here by `due` (the loop's time)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self.loop.call_at(due, self._is_late)

    def _end_request(self) -> None:
        """The request is here, or is not waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- refusals --

    def _is_late(self) -> None:
        if self._raw == 0:
            self.transport.close()  # no request came at all: a browser's spare connection
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _stop(self, status: HTTPStatus) -> None:
        self._refusal = status
        raise _Refused

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn when its parser has failed, by itself or because `_stop` was called."""
        self._refuse(self._refusal)

    def _refuse(self, status: HTTPStatus) -> None:
        self._end_request()
        if self.transport.is_closing():
            return
        if self._answering:
            self.transport.abort()  # an answer here would be read as part of the response that is under way
            return
        problem = {"type": "about:blank", "title": status.phrase, "status": status.value}
        body = json.dumps(problem, separators=(",", ":")).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
