"""Server-Sent Events: frames as bytes.

The format is the HTML standard's, section 9.2: https://html.spec.whatwg.org/multipage/server-sent-events.html

    id: CURSOR
    event: NAME         where the rule names one
    data: JSON
                        an empty line ends the frame

Data is compact JSON, so it holds no line break, and a chunk that looks like SSE itself stays a string in it.
No empty line follows a comment or a `retry`: some clients (httpx-sse) report any block with a field as an
event.

A message's frame is made together with its cursor, in one step (`proxy.log.frames`); control frames are made
here.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from proxy.core.events import Event, Reset, StepGap
from proxy.formats.machine import Sent
from proxy.formats.transcript import Part, Transcript

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


class Sse:
    """The format ``sse`` as a machine: each message is a block, and each control frame with `controls`.

    It keeps nothing, because a client that joins is sent the frames of the backlog. A channel writes messages
    without it (`proxy.log.frames`): the same bytes, made in one step.
    """

    def __init__(self, *, controls: bool = True) -> None:
        self._controls = controls
        self.log = Transcript(_nothing, lambda cause, part: None)

    def headers(self) -> list[tuple[bytes, bytes]]:
        return []

    def begin(self) -> list[bytes]:
        return []

    def message(self, event: Event, sent: Sent | None) -> list[bytes]:
        if sent is None:
            return []
        name = b"event: " + sent.part.encode() + b"\n" if sent.part else b""
        return [name + b"data: " + bytes(sent.data)]

    def control(self, item: Reset | StepGap) -> list[bytes]:
        return self._control("reset" if isinstance(item, Reset) else "gap", item.data)

    def end(self, status: str) -> list[bytes]:
        return self._control("end", {"status": status})

    def _control(self, name: str, data: Any) -> list[bytes]:
        if not self._controls:
            return []
        return [control(name, data).removesuffix(b"\n\n")]

    def again(self, cause: str) -> list[bytes]:
        return []

    def trim(self, size: int) -> None:
        """It keeps nothing."""


def _nothing(part: Part, text: str) -> bytes:
    return b""
