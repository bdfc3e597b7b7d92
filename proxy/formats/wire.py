"""What each format fixes: its headers, how a block becomes a frame, the last frames that a client gets.

format     drain, wait, expired                        a stream that ends before the run's end
sse        a control frame; with `control: off` none   closes
ai-sdk     nothing that the protocol knows             closes, without ``finish``
ag-ui      nothing that the protocol knows             closes, without ``RUN_FINISHED``
openai     nothing that the protocol knows             closes, without ``finish_reason``
text       nothing                                     is cut off: a complete body means the run's end
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from proxy.formats import ai_sdk, sse
from proxy.formats.ag_ui import AgUi
from proxy.formats.ai_sdk import AiSdk
from proxy.formats.holding import Holding
from proxy.formats.machine import Facts, Machine
from proxy.formats.openai import OpenAi
from proxy.formats.sse import HEARTBEAT, Sse
from proxy.formats.text import PlainText

EVENT_STREAM: Final = b"text/event-stream; charset=utf-8"
UNBUFFERED: Final = [(b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no")]
SSE: Final = "sse"


class Wire(Struct, frozen=True):
    """What all streams of a format have in common.

    `controls`: there are control frames. `framed`: blocks are SSE frames with cursors, and comments may stand
    between them. `waits`: a request that has to come back later is answered with a stream of its own, not
    with a status. `json_by_accept`: a client that accepts JSON wants a document, not the stream.
    """

    name: str
    headers: tuple[tuple[bytes, bytes], ...]
    controls: bool = False
    framed: bool = True
    waits: bool = True
    json_by_accept: bool = True

    @property
    def heartbeat(self) -> bytes:
        """What is written after a time without traffic; empty for nothing."""
        return HEARTBEAT if self.framed else b""

    def opening(self, retry: float) -> bytes:
        """What comes before the first block; `retry` is the reconnect time in seconds. It may be empty."""
        return sse.retry(retry) if self.framed else b""

    def frame(self, block: bytes, cursor: bytes) -> bytes:
        """A block as a frame."""
        return b"id: %b\n%b\n\n" % (cursor, block) if self.framed else block

    def notice(self, name: str, data: Any, retry_in: float | None = None) -> bytes:
        """``stream.{name}`` for one client, outside of the message (drain, wait, expired); may be empty."""
        if self.controls:
            return sse.control(name, data, retry_in=retry_in)
        return b"" if retry_in is None else self.opening(retry_in)

    def gap(self, data: Any, cursor: bytes) -> bytes:
        """``stream.gap`` for one client; empty where the format has no control frames."""
        return sse.control("gap", data, cursor=cursor) if self.controls else b""


def _event_stream(
    name: str, *headers: tuple[bytes, bytes], waits: bool = True, controls: bool = False
) -> Wire:
    fixed = ((b"content-type", EVENT_STREAM), *UNBUFFERED, *headers)
    # OpenAI's clients accept JSON also where they ask for a stream
    return Wire(name, fixed, controls=controls, waits=waits, json_by_accept=name != "openai")


NAMED: Final = _event_stream(SSE, controls=True)
"""``sse`` with its control frames: the default."""
WIRES: Final = {
    SSE: NAMED,
    "ai-sdk": _event_stream("ai-sdk", *ai_sdk.HEADERS),
    "ag-ui": _event_stream("ag-ui"),
    # its clients try again by themselves at a 503 or 429, and take an empty stream for an empty answer
    "openai": _event_stream("openai", waits=False),
    "text": Wire(
        "text", ((b"content-type", b"text/plain; charset=utf-8"), *UNBUFFERED), framed=False, waits=False
    ),
}
_SILENT: Final = _event_stream(SSE)


def wire_of(name: str, *, controls: bool = True) -> Wire:
    """The wire of a format; `controls` is for ``sse`` alone."""
    return _SILENT if name == SSE and not controls else WIRES[name]


def machine_of(
    name: str,
    facts: Facts,
    *,
    hold: bool = False,
    controls: bool = True,
    failed: Callable[[str, str, str], None],
) -> Machine:
    """A new machine of a format.

    `hold`: a step's chunks are held until its attempt cannot fail any more; formats that cannot take back
    what was sent always hold. `failed` is called with rule, event type and reason for what is refused later.
    """
    if name == "ai-sdk":
        return Holding(AiSdk(facts, older=True), failed) if hold else AiSdk(facts)
    if name == "ag-ui":
        return Holding(AgUi(facts), failed) if hold else AgUi(facts)
    if name == "openai":
        return Holding(OpenAi(facts), failed)
    if name == "text":
        return Holding(PlainText(facts), failed)
    return Sse(controls=controls)
