"""One run's observations in; items and a plan out. No IO, no clock, no loop: every input brings its `now`.

    in     opened, received, closed (of a subscription)    core, history (answers to state reads)    tick
    out    take() -> items, in order, each once         plan -> when to tick, when to read which state

The rules are those of the package. Each source knows a different part: subscriptions bring what happens, the
core state has names and the end, the history has the past. So nothing is emitted before the core state has
come and, within JOIN_SETTLE, a history that agrees with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from proxy.core.events import Event, GapCause, Item
from proxy.core.observations import CoreState, Kind, LiveEvent, PastState, PastStep, Status
from proxy.runs.reconcile import outcomes
from proxy.runs.reconcile.emitter import Emitter
from proxy.runs.reconcile.intake import Intake
from proxy.runs.reconcile.joining import Joining
from proxy.runs.reconcile.run_end import Closing, Phase, RunEnd
from proxy.runs.reconcile.sequencer import Step, Steps
from proxy.runs.reconcile.states import EarliestDue, HistoryLag, States
from proxy.runs.reconcile.subscription_state import Pulse, Selection, Subscriptions, SubscriptionState
from proxy.runs.reconcile.timing import FAILED_WAIT, LIVE_WAIT, REST, SETTLE

# Looking an enum's member up in its class takes ten times as long.
_STREAM: Final = Kind.STREAM
_OVER: Final = Phase.OVER


class Plan(Struct, frozen=True, gc=False):
    """What the run needs next; times in seconds of the run's clock, None: nothing."""

    due: float | None  # when to call `tick`
    read_core_at: float | None
    read_history_at: float | None
    over: bool  # the verified end was emitted: nothing more is needed


_NOTHING_MORE: Final = Plan(None, None, None, True)


class Reconciler:
    """One run of one team.

    `has_history`: the REST history can be asked. `check_after`: seconds without an event after which the
    states are read. `settle`: how many seconds an end waits now for chunks that it overtook. `history_lag`:
    how far the history is behind, shared by the runs of a team.
    """

    def __init__(
        self,
        run_id: str,
        *,
        has_history: bool = True,
        check_after: float = 15.0,
        settle: Callable[[], float] | None = None,
        history_lag: HistoryLag | None = None,
    ) -> None:
        self.run_id = run_id
        self.foreign = 0  # events of another run
        self._check_after = check_after
        self._emitter = emitter = Emitter(run_id)
        self._earliest_due = earliest_due = EarliestDue()
        self._states = states = States(has_history=has_history, lag=history_lag or HistoryLag())
        self._subscriptions = subscriptions = Subscriptions()
        self._end = RunEnd()
        lag = settle or (lambda: SETTLE)
        self._steps = steps = Steps(states, subscriptions, emitter, earliest_due, settle=lag)
        self._joining = Joining(states, steps, subscriptions, earliest_due)
        self._intake = Intake(states, subscriptions, emitter, earliest_due, end=self._end, settle=lag)
        self._closing = Closing(
            states,
            steps,
            subscriptions,
            emitter,
            earliest_due,
            end=self._end,
            joining=self._joining,
            attribute=self._intake.attribute,
        )
        self.core_poll = states.core_poll
        self.history_poll = states.history_poll
        self._last_event_at: float | None = None
        self._checked_at = 0.0
        self._calm = False
        """Whether the run goes on and no step waits for anything; `_settle` sets it after other inputs."""

    # -- out --

    @property
    def plan(self) -> Plan:
        """What the run needs next."""
        if self._end.phase is _OVER:
            return _NOTHING_MORE
        return Plan(self._earliest_due.at, self.core_poll.at, self.history_poll.at, False)

    @property
    def core_state(self) -> CoreState | None:
        """The last core state, where there is one."""
        return self._states.core

    @property
    def workflow(self) -> str | None:
        """The workflow's name, once a history or `name_workflow` has given it."""
        return self._emitter.workflow

    def name_workflow(self, name: str) -> None:
        """The run is of the workflow `name`: items have it from now on."""
        self._emitter.workflow = name

    @property
    def late(self) -> int:
        """How many chunks came after their attempt was over."""
        return self._intake.late

    @property
    def over(self) -> bool:
        """Whether the verified end was emitted."""
        return self._end.phase is _OVER

    @property
    def false_ends(self) -> int:
        """How often the engine said that the run was over, and it was not."""
        return self._end.false_ends

    def take(self) -> list[Item]:
        """The items since the last call, in order."""
        return self._emitter.take()

    def is_young(self) -> bool:
        """Whether the run may have just begun."""
        return self._joining.young

    def does_without(self, others: Iterable[SubscriptionState]) -> bool:
        """Whether subscriptions that are open beside `others` can prove the tail of every step under way."""
        beside = list(others)
        left = [one for one in self._subscriptions.open if one.complete and one not in beside]
        return any(not one.silent for one in left) and all(
            step.is_covered_by(left) for step in self._steps.all
        )

    # -- subscriptions --

    def opened(
        self, now: float, selection: Selection, pulse: Pulse | None = None, *, since: float | None = None
    ) -> SubscriptionState:
        """A subscription is open; its events are given to `received` with the state that this returns.

        `pulse`: of a subscription that several runs share. `since`: when that was opened, if earlier.
        """
        one = SubscriptionState(selection, now if since is None else since, pulse or Pulse())
        alone = not self._subscriptions.open
        self._subscriptions.opened(one, now)
        if self._last_event_at is None:
            self._last_event_at = now
        if alone and self._states.core is not None:  # events may be missing from while none was open
            self._states.want_history(now)
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
        one.closed_at = now
        if hung_up and one.complete and one.hung_up_at is None:
            one.hung_up_at = now
        if cause is GapCause.TOO_LARGE:
            for step in self._steps.all:
                if not step.sequencer.ended:
                    step.sequencer.too_large = True
        if cause is not None or not self._subscriptions.open:
            self._end.suspect()
            self.core_poll.want(now + later)
            self._settle(now)

    def received(self, one: SubscriptionState, event: LiveEvent, now: float) -> None:
        """One event of this run, brought by a subscription."""
        if event.run_id != self.run_id:
            self.foreign += 1
            return
        self._last_event_at = one.last_event_at = now
        one.pulse.at = now
        step_id = event.step_run_id
        if step_id is None:
            one.run_end, one.run_end_at = event, now
            self._end.hinted(event, now)
            self.core_poll.want(now)
        elif event.kind is _STREAM:
            one.chunk_at = now
            step = self._steps.get_or_add(step_id, now)
            if not step.sequencer.ended:
                self._end.goes_on()
            self._intake.chunk(one, step, event, now)
        else:
            self._end.step_changed(now)
            self._intake.lifecycle(one, self._steps.get_or_add(step_id, now), event, now)
        if event.hangup and event.kind is Kind.COMPLETED and one.complete:
            # Nothing comes after that, even if the end of the stream is seen later. A run that failed or was
            # cancelled keeps a subscription by metadata open.
            one.hung_up_at = now
        if event.hangup and step_id is not None:
            self._end.suspect()
            self.core_poll.want(now)
        self._settle(now)

    def next_in_order(self, one: SubscriptionState, event: LiveEvent, now: float) -> Event | None:
        """The item of a chunk that simply continues its step; else None, and nothing is changed.

        The short cut for nearly every event. It returns what `received` would emit at once: the step flows
        (its attempt is known, nothing waits, nothing was announced), the index is the next one and the time
        is not earlier.
        """
        if not self._calm or event.kind is not _STREAM:
            return None
        step = self._steps.get(event.step_run_id or "")
        if step is None or (execution := step.sequencer.flowing) is None:
            return None
        index = event.index
        if not index or index != execution.next or event.hangup or execution.held:
            return None
        due = self._earliest_due.at
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
        self._last_event_at = one.last_event_at = one.chunk_at = one.pulse.at = now
        last_chunk[key] = execution.last_index = index
        execution.last_at = at
        execution.last_received_at = now
        execution.emitted(index, at)
        return emitter.chunk(evidence.name or "", event, step.sequencer.attempt)

    # -- states --

    def core(self, state: CoreState, now: float) -> None:
        """A core state, asked for when `core_poll.begin` was called."""
        if self.over:
            return
        asked = self.core_poll.asked if self.core_poll.asked is not None else now
        self.core_poll.answered()
        first = self._states.core is None
        self._emitter.metadata = state.metadata
        if first:
            self._states.began = self._checked_at = now
            self._last_event_at = now if self._last_event_at is None else self._last_event_at
            if not state.done:
                self._states.want_history(now)
        for known in state.steps:
            step = self._steps.get_or_add(known.step_run_id, now)
            step.named(known.name, self._emit_start_at(now))
            step.note_running(now, running=known.status is Status.RUNNING)
            if known.status is Status.EVICTED:
                step.evidence.was_evicted = True
        self._states.core = state
        self._states.core_asked = asked
        if state.done:
            if self._end.claimed(asked, now, alone=self._closing.core_alone):
                self._states.want_history(now)
                if self._closing.core_alone:
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
        self._states.history_gone = False
        self.history_poll.answered()
        self._checked_at = now
        if state is not None:
            self._emitter.workflow = state.workflow or self._emitter.workflow
            first, self._states.past = self._states.past is None, state
            live = self._joining.joined and (self._subscriptions.open or self._end.hint is not None)
            emit_at = now + LIVE_WAIT if live else now
            lag = self._states.lag
            in_order = sorted(state.steps, key=lambda one: one.created_at or 0)
            steps = [(self._steps.get_or_add(known.step_run_id, now), known) for known in in_order]
            lacks = [self._lacks_since(step, known) for step, known in steps]
            lag.lacked(asked - min(lacks, default=asked), now)
            for (step, known), since in zip(steps, lacks, strict=True):
                step.named(known.name, self._emit_start_at(now))
                as_of = min(asked - lag.seconds(now), since)
                outcomes.note_history(step.evidence, known, as_of, now, emit_at)
                if step.evidence.failed_since is not None and step.evidence.undecided:
                    self.history_poll.by(step.evidence.failed_since[1] + FAILED_WAIT)
                if step.evidence.without_text and not step.sequencer.ended:
                    self.core_poll.want(now)
                self._joining.note_waiting(step, now)
                if first and self._joining.joined:
                    self._joining.note_joined(step)
        behind = self._joining.history_is_behind(now)
        self._joining.history_asked = self._joining.history_asked or not behind
        if state is None or behind or self._open_question(now):
            self.history_poll.again(now)
        for step in self._steps.all:
            for execution in step.executions.unplaced:
                knows_at = execution.first_received_at + self._states.lag.seconds(now)
                if asked < knows_at:
                    self.history_poll.by(max(now, knows_at))
        self._settle(now)

    def history_unavailable(self, now: float, jitter: float = 1.0) -> None:
        """The history gave no answer; questions that only it can answer stay open."""
        self._joining.history_asked = True
        self._states.history_gone = True
        self.history_poll.unavailable(now, jitter)
        self._settle(now)

    # -- time --

    def tick(self, now: float) -> None:
        """Time has passed: act on every wait that ends at or before `now`."""
        if not self.over and self._last_event_at is not None and now >= self._check_at:
            self._last_event_at = self._checked_at = now
            self.core_poll.want(now)
            self._states.want_history(now)
        if not self.over and self._closing.rested_at is not None and now >= self._closing.rested_at + REST:
            # Only once: a next step brings an event, and else `check_after` brings a read.
            self._closing.rested_at = float("inf")
            self._end.suspect()
            self.core_poll.want(now)
        self._settle(now)

    def state_only(self, now: float, state_only: bool) -> None:
        """Whether the run has no subscription and gets none for now: its items come from the states alone."""
        if state_only != self._states.state_only:
            self._states.state_only = state_only
            self._settle(now)

    # -- what states say --

    def _not_done(self, state: CoreState, asked: float, now: float) -> None:
        running = any(step.status is Status.RUNNING for step in state.steps)
        self._end.denied(asked, running=running)
        unnamed = any(step.evidence.name is None for step in self._steps.all)
        silent_so_far = self._joining.silent_so_far(now) and not self._states.askable
        if self._end.polls_left or unnamed or silent_so_far or self._states.state_only:
            self.core_poll.again(now)

    def _lacks_since(self, step: Step, known: PastStep) -> float:
        """Since when what the history's answer lacks of a step is known; infinity: it lacks nothing."""
        since = outcomes.lacks_since(step.evidence, known)
        if known.status is Status.QUEUED:  # a chunk of an attempt that still waits for a worker
            execution = step.executions.of(known.retry_count + 1)
            return since if execution is None else min(since, execution.first_received_at)
        over = self._end.phase is Phase.CLAIMED and known.status not in outcomes.AT_REST
        return min(since, self._end.claimed_at) if over else since

    def _open_question(self, now: float) -> bool:
        if self._end.phase is Phase.CLAIMED or self._states.state_only or self._joining.silent_so_far(now):
            return True
        return any(step.has_open_question for step in self._steps.all)

    def _emit_start_at(self, now: float) -> float:
        """Before this a step's beginning that a state says is not emitted: the event has the details."""
        return now + LIVE_WAIT if self._joining.joined and self._subscriptions.open else 0.0

    # -- emitting --

    def _settle(self, now: float) -> None:
        """Emit what can be emitted, and decide what to wait for."""
        self._earliest_due.at = None
        self._calm = False
        if self.over or self._states.core is None:
            return
        if self._last_event_at is not None:
            self._earliest_due.by(self._check_at)
        if not self._joining.joined and not self._joining.may_join(now):
            return
        if not self._joining.joined:
            self._joining.join(now)
        calm = True
        for step in self._steps.in_order():
            if step.executions.contested and not step.sequencer.ended:
                self._intake.place_contested(step)
            if step.executions.unplaced:
                self._intake.attribute(step, now)
            if self._steps.waits_for_another(step, now):
                calm = False
                continue
            step.sequencer.advance(now)
            if step.sequencer.due is not None:
                self._earliest_due.by(step.sequencer.due)
            waits = bool(step.executions.unplaced or step.executions.contested)
            calm = calm and step.sequencer.due is None and not waits
        self._calm = calm and self._end.phase is Phase.RUNNING
        if self._end.phase is Phase.CLAIMED:
            self._closing.close(now)
        else:
            self._closing.rest(now)

    # -- helpers --

    @property
    def _check_at(self) -> float:
        """When the states are read because no event has come."""
        last = self._last_event_at if self._last_event_at is not None else 0.0
        if len(self._steps.all) > 1:  # chunks of one step are no news of the others
            running = sum(step.sequencer.started and not step.sequencer.ended for step in self._steps.all)
            if running > 1:
                last = min(last, self._checked_at)
        return last + self._check_after
