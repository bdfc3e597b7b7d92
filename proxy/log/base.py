"""The verbs of a log that replicas share: append, read from a position, follow, seal, drop.

`proxy.log.memory` implements them for replicas in one process, `proxy.log.redis` on Redis or Valkey. Both
pass the same tests. With ``server.log: memory`` neither is used: a run has its backlog in this process alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, Protocol

from msgspec import Struct

GONE_AFTER: Final = 6.0
"""Seconds without a beat after which a replica is taken for dead: three beats."""


class LogAway(Exception):
    """The log cannot be reached now; the message says why in one sentence, without secrets."""


class LogRefused(Exception):
    """The log cannot be used as it is configured; the message says why in one sentence, without secrets."""


class Outcome(Enum):
    """The result of an append."""

    STORED = "stored"
    FENCED = "fenced"  # another replica leads: nothing was stored
    MISSING = "missing"  # there is no such log (any more): nothing was stored
    LOST = "lost"  # not known: the log was, or became, unreachable


class Life(Enum):
    """Whether a replica is there, as its key shows."""

    ALIVE = "alive"
    LEAVING = "leaving"  # it drains, and gives its leads away
    DEAD = "dead"


class Record(Struct, frozen=True, gc=False):
    """An entry of a log.

    `fence` and `position` are its id: the fence under which it was written, and its place in the log.
    A record without an item is a fence (`body` empty): `replica` leads from the next position on. `summary`
    says what was sent up to this position; every fence has one, and so has an item now and then.
    """

    fence: int
    position: int
    generation: str
    replica: str
    body: bytes
    summary: bytes = b""

    @property
    def is_fence(self) -> bool:
        """Whether it has no item."""
        return not self.body


class Latency(Protocol):
    """A histogram."""

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, in seconds."""


class Counts(Protocol):
    """What a log counts."""

    appended: int
    bytes: int
    refused: int
    unusable: int
    errors: Counter[str]

    @property
    def latency(self) -> Latency:
        """Seconds from an append to its acknowledgement."""

    @property
    def lag(self) -> Latency:
        """Seconds by which what is received is behind the log."""


Done = Callable[[Outcome], None]


class LogListener(Protocol):
    """Receives what happens to the log of one run."""

    def received(self, records: Sequence[Record]) -> None:
        """Records that were just written to the log; some may be missing, or have come before."""

    def connected(self) -> None:
        """The log can be reached (again): what was not acknowledged may be missing there."""

    def disconnected(self) -> None:
        """The log cannot be reached."""


class Announcements(Protocol):
    """Receives the announcements of other replicas."""

    def announced(self, replica: str, words: Sequence[str]) -> None:
        """Another replica announced `words`."""


class SharedLog(Protocol):
    """The logs of all runs, as one replica sees them; `name` is the text of a run's log."""

    replica: str
    """This replica, as others know it."""

    announcements: Announcements | None
    """Receives what other replicas announce."""

    @property
    def is_up(self) -> bool:
        """Whether the log can be reached now."""

    async def read(self, name: str, after: tuple[int, int] | None = None) -> list[Record]:
        """The records of a log after the id `after`, oldest first. Raises LogAway."""

    async def tail(self, name: str) -> Record | None:
        """The newest record; None where there is no log. Raises LogAway."""

    async def fence(self, name: str, record: Record, *, create: bool) -> bool:
        """Write the fence `record`; False where another replica was faster, or there is no log.

        `create`: begin the log where there is none. Raises LogAway.
        """

    def append(self, name: str, records: Sequence[Record], keep_from: tuple[int, int], done: Done) -> None:
        """Append records of one fence, in order; `done` is called once, after followers received it.

        Records before the id `keep_from` may be removed ((0, 0): none). Writing one again changes nothing.
        """

    async def follow(self, name: str, listener: LogListener) -> None:
        """Notify `listener` of new records and of the connection; once it has returned none is missed."""

    def unfollow(self, name: str, listener: LogListener) -> None:
        """Stop notifying it."""

    def nudge(self, name: str, record: Record) -> None:
        """Notify followers again of a record that is stored."""

    async def followers(self, name: str) -> int:
        """How many replicas follow a log, this one included. Raises LogAway."""

    async def life(self, replica: str) -> Life:
        """Whether a replica is there. Raises LogAway."""

    async def replicas(self) -> int:
        """How many replicas there are, this one included. Raises LogAway."""

    async def leave(self) -> None:
        """Announce that this replica gives its leads away. Raises LogAway."""

    async def claim(self, name: str, seconds: float) -> bool:
        """Whether this replica is the only one that claims `name` for `seconds`. Raises LogAway."""

    def announce(self, words: Sequence[str]) -> None:
        """Send `words` to all other replicas; there may be none."""

    def keep(self, name: str) -> None:
        """Put off the removal of a log that this replica leads."""

    def seal(self, name: str, seconds: float) -> None:
        """Nothing is appended any more: remove the log after `seconds`. A fence revokes it."""

    def drop(self, name: str) -> None:
        """Remove a log at once."""
