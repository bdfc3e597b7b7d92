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
    Host, HTTP version          RFC 9112, 3.2, 2.3  400

The connection is closed after the answer, and what the client sends after the refused request is not read.
Where responses to earlier requests are under way they are completed first. Where the response to the refused
request itself has begun, the connection is cut: the answer would be read as a part of that response.

Sizes are counted twice: as the parser reports headers, which is exact, and as raw bytes, because the parser
reports a header only once it is complete. A head that is too large is still read up to its end, within the
limit on raw bytes: the answer can carry CORS headers only if the Origin is known.

Connections over the process's ceiling are closed at once. A browser sees a network error, after which an
EventSource reconnects; after any status it would give up.

Three more things are different from uvicorn. A method that the parser does not know is answered by the
application, with 405, as every method that a path does not have. An offer to upgrade is ignored, as RFC 9110
(7.8) allows: the request is answered, with its body, as if there was none. And a client of HTTP/1.0 gets no
chunked transfer coding.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxy.server.http.parser_relay import AfterHead
from proxy.server.http.request_parser import is_host
from proxy.server.http.sockets import cut, unsent

REQUEST_SECONDS: Final = 10.0
"""nginx waits 60 s for a head; browsers and proxies send a request, even one for a ticket, at once."""
LINE_BYTES: Final = 8 * 1024
"""Bytes of the target, which may hold a ticket and a cursor; nginx and Apache take 8 KiB."""
HEAD_BYTES: Final = 32 * 1024
"""Bytes of all headers with the target; nginx takes 4 x 8 KiB, Node 16 KiB: a large site's cookies fit."""
HEAD_COUNT: Final = 100
"""Headers of a request; Apache takes 100, a browser behind two proxies sends 30."""
BODY_BYTES: Final = 16 * 1024
"""Bytes of a body; the only one that clients send is a request for a ticket, of 4 KiB at most."""
ADMIN_BODY_BYTES: Final = 512 * 1024
"""Bytes of a body on the admin port: a draft in the console."""
PIPELINED: Final = 32
"""Requests that may wait behind the one that is being answered; browsers send none."""
PER_HEADER: Final = 4
"""Bytes that separate a header's name, its value and the next header."""
LINGER_SECONDS: Final = 2.0
"""After a refusal the connection is closed for writing first, for reading so much later. If both were closed
at once, a client that still sends would get a reset, and lose the answer."""
ABORT: Final = "stream_proxy.connection"
"""The ASGI extension whose ``abort()`` closes the client's connection at once. Its ``unsent()`` says how many
bytes the client has not taken."""

VERSIONS: Final = ("1.0", "1.1")
_METHOD: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?= \S+ HTTP/1\.[01]\r\n)")
"""A method (RFC 9110, 9.1) at the beginning of a request line."""
_KNOWN_METHOD: Final = b"PATCH"  # to the parser, but of no path
_KEPT_HEADERS: Final = (
    b"host",
    b"origin",
    b"sec-fetch-site",
)  # of a head that is too large: what CORS asks for
_FRAMING: Final = (b"content-length", b"transfer-encoding")

RawHeaders = Sequence[tuple[bytes, bytes]]
Cors = Callable[[str, RawHeaders], RawHeaders]
"""The CORS headers for a refusal, by the path and the request's headers."""


def no_cors(path: str, headers: RawHeaders) -> RawHeaders:
    """No CORS headers: for a listener that no page may read."""
    return ()


class _Refused(Exception):
    """Raised in a callback of the parser, to stop it."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, within limits. Its requests carry the extension `ABORT`."""

    def __init__(
        self,
        *args: Any,
        ceiling: int | None = None,
        seconds: float = REQUEST_SECONDS,
        body_bytes: int = BODY_BYTES,
        cors: Cors = no_cors,
        **kwargs: Any,
    ) -> None:
        """`ceiling`: connections that are held at once, None for no limit.

        `seconds` and `body_bytes` as `REQUEST_SECONDS` and `BODY_BYTES`.
        """
        super().__init__(*args, **kwargs)
        self.url = b""
        self._ceiling: Final = ceiling
        self._seconds: Final = seconds
        self._body_bytes: Final = body_bytes
        self._cors: Final = cors
        self._timer: asyncio.TimerHandle | None = None  # runs while a request is coming in
        self._lingering: asyncio.TimerHandle | None = None
        self._raw = self._head = self._count = self._body = 0
        self._unanswered = 0  # requests whose heads were read and whose responses are not complete
        self._excess: tuple[HTTPStatus, str] | None = None  # a limit that the head has passed
        self._reason = HTTPStatus.BAD_REQUEST, "the request is not HTTP"  # why the parser was stopped
        self._refusal: bytes | None = None  # the last answer on this connection; nothing more is read

    # -- the connection --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if self._ceiling is not None and len(self.connections) > self._ceiling:
            self.transport.abort()
        else:
            self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_request()
        if self._lingering is not None:
            self._lingering.cancel()
        super().connection_lost(exc)

    # -- a request --

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        if self._timer is None and not self._unanswered:
            self._begin()  # empty lines begin no request, but they stop uvicorn's keep-alive timer
        self._unset_keepalive_if_required()
        self._raw += len(data)
        self._feed(data)
        if self._timer is not None and self._raw > HEAD_BYTES + self._body_bytes:
            self._refuse(
                *(self._excess or (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too large"))
            )

    def _feed(self, data: bytes) -> None:
        """Parse `data`; instead of uvicorn's `data_received`, which gives up at an upgrade."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserInvalidMethodError:
            method = _METHOD.match(data)
            if (
                method is None or self._unanswered or self._raw != len(data)
            ):  # where a request begins in `data`
                self._refuse(*self._reason)
            else:
                self.parser = httptools.HttpRequestParser(self)
                self._feed(_KNOWN_METHOD + data[method.end() :])
        except httptools.HttpParserError:
            self._refuse(*self._reason)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Go on with the body of a request that offers another protocol.

        llhttp stops behind the head of such a request and takes what follows for the other protocol. A new
        parser reads the rest, after a head that frames the body in the same way.
        """
        self.parser = httptools.HttpRequestParser(AfterHead(self))
        lines = [b"%b: %b" % header for header in self.headers if header[0] in _FRAMING]
        if not self.cycle.keep_alive:
            lines.append(b"connection: close")
        self._feed(b"\r\n".join([b"POST / HTTP/1.1", *lines, b"", rest]))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {
            ABORT: {"abort": partial(cut, self.transport), "unsent": partial(unsent, self.transport)}
        }
        if self._timer is None:
            self._begin()

    def on_url(self, url: bytes) -> None:
        self._head += len(url)
        if self._head > LINE_BYTES:
            self._exceeds(
                HTTPStatus.REQUEST_URI_TOO_LONG, f"a request's target may have at most {LINE_BYTES} bytes"
            )
        super().on_url(url[: LINE_BYTES - len(self.url)])

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value) + PER_HEADER
        self._count += 1
        if self._head > HEAD_BYTES:
            self._exceeds(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"a request's head may have at most {HEAD_BYTES} bytes",
            )
        elif self._count > HEAD_COUNT:
            self._exceeds(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a request may have at most {HEAD_COUNT} headers"
            )
        if self._excess is None or name.lower() in _KEPT_HEADERS:
            super().on_header(name, value)

    def _exceeds(self, status: HTTPStatus, detail: str) -> None:
        self._excess = self._excess or (status, detail)

    def on_headers_complete(self) -> None:
        if self._excess is not None:
            self._stop(*self._excess)
        self._check_head()
        if self._unanswered > PIPELINED:
            self._stop(
                HTTPStatus.TOO_MANY_REQUESTS, f"at most {PIPELINED} requests may wait on one connection"
            )
        super().on_headers_complete()
        self._unanswered += 1

    def _check_head(self) -> None:
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            self._stop(HTTPStatus.BAD_REQUEST, "this port speaks HTTP/1.1 and HTTP/1.0")
        if self.parser.get_method() == b"CONNECT":
            self._stop(HTTPStatus.BAD_REQUEST, "this server does not forward requests to other hosts")
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or (version == "1.1" and not hosts):
            self._stop(HTTPStatus.BAD_REQUEST, "a request must have one Host header")
        if hosts and not is_host(hosts[0].decode("latin-1")):
            self._stop(HTTPStatus.BAD_REQUEST, "the Host header is not a host")
        lengths = [value.lstrip(b"0") for name, value in self.headers if name == b"content-length"]
        if any(int(length[:9] or b"0") > self._body_bytes for length in lengths):
            self._too_large()

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        if self._body > self._body_bytes:
            self._too_large()
        super().on_body(body)

    def _too_large(self) -> None:
        detail = f"a request's body may have {self._body_bytes} bytes"
        self._stop(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the body follows (`_ignore_upgrade`)
        self._end_request()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        unframed = cycle.scope["http_version"] == "1.0"
        super()._start_asgi_task(cycle, _without_chunks(cycle, app) if unframed else app)

    def on_response_complete(self) -> None:
        self._unanswered -= 1
        super().on_response_complete()
        if self._refusal is not None and not self._unanswered:
            self._write_refusal()

    def _begin(self) -> None:
        self._raw = self._head = self._count = self._body = 0
        self._excess = None
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
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request was not complete in time")

    def _stop(self, status: HTTPStatus, detail: str) -> None:
        self._reason = status, detail
        raise _Refused

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer with `status` once every earlier request is answered, and close the connection."""
        self._end_request()
        if self.transport.is_closing() or self._refusal is not None:
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.more_body and not cycle.disconnected:  # it is this request's own
            if cycle.response_complete:
                self._refusal = b""  # it was answered without its body
            elif cycle.response_started:
                self.transport.abort()
                return
            else:
                self._give_up(cycle)
        if self._refusal is None:
            self._refusal = self._problem(status, detail)
        if not self._unanswered:
            self._write_refusal()

    def _give_up(self, cycle: RequestResponseCycle) -> None:
        """Take back the request whose body was being read."""
        self._unanswered -= 1
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
        cycle.disconnected = True
        cycle.message_event.set()

    def _problem(self, status: HTTPStatus, detail: str) -> bytes:
        problem = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
        body = json.dumps(problem, separators=(",", ":")).encode()
        path = self.url.partition(b"?")[0].decode("latin-1")
        lines = [
            b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode()),
            b"content-type: application/problem+json",
            b"content-length: %d" % len(body),
            b"cache-control: no-store",
            *(b"%b: %b" % header for header in self._cors(path, self.headers or [])),
            b"connection: close",
        ]
        return b"\r\n".join([*lines, b"", body])

    def _write_refusal(self) -> None:
        if self.transport.is_closing() or self._lingering is not None:
            return
        self.transport.write(self._refusal or b"")
        self._unset_keepalive_if_required()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._lingering = self.loop.call_later(LINGER_SECONDS, self.transport.close)


def _without_chunks(cycle: RequestResponseCycle, app: Any) -> Any:
    """`app`, whose response ends with the connection unless it names its length.

    HTTP/1.0 has no transfer codings (RFC 9112, 6.1), but uvicorn would use one.
    """

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        sized = False

        async def send_unframed(message: Any) -> None:
            nonlocal sized
            if message["type"] == "http.response.start":
                sized = any(name.lower() == b"content-length" for name, _ in message["headers"])
                if not sized:
                    cycle.chunked_encoding = False
            elif not sized:
                cycle.expected_content_length = len(message.get("body", b""))  # uvicorn compares the two
            await send(message)

        await app(scope, receive, send_unframed)

    return answer
