"""Facts: what is known of one step run, noted as it comes, in any order.

`proxy.runs.reconcile.sequencer` tells what they allow.

A later attempt voids an end, a live telling outranks a state's, the first cause of a doubt stays.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from proxy.core.events import STEP_CANCELLED, STEP_FAILED, GapCause, LiveEvent
from proxy.runs.reconcile import payloads
from proxy.runs.reconcile.subscription_state import Line

TEXT_WAIT: Final = 1.0  # seconds that a failure waits for its words: a timeout's are in the core, once done
RECENT: Final = 16  # chunks by whose index and time a double is known even after its attempt is over
MAX_HELD: Final = 50_000  # chunks of one step held back; what comes beyond is a gap, not memory
MAX_HELD_BYTES: Final = 8 * 1024 * 1024  # likewise; a few chunks of the largest size


@dataclass(slots=True)
class Failure:
    """How an attempt failed; `text` None where only the count is known."""

    text: str | None
    at: str | None
    live: bool
    known_at: float  # since when we know


@dataclass(slots=True)
class Outcome:
    """How a step ended, and from when on it may be told (a state is ahead of the live event at times)."""

    type: str
    attempt: int
    payload: Any
    at: str | None
    live: bool
    tell_at: float

    @property
    def stopped(self) -> bool:
        """Whether no line is told of such an end, or but of the run's: a cancellation, a timeout."""
        return self.type == STEP_CANCELLED or (self.type == STEP_FAILED and payloads.timed_out(self.payload))


@dataclass(slots=True)
class Question:
    """An attempt's end, known from where nobody can say that the lines which tell its chunks were alive."""

    attempt: int
    line: Line | None  # who told it, bound too late to know what came before; None: a state did
    since: float  # a line that told something then, or later, was alive, and has told all
    until: float  # when it must have: else it is dead
    alive_at: float | None = None  # when such a line was first heard
    answered: bool = False


class Facts:
    """What is known of one step run."""

    __slots__ = (
        "_held_bytes",
        "adrift",
        "began",
        "doubt",
        "doubt_after",
        "doubt_next",
        "doubted_at",
        "due",
        "end",
        "ended",
        "failed_since",
        "failures",
        "first_at",
        "flowing",
        "held",
        "hole_since",
        "hung_up",
        "id",
        "name",
        "next",
        "overflowed",
        "past_next",
        "place",
        "proven",
        "proven_at",
        "question",
        "recent",
        "retries",
        "running",
        "start_at",
        "start_live",
        "start_seen",
        "start_tell_at",
        "started",
        "told",
    )

    def __init__(self, step_run_id: str) -> None:
        self.id = step_run_id
        self.name: str | None = None
        self.place = ""  # sorts steps by when they were created, where that is known
        self.started = False
        self.start_at: str | None = None
        self.start_live = False
        self.start_seen = False  # live, before a state told of it: what it streamed first was heard too
        self.start_tell_at = 0.0
        self.told = 1  # the attempt that is being told
        self.proven = 1  # the highest attempt that is known to have begun
        self.proven_at = 0.0
        self.next = 0  # the index that continues the attempt being told
        self.past_next = 0  # the index that would have continued the attempt before it
        self.first_at: str | None = (
            None  # the time of that attempt's chunk 0: tells a double from a new attempt
        )
        self.began: tuple[int, datetime] | None = None  # an attempt, and when the history says that it began
        self.recent: deque[tuple[int, str | None]] = deque(maxlen=RECENT)  # (index, at) of what was told last
        self.held: dict[int, dict[int, LiveEvent]] = {}  # attempt -> index -> chunk
        self._held_bytes = 0
        self.overflowed = False
        self.hole_since: float | None = None
        self.failures: dict[int, Failure] = {}
        self.failed_since: tuple[int, float] | None = None  # (attempt, since when the history says FAILED)
        self.retries: int | None = None
        self.running = False  # as the last state had it
        self.end: Outcome | None = None
        self.ended = False
        self.question: Question | None = None
        self.doubt: GapCause | None = None
        self.doubted_at: float | None = None
        self.doubt_after = (
            1,
            -1,
        )  # the last chunk that was there when the doubt came: later ones can clear it
        self.hung_up = False  # the doubt is only that the line ended, after it told of the run's end
        self.doubt_next: GapCause | None = None  # a doubt that concerns only the attempt after the failed one
        self.adrift = False  # a gap of unknown size was told: any index continues
        self.flowing = False  # the next chunk in order may be told at once
        self.due: float | None = None

    def begun(self, attempt: int, now: float) -> None:
        """`attempt` is known to have begun."""
        if attempt > self.proven:
            self.proven = attempt
            self.proven_at = now
            if self.end is not None and self.end.attempt < attempt:
                self.end = None

    def failed(self, attempt: int, text: str | None, at: str | None, live: bool, now: float) -> None:
        """`attempt` failed; whether another follows is not said by that."""
        self.begun(attempt, now)
        known = self.failures.get(attempt)
        if known is None or (live and not known.live) or (known.text is None and text):
            was_live = known is not None and known.live
            since = now if known is None else known.known_at
            self.failures[attempt] = Failure(text, at, live or was_live, since)
        elif known.at is None:
            known.at = at

    def ends(self, end: Outcome, now: float) -> None:
        """The step has ended with that; a live telling outranks a state's, an earlier attempt's is none."""
        self.begun(end.attempt, now)
        if self.ended or end.attempt < self.proven:
            return
        if self.end is None or (end.live and not self.end.live):
            self.end = end

    def fails(self, now: float, text: str | None = None, at: str | None = None, wait: float = 0.0) -> None:
        """The proven attempt was the last one, and failed; `text` is a state's, where it has one.

        It may be told `wait` seconds from now, and without words not before `TEXT_WAIT` has passed.
        """
        known = self.failures.get(self.proven)
        live = known is not None and known.live
        said = (known.text if known is not None else None) or text
        when = known.at if known is not None and known.at else at
        tell_at = now + (wait if said else TEXT_WAIT)
        end = Outcome(STEP_FAILED, self.proven, payloads.failure(said), when, live, tell_at)
        self.failures.setdefault(self.proven, Failure(said, when, live, now))
        if self.untold:
            self.end = None
        self.ends(end, now)

    @property
    def untold(self) -> bool:
        """Whether it is known to have failed, but not with which words."""
        end = self.end
        return end is not None and end.type == STEP_FAILED and not end.payload["detail"]

    def end_told(self, attempt: int) -> bool:
        """Whether a line has told how `attempt` ended."""
        failure = self.failures.get(attempt)
        ended = self.end is not None and self.end.live and self.end.attempt == attempt
        return ended or (failure is not None and failure.live)

    @property
    def questioned(self) -> Question | None:
        """Why its end is not to be told yet, though it is known."""
        question = self.question
        if question is None or question.answered or self.ended or question.attempt < self.proven:
            return None
        return question

    @property
    def undecided(self) -> bool:
        """Whether the proven attempt failed, and nothing says yet whether another follows."""
        return self.end is None and not self.ended and self.proven in self.failures

    def hold(self, event: LiveEvent, attempt: int) -> bool:
        """Keep a chunk until it is its turn; False where it is a double, or too much."""
        chunks = self.held.setdefault(attempt, {})
        index = event.index or 0
        if index in chunks:
            return False
        if len(chunks) >= MAX_HELD or self._held_bytes + len(event.payload) > MAX_HELD_BYTES:
            self.overflowed = True
            return False
        chunks[index] = event
        self._held_bytes += len(event.payload)
        return True

    def missed_start(self, cause: GapCause, now: float) -> None:
        """It ran before we listened: what it told before the first chunk we have, nobody can give."""
        if not self.ended and self.doubt is None:
            self.doubt = cause
            self.doubted_at = now
            self.doubt_after = (self.told, self.next - 1)

    def suspect(self, cause: GapCause, now: float, *, hung_up: bool = False) -> None:
        """Chunks may have been missed, for `cause`; the first cause stays."""
        if self.ended or (self.end is not None and self.end.live):
            return
        self.hung_up = hung_up and (self.hung_up or (self.doubt is None and self.doubt_next is None))
        if self.undecided and self.failures[self.proven].live:
            self.doubt_next = cause
            self.doubted_at = now
            self._doubt_what_follows()
            return
        if self.doubt is None or cause is GapCause.TOO_LARGE:
            self.doubt = cause
        if self.doubted_at is None:
            self.doubted_at = now
        self._doubt_what_follows()

    def _doubt_what_follows(self) -> None:
        """Only a chunk after those that are there can say what was missed."""
        last = max((attempt for attempt, chunks in self.held.items() if chunks), default=0)
        here = (self.told, self.next - 1)
        self.doubt_after = max(here, (last, max(self.held[last]))) if last else here

    def sure(self) -> None:
        """Whatever was in doubt is not."""
        self.doubt = self.doubt_next = None
        self.hung_up = False
        self.doubted_at = None
