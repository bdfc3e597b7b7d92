"""Backlog: the frames of one channel, numbered from 1, bounded, sealable; readers own only a place in it.

The seam has few verbs (append, read from a place, seal, drop), so that a log which replicas share can take
its place. The law:

- What is recent lies in one piece, so a reader near the tail gets a slice, and all readers at one place
  share the same joined bytes.
- Under pressure chunks go first. Lasting entries (lifecycle: what a client must see) move aside and may
  take half of the bounds; beyond that the oldest are forgotten too, by name, so that they can be made
  again from the run's state.
- What went is counted by step and attempt: a reader who was not there yet is told what he misses.
- The newest entry is kept even if it is larger than the bounds.

Pure and sync. The same class keeps a run's events (for streams that are opened later).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from proxy.core.value import value

OVERHEAD: Final = (
    120  # bytes that an entry costs beside its body, roughly: counted, or empty chunks were free
)
MAX_LOSSES: Final = 512  # steps whose losses are told one by one; beyond that one sum for the rest
COMPACT_AT: Final = 256  # entries evicted before the list is cut: keeps eviction O(1) on average


class Entry(Protocol):
    """What a backlog keeps."""

    @property
    def size(self) -> int:
        """Bytes, OVERHEAD included."""

    @property
    def lasting(self) -> bool:
        """Whether it should outlive chunks."""

    @property
    def source(self) -> tuple[str, int] | None:
        """Step and attempt of a chunk, for the losses."""

    @property
    def identity(self) -> Hashable | None:
        """What to remember of a lasting entry once it is gone; None: nothing."""


E = TypeVar("E", bound=Entry)


@value
class Frame:
    """Numbered bytes, ready for the wire."""

    body: bytes
    lasting: bool
    source: tuple[str, int] | None = None
    identity: Hashable | None = None

    @property
    def size(self) -> int:
        return len(self.body) + OVERHEAD


@dataclass(frozen=True, slots=True)
class Loss:
    """Chunks of a step's attempt that went; `missed` is None where only "some" is known."""

    step: str | None
    attempt: int | None
    missed: int | None


class Backlog(Generic[E]):
    """A bounded numbered log. `grew` hears every change of `bytes`, evictions included."""

    def __init__(self, events: int, max_bytes: int, grew: Callable[[int], None] | None = None) -> None:
        self.max_events = events
        self.max_bytes = max_bytes
        self.bytes = 0
        self.last = 0  # number of the newest entry
        self.sealed = False
        self.gone = 0  # every chunk numbered up to here that is not in the recent piece is gone
        self._recent: list[E] = []
        self._head = 0  # entries before it were evicted and wait for the cut
        self._aside: deque[tuple[int, E]] = deque()
        self._aside_bytes = 0
        self._losses: dict[tuple[str | None, int | None], list[int]] = {}  # -> [first, last, count]
        self._forgotten: list[tuple[int, Hashable]] = []
        self._grew = grew or _unheard

    # -- the four verbs --

    def append(self, entry: E) -> int:
        """Number an entry and keep it; the oldest go where the bounds ask for it."""
        assert not self.sealed, "a sealed backlog takes nothing more"
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
        """What lies in one piece after `place`; only for a `place` that `reaches` says is within it."""
        return self._recent[place - self.last :] if place < self.last else ()

    def seal(self) -> None:
        """Nothing more will come."""
        self.sealed = True

    def drop(self) -> None:
        """Let everything go."""
        self._grew(-self.bytes)
        self.bytes = 0
        self._recent, self._head = [], 0
        self._aside.clear()

    # -- what is there and what went --

    def __len__(self) -> int:
        return len(self._recent) - self._head + len(self._aside)

    @property
    def first(self) -> int:
        """Number of the first entry of the recent piece (`last` + 1 where it is empty)."""
        return self.last - (len(self._recent) - self._head) + 1

    def reaches(self, place: int) -> bool:
        """Whether everything after `place` lies in the recent piece."""
        return place + 1 >= self.first

    def aside(self, place: int) -> list[tuple[int, E]]:
        """The lasting entries after `place` that were moved out of the recent piece, with their numbers."""
        return [(number, entry) for number, entry in self._aside if number > place]

    def losses(self, place: int) -> list[Loss]:
        """The chunks after `place` that are gone, by step and attempt."""
        return [
            Loss(step, attempt, count if place < first else None)
            for (step, attempt), (first, last, count) in self._losses.items()
            if last > place
        ]

    def forgotten(self, place: int) -> dict[Hashable, int]:
        """The lasting entries after `place` that are gone: what they were, and their numbers."""
        return {identity: number for number, identity in self._forgotten if number > place}

    def shrink(self, to_bytes: int) -> None:
        """Let the oldest go until at most `to_bytes` are left (the newest stays)."""
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
        self._recent[self._head] = self._recent[-1]  # no longer holds the evicted entry alive
        self._head += 1
        if entry.lasting:
            self._aside.append((number, entry))
            self._aside_bytes += entry.size
            return
        self._release(entry)
        self.gone = number
        key = entry.source or (None, None)
        if key not in self._losses and len(self._losses) >= MAX_LOSSES:
            key = (None, None)
        loss = self._losses.setdefault(key, [number, number, 0])
        loss[1] = number
        loss[2] += 1

    def _forget(self) -> None:
        number, entry = self._aside.popleft()
        self._aside_bytes -= entry.size
        self._release(entry)
        if entry.identity is not None:
            self._forgotten.append((number, entry.identity))

    def _release(self, entry: E) -> None:
        self.bytes -= entry.size
        self._grew(-entry.size)


def _unheard(delta: int) -> None:
    """Nobody counts."""
