"""Answers: the responses that are no stream: problems (RFC 9457), waits, redirections of CORS.

An EventSource fails for good at every status but 200 and 204, so only what is final gets one. What will pass
is a stream of its own: `stream.wait` with a longer `retry`, then the end of the response. Clients that do not
take event streams get 503 or 429 with Retry-After instead.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import orjson

from proxy.formats import sse

Headers = list[tuple[bytes, bytes]]

STREAM_HEADERS: Final[Headers] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
WAIT_SECONDS: Final = 5.0  # at least, until a client that was told to wait comes back
WAIT_FACTOR: Final = 2.0  # times the stream's own `retry`, where that is longer


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    headers: Headers
    body: bytes = b""


def problem(status: int, detail: str, *, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """An error as ``application/problem+json``; `detail` is one sentence for the client's developer."""
    body = orjson.dumps(
        {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    )
    return Answer(
        status,
        [
            (b"content-type", b"application/problem+json"),
            (b"cache-control", b"no-store"),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ],
        body,
    )


def jittered(seconds: float) -> float:
    """`seconds`, give or take a third, so that clients do not come back in one instant."""
    return seconds * random.uniform(2 / 3, 4 / 3)


def wait(cause: str, accept: str | None, retry: float, detail: str) -> Answer:
    """Come back later: `cause` is hatchet, limit or config."""
    seconds = jittered(max(WAIT_SECONDS, WAIT_FACTOR * retry))
    if not takes_events(accept):
        status = 429 if cause == "limit" else 503
        return problem(status, detail, headers=[(b"retry-after", b"%d" % max(1, round(seconds)))])
    return Answer(200, list(STREAM_HEADERS), sse.control("wait", {"cause": cause}, retry_in=seconds))


def draining() -> Answer:
    """For a client that is still in the door when this replica goes away."""
    return Answer(200, list(STREAM_HEADERS), sse.control("drain", {}, retry_in=jittered(1.0)))


def takes_events(accept: str | None) -> bool:
    """Whether an Accept header (None: absent) names ``text/event-stream`` or ``*/*``."""
    if accept is None:
        return True
    for part in accept.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if media in ("text/event-stream", "*/*") and not any(_is_zero(text) for text in parameters):
            return True
    return False


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().strip("0.") == "" and value.strip() != ""
