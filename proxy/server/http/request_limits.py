"""Guard: a uvicorn protocol that holds every request to a size, a time and a number.

uvicorn itself has none of these: a client could send a head byte by byte for ever, or one without end.

The law: a request, head and body, is here within `REQUEST_SECONDS` of its first byte (a connection's first
one: of being accepted), its line within `LINE_BYTES`, its head within `HEAD_BYTES` and `HEAD_COUNT`, its body
within `BODY_BYTES`. What breaks it is answered, if nothing else is being answered, and its connection closed.

Sizes are counted twice: as headers come out of the parser, which is exact, and as raw bytes, because the
parser keeps a header to itself until it is complete.

Connections over the process's ceiling are closed at once: to a browser that is a network error, after which
an EventSource comes back, while any status would end it.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_SECONDS: Final = 10.0
"""nginx waits 60 s for a head; browsers and proxies send theirs, and what asks for a ticket, at once."""
LINE_BYTES: Final = 8 * 1024
"""Of the request's target, where tickets and cursors stand; nginx and Apache take 8 KiB."""
HEAD_BYTES: Final = 32 * 1024
"""Of all headers with the target; nginx takes 4 x 8 KiB, Node 16 KiB: cookies of a large site fit."""
HEAD_COUNT: Final = 100
"""Headers; Apache takes 100, a browser behind two proxies sends 30."""
BODY_BYTES: Final = 16 * 1024
"""Of a body; the only one that is read is the request for a ticket, of 4 KiB at most."""
PIPELINED: Final = 8
"""Requests that may wait behind one that is being answered; browsers send none."""
PER_HEADER: Final = 4
"""Bytes that separate a header's name, value and the next one."""


class _Refused(Exception):
    """Raised out of a parser's callback, to stop the parser."""


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 of uvicorn, within limits."""

    def __init__(
        self, *args: Any, ceiling: int | None = None, seconds: float = REQUEST_SECONDS, **kwargs: Any
    ) -> None:
        """`ceiling`: connections that this process holds; None for no limit."""
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
        self.end_request()
        super().connection_lost(exc)

    # -- a request --

    def data_received(self, data: bytes) -> None:
        if self._timer is None and not self._answering:
            self._begin()  # even empty lines, which begin no request but stop uvicorn's keep-alive timer
        self._raw += len(data)
        super().data_received(data)
        if self._timer is not None and self._raw > HEAD_BYTES + BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
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
        self.end_request()
        super().on_message_complete()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _begin(self) -> None:
        self._raw = self._head = self._count = self._body = 0
        self._timer = self.loop.call_later(self._seconds, self._is_late)

    @property
    def is_whole(self) -> bool:
        """Whether no request is half here."""
        return self._timer is None

    def expect_by(self, due: float) -> None:
        """The request that has just begun must be here by then (the loop's time)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self.loop.call_at(due, self._is_late)

    def end_request(self) -> None:
        """The request is here, or is not waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- refusals --

    def _is_late(self) -> None:
        if self._raw == 0:
            self.transport.close()  # said nothing, is told nothing: a browser's spare connection
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _stop(self, status: HTTPStatus) -> None:
        self._refusal = status
        raise _Refused

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls when its parser gave up, on its own or because we stopped it."""
        self._refuse(self._refusal)

    def _refuse(self, status: HTTPStatus) -> None:
        self.end_request()
        if self.transport.is_closing():
            return
        if self._answering:
            self.transport.abort()  # another answer in the middle of one would be read as its part
            return
        problem = {"type": "about:blank", "title": status.phrase, "status": status.value}
        body = json.dumps(problem, separators=(",", ":")).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
