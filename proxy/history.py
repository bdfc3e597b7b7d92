"""What is known of one run: live events and states in; ordered items, what to look at next and the end out.

The law: whatever was lost, doubled or invented on the way, each lifecycle event that the state can tell
comes out exactly once, in a legal order (`proxy.step` has a step's own), and the end comes out exactly when
the core state says done. Nothing here does IO, reads a clock or knows a loop: every input brings its `now`.

    in     opened, live, closed (a line's life)      core, past, past_away, tick (what was asked for)
    out    take() -> items      core_look.at, past_look.at -> when to read which state
           due -> when to tick      needs -> steps whose next chunks the engine would hold back      over

The three sources tell different parts of the truth: a line what happens, the core state names and the end,
the history the past. So nothing is told before the core state has come, and, within patience, the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy import ending
from proxy.events import (
    STEP_CANCELLED,
    STEP_COMPLETED,
    STEP_SKIPPED,
    CoreState,
    GapCause,
    Item,
    Kind,
    LiveEvent,
    PastState,
    PastStep,
    Status,
)
from proxy.line import Line
from proxy.look import Look
from proxy.outcome import output
from proxy.step import MAX_HELD, Outcome, Step
from proxy.story import Story

PAST_PATIENCE: Final = (
    0.25  # seconds that the first telling waits for the history: it knows the order and the outputs
)
PLACE_PATIENCE: Final = 0.25  # seconds until a line that nobody placed is believed to tell the proven attempt
LIVE_PATIENCE: Final = 0.25  # seconds that a state's news waits for the same news live, which says more
STRAGGLERS: Final = 0.05  # seconds that an end told by metadata waits for chunks that it may have overtaken
FAILED_PATIENCE: Final = 1.0  # seconds that the history must have said FAILED to be believed
CLOSE_PATIENCE: Final = 1.0  # seconds that a verified end waits for the history's details
LOST_PATIENCE: Final = 1.0  # seconds after which a line that did not tell a proven failure has lost it
JOIN_PATIENCE: Final = (
    6.0  # seconds of silence after which a step joined late is said to be: the engine's hold is over
)
DONE_LAG: Final = 0.75  # seconds after a hangup within which a done state means that it told the truth
END_LOOKS: Final = 6  # looks after something that smelled of the end: 0, 0.1, 0.3, 0.7, 1.5, 3.1 s

RESTING: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class History:
    """One run, merged."""

    def __init__(self, run_id: str, *, has_past: bool = True, check_after: float = 15.0) -> None:
        self.run_id = run_id
        self.has_past = has_past
        self.check_after = check_after
        self.core_look = Look()
        self.past_look = Look()
        self.over = False
        self.due: float | None = None
        self.late = 0  # chunks that came after their attempt or their step was over, unseen
        self.false_ends = 0
        self.breaks = 0  # how often no line was left
        self._story = Story(run_id)
        self._steps: dict[str, Step] = {}
        self._lines: set[Line] = set()
        self._core: CoreState | None = None
        self._past: PastState | None = None
        self._past_asked = False  # whether the first answer (or none) has come
        self._began: float | None = None  # when the first core state came
        self._telling = False
        self._heard: float | None = None
        self._ended_live: LiveEvent | None = None  # the last event about the run's end, if not yet disproved
        self._ended_at = 0.0
        self._past_gone = False  # the history gave no answer last time
        self.stirred = (
            False  # something else than a chunk in order happened: look at `due` and the looks again
        )
        self._end_looks = 0
        self._closing: float | None = None  # since when the core state says done
        self._failed_order: list[str] = []

    # -- what is asked from outside --

    def take(self) -> list[Item]:
        """What is to be told, in order, each once."""
        return self._story.take()

    @property
    def core_state(self) -> CoreState | None:
        """The last core state."""
        return self._core

    @property
    def young(self) -> bool:
        """Whether the run may have just begun: the engine may put a subscription to sleep for a second."""
        if self._core is None:
            return True
        past = self._past
        if self._core.done or len(self._core.steps) > 1:
            return False
        return past is None or not any(p.status in RESTING or p.retry_count for p in past.steps)

    @property
    def needs(self) -> frozenset[tuple[str, int, int]]:
        """Steps whose next chunks the engine holds back from lines by run id: (step run, attempt, break)."""
        return frozenset(
            (step.id, step.proven + step.undecided, self.breaks)
            for step in self._steps.values()
            if self._held_up(step)
        )

    @property
    def caught_up(self) -> bool:
        """Whether a line by run id tells the chunks of all steps that are streaming."""
        ordered = [line for line in self._lines if line.ordered and line.spoke]
        streaming = [
            step for step in self._steps.values() if not step.ended and (step.next > 0 or step.undecided)
        ]
        return bool(ordered) and all(
            any(line.caught.get(step.id, 0) >= step.told for line in ordered) for step in streaming
        )

    def _held_up(self, step: Step) -> bool:
        if step.ended or step.end is not None or self._closing is not None:
            return False
        attempt = step.proven + step.undecided
        again = attempt > 1
        joined = step.next > 0 or bool(step.held) or (step.doubt is not None and step.running)
        if not again and not joined:
            return False
        return not any(line.ordered and line.caught.get(step.id, 0) >= attempt for line in self._lines)

    # -- a line's life --

    def opened(self, now: float, *, ordered: bool) -> Line:
        """A subscription is on the wire; what it tells comes with the line that this returns."""
        line = Line(ordered=ordered)
        alone = not self._lines
        self._lines.add(line)
        if self._heard is None:
            self._heard = now
        if alone and self._core is not None:  # what happened while nobody listened?
            self._want_past(now)
            self.core_look.want(now)
        return line

    def closed(
        self, line: Line, now: float, cause: GapCause | None = GapCause.UPSTREAM, *, later: float = 0.0
    ) -> None:
        """A subscription is over; `cause` None: we ended it, others go on. `later`: seconds to the look."""
        if line not in self._lines:
            return
        for step_id in list(line.limbo):
            self._place(line, step_id, now)
        self._lines.discard(line)
        if cause is None and self._lines:
            self._settle(now)
            return
        if not self._lines or cause is GapCause.TOO_LARGE:
            self.breaks += 1
            for step in self._steps.values():
                if step.started or step.running or step.start_live or step.held:
                    step.suspect(cause or GapCause.UPSTREAM, now, hung_up=self._ended_live is not None)
        self._end_looks = END_LOOKS
        self.core_look.want(now + later)
        self._settle(now)

    def live(self, line: Line, event: LiveEvent, now: float) -> None:
        """One event of this run, told on `line`."""
        self._heard = now
        step_id = event.step_run_id
        if event.kind is Kind.STREAM and step_id is not None:
            step = self._steps.get(step_id)
            if (
                step is not None
                and step.flowing
                and event.index == step.next
                and line.attempts.get(step_id) == step.told
            ):
                step.recent.append((step.next, event.at))
                step.next += 1
                self._story.chunk(step.name or "", event, step.told)
                return
            if step is not None and step.flowing and self._double(line, step, event):
                return
            line.spoke = True
            self._chunk(line, self._step(step_id), event, now)
        elif step_id is None:
            line.spoke = True
            self._run_event(event, now)
        else:
            line.spoke = True
            self._step_event(line, self._step(step_id), event, now)
        if event.hangup and step_id is not None:
            self._smells_of_end(now)
        self._settle(now)

    # -- live events --

    @staticmethod
    def _double(line: Line, step: Step, event: LiveEvent) -> bool:
        """Whether that chunk was told on another line: where there are two, every second one is."""
        told = event.index is not None and event.index < step.next
        if told and line.attempts.get(step.id) == step.told and not step.anew(event):
            line.caught[step.id] = step.told
            line.spoke = True
            return True
        return False

    def _step(self, step_run_id: str) -> Step:
        step = self._steps.get(step_run_id)
        if step is None:
            step = self._steps[step_run_id] = Step(step_run_id)
        return step

    def _run_event(self, event: LiveEvent, now: float) -> None:
        self._ended_live = event
        self._ended_at = now
        self._smells_of_end(now)

    def _goes_on(self) -> None:
        """What was told of the run's end is not true (any more)."""
        self._end_looks = 0
        if self._ended_live is not None:
            self._ended_live = None
            self.false_ends += 1
            for step in self._steps.values():
                step.hung_up = False

    def _smells_of_end(self, now: float) -> None:
        self._end_looks = END_LOOKS
        self.core_look.want(now)

    def _step_event(self, line: Line, step: Step, event: LiveEvent, now: float) -> None:
        kind, retry = event.kind, event.retry_count
        attempt = retry + 1 if retry is not None else max(line.attempts.get(step.id, 1), 1)
        self._goes_on()
        if kind is Kind.STARTED:
            step.running = True
            if not step.start_live:
                step.start_live, step.start_at = True, event.at
                step.place = step.place or event.at or ""
            if step.proven == 1 and step.next == 0:
                step.sure()
            self._unlimbo(line, step.id, 1, now)
            line.at_least(step.id, 1)
        elif kind is Kind.COMPLETED:
            self._reached(line, step, attempt, now)
            wait = 0.0 if line.ordered or not (step.next or step.held) else STRAGGLERS
            end = Outcome(STEP_COMPLETED, attempt, output(event.payload), event.at, True, now + wait)
            step.ends(end, now)
        elif kind in {Kind.FAILED, Kind.TIMED_OUT}:
            self._reached(line, step, attempt, now)
            step.failed(attempt, event.payload, event.at, True, now)
            line.at_least(step.id, attempt + 1)
            step.running = False
            if step.undecided:
                self._decide(step, now)
                self._want_past(now)
                self.core_look.want(now)
        elif kind is Kind.CANCELLED:
            self._reached(line, step, attempt, now)
            step.ends(Outcome(STEP_CANCELLED, attempt, None, event.at, True, now), now)
        if step.name is None:
            self.core_look.want(now)

    def _reached(self, line: Line, step: Step, attempt: int, now: float) -> None:
        self._unlimbo(line, step.id, attempt, now)
        line.at_least(step.id, attempt)
        line.caught[step.id] = attempt
        step.begun(attempt, now)

    # -- chunks --

    def _chunk(self, line: Line, step: Step, event: LiveEvent, now: float) -> None:
        if not step.ended:
            self._goes_on()
        if step.name is None:
            self.core_look.want(now)
        attempt = line.attempts.get(step.id)
        if attempt is None:
            self._want_past(now)
            if not line.wait(step.id, event, now, MAX_HELD):
                step.overflowed = True
        else:
            self._place_chunk(line, step, event, attempt, now)

    def _place_chunk(self, line: Line, step: Step, event: LiveEvent, attempt: int, now: float) -> None:
        if event.index is None:  # an old SDK: in the order of coming
            event = _numbered(event, step.next + len(step.held.get(attempt, ())))
        index = event.index or 0
        if attempt < step.proven and self._lost_failure(line, step, index, now):
            attempt = step.proven
            line.attempts[step.id] = attempt
        line.caught[step.id] = max(attempt, line.caught.get(step.id, 0))
        if step.ended or attempt < step.told:
            seen = attempt < step.told or index < step.next
            self._too_late(step, attempt, seen=seen)
        elif attempt > step.told:
            self._early(step, event, attempt, now)
        elif step.next == 0 and event.at is not None and (index, event.at) in step.recent:
            pass  # a double of the attempt before
        elif index and step.next == 0 and attempt not in step.held and self._strays(step, event):
            self.late += 1  # the failure overtook it: it is of the attempt before, which is void
        elif index < step.next:
            self._again(line, step, event, attempt, now)
        else:
            step.hold(event, attempt)

    @staticmethod
    def _strays(step: Step, event: LiveEvent) -> bool:
        sent = step.sent_before_failure(event, step.told - 1)
        return sent if sent is not None else event.index == step.past_next

    def _lost_failure(self, line: Line, step: Step, index: int, now: float) -> bool:
        """Whether a line that has not told a proven failure tells of the attempt after it nonetheless."""
        if line.attempts.get(step.id, 0) >= step.proven:
            return False
        again = index == 0 and step.id in line.caught
        return again or now > step.proven_at + LOST_PATIENCE

    def _too_late(self, step: Step, attempt: int, *, seen: bool) -> None:
        if seen:
            return
        self.late += 1
        end = step.end
        if not self.over and end is not None and end.type == STEP_COMPLETED and step.name is not None:
            self._story.gap(GapCause.UPSTREAM, step.name, attempt, 1)

    def _early(self, step: Step, event: LiveEvent, attempt: int, now: float) -> None:
        """A chunk of an attempt that is not told yet: held; and where it is not proven, a reason to look."""
        if (event.index, event.at) in step.recent and event.at is not None:
            return
        sent = step.sent_before_failure(event, step.told)
        before = sent if sent is not None else step.lacks(event)
        if before and event.index and attempt == step.told + 1 and attempt not in step.held:
            if event.index >= step.next:  # the failure overtook it
                step.hold(event, step.told)
            else:
                self.late += 1
            return
        step.hold(event, attempt)
        if attempt > step.proven:
            self._want_past(now)
            self.core_look.want(now)

    def _again(self, line: Line, step: Step, event: LiveEvent, attempt: int, now: float) -> None:
        """An index that was told: a double, unless its time says that it is another attempt's chunk."""
        if not step.anew(event):
            return
        if self.has_past and not self._past_gone and attempt == step.proven:
            del line.attempts[step.id]
            self._chunk(line, step, event, now)
        else:
            line.attempts[step.id] = attempt + 1
            self._early(step, event, attempt + 1, now)

    def _unlimbo(self, line: Line, step_id: str, attempt: int, now: float) -> None:
        """The chunks that waited on that line are of `attempt`."""
        limbo = line.limbo.pop(step_id, None)
        if limbo is None:
            return
        step = self._step(step_id)
        line.attempts[step_id] = attempt
        for event in limbo.events:
            self._chunk(line, step, event, now)

    def _place(self, line: Line, step_id: str, now: float) -> None:
        """Nothing better is known: the chunks in limbo are of the attempt that ran when they came."""
        step = self._step(step_id)
        limbo = line.limbo.get(step_id)
        if limbo is not None:
            after = step.undecided and step.failures[step.proven].known_at < limbo.since
            if step.proven == step.told and limbo.events[0].index in range(step.next):
                after = after or step.anew(limbo.events[0])
            self._unlimbo(line, step_id, step.proven + after, now)

    # -- states --

    def core(self, state: CoreState, now: float) -> None:
        """A core state, asked for when `core_look.asking` was called."""
        asked = self.core_look.asked
        first = self._core is None
        self._core = state
        self._story.metadata = state.metadata
        if first:
            self._began = now
            self._heard = now if self._heard is None else self._heard
            if self.has_past and not state.done:
                self._want_past(now)
        for known in state.steps:
            step = self._step(known.step_run_id)
            self._named(step, known.name, now)
            step.running = known.status is Status.RUNNING
            if step.running and step.undecided and step.proven + 1 in step.held:
                step.begun(step.proven + 1, now)  # a chunk after the failure, and it runs: it was tried again
        if state.done:
            if self._closing is None:
                self._closing = now
                self._want_past(now)
            self.core_look.again(now)  # until the end is told: a replay's state says done in between
        else:
            self._not_done(state, asked, now)
        self._settle(now)

    def _named(self, step: Step, name: str, now: float) -> None:
        if step.name is None:
            step.name = name
            if self._telling and not step.start_live:
                step.missed_start(GapCause.UPSTREAM, now)
                if self._lines:
                    step.start_tell_at = now + LIVE_PATIENCE

    def _not_done(self, state: CoreState, asked: float | None, now: float) -> None:
        self._closing = None
        running = any(step.status is Status.RUNNING for step in state.steps)
        if running and asked is not None and asked >= self._ended_at:
            self._goes_on()
        if self._end_looks:
            self._end_looks -= 1
        if self._end_looks and running:
            self._end_looks = min(self._end_looks, 1)
        unnamed = any(step.name is None for step in self._steps.values())
        waiting = any(step.undecided and step.proven + 1 in step.held for step in self._steps.values())
        if self._end_looks or unnamed or waiting:
            self.core_look.again(now)

    def past(self, state: PastState | None, now: float) -> None:
        """The history's answer (None: the run is unknown), asked for when `past_look.asking` was called."""
        asked = self.past_look.asked if self.past_look.asked is not None else now
        self._past_asked = True
        self._past_gone = False
        self.past_look.answered()
        if state is not None:
            self._past = state
            for known in sorted(state.steps, key=lambda p: p.created_at or ""):
                self._past_step(known, now)
            for line in self._lines:
                for step_id in [key for key, limbo in line.limbo.items() if limbo.since <= asked]:
                    self._place(line, step_id, now)
        if state is None or self._open_question():
            self.past_look.again(now)
        self._settle(now)

    def past_away(self, now: float, jitter: float = 1.0) -> None:
        """The history gives no answer; what only it knows stays open."""
        self._past_asked = True
        self._past_gone = True
        self.past_look.away(now, jitter)
        self._settle(now)

    def _open_question(self) -> bool:
        if self._closing is not None:
            return True
        return any(step.undecided or any(a > step.proven for a in step.held) for step in self._steps.values())

    def _want_past(self, now: float) -> None:
        if self.has_past:
            self.past_look.want(now)

    def _past_step(self, known: PastStep, now: float) -> None:
        step = self._step(known.step_run_id)
        self._named(step, known.name, now)
        if known.created_at is not None:
            step.place = step.place if step.start_live else known.created_at
            step.start_at = step.start_at or known.created_at
        if known.retries is not None:
            step.retries = known.retries
        attempt = known.retry_count + 1
        for told in known.events:
            if told.type in {"FAILED", "TIMED_OUT"} and told.retry_count < known.retry_count:
                step.failed(told.retry_count + 1, told.error, told.at, False, now)
        step.begun(attempt, now)
        if attempt < step.proven:
            return
        if known.status is Status.FAILED:
            self._says_failed(step, known, attempt, now)
            return
        step.failed_since = None
        if known.status is Status.COMPLETED:
            self._says_completed(step, known, attempt, now)
        elif known.status is Status.CANCELLED:
            at = self._patience(now)
            step.ends(Outcome(STEP_CANCELLED, attempt, None, known.finished_at, False, at), now)

    def _says_completed(self, step: Step, known: PastStep, attempt: int, now: float) -> None:
        kind = STEP_SKIPPED if any(told.type == "SKIPPED" for told in known.events) else STEP_COMPLETED
        payload = known.output or None if kind == STEP_COMPLETED else None  # {} is also "returned nothing"
        step.ends(Outcome(kind, attempt, payload, known.finished_at, False, self._patience(now)), now)

    def _says_failed(self, step: Step, known: PastStep, attempt: int, now: float) -> None:
        error = known.error or next(
            (told.error for told in reversed(known.events) if told.retry_count == attempt - 1 and told.error),
            None,
        )
        step.failed(attempt, error, known.finished_at, False, now)
        if step.failed_since is None or step.failed_since[0] != attempt:
            step.failed_since = (attempt, now)
        if step.undecided and not self._decide(step, now) and now >= step.failed_since[1] + FAILED_PATIENCE:
            self._fails(step, now)
        if step.undecided:
            self.past_look.soon(step.failed_since[1] + FAILED_PATIENCE)

    def _decide(self, step: Step, now: float) -> bool:
        """Whether the failed attempt is known to be the last: the step's Retries are used up."""
        if step.retries is not None and step.proven == step.retries + 1:
            self._fails(step, now)
            return True
        return False

    def _fails(self, step: Step, now: float) -> None:
        if step.id not in self._failed_order:
            self._failed_order.append(step.id)
        step.fails(now)

    def _patience(self, now: float) -> float:
        live = self._lines or self._ended_live is not None
        return now + LIVE_PATIENCE if self._telling and live else now

    # -- time --

    def tick(self, now: float) -> None:
        """So much time has passed: whatever was waited for until now is waited for no longer."""
        if not self.over and self._heard is not None and now >= self._heard + self.check_after:
            self._heard = now
            self.core_look.want(now)
            self._want_past(now)
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Tell what can be told, decide what to wait for."""
        self.due = None
        self.stirred = True
        if self.over or self._core is None:
            return
        closing = self._closing is not None and self._may_close(now)
        if not self._telling and not closing and not self._may_begin(now):
            return
        if not self._telling:
            self._telling = True
            self._joined(now)
        self._place_all(now)
        if closing:
            self._close(now)
            return
        for step in self._in_order():
            step.advance(self._story, now)
            if step.due is not None:
                self._due(step.due)
            self._despair(step, now)
        if self._heard is not None:
            self._due(self._heard + self.check_after)

    def _place_all(self, now: float) -> None:
        waits = self.has_past and not self._past_gone
        for line in self._lines:
            for step_id, limbo in list(line.limbo.items()):
                if not waits or now >= limbo.since + PLACE_PATIENCE:
                    self._place(line, step_id, now)
                else:
                    self._due(limbo.since + PLACE_PATIENCE)

    def _despair(self, step: Step, now: float) -> None:
        if step.doubt is GapCause.JOINED_LATE and step.running and step.doubted_at is not None:
            if now >= step.doubted_at + JOIN_PATIENCE:
                step.despair(self._story)
            else:
                self._due(step.doubted_at + JOIN_PATIENCE)

    def _due(self, at: float) -> None:
        self.due = at if self.due is None else min(self.due, at)

    def _in_order(self) -> Sequence[Step]:
        steps = list(self._steps.values())
        if len(steps) > 1:
            steps.sort(key=lambda step: (step.place == "", step.place))
        return steps

    def _may_begin(self, now: float) -> bool:
        began = self._began if self._began is not None else now
        if (
            self.has_past
            and not self._past_gone
            and not self._past_asked
            and self._closing is None
            and now < began + PAST_PATIENCE
        ):
            self._due(began + PAST_PATIENCE)
            return False
        return self._closing is None

    def _joined(self, now: float) -> None:
        """What was running or over when we came: its chunks so far nobody has."""
        past = {p.step_run_id: p for p in self._past.steps} if self._past is not None else {}
        for step in self._steps.values():
            known = past.get(step.id)
            queued = known is not None and known.status is Status.QUEUED and known.retry_count == 0
            waiting = queued and not (step.running or step.failures or step.end or self._closing)
            if not step.start_live and not waiting:
                step.missed_start(GapCause.JOINED_LATE, now)

    # -- the end --

    def _withdraw(self) -> None:
        """A line that ended because the run did has missed nothing."""
        closing = self._closing
        if self._ended_live is not None and closing is not None and closing < self._ended_at + DONE_LAG:
            for step in self._steps.values():
                if step.hung_up:
                    step.sure()

    def _may_close(self, now: float) -> bool:
        """Whether the verified end can be told: all is known, or has been waited for."""
        assert self._core is not None and self._closing is not None
        unseen = ending.unseen(self._core, self._steps)
        if not unseen:
            return True
        if self._lines and self._telling and now < self._closing + LIVE_PATIENCE:
            self._due(self._closing + LIVE_PATIENCE)
            return False
        if not self.has_past or self._past_gone or ending.caught_up(self._past, self._core, self._steps):
            return True
        if now < self._closing + CLOSE_PATIENCE:
            self._due(self._closing + CLOSE_PATIENCE)
            return False
        return True

    def _close(self, now: float) -> None:
        assert self._core is not None
        for line in self._lines:
            for step_id in list(line.limbo):
                self._place(line, step_id, now)
        self._withdraw()
        ending.tell(
            self._story,
            self._core,
            self._past,
            self._in_order(),
            now=now,
            ended_live=self._ended_live,
            failed_order=self._failed_order,
        )
        self.over = True
        self.due = None
        self.core_look.at = self.past_look.at = None


def _numbered(event: LiveEvent, index: int) -> LiveEvent:
    return LiveEvent(
        event.run_id,
        event.kind,
        event.step_run_id,
        event.payload,
        event.at,
        event.retry_count,
        index,
        event.hangup,
    )
