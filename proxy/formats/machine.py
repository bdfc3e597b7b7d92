"""The interface of a format: a state machine between the rules' messages and the bytes of a protocol.

One machine serves one stream on one run, however many clients there are. It is pure: no clock, no input or
output. It returns *blocks*. A block is the smallest unit that a client of the protocol acts on; it becomes
one frame with a number and a cursor of its own, so a client can resume between any two blocks.

    rules ── Sent ──▶ message()  ─┐
    reset, gap ─────▶ control()   ├─▶ blocks ──▶ frames (one each) ──▶ backlog ──▶ all clients
    verified end ───▶ end()      ─┘
    a client joins ─▶ log        ───▶ the message so far, in one piece, for every client at that place
    a client is far behind ▶ log ───▶ what it does not have yet, in one piece
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from msgspec import Struct

from proxy.core.events import Event, Reset, StepGap
from proxy.formats.transcript import Transcript

TEXT: Final = "text"
REASONING: Final = "reasoning"
TOOL_INPUT: Final = "tool-input"
TOOL_OUTPUT: Final = "tool-output"
METADATA: Final = "metadata"
STEP: Final = "step"
ERROR: Final = "error"


class Sent(Struct, frozen=True, gc=False):
    """What the rule named `rule` sends of an event: `part` is its `as`, `data` what its `data` gives.

    For ``sse``, `part` is the event's name, empty for none, and `data` is a line of JSON in bytes.
    """

    part: str
    data: Any
    rule: str = ""


class Facts(Struct, frozen=True, gc=False):
    """What a machine knows about its stream and run.

    `thread` is the value in a metadata path, else the run id. `salt` differs between two backlogs of the same
    run, so that ids made with it are never mixed up. `created` is a Unix time in seconds.
    """

    run_id: str
    thread: str
    stream: str
    salt: str
    created: int


class Refused(Exception):
    """The machine cannot send this and stays as it was. The text is a reason without any value."""


class Machine(Protocol):
    """A stream on a run as one message of a protocol.

    `log` has what was sent so far: the message at any place is made again from it.
    """

    @property
    def log(self) -> Transcript: ...

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of a response that begins now, for what the protocol has no other place for."""

    def begin(self) -> list[bytes]:
        """What opens the message; the first blocks of a client that joins, with no numbers of their own."""

    def message(self, event: Event, sent: Sent | None) -> list[bytes]:
        """The blocks for `event`; `sent` is None where no rule forwards it. Raises Refused."""

    def control(self, item: Reset | StepGap) -> list[bytes]:
        """The blocks for a reset or a gap."""

    def end(self, status: str) -> list[bytes]:
        """The last blocks; `status` is completed, failed or cancelled."""

    def again(self, cause: str) -> list[bytes]:
        """What goes between `begin` and the rest for a client that may hold an older copy of the message."""

    def trim(self, size: int) -> None:
        """Give up the oldest text until about `size` bytes are left."""


def message_at(machine: Machine, place: int) -> list[bytes] | None:
    """The message as it was at `place`, in one piece; None where that cannot be made any more."""
    blocks = machine.log.between(0, place)
    return None if blocks is None else machine.begin() + blocks
