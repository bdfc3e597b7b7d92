"""Step: one step run's own order, from facts that come in any.

Facts are noted as they come (`start`, `chunk`, `failed`, `ends`); `advance` tells what they allow:

    started (once) -> for each attempt: its chunks by index, retrying, reset -> the end (once)

An attempt is over when a later one is proven to have begun, or the step has ended. A missing index is waited
for `HOLE_WAIT`, then it is a gap. `doubt` is a cause for which chunks may be missing: a chunk that continues
exactly clears it, a later one puts a number to it, an end that comes first makes it a gap of unknown size.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from proxy import outcome
from proxy.events import (
    STEP_COMPLETED,
    STEP_FAILED,
    STEP_RETRYING,
    STEP_SKIPPED,
    STEP_STARTED,
    GapCause,
    LiveEvent,
)
from proxy.line import is_later, moment
from proxy.story import Story

LOST_WAIT: Final = (
    0.05  # seconds for a missing index that is known to be lost: only what overtook it may come
)
DONE_LAG: Final = 0.75  # seconds after a hangup within which a done state means that it told the truth
START_LAG: Final = 0.025  # seconds by which a worker's first chunk may be ahead of its own word that it began
TEXT_WAIT: Final = 1.0  # seconds that a failure waits for its words: a timeout's are in the core, once done
HOLE_WAIT: Final = 0.25  # seconds; the engine's own buffer waits 5 s, a reader of tokens will not
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


class Step:
    """One step run of one run."""

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
        "recent",
        "retries",
        "running",
        "start_at",
        "start_live",
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

    # -- facts --

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
        end = Outcome(STEP_FAILED, self.proven, outcome.failure(said), when, live, tell_at)
        self.failures.setdefault(self.proven, Failure(said, when, live, now))
        if self.untold:
            self.end = None
        self.ends(end, now)

    @property
    def untold(self) -> bool:
        """Whether it is known to have failed, but not with which words."""
        end = self.end
        return end is not None and end.type == STEP_FAILED and not end.payload["detail"]

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

    def lacks(self, event: LiveEvent) -> bool:
        """Whether that chunk, told after the failure, is the one that is missing before it."""
        if event.index != self.next:
            return False
        later = min(self.held.get(self.told, ()), default=None)
        after = self.held[self.told][later].at if later is not None else None
        return event.at is None or after is None or event.at.rstrip("Z") <= after.rstrip("Z")

    def sent_before_failure(self, event: LiveEvent, attempt: int) -> bool | None:
        """Whether its time is before that attempt's failure (None: unknown): two clocks, so a last resort."""
        failure = self.failures.get(attempt)
        if failure is None or failure.at is None or event.at is None:
            return None
        return event.at.rstrip("Z") < failure.at.rstrip("Z")

    def attempt_of(self, event: LiveEvent, attempt: int) -> int:
        """`attempt`, or the earlier one whose failure that chunk came before."""
        while attempt > 1 and self.sent_before_failure(event, attempt - 1):
            attempt -= 1
        return max(attempt, 1)

    def began_at(self, attempt: int, at: str | None) -> None:
        """The history says when `attempt` began; its chunks are timed by the same worker's clock."""
        when = moment(at)
        if attempt == 1 or when is None:
            return
        self.began = (attempt, when)
        self._void(attempt, _text(when - timedelta(seconds=START_LAG)))

    def behind(self, at: str | None) -> bool:
        """Whether that time seems to be before the last chunk's: it may be of an earlier attempt."""
        last = self.recent[-1][1] if self.recent else None
        return last is not None and at is not None and at < last

    def misfit(self, event: LiveEvent, attempt: int) -> int:
        """Whether a chunk is too old (-1) or too new (1) for `attempt`, where times grow with indices."""
        held = self.held.get(attempt)
        if held:
            index, last = next(reversed(held.items()))
            at = last.at
        elif attempt == self.told and 0 < self.next <= (event.index or 0):
            index, at = self.recent[-1]
        else:
            return 0
        if event.index is None or event.index == index or event.at is None or at is None:
            return 0
        if event.index < index:
            return 1 if is_later(event.at, at) else 0
        return -1 if is_later(at, event.at) else 0

    def void_earlier(self, attempt: int) -> bool:
        """Drop what is held as `attempt`'s and came before, by the failure's time; says if any did."""
        failure = self.failures.get(attempt - 1)
        before = len(self.held.get(attempt, ()))
        if failure is not None and failure.at is not None:
            self._void(attempt, failure.at.rstrip("Z"))
        return len(self.held.get(attempt, ())) < before

    def _void(self, attempt: int, began: str) -> None:
        held = self.held.get(attempt, {})
        for index in [i for i, event in held.items() if event.at and event.at.rstrip("Z") < began]:
            self._held_bytes -= len(held.pop(index).payload)
        if not held:
            self.held.pop(attempt, None)

    def older(self, event: LiveEvent) -> bool:
        """Whether a chunk was sent before the proven attempt began, whichever line told it now."""
        if event.at is None or self.proven == 1:
            return False
        at = event.at.rstrip("Z")
        if self.began is not None and self.began[0] == self.proven:
            return at < _text(self.began[1] - timedelta(seconds=START_LAG))
        last = self.recent[-1][1] if self.recent and self.next == 0 else None
        return last is not None and at <= last.rstrip("Z")

    def newer(self, event: LiveEvent) -> bool:
        """Whether a chunk was sent after the proven attempt had begun, by what the history says."""
        if event.at is None or self.began is None or self.began[0] != self.proven:
            return False
        return event.at.rstrip("Z") > _text(self.began[1])

    def anew(self, event: LiveEvent) -> bool:
        """Whether a chunk whose index was told is no double: within an attempt, times grow with indices."""
        if event.at is None or (event.index, event.at) in self.recent:
            return False
        if event.index == 0 and self.first_at is not None:
            return event.at != self.first_at
        last = self.recent[-1][1] if self.recent else None
        return last is not None and event.at.rstrip("Z") > last.rstrip("Z")

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

    # -- telling --

    def advance(self, story: Story, now: float, *, last: bool = False) -> None:
        """Tell all that can be told now; `last`: nothing more will come, so nothing is waited for."""
        self.due = None
        self.flowing = False
        if self.ended or self.name is None or not self._start(story, now, last):
            return
        while True:
            if not self._chunks(story, now, last):
                return
            if self.told < self.proven:
                self._retry(story)
                continue
            end = self.end
            if end is None:
                self.flowing = self.next > 0 and self.doubt is None and not self.adrift and not self.held
            elif last or now >= (tell_at := self._may_tell_end(end)):
                self._tell_end(story, end)
            else:
                self._later(tell_at)
            return

    def _may_tell_end(self, end: Outcome) -> float:
        """A state's end waits for the verified one, where that will say that a hangup cost nothing."""
        if end.live or not self.hung_up or self.doubted_at is None:
            return end.tell_at
        return max(end.tell_at, self.doubted_at + DONE_LAG)

    def _later(self, at: float) -> None:
        self.due = at if self.due is None else min(self.due, at)

    def _start(self, story: Story, now: float, last: bool) -> bool:
        if self.started:
            return True
        if now < self.start_tell_at and not (last or self.start_live or self.held or self.end):
            self._later(self.start_tell_at)
            return False
        self.started = True
        story.step(STEP_STARTED, self.name or "", self.id, 1, at=self.start_at, recovered=not self.start_live)
        return True

    def _chunks(self, story: Story, now: float, last: bool) -> bool:
        """Tell the chunks of the attempt in order; False while a missing one is waited for."""
        held = self.held.get(self.told)
        while held:
            first = self.next if self.next in held else min(held)
            if first < self.next:  # told, or said to be missing, meanwhile
                self._held_bytes -= len(held.pop(first).payload)
                continue
            if first != self.next and not self.adrift:
                if self.hole_since is None:
                    self.hole_since = now
                patience = self.hole_since + (HOLE_WAIT if self.doubt is None else LOST_WAIT)
                if now < patience and not last and not self.overflowed:
                    self._later(patience)
                    return False
                story.gap(self.doubt or GapCause.UPSTREAM, self.name, self.told, first - self.next)
            self.hole_since = None
            self.adrift = False
            self._run_of(story, held, first)
        if held is not None:
            del self.held[self.told]
            if self.overflowed:
                self.overflowed = False
                self.doubt = GapCause.UPSTREAM
        self.hole_since = None
        return True

    def _run_of(self, story: Story, held: dict[int, LiveEvent], index: int) -> None:
        while (event := held.pop(index, None)) is not None:
            self._held_bytes -= len(event.payload)
            story.chunk(self.name or "", event, self.told)
            self.recent.append((index, event.at))
            if index == 0:
                self.first_at = event.at
            index += 1
        self.next = index
        if self.doubt is not None and (self.told, index - 1) > self.doubt_after:
            self.sure()

    def _retry(self, story: Story) -> None:
        failure = self.failures.get(self.told)
        text = failure.text if failure is not None else None
        live = failure is not None and failure.live
        payload = outcome.failure(text) if text is not None else None
        at = failure.at if failure is not None else None
        story.step(
            STEP_RETRYING, self.name or "", self.id, self.told, payload=payload, at=at, recovered=not live
        )
        self.told += 1
        self.past_next = self.next
        self.next = 0
        self.first_at = None
        self.adrift = False
        if live:
            self.doubt, self.doubt_next = self.doubt_next, None
        else:  # nobody told when it was over: what we took for its chunks may be the next one's
            self.hung_up = False
            self.missed_start(GapCause.UPSTREAM, self.proven_at)
        self._forget_doubles()
        story.reset(self.name or "", self.told)

    def _forget_doubles(self) -> None:
        """What a slower line told after the failure may have been of the attempt before."""
        held = self.held.get(self.told, {})
        for index in [
            index for index, event in held.items() if event.at and (index, event.at) in self.recent
        ]:
            self._held_bytes -= len(held.pop(index).payload)
        if not held:
            self.held.pop(self.told, None)

    def _tell_end(self, story: Story, end: Outcome) -> None:
        lost = any(self.held.values()) or (not end.live and _told_live(end))
        unheard = not (end.live or self.start_live or self.next) and self.told == 1
        unseen = GapCause.UPSTREAM if lost or unheard else None
        cause = self.doubt or unseen
        if cause is not None and end.type != STEP_SKIPPED and not self.adrift:
            story.gap(cause, self.name, self.told, None)
        self.sure()
        self.ended = True
        self.held.clear()
        self._held_bytes = 0
        story.step(
            end.type,
            self.name or "",
            self.id,
            end.attempt,
            payload=end.payload,
            at=end.at,
            recovered=not end.live,
        )

    def despair(self, story: Story) -> None:
        """Say that chunks of unknown number are missing, though the step still runs."""
        if self.doubt is not None and self.started and not self.ended:
            story.gap(self.doubt, self.name, self.told, None)
            self.sure()
            self.adrift = True


def _told_live(end: Outcome) -> bool:
    """Whether the engine tells such an end live: where it did not, something was lost."""
    failed = end.type == STEP_FAILED and not outcome.timed_out(end.payload)
    return failed or end.type == STEP_COMPLETED


def _text(when: datetime) -> str:
    return when.isoformat(timespec="microseconds")
