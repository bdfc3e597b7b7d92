"""Responses that are no stream: problems (RFC 9457), and streams of one frame that tell a client to wait.

An EventSource gives up for good at every status but 200 and 204, so only a final refusal is answered with
another status. A temporary one is answered with a stream of its own: ``stream.wait`` with a longer `retry`,
then the end of the response. Clients that do not accept event streams get 503 or 429 with Retry-After
instead.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import orjson
from msgspec import Struct

from proxy.formats.chunked import LAST, chunk
from proxy.formats.wire import NAMED, Wire

Headers = list[tuple[bytes, bytes]]

CLOSE: Final = (b"connection", b"close")
CHUNKED: Final = (b"transfer-encoding", b"chunked")
WAIT_SECONDS: Final = 5.0
"""The least time after which a client that gets `stream.wait` reconnects."""
WAIT_FACTOR: Final = 2.0
"""Times the stream's own `retry`, where that is longer."""
DRAIN_SECONDS: Final = 1.0
"""Seconds after which a client reconnects if a drain interrupted its request: another replica answers."""


QUALITY: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


class HttpResponse(Struct, frozen=True):
    """A whole response.

    For the log: `detail` is what the body says to a developer, `limit` the limit that is reached, if one is.
    """

    status: int
    headers: Headers
    body: bytes = b""
    detail: str = ""
    limit: str = ""

    def encode(self, default_headers: Headers, *, keep_alive: bool) -> bytes:
        """Its bytes in HTTP/1.1; `default_headers` come first. Chunked where it names no content-length."""
        headers = [*default_headers, *self.headers, *(() if keep_alive else (CLOSE,))]
        if self.status == HTTPStatus.NO_CONTENT:
            return encode_head(self.status, headers)
        if any(name == b"content-length" for name, _ in headers):
            return encode_head(self.status, headers) + self.body
        body = (chunk(self.body) if self.body else b"") + LAST
        return encode_head(self.status, [*headers, CHUNKED]) + body


def encode_head(status: int, headers: Headers) -> bytes:
    """A response's status line and headers. Raises ValueError where a header holds a line break."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\n") != len(headers):
        raise ValueError("a header of the response holds a line break")
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, HTTPStatus(status).phrase.encode(), lines)


def problem(status: int, detail: str, *, headers: Sequence[tuple[bytes, bytes]] = ()) -> HttpResponse:
    """An error as ``application/problem+json``; `detail` is one sentence for the client's developer."""
    body = orjson.dumps(
        {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    )
    return HttpResponse(
        status,
        [
            (b"content-type", b"application/problem+json"),
            (b"cache-control", b"no-store"),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ],
        body,
        detail,
    )


def jittered(seconds: float) -> float:
    """`seconds`, plus or minus up to a third, so that clients do not all reconnect in one instant."""
    return seconds * (1 + (2 * random.random() - 1) / 3)


def wait(cause: str, accept: str | None, retry: float, detail: str, wire: Wire = NAMED) -> HttpResponse:
    """Tells the client to reconnect later.

    `cause` is hatchet, limit or config; `accept` the request's Accept header (None: absent); `retry` the
    stream's own reconnect time in seconds; `detail` a sentence for clients that accept no event stream, and
    for those of a format that knows no such stream; `wire` is that of the format.
    """
    seconds = jittered(max(WAIT_SECONDS, WAIT_FACTOR * retry))
    if not wire.waits or not accepts_event_stream(accept):
        status = 429 if cause == "limit" else 503
        return problem(status, detail, headers=[(b"retry-after", b"%d" % max(1, round(seconds)))])
    body = wire.notice("wait", {"cause": cause}, retry_in=seconds)
    return HttpResponse(200, list(wire.headers), body, detail)


def nothing_to_come(wire: Wire = NAMED) -> HttpResponse:
    """204, for a client that has seen the run's end, or need not wait: an EventSource stops reconnecting.

    There is no body, but a content type: httpx-sse and other clients that check it before they look at the
    status would raise an error without it.
    """
    return HttpResponse(204, [wire.headers[0], (b"cache-control", b"no-store")])


def draining(wire: Wire = NAMED, *, document: bool = False) -> HttpResponse:
    """For a request (for a stream, or a `document`) that is not answered yet when this replica drains."""
    if document or not wire.waits:
        retry_after = (b"retry-after", b"%d" % max(1, round(DRAIN_SECONDS)))
        return problem(503, "this replica is shutting down; try again", headers=[retry_after])
    return HttpResponse(200, list(wire.headers), wire.notice("drain", {}, retry_in=jittered(DRAIN_SECONDS)))


def accepts_event_stream(accept: str | None) -> bool:
    """Whether an Accept header (None: absent) names ``text/event-stream`` or ``*/*``."""
    if accept is None:
        return True
    for part in accept.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if media in ("text/event-stream", "*/*") and not any(_is_zero(text) for text in parameters):
            return True
    return False


def quality(accept: str, media: str) -> float:
    """The quality that an Accept header gives to a media type by name; 0 where it does not name it."""
    best = 0.0
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name == media:
            texts = [text.partition("=")[2].strip() for text in parameters if text.startswith("q")]
            best = max(best, _number(texts[0]) if texts else 1.0)
    return best


def _number(text: str) -> float:
    """A quality; one that is malformed counts as 1."""
    return float(text) if QUALITY.fullmatch(text) else 1.0


def _is_zero(parameter: str) -> bool:
    """Whether a parameter of a media range is a quality of zero."""
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().strip("0.") == "" and value.strip() != ""
