"""Server-Sent Events on the wire: frames to bytes.

The format is the HTML standard's, section 9.2: https://html.spec.whatwg.org/multipage/server-sent-events.html
A frame is ``id:``, ``event:`` (where named), one line of ``data:``, an empty line. Data is compact JSON,
so it never holds a line break, and a chunk that looks like SSE itself stays a string. A comment and `retry`
are lines without an empty one behind them: some clients (httpx-sse) make an event of any block with a field.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

HEARTBEAT: Final = b":\n"


def frame(data: bytes, *, event: str | None = None, cursor: bytes | None = None) -> bytes:
    """The bytes of one frame; `data` is one line of JSON."""
    head = b"" if cursor is None else b"id: " + cursor + b"\n"
    if event is not None:
        head += b"event: " + event.encode() + b"\n"
    return head + b"data: " + data + b"\n\n"


def control(name: str, data: Any, *, cursor: bytes | None = None, retry_in: float | None = None) -> bytes:
    """The bytes of a control frame, ``stream.{name}``; `retry_in` seconds go along where they are given."""
    hint = b"" if retry_in is None else retry(retry_in)
    return hint + frame(orjson.dumps(data), event=f"stream.{name}", cursor=cursor)


def retry(seconds: float) -> bytes:
    """The reconnect hint, in whole milliseconds as the standard asks; the next frame closes its block."""
    return b"retry: %d\n" % max(1, round(seconds * 1000))
