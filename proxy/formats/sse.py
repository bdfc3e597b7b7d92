"""Server-Sent Events: frames as bytes.

The format is the HTML standard's, section 9.2: https://html.spec.whatwg.org/multipage/server-sent-events.html

    id: CURSOR
    event: NAME         where the rule names one
    data: JSON
                        an empty line ends the frame

Data is compact JSON, so it holds no line break, and a chunk that looks like SSE itself stays a string in it.
No empty line follows a comment or a `retry`: some clients (httpx-sse) report any block with a field as an
event.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

HEARTBEAT: Final = b":\n"
"""A comment, which clients ignore."""


def frame(data: bytes, *, event: str | None = None, cursor: bytes | None = None) -> bytes:
    """One frame; `data` is one line of JSON, `cursor` what the client sends back to go on from here."""
    head = b"" if cursor is None else b"id: " + cursor + b"\n"
    if event is not None:
        head += b"event: " + event.encode() + b"\n"
    return head + b"data: " + data + b"\n\n"


def control(name: str, data: Any, *, cursor: bytes | None = None, retry_in: float | None = None) -> bytes:
    """A control frame, ``stream.{name}``; `retry_in` is a reconnect time in seconds."""
    hint = b"" if retry_in is None else retry(retry_in)
    return hint + frame(orjson.dumps(data), event=f"stream.{name}", cursor=cursor)


def retry(seconds: float) -> bytes:
    """A reconnect time, in whole milliseconds as the standard asks; the next frame closes its block."""
    return b"retry: %d\n" % max(1, round(seconds * 1000))
