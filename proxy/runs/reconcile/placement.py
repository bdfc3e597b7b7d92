"""Which execution of a step sent a chunk.

Chunks carry no attempt. But each execution of a step's code numbers its chunks from 0, and their times grow.
So the chunks of all subscriptions are first grouped into executions:

    worker        0   1   2   3  | fails          zombie:    4   5        (a timed-out attempt's code goes on)
    next worker                     0   1   2   3   4
                 \\___________/      \\_______________/
                  execution 1          execution 2

Then `attempts.attribute` decides by evidence (STARTED, a failure, an end, the history) which attempt an
execution is. A chunk alone never begins an attempt. An execution whose attempt is not known yet waits.

`place` is pure; `Executions` keeps the state that it looks at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from proxy.core.instant import SECOND
from proxy.core.observations import LiveEvent
from proxy.runs.reconcile.subscription_state import SubscriptionState
from proxy.runs.reconcile.timing import CLOCK_JITTER, CLOCK_SKEW

RECENT: Final = 32  # chunks whose exact time is remembered after they were emitted
MOST_HELD: Final = 50_000  # chunks of one step that wait; further ones become a gap
MOST_HELD_BYTES: Final = 8 * 1024 * 1024  # likewise: a few chunks of the largest size
MOST_EXECUTIONS: Final = 64  # executions of one step that are remembered

_JITTER: Final = int(CLOCK_JITTER * SECOND)
_SKEW: Final = int(CLOCK_SKEW * SECOND)
FLUSH_SPAN: Final = 60 * SECOND  # chunks that were sent further apart do not come in one flush


class Execution:
    """One execution of a step: its chunks that wait, and what is remembered of those that were emitted."""

    __slots__ = (
        "after",
        "attempt",
        "begun",
        "clock_put_back",
        "counted",
        "elsewhere",
        "first_at",
        "first_index",
        "first_received_at",
        "guessed",
        "held",
        "last_at",
        "last_index",
        "last_received_at",
        "next",
        "number",
        "recent",
    )

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.attempt: int | None = None  # None: not known yet
        self.guessed = False  # it may be an attempt that no source named
        self.begun: tuple[int, float] | None = None
        """(attempt, seconds): the beginning of an attempt that came before the first chunk, on the same
        subscription, and when"""
        self.elsewhere = range(
            0
        )  # indices of chunks that came after it had begun, and were given to an older one
        self.after = 0  # the last attempt whose failure a subscription had brought before its first chunk
        self.counted: int | None = None  # what the history counted when it was asked after its first chunk
        self.clock_put_back = False  # a chunk came that continues it, timed before its first one
        self.first_received_at = now  # when its first chunk was received
        self.last_received_at = now  # when its last chunk was received
        self.first_index = 0
        self.first_at: int | None = None
        self.last_index = -1  # the highest index that was received
        self.last_at: int | None = None
        self.next = 0  # lower indices were emitted, or announced as missing
        self.held: dict[int, LiveEvent] = {}
        self.recent: deque[tuple[int, int | None]] = deque(maxlen=RECENT)  # (index, at) of emitted chunks

    def holds(self, index: int, at: int | None) -> bool:
        """Whether exactly this chunk is here already."""
        held = self.held.get(index)
        if held is not None:
            return held.at == at
        if index == self.last_index and at == self.last_at:
            return True  # it may have been dropped, as an earlier attempt's
        return (index, at) in self.recent

    def note(self, index: int, at: int | None, now: float) -> None:
        """A chunk of this execution was received."""
        self.last_received_at = now
        if self.last_index < 0 or index < self.first_index:
            self.first_index = index
            self.first_at = at
        if index > self.last_index:
            self.last_index = index
            self.last_at = at if at is not None else self.last_at

    def given_elsewhere(self, index: int) -> None:
        """An older execution was given a chunk that came after this one had begun."""
        first, after = (self.elsewhere.start, self.elsewhere.stop) if self.elsewhere else (index, 0)
        self.elsewhere = range(min(first, index), max(after, index + 1))

    def emitted(self, index: int, at: int | None) -> None:
        """A chunk of this execution was emitted; the next is the one after it."""
        self.next = index + 1
        self.recent.append((index, at))


class Place(Enum):
    """How a chunk relates to the execution that it belongs to."""

    ADDS = "adds"  # it belongs there and was not there yet
    KNOWN = "known"  # it is there already
    LATE = "late"  # it belongs there, but later chunks were emitted already
    BEGINS = "begins"  # it is of no known execution: it begins another one
    CONTESTED = "contested"  # it may be of more than one: it waits


@dataclass(frozen=True, slots=True)
class _Chunk:
    index: int
    at: int | None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An execution that the chunk may be of; `over`, `unbroken` and `passed` as in `place`."""

    one: Execution
    oldest: bool
    newest: bool
    over: int | None
    unbroken: bool
    passed: bool


def place(
    event: LiveEvent,
    executions: Sequence[Execution],
    over: Sequence[int | None],
    unbroken: Sequence[bool],
    passed: Sequence[bool],
    *,
    same_flush: bool = False,
) -> tuple[int, Place]:
    """Which execution a chunk belongs to.

    `executions` are the step's, oldest first. `over` has for each the time in nanoseconds at which it failed,
    after which it sent nothing more, else None. `unbroken` has for each whether no attempt can have begun
    unnoticed since its last chunk. `passed` has for each whether no missing chunk of it can still come on the
    subscription, whatever the times say. `same_flush`: it came together with the newest execution's last
    chunk, so the order in which they came proves nothing. Returns the position in `executions` (-1 for
    BEGINS).

    A chunk that is there already is KNOWN. One that continues the newest execution belongs to that. Any
    other chunk belongs to an execution only if it fits no other one; RULES decides how it fits.
    """
    chunk = _Chunk(event.index or 0, event.at)
    last = len(executions) - 1
    candidates = [
        _Candidate(one, n == 0, n == last, over[n], unbroken[n], passed[n])
        for n, one in enumerate(executions)
    ]
    for n in range(last, -1, -1):
        if candidates[n].one.holds(chunk.index, chunk.at):
            return n, Place.KNOWN
    if candidates and _next(chunk, candidates[last]):
        return last, Place.ADDS
    fits = [(n, found) for n in range(last, -1, -1) if (found := _fits(chunk, candidates[n])) is not None]
    if candidates and _clock_put_back(chunk, candidates[last]):
        newest = candidates[last].one
        earlier = newest.attempt != 1 and _before(chunk.at, newest.first_at)  # it may be an earlier attempt's
        follows = chunk.index == newest.last_index + 1 and not earlier
        if follows and not (same_flush and _close(chunk.at, newest.last_at)):
            fits.insert(0, (last, Place.ADDS))
        elif not fits:
            return last, Place.CONTESTED
    elif candidates and not fits and _clock_ahead(chunk, candidates[last]):
        return last, Place.CONTESTED
    if len(fits) > 1 and chunk.at is not None:
        return fits[0][0], Place.CONTESTED
    if fits and _sent_after_all(chunk, candidates[fits[0][0]], candidates[last]):
        return fits[0][0], Place.CONTESTED
    return fits[0] if fits else (-1, Place.BEGINS)


def _fits(chunk: _Chunk, candidate: _Candidate) -> Place | None:
    """How the chunk fits an execution, by the first rule of RULES that holds; None: it does not."""
    return next((found for rule in RULES if (found := rule(chunk, candidate)) is not None), None)


def _next(chunk: _Chunk, candidate: _Candidate) -> Place | None:
    """The chunk after the last one, of an execution that was not over when it was sent."""
    one = candidate.one
    if chunk.index != one.last_index + 1 or _before(chunk.at, one.last_at) or not candidate.unbroken:
        return None
    return None if _after(chunk.at, candidate.over) else Place.ADDS


def _missing(chunk: _Chunk, candidate: _Candidate) -> Place | None:
    """A chunk that is missing there and can still come, where its time fits."""
    one = candidate.one
    if candidate.passed or not one.next <= chunk.index < one.last_index or chunk.index in one.held:
        return None
    if _after(chunk.at, one.last_at):
        return None
    if chunk.index < one.first_index:
        fits = candidate.oldest or not _before(chunk.at, one.first_at)
    else:
        fits = not _before(chunk.at, one.first_at)
    return Place.ADDS if fits else None


def _emitted(chunk: _Chunk, candidate: _Candidate) -> Place | None:
    """A chunk that was emitted or announced as missing; its exact time is forgotten, and its time fits."""
    one = candidate.one
    if chunk.index >= one.next or _after(chunk.at, one.last_at):
        return None
    if chunk.at is not None and any(chunk.index == index and at != chunk.at for index, at in one.recent):
        return None  # an execution sends each index once
    if chunk.index < one.first_index:
        late = candidate.oldest or chunk.at is None or not _before(chunk.at, one.first_at)
        return Place.LATE if late else None
    if chunk.index == one.first_index and chunk.at is not None and chunk.at != one.first_at:
        return None
    return Place.LATE if _before(chunk.at, one.first_at) else Place.KNOWN


def _later(chunk: _Chunk, candidate: _Candidate) -> Place | None:
    """A later chunk of an execution that was not over when it was sent: chunks between are missing."""
    one = candidate.one
    if chunk.index <= one.last_index or _after(chunk.at, candidate.over) or not candidate.unbroken:
        return None
    return None if _before(chunk.at, one.last_at) else Place.ADDS


RULES: Final = (_next, _missing, _emitted, _later)


def _clock_put_back(chunk: _Chunk, candidate: _Candidate) -> bool:
    """Whether it may be a later chunk of a worker whose clock was put back."""
    one = candidate.one
    later = chunk.index > one.last_index and _before(chunk.at, one.last_at)
    return later and not _after(chunk.at, candidate.over) and candidate.unbroken


def _clock_ahead(chunk: _Chunk, candidate: _Candidate) -> bool:
    """Whether its worker's clock may be ahead: a failure's time is the engine's, a chunk's its worker's."""
    one = candidate.one
    if chunk.at is None or candidate.over is None or not candidate.unbroken:
        return False
    later = chunk.index > one.last_index and not _before(chunk.at, one.last_at)
    return later and chunk.at <= candidate.over + _SKEW


def _sent_after_all(chunk: _Chunk, candidate: _Candidate, newest: _Candidate) -> bool:
    """Whether it continues an earlier execution, and was sent when the newest was over.

    Old code that still runs may have sent it, or an attempt that is not known yet.
    """
    if candidate is newest or chunk.index <= candidate.one.last_index:
        return False
    return _after(chunk.at, newest.over)


def continues_with_an_earlier_time(event: LiveEvent, one: Execution) -> bool:
    """Whether a chunk has the next index of an execution, and is timed before its first one."""
    return event.index == one.last_index + 1 and _before(event.at, one.first_at)


def _close(at: int | None, other: int | None) -> bool:
    """Whether two chunks that were sent at these times can come in one flush."""
    return at is None or other is None or abs(at - other) < FLUSH_SPAN


def _after(at: int | None, other: int | None) -> bool:
    """Whether a time is after another, by more than the threads of one worker can differ."""
    return at is not None and other is not None and at > other + _JITTER


def _before(at: int | None, other: int | None) -> bool:
    """Whether a time is before another, by more than the threads of one worker can differ."""
    return at is not None and other is not None and at < other - _JITTER


@dataclass(frozen=True, slots=True)
class Contested:
    """A chunk that may be of more than one execution; `received_at` is when it came."""

    event: LiveEvent
    subscription: SubscriptionState
    received_at: float


class Executions:
    """The executions of one step, oldest first, and how much of them is held."""

    __slots__ = ("all", "bytes", "contested", "count", "overflowed")

    def __init__(self) -> None:
        self.all: list[Execution] = []
        self.contested: list[Contested] = []  # chunks that may be of more than one execution
        self.bytes = 0
        self.count = 0
        self.overflowed = False  # something was dropped because too much waits

    def of(self, attempt: int) -> Execution | None:
        """The newest execution of an attempt."""
        return next((one for one in reversed(self.all) if one.attempt == attempt), None)

    @property
    def unplaced(self) -> list[Execution]:
        """Those whose attempt is not known yet, oldest first."""
        return [one for one in self.all if one.attempt is None]

    def begin(self, now: float) -> Execution:
        """Another execution, which begins with the chunk that was just received."""
        number = self.all[-1].number + 1 if self.all else 1
        one = Execution(number, now)
        self.all.append(one)
        if len(self.all) > MOST_EXECUTIONS:
            self.drop(self.all.pop(0))
        return one

    def contest(self, one: Contested) -> None:
        """Keep a chunk until it is known which execution sent it."""
        event = one.event
        if any(each.event.index == event.index and each.event.at == event.at for each in self.contested):
            return
        if self.count >= MOST_HELD or self.bytes + len(event.payload) > MOST_HELD_BYTES:
            self.overflowed = True
            return
        self.contested.append(one)
        self.count += 1
        self.bytes += len(event.payload)

    def take_contested(self) -> list[Contested]:
        """All chunks that may be of more than one execution; they are not kept any more."""
        taken, self.contested = self.contested, []
        self.count -= len(taken)
        self.bytes -= sum(len(one.event.payload) for one in taken)
        return taken

    def hold(self, one: Execution, event: LiveEvent) -> bool:
        """Keep a chunk until it is its turn; False where too much waits already."""
        index = event.index or 0
        if index in one.held:
            return False
        if self.count >= MOST_HELD or self.bytes + len(event.payload) > MOST_HELD_BYTES:
            self.overflowed = True
            return False
        one.held[index] = event
        self.count += 1
        self.bytes += len(event.payload)
        return True

    def take(self, one: Execution, index: int) -> LiveEvent:
        """A chunk that waited."""
        event = one.held.pop(index)
        self.count -= 1
        self.bytes -= len(event.payload)
        return event

    def drop(self, one: Execution) -> int:
        """Forget what waits of an execution; returns how many chunks that were."""
        dropped = len(one.held)
        for event in one.held.values():
            self.count -= 1
            self.bytes -= len(event.payload)
        one.held.clear()
        return dropped

    def continues(self, one: Execution, before: Execution) -> None:
        """`one` sends again what `before` sent, and goes on from there (the same attempt, run again)."""
        one.attempt = before.attempt
        one.next = before.next
        for index in [index for index in before.held if index not in one.held]:
            one.held[index] = before.held.pop(index)
        self.drop(before)
        for index in [index for index in one.held if index < one.next]:
            self.take(one, index)
