"""One run's observations in; items and a plan out. No IO, no clock, no loop: every input brings its `now`.

    in     opened, heard, closed (of a subscription)    core, history (answers to state reads)    tick
    out    take() -> items, in order, each once         plan -> when to tick, when to read which state

Two rules decide about chunks:

    A chunk belongs to the attempt that the evidence proves, or waits.       placement, attempts
    An attempt is whole when that is proven, or it has a gap.                completeness, sequencer

and one about the end: it is emitted exactly when the core state says done (run_end). Each source knows a
different part: subscriptions bring what happens, the core state has names and the end, the history has the
past. So nothing is emitted before the core state has come and, within JOIN_SETTLE, a history that agrees with
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.core.events import STEP_CANCELLED, STEP_COMPLETED, End, Event, GapCause, Item
from proxy.core.observations import CoreState, Kind, LiveEvent, PastState, Status
from proxy.runs.reconcile import outcomes, payloads, run_end
from proxy.runs.reconcile.attempts import attribute
from proxy.runs.reconcile.completeness import covers
from proxy.runs.reconcile.emitter import Emitter
from proxy.runs.reconcile.evidence import Evidence, Outcome
from proxy.runs.reconcile.placement import Contested, Execution, Executions, Place, place
from proxy.runs.reconcile.poll import Poll
from proxy.runs.reconcile.run_end import Phase, RunEnd
from proxy.runs.reconcile.sequencer import Sequencer
from proxy.runs.reconcile.subscription_state import EndHeard, Pulse, Selection, SubscriptionState
from proxy.runs.reconcile.timing import (
    ATTEMPT_WAIT,
    CANCEL_WAIT,
    FAILED_WAIT,
    HISTORY_LAG,
    JOIN_SETTLE,
    JOIN_WAIT,
    LIVE_WAIT,
    OVER_WAIT,
    PARENT_WAIT,
    REST,
    SAME_FLUSH,
    SEAM,
    SETTLE,
    SILENT_YOUNG,
    STATE_ONLY_EVERY,
    WAITING_PROOF,
)

MOST_CLOSED: Final = 16  # subscriptions that are over and may still prove something

_STREAM: Final = Kind.STREAM  # looking an enum's member up takes ten times as long


@dataclass(frozen=True, slots=True)
class Plan:
    """What the run needs next; times in seconds of the run's clock, None: nothing."""

    due: float | None  # when to call `tick`
    read_core_at: float | None
    read_history_at: float | None
    over: bool  # the verified end was emitted: nothing more is needed


class Step:
    """One step run: its evidence, its executions, and the order of its items."""

    __slots__ = ("evidence", "executions", "sequencer")

    def __init__(
        self,
        step_run_id: str,
        now: float,
        subscriptions: Sequence[SubscriptionState],
        emitter: Emitter,
        settle: Callable[[], float],
    ) -> None:
        self.evidence = Evidence(step_run_id, now)
        self.executions = Executions()
        self.sequencer = Sequencer(self.evidence, self.executions, subscriptions, emitter, settle)


class Reconciler:
    """One run of one team.

    `has_history`: the REST history can be asked. `check_after`: seconds without an event after which the
    states are read for no other reason. `settle`: how many seconds an end waits now for chunks that it
    overtook.
    """

    def __init__(
        self,
        run_id: str,
        *,
        has_history: bool = True,
        check_after: float = 15.0,
        settle: Callable[[], float] | None = None,
    ) -> None:
        self.run_id = run_id
        self.core_poll = Poll()
        self.history_poll = Poll()
        self.late = 0  # chunks that came after their attempt was over
        self.foreign = 0  # events of another run
        self.core_state: CoreState | None = None
        self._has_history = has_history
        self._check_after = check_after
        self._settle_seconds = settle or (lambda: SETTLE)
        self._emitter = Emitter(run_id)
        self._steps: dict[str, Step] = {}
        self._subscriptions: list[SubscriptionState] = []  # open ones, and the last that are over
        self._end = RunEnd()
        self._past: PastState | None = None
        self._history_asked = False  # whether its first answer has come, or an error instead
        self._history_gone = False  # it gave no answer last time
        self._joined = False  # the first items were emitted
        self._began: float | None = None  # when the first core state came
        self._core_asked = float("-inf")  # when the last core state was asked for
        self._heard_at: float | None = None
        self._checked_at = 0.0
        self._rested_at: float | None = None  # since when every step that is known has ended
        self._due: float | None = None
        self._calm = False
        """Whether the run goes on and no step waits for anything; `_settle` sets it after other inputs."""
        self._state_only = False

    # -- out --

    @property
    def plan(self) -> Plan:
        """What the run needs next."""
        over = self.over
        return Plan(
            None if over else self._due,
            None if over else self.core_poll.at,
            None if over else self.history_poll.at,
            over,
        )

    @property
    def over(self) -> bool:
        """Whether the verified end was emitted."""
        return self._end.phase is Phase.OVER

    @property
    def false_ends(self) -> int:
        """How often the engine said that the run was over, and it was not."""
        return self._end.false_ends

    def take(self) -> list[Item]:
        """The items since the last call, in order."""
        return self._emitter.take()

    @property
    def young(self) -> bool:
        """Whether the run may have just begun.

        The engine may delay a subscription by the id of such a run for a second.
        """
        core, past = self.core_state, self._past
        if core is None:
            return True
        if core.done or len(core.steps) > 1:
            return False
        return past is None or not any(
            one.status in outcomes.AT_REST or one.retry_count for one in past.steps
        )

    def does_without(self, others: Iterable[SubscriptionState]) -> bool:
        """Whether subscriptions that are open beside `others` can prove the tail of every step under way."""
        left = [one for one in self._open if one.complete and all(one is not other for other in others)]
        under_way = [
            step for step in self._steps.values() if step.sequencer.started and not step.sequencer.ended
        ]
        return any(not one.silent for one in left) and all(
            any(covers(one, step.evidence.id, step.sequencer.attempt, step.executions.all) for one in left)
            for step in under_way
        )

    # -- subscriptions --

    def opened(
        self, now: float, selection: Selection, pulse: Pulse | None = None, *, since: float | None = None
    ) -> SubscriptionState:
        """A subscription is open; its events are given to `heard` with the state that this returns.

        `pulse`: of a subscription that several runs share. `since`: when that was opened, if earlier.
        """
        one = SubscriptionState(selection, now if since is None else since, pulse or Pulse())
        alone = not self._open
        for before in self._subscriptions:
            if before.hung_up and before.successor is None and now <= (before.closed_at or now) + SEAM:
                before.successor = one
                one.starts |= before.starts  # what both were open for began after the first one was opened
                one.live_starts.update(before.live_starts)
                one.chunk_at = before.chunk_at
        self._subscriptions.append(one)
        self._forget_closed()
        if self._heard_at is None:
            self._heard_at = now
        if alone and self.core_state is not None:  # events may be missing from while none was open
            self._want_history(now)
            self.core_poll.want(now)
        return one

    def closed(
        self,
        one: SubscriptionState,
        now: float,
        cause: GapCause | None = GapCause.UPSTREAM,
        *,
        hung_up: bool = False,
        later: float = 0.0,
    ) -> None:
        """A subscription is over.

        `cause` None: we ended it. `hung_up`: the engine said so in its last event. `later`: seconds until the
        states are to be read.
        """
        if one.closed_at is not None:
            return
        one.closed_at, one.hung_up = now, hung_up and one.complete
        if cause is GapCause.TOO_LARGE:
            for step in self._steps.values():
                if not step.sequencer.ended:
                    step.sequencer.too_large = True
        if cause is not None or not self._open:
            self._end.suspect()
            self.core_poll.want(now + later)
            self._settle(now)

    def heard(self, one: SubscriptionState, event: LiveEvent, now: float) -> None:
        """One event of this run, brought by a subscription."""
        if event.run_id != self.run_id:
            self.foreign += 1
            return
        self._heard_at = one.heard_at = now
        one.pulse.at = now
        step_id = event.step_run_id
        if step_id is None:
            one.run_end, one.run_end_at = event, now
            self._end.hinted(event, now)
            self.core_poll.want(now)
        elif event.kind is _STREAM:
            one.chunk_at = now
            self._chunk(one, self._step(step_id, now), event, now)
        else:
            self._lifecycle(one, self._step(step_id, now), event, now)
        if event.hangup and step_id is not None:
            self._end.suspect()
            self.core_poll.want(now)
        self._settle(now)

    def next_in_order(self, one: SubscriptionState, event: LiveEvent, now: float) -> Event | None:
        """The item of a chunk that simply continues its step; else None, and nothing is changed.

        The short cut for nearly every event. It returns what `heard` would emit at once: the step flows (its
        attempt is known, nothing waits, nothing was announced), the index is the next one and the time is not
        earlier.
        """
        if not self._calm or event.kind is not _STREAM:
            return None
        step = self._steps.get(event.step_run_id or "")
        if step is None or (execution := step.sequencer.flowing) is None:
            return None
        index = event.index
        if not index or index != execution.next or event.hangup or execution.held:
            return None
        due = self._due
        if due is not None and due <= now:
            return None
        at, last_at = event.at, execution.last_at
        if (at is not None and last_at is not None and at < last_at) or len(step.executions.all) > 1:
            return None
        evidence, last_chunk = step.evidence, one.last_chunk
        key = (evidence.id, execution.number)
        if key not in last_chunk:
            return None
        emitter = self._emitter
        if event.run_id != self.run_id or emitter.items:
            return None
        self._heard_at = one.heard_at = one.chunk_at = one.pulse.at = now
        last_chunk[key] = execution.last_index = index
        execution.last_at = at
        execution.last_came = now
        execution.told(index, at)
        return emitter.chunk(evidence.name or "", event, step.sequencer.attempt)

    # -- states --

    def core(self, state: CoreState, now: float) -> None:
        """A core state, asked for when `core_poll.begin` was called."""
        if self.over:
            return
        asked = self.core_poll.asked if self.core_poll.asked is not None else now
        self.core_poll.answered()
        first = self.core_state is None
        self._emitter.metadata = state.metadata
        if first:
            self._began = self._checked_at = now
            self._heard_at = now if self._heard_at is None else self._heard_at
            if not state.done:
                self._want_history(now)
        for known in state.steps:
            step = self._step(known.step_run_id, now)
            self._named(step, known.name, now)
            self._note_running(step, now, running=known.status is Status.RUNNING)
            if known.status is Status.EVICTED:
                step.evidence.was_evicted = True
        self.core_state = state
        self._core_asked = asked
        if state.done:
            if self._end.claimed(asked, now, alone=self._core_alone):
                self._want_history(now)
                if self._core_alone:
                    self.core_poll.want(now)
            self.core_poll.again(now)
        else:
            self._not_done(state, asked, now)
        self._settle(now)

    def history(self, state: PastState | None, now: float) -> None:
        """The history's answer, asked for when `history_poll.begin` was called.

        `state` None: the history does not know the run.
        """
        if self.over:
            return
        asked = self.history_poll.asked if self.history_poll.asked is not None else now
        self._history_gone = False
        self.history_poll.answered()
        self._checked_at = now
        if state is not None:
            first, self._past = self._past is None, state
            tell_at = now + LIVE_WAIT if self._joined and (self._open or self._end.hint is not None) else now
            for known in sorted(state.steps, key=lambda one: one.created_at or 0):
                step = self._step(known.step_run_id, now)
                self._named(step, known.name, now)
                outcomes.note_history(step.evidence, known, asked, now, tell_at)
                if step.evidence.failed_since is not None and step.evidence.undecided:
                    self.history_poll.by(step.evidence.failed_since[1] + FAILED_WAIT)
                if step.evidence.without_text and not step.sequencer.ended:
                    self.core_poll.want(now)
                self._note_waiting(step)
                if first and self._joined:
                    self._note_joined(step)
        behind = self._history_is_behind(now)
        self._history_asked = self._history_asked or not behind
        if state is None or behind or self._open_question(now):
            self.history_poll.again(now)
        for step in self._steps.values():
            for execution in step.executions.unplaced:
                if asked < execution.heard_at + HISTORY_LAG:
                    self.history_poll.by(max(now, execution.heard_at + HISTORY_LAG))
        self._settle(now)

    def history_unavailable(self, now: float, jitter: float = 1.0) -> None:
        """The history gave no answer; what only it knows stays open."""
        self._history_asked = True
        self._history_gone = True
        self.history_poll.unavailable(now, jitter)
        self._settle(now)

    # -- time --

    def tick(self, now: float) -> None:
        """Time has passed: act on every wait that ends at or before `now`."""
        if not self.over and self._heard_at is not None and now >= self._check_at:
            self._heard_at = self._checked_at = now
            self.core_poll.want(now)
            self._want_history(now)
        if not self.over and self._rested_at is not None and now >= self._rested_at + REST:
            # Only once: a next step brings an event, and else `check_after` brings a read.
            self._rested_at = float("inf")
            self._end.suspect()
            self.core_poll.want(now)
        self._settle(now)

    def state_only(self, now: float, state_only: bool) -> None:
        """Whether the run has no subscription and gets none for now: its items come from the states alone."""
        if state_only != self._state_only:
            self._state_only = state_only
            self._settle(now)

    # -- events --

    def _chunk(self, one: SubscriptionState, step: Step, event: LiveEvent, now: float) -> None:
        evidence, executions, sequencer = step.evidence, step.executions, step.sequencer
        if not sequencer.ended:
            self._end.goes_on()
        if evidence.name is None:
            self.core_poll.want(now)
        if event.index is None:
            event = _numbered(event, executions)
        self._place(one, step, event, now)

    def _place_contested(self, step: Step) -> None:
        """Place those chunks of which it is known now which execution sent them."""
        waiting = -1
        while waiting != len(step.executions.contested):
            waiting = len(step.executions.contested)
            for each in step.executions.take_contested():
                self._place(each.subscription, step, each.event, each.came)

    def _place(self, one: SubscriptionState, step: Step, event: LiveEvent, now: float) -> None:
        evidence, executions, sequencer = step.evidence, step.executions, step.sequencer
        execution, what = self._execution(one, step, event, now)
        if what is Place.CONTESTED:
            executions.contest(Contested(event, one, now))
            return
        if execution is None:
            self._too_late(step, event)
            return
        index = event.index or 0
        key = (evidence.id, execution.number)
        one.last_chunk[key] = max(index, one.last_chunk.get(key, -1))
        if what is Place.BEGINS:
            begun_at = one.live_starts.get((evidence.id, evidence.proven))
            execution.begun = None if begun_at is None or evidence.undecided else (evidence.proven, begun_at)
            self._attribute(step, now)
        if what in {Place.KNOWN, Place.LATE}:
            self.late += what is Place.LATE
        elif sequencer.ended or (execution.attempt is not None and execution.attempt < sequencer.attempt):
            self._of_no_use(step, execution, event)
        elif index >= execution.next:
            executions.hold(execution, event)
            self._overtaken(one, step, execution, now)
            if execution.attempt is None and self._has_history:
                self.history_poll.by(now + HISTORY_LAG)

    def _execution(
        self, one: SubscriptionState, step: Step, event: LiveEvent, now: float
    ) -> tuple[Execution | None, Place]:
        """The execution that a chunk belongs to; None if it would begin another one after the step's end."""
        executions = step.executions
        over = [self._over_at(step, each, now) for each in executions.all]
        unbroken = [self._unbroken(one, step, each) for each in executions.all]
        newest = executions.all[-1] if executions.all else None
        same_flush = newest is not None and now < newest.last_came + SAME_FLUSH
        n, what = place(event, executions.all, over, unbroken, same_flush=same_flush)
        if what is Place.CONTESTED:
            return None, what
        if what is Place.BEGINS and step.sequencer.ended:
            return None, what
        execution = executions.begin(now) if what is Place.BEGINS else executions.all[n]
        if what is not Place.KNOWN:
            execution.note(event.index or 0, event.at)
            execution.last_came = now
        return execution, what

    def _unbroken(self, one: SubscriptionState, step: Step, execution: Execution) -> bool:
        """Whether no attempt can have begun unnoticed since the execution's last chunk.

        True where no other attempt can follow; where `one` has brought a chunk of this execution; and where
        another subscription that is still open has brought the last one.
        """
        evidence = step.evidence
        if evidence.retries is not None and evidence.proven > evidence.retries:
            return True
        key = (evidence.id, execution.number)
        return key in one.last_chunk or any(
            each.last_chunk.get(key) == execution.last_index for each in self._open
        )

    def _overtaken(self, one: SubscriptionState, step: Step, execution: Execution, now: float) -> None:
        """A chunk came after its attempt's end: more may come, so the settling time begins again."""
        key = (step.evidence.id, execution.attempt or 0)
        heard = one.ends.get(key)
        if heard is not None:
            settled_at = max(heard.settled_at, now + self._settle_seconds())
            one.ends[key] = EndHeard(heard.at, settled_at)

    def _of_no_use(self, step: Step, execution: Execution, event: LiveEvent) -> None:
        """A chunk of an attempt that is over, or of a step that has ended."""
        sequencer = step.sequencer
        if sequencer.ended and execution.attempt in {None, sequencer.attempt}:
            self._too_late(step, event)
            return
        self.late += 1
        sequencer.strayed = True

    @staticmethod
    def _over_at(step: Step, execution: Execution, came: float) -> int | None:
        """The time after which an execution sends nothing more, by a failure that is its own; else None.

        `came`: when the chunk in question was received.
        """
        failures, proven = step.evidence.failures, step.evidence.proven
        failure = failures.get(proven if execution.attempt is None else execution.attempt)
        if failure is None:
            return None
        if execution.attempt is not None:
            if not failure.stopped and came >= failure.known_at + OVER_WAIT:
                return execution.last_at
            return failure.at if failure.live and not failure.stopped else None
        if failure.at is None or execution.first_at is None or not failure.live:
            return None
        return failure.at if execution.first_at < failure.at else None

    def _too_late(self, step: Step, event: LiveEvent) -> None:
        """A chunk came after the step's end was emitted, and it was not known to be missing."""
        self.late += 1
        end, sequencer = step.evidence.end, step.sequencer
        if self.over or end is None or sequencer.gap_told:
            return
        # The code of a stopped step may go on for a while; what it sends after the end is not wanted.
        before = end.at is not None and event.at is not None and event.at < end.at
        if before or not end.stopped:
            sequencer.gap_told = True
            self._emitter.gap(GapCause.UPSTREAM, step.evidence.name, sequencer.attempt, None)

    def _lifecycle(self, one: SubscriptionState, step: Step, event: LiveEvent, now: float) -> None:
        evidence, kind = step.evidence, event.kind
        attempt = (event.retry_count if event.retry_count is not None else max(evidence.proven - 1, 0)) + 1
        self._end.stirred(now)
        key = (evidence.id, attempt)
        if kind is Kind.STARTED:
            evidence.running = True
            if not evidence.started_live:
                evidence.started_live, evidence.started_at = True, event.at
                evidence.created_at = event.at if event.at is not None else evidence.created_at
            one.began(evidence.id, 1, now)
        elif kind in {Kind.COMPLETED, Kind.FAILED, Kind.TIMED_OUT, Kind.CANCELLED}:
            settle = self._settle_seconds()
            one.ends.setdefault(key, EndHeard(now, now + settle))
            evidence.attempt_began(attempt, now)
            if kind is Kind.COMPLETED:
                output = payloads.output(event.payload)
                evidence.ended(Outcome(STEP_COMPLETED, attempt, output, event.at, True, now, now))
            elif kind is Kind.CANCELLED:
                self._cancelled(evidence, attempt, event.at, now)
            else:
                evidence.attempt_failed(attempt, event.payload, event.at, now, live=True)
                one.began(evidence.id, attempt + 1, now)
                evidence.running = False
                if evidence.undecided:
                    if evidence.retries_used_up:
                        evidence.failed_for_good(now)
                    self._want_history(now)
                    self.core_poll.want(now)
        if evidence.name is None:
            self.core_poll.want(now)
        self._attribute(step, now)

    def _cancelled(self, evidence: Evidence, attempt: int, at: int | None, now: float) -> None:
        """A subscription brought a cancellation; only the history knows whether it was a schedule timeout."""
        ask = self._askable
        tell_at = now + CANCEL_WAIT if ask else now
        evidence.ended(Outcome(STEP_CANCELLED, attempt, None, at, True, now, tell_at, confirmed=not ask))
        if ask:
            self._want_history(now)

    def _attribute(self, step: Step, now: float, *, over: bool = False) -> None:
        """Decide which attempts the waiting executions are."""
        before: Execution | None = None
        for n, execution in enumerate(step.executions.all, start=1):
            if execution.attempt is None:
                decided = attribute(
                    execution,
                    before,
                    step.evidence,
                    newer=len(step.executions.all) - n,
                    history=self._askable,
                    over=over,
                    now=now,
                )
                if decided.attempt is None:
                    self._wake(decided.until)
                    break
                execution.attempt = decided.attempt
                if decided.attempt > step.evidence.proven:
                    step.evidence.attempt_began(decided.attempt, now)
                    step.evidence.running = True
                if decided.rerun and before is not None:
                    step.executions.continues(execution, before)
            if execution.attempt is not None:
                if execution.attempt < step.sequencer.attempt and execution.held:
                    step.sequencer.strayed = True
                    self.late += step.executions.drop(execution)
                before = execution

    # -- what states say --

    def _note_running(self, step: Step, now: float, *, running: bool) -> None:
        evidence = step.evidence
        evidence.running = running
        if running and evidence.undecided and step.executions.of(evidence.proven + 1) is not None:
            evidence.attempt_began(evidence.proven + 1, now)

    def _note_waiting(self, step: Step) -> None:
        """Note which subscriptions were open before an attempt began.

        That is known where the history says that the attempt still waits for a worker.
        """
        evidence = step.evidence
        if evidence.history_status is not Status.QUEUED or evidence.running or evidence.end is not None:
            return
        if evidence.history_attempt != evidence.proven or step.executions.of(evidence.proven) is not None:
            return
        key = (evidence.id, evidence.proven)
        for one in self._open:
            if one.opened_at <= evidence.history_asked - WAITING_PROOF:
                one.starts.add(key)
                evidence.joined_in = min(evidence.joined_in, evidence.proven - 1)
            elif key not in one.starts:
                self.history_poll.by(one.opened_at + WAITING_PROOF)

    def _not_done(self, state: CoreState, asked: float, now: float) -> None:
        running = any(step.status is Status.RUNNING for step in state.steps)
        self._end.denied(asked, running=running)
        unnamed = any(step.evidence.name is None for step in self._steps.values())
        unheard = self._unheard(now) and not self._askable
        if self._end.polls_left or unnamed or unheard or self._state_only:
            self.core_poll.again(now)

    def _unheard(self, now: float) -> bool:
        """Whether the run is young, and its subscriptions have brought nothing yet.

        They cannot bring what began before they were open.
        """
        young = self._began is not None and now < self._began + SILENT_YOUNG
        silent = bool(self._open) and all(one.silent for one in self._open)
        begun = any(step.evidence.running or step.sequencer.ended for step in self._steps.values())
        return young and silent and not begun

    def _open_question(self, now: float) -> bool:
        if self._end.phase is Phase.CLAIMED or self._state_only or self._unheard(now):
            return True
        return any(
            step.evidence.undecided
            or step.executions.unplaced
            or not step.sequencer.started
            or not (step.sequencer.ended or step.evidence.end is None or step.evidence.end.confirmed)
            for step in self._steps.values()
        )

    def _history_is_behind(self, now: float) -> bool:
        """Whether the history, at a join, does not agree yet with the core state about what runs."""
        core, past = self.core_state, self._past
        if (
            self._joined
            or core is None
            or core.done
            or self._began is None
            or now >= self._began + JOIN_SETTLE
        ):
            return False
        if past is None:
            return False
        # The history has an end and the core state has none: the history's answer is older than a replay.
        if past.status in outcomes.AT_REST:
            return True
        known = {step.step_run_id: step.status for step in past.steps}
        for step in core.steps:
            status = known.get(step.step_run_id)
            runs = step.status is Status.RUNNING
            if status is None or runs != (status is Status.RUNNING):
                return runs or status not in outcomes.AT_REST
        return False

    def _named(self, step: Step, name: str, now: float) -> None:
        evidence = step.evidence
        if evidence.name is None:
            evidence.name = name
            if self._joined and not evidence.started_live and self._open:
                evidence.start_tell_at = now + LIVE_WAIT

    # -- emitting --

    def _settle(self, now: float) -> None:
        """Emit what can be emitted, and decide what to wait for."""
        self._due = None
        self._calm = False
        if self.over or self.core_state is None:
            return
        if self._heard_at is not None:
            self._wake(self._check_at)
        if not self._joined and not self._may_join(now):
            return
        if not self._joined:
            self._join(now)
        calm = True
        for step in self._in_order():
            if step.executions.contested and not step.sequencer.ended:
                self._place_contested(step)
            if step.executions.unplaced:
                self._attribute(step, now)
            if self._waits_for_another(step, now):
                calm = False
                continue
            step.sequencer.advance(now)
            if step.sequencer.due is not None:
                self._wake(step.sequencer.due)
            waits = bool(step.executions.unplaced or step.executions.contested)
            calm = calm and step.sequencer.due is None and not waits
        self._calm = calm and self._end.phase is Phase.RUNNING
        if self._end.phase is Phase.CLAIMED:
            self._close(now)
        else:
            self._rest(now)

    def _may_join(self, now: float) -> bool:
        began = self._began if self._began is not None else now
        if not self._has_history or self._history_asked:
            return True
        until = began + (JOIN_SETTLE if self._past is not None else JOIN_WAIT)
        if now >= until:
            return True
        self._wake(until)
        return False

    def _join(self, now: float) -> None:
        """Begin to emit; note the attempts that may have begun before any subscription was open."""
        self._joined = True
        for step in self._steps.values():
            self._note_joined(step)

    def _note_joined(self, step: Step) -> None:
        """Note that the attempt may have begun before any subscription was open, unless one was."""
        evidence = step.evidence
        if not any((evidence.id, evidence.proven) in one.starts for one in self._subscriptions):
            evidence.joined_in = evidence.proven

    def _waits_for_another(self, step: Step, now: float) -> bool:
        """Whether a step must not begin yet: a parent's end, or another earlier one, is still to be emitted.

        The engine publishes ends and beginnings apart from each other, so a child's beginning may come first.
        """
        evidence = step.evidence
        if step.sequencer.started:
            return False
        for other in self._steps.values():
            end = other.evidence.end
            if other is step or other.sequencer.ended:
                continue
            if evidence.name in other.evidence.children:
                if end is not None or self._awaits_parent(evidence, other.evidence, now):
                    return True
            elif (
                end is not None and end.live and other.sequencer.started and end.known_at <= evidence.known_at
            ):
                return True
        return False

    def _awaits_parent(self, evidence: Evidence, parent: Evidence, now: float) -> bool:
        """Whether a parent's end, which no event has brought, may still come in time."""
        until = evidence.known_at + PARENT_WAIT
        if now >= until:
            return False
        self._wake(until)
        knows_at = evidence.known_at + HISTORY_LAG
        if self._askable and parent.history_asked < knows_at:
            self.history_poll.by(knows_at)
        return True

    def _close(self, now: float) -> None:
        """Emit the verified end if nothing has to be waited for; else set when to try again."""
        core = self.core_state
        assert core is not None
        evidences = {step_id: step.evidence for step_id, step in self._steps.items()}
        all_heard = all(
            known.step_run_id in self._steps and self._end_was_heard(self._steps[known.step_run_id])
            for known in core.steps
        )
        gone = not self._has_history or self._history_gone
        doubtful = (not all_heard and gone) or any(
            one.retries is not None and one.proven > one.retries + 1 for one in evidences.values()
        )
        until = self._end.wait(
            now,
            all_heard=all_heard,
            doubtful=doubtful,
            alone=self._core_alone,
            listening=bool(self._open) and self._joined,
            history_behind=not gone and not run_end.history_arrived(self._past, core, evidences),
        )
        if until is not None:
            if until != float("inf"):
                self._wake(until)
            return
        past = {one.step_run_id: one for one in self._past.steps} if self._past is not None else {}
        states = {known.step_run_id: known for known in core.steps}
        outcomes.prove_retries(core, evidences.values(), now)
        in_order = self._in_order()
        waits = False
        for step in in_order:
            known = states.get(step.evidence.id)
            if known is not None and not step.sequencer.ended:
                outcomes.conclude(step.evidence, known, core, past.get(step.evidence.id), now)
        for step in in_order:
            if self._waits_for_another(step, now):
                waits = True
                continue
            self._attribute(step, now)
            if step.executions.unplaced and self._askable:
                until = max(one.heard_at for one in step.executions.unplaced) + ATTEMPT_WAIT
                if now < until:
                    self._wake(until)
                    waits = True
                    continue
            self._attribute(step, now, over=True)
            step.sequencer.advance(now)
            if step.sequencer.due is not None and not step.sequencer.ended:
                self._wake(step.sequencer.due)
                waits = True
        if waits:
            return
        for step in in_order:
            step.sequencer.advance(now, last=True)
        kind, payload, at, recovered = run_end.run_event(
            core, self._past, [step.evidence for step in in_order], self._end.hint
        )
        self._emitter.run(kind, payload, at, recovered)
        self._emitter.items.append(End(kind.removeprefix("run_")))
        self._end.phase = Phase.OVER
        self._due = None
        self.core_poll.at = self.history_poll.at = None

    @staticmethod
    def _end_was_heard(step: Step) -> bool:
        end = step.evidence.end
        return step.sequencer.ended or (end is not None and end.live)

    def _rest(self, now: float) -> None:
        """Note since when every step has ended; if no step follows, the run may be over without an event."""
        resting = bool(self._steps) and all(step.sequencer.ended for step in self._steps.values())
        if not resting:
            self._rested_at = None
        elif self._rested_at is None:
            self._rested_at = now
        if self._rested_at is not None and self._end.hint is None and self._rested_at < float("inf"):
            self._wake(self._rested_at + REST)
        if self._state_only:
            self.core_poll.by(now + STATE_ONLY_EVERY)
            if self._has_history:
                self.history_poll.by(now + STATE_ONLY_EVERY)

    # -- helpers --

    @property
    def _open(self) -> list[SubscriptionState]:
        return [one for one in self._subscriptions if one.closed_at is None]

    @property
    def _askable(self) -> bool:
        """Whether the history can be asked, as far as is known."""
        return self._has_history and not (self._history_gone and self.history_poll.failures > 1)

    @property
    def _core_alone(self) -> bool:
        """Whether the core state alone says that this is the end, and it may be one between a replay's steps.

        A run of one task has no such pauses, and a run with a step whose STARTED was received is in its first
        execution, not in a replay.
        """
        if self._askable or self.core_state is None or len(self.core_state.steps) < 2:
            return False
        return not any(step.evidence.started_live for step in self._steps.values())

    @property
    def _check_at(self) -> float:
        """When the states are read for no other reason than that no event came."""
        heard = self._heard_at if self._heard_at is not None else 0.0
        running = sum(step.sequencer.started and not step.sequencer.ended for step in self._steps.values())
        # The chunks of one step say nothing about the others.
        return (min(heard, self._checked_at) if running > 1 else heard) + self._check_after

    def _step(self, step_run_id: str, now: float) -> Step:
        step = self._steps.get(step_run_id)
        if step is None:
            step = self._steps[step_run_id] = Step(
                step_run_id, now, self._subscriptions, self._emitter, self._settle_seconds
            )
            if self.core_state is not None:  # it was not there when the last core state was asked for
                for one in self._open:
                    if one.opened_at <= self._core_asked:
                        one.starts.add((step_run_id, 1))
        return step

    def _in_order(self) -> list[Step]:
        steps = list(self._steps.values())
        if len(steps) > 1:
            steps.sort(key=_created)
        return steps

    def _forget_closed(self) -> None:
        over = [one for one in self._subscriptions if one.closed_at is not None]
        for one in over[:-MOST_CLOSED]:
            self._subscriptions.remove(one)

    def _want_history(self, now: float) -> None:
        if self._has_history:
            self.history_poll.want(now)

    def _wake(self, at: float) -> None:
        self._due = at if self._due is None else min(self._due, at)


def _created(step: Step) -> tuple[bool, int]:
    created = step.evidence.created_at
    return (created is None, created or 0)


def _numbered(event: LiveEvent, executions: Executions) -> LiveEvent:
    """A chunk of an SDK that does not number them, with its number by arrival."""
    index = executions.all[-1].last_index + 1 if executions.all else 0
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
