"""Backlog: a bounded log of entries that are numbered from 1.

A reader of the log keeps only its *place*: the number of the last entry that it has. There are few operations
(append, read from a place, seal, drop), so that a log which replicas share can replace it.

- Recent entries are in one list: a reader near the end gets a slice of it.
- When a bound is exceeded, the oldest entries are evicted. Evicted chunks are lost; they are counted by step
  and attempt, for the gap that a reader gets in their place. Evicted lasting entries (lifecycle events, which
  every client must see) are moved *aside*, where they may take half of the bounds. Beyond that the oldest are
  *forgotten*: only their identities remain, so that they can be made again from the run's state.
- The newest entry is kept even if it is larger than the bounds.

It is used for the frames of a channel, and for the items of a run, from which later streams begin.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from msgspec import Struct

OVERHEAD: Final = 120
"""Bytes that an entry takes beside its body, roughly. Without it empty chunks would be free."""
MAX_LOSSES: Final = 512
"""Attempts whose losses are counted one by one; the losses of all others are one sum."""
COMPACT_AT: Final = 256
"""Evicted entries before the list is cut: it keeps eviction O(1) on average."""


Source = tuple[str, int, str | None]
"""Step and attempt of a chunk; and the run's id, where a backlog has the chunks of several runs."""


class Entry(Protocol):
    """What a backlog holds."""

    @property
    def size(self) -> int:
        """Bytes, `OVERHEAD` included."""

    @property
    def lasting(self) -> bool:
        """Whether it is moved aside when it is evicted."""

    @property
    def source(self) -> Source | None:
        """Where a chunk comes from, for `Backlog.losses`."""

    @property
    def chunks(self) -> int:
        """How many chunks it holds; 0: its eviction is no loss."""

    @property
    def identity(self) -> Hashable | None:
        """What is remembered of a lasting entry that was forgotten; None: nothing."""


E = TypeVar("E", bound=Entry)


class Frame(Struct, frozen=True, gc=False):
    """The bytes of one frame; its number is part of them."""

    body: bytes
    lasting: bool
    source: Source | None = None
    identity: Hashable | None = None
    chunks: int = 1

    @property
    def size(self) -> int:
        return len(self.body) + OVERHEAD


class Loss(Struct, frozen=True):
    """Evicted chunks of a step's attempt; `missed` is their number, None where it is not known.

    `run_id` is set where the backlog has the chunks of several runs. `until` is the number of the last one.
    """

    step: str | None
    attempt: int | None
    missed: int | None
    run_id: str | None = None
    until: int = 0


class Backlog(Generic[E]):
    """A bounded numbered log. `last` is the number of the newest entry, `bytes` what all entries take."""

    def __init__(self, events: int, max_bytes: int, grew: Callable[[int], None] | None = None) -> None:
        """`events` and `max_bytes` are the bounds; `grew` is called with every change of `bytes`."""
        self.max_events = events
        self.max_bytes = max_bytes
        self.bytes = 0
        self.last = 0
        self.sealed = False
        self._recent: list[E] = []
        self._head = 0  # entries before this index were evicted; they are cut off later
        self._aside: deque[tuple[int, E]] | tuple[()] = ()  # a deque takes 700 bytes, and few need one
        self._aside_bytes = 0
        self._losses: dict[
            tuple[str | None, int | None, str | None], list[int]
        ] = {}  # -> [first, last, count]
        self._forgotten: list[tuple[int, Hashable]] = []
        self._grew = grew or _ignore

    # -- the log --

    def append(self, entry: E, size: int | None = None) -> int:
        """Add an entry and return its number; evict the oldest where a bound is exceeded.

        `size` is the entry's, where the caller knows it already.
        """
        assert not self.sealed, "nothing is appended to a sealed backlog"
        if size is None:
            size = entry.size
        recent = self._recent
        recent.append(entry)
        self.last += 1
        self.bytes += size
        self._grew(size)
        if self.bytes > self.max_bytes or len(recent) - self._head + len(self._aside) > self.max_events:
            self._fit(self.max_events, self.max_bytes)
        return self.last

    def read(self, place: int) -> Sequence[E]:
        """The entries after `place`; only where `reaches(place)` is true."""
        return self._recent[place - self.last :] if place < self.last else ()

    def seal(self) -> None:
        """Allow no further appends."""
        self.sealed = True

    def drop(self) -> None:
        """Remove all entries."""
        self._grew(-self.bytes)
        self.bytes = 0
        self._recent, self._head = [], 0
        self._aside = ()

    def restart(self, last: int) -> None:
        """Drop all frames and start again with the number after `last`."""
        self.drop()
        self.last = last
        self._losses.clear()
        self._forgotten.clear()
        self._aside_bytes = 0
        self.sealed = False

    # -- what is there, and what was evicted --

    def __len__(self) -> int:
        return len(self._recent) - self._head + len(self._aside)

    @property
    def first(self) -> int:
        """The number of the first recent entry; `last` + 1 where there is none."""
        return self.last - (len(self._recent) - self._head) + 1

    def reaches(self, place: int) -> bool:
        """Whether no entry after `place` was evicted."""
        return place + 1 >= self.first

    def aside(self, place: int) -> list[tuple[int, E]]:
        """The lasting entries after `place` that were moved aside, with their numbers."""
        return [(number, entry) for number, entry in self._aside if number > place]

    def losses(self, place: int) -> list[Loss]:
        """The chunks after `place` that were evicted, by step and attempt, in the order of the last ones."""
        losses = [
            Loss(step, attempt, count if place < first else None, run_id, last)
            for (step, attempt, run_id), (first, last, count) in self._losses.items()
            if last > place
        ]
        return sorted(losses, key=_until)

    def forgotten(self, place: int) -> dict[Hashable, int]:
        """The identities of the lasting entries after `place` that were forgotten, and their numbers."""
        return {identity: number for number, identity in self._forgotten if number > place}

    def shrink(self, to_bytes: int) -> None:
        """Evict the oldest entries until at most `to_bytes` are left; the newest is kept."""
        self._fit(self.max_events, to_bytes)

    # -- eviction --

    def _fit(self, events: int, max_bytes: int) -> None:
        while (self.bytes > max_bytes or len(self) > events) and len(self) > 1:
            if self._aside and self._aside_is_full(events, max_bytes):
                self._forget()
            elif len(self._recent) - self._head > 1:
                self._evict()
            else:
                self._forget()
        if self._head >= COMPACT_AT and self._head * 2 >= len(self._recent):
            del self._recent[: self._head]
            self._head = 0

    def _aside_is_full(self, events: int, max_bytes: int) -> bool:
        return len(self._aside) > events // 2 or self._aside_bytes > max_bytes // 2

    def _evict(self) -> None:
        number, entry = self.first, self._recent[self._head]
        self._recent[self._head] = self._recent[-1]  # so that the evicted entry can be freed
        self._head += 1
        if entry.lasting:
            self._aside = self._aside or deque()
            self._aside.append((number, entry))
            self._aside_bytes += entry.size
            return
        self._release(entry)
        if not entry.chunks:
            return
        key: tuple[str | None, int | None, str | None] = entry.source or (None, None, None)
        if key not in self._losses and len(self._losses) >= MAX_LOSSES:
            key = (None, None, None)
        loss = self._losses.setdefault(key, [number, number, 0])
        loss[1] = number
        loss[2] += entry.chunks

    def _forget(self) -> None:
        assert self._aside, "only what was moved aside is forgotten"
        number, entry = self._aside.popleft()
        self._aside_bytes -= entry.size
        self._release(entry)
        if entry.identity is not None:
            self._forgotten.append((number, entry.identity))

    def _release(self, entry: E) -> None:
        self.bytes -= entry.size
        self._grew(-entry.size)


def _until(loss: Loss) -> int:
    return loss.until


def _ignore(delta: int) -> None:
    """The bytes are not counted."""
