"""Takes in what subscriptions bring of a step: chunks go to executions, other events become evidence.

chunk ──▶ place (which execution?) ──▶ attribute (which attempt?) ──▶ held until the sequencer emits it
             └─ fits two: it waits until one is excluded
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.core import payloads
from proxy.core.events import STEP_CANCELLED, STEP_COMPLETED, GapCause
from proxy.core.observations import STEP_END_KINDS, Kind, LiveEvent
from proxy.runs.reconcile.attempts import Moment, attribute
from proxy.runs.reconcile.emitter import Emitter
from proxy.runs.reconcile.evidence import Evidence, Outcome
from proxy.runs.reconcile.outcomes import AT_REST
from proxy.runs.reconcile.placement import (
    Contested,
    Execution,
    Executions,
    Place,
    continues_with_an_earlier_time,
    place,
)
from proxy.runs.reconcile.run_end import Phase, RunEnd
from proxy.runs.reconcile.sequencer import Step
from proxy.runs.reconcile.states import EarliestDue, States
from proxy.runs.reconcile.subscription_state import ReceivedEnd, Subscriptions, SubscriptionState
from proxy.runs.reconcile.timing import CANCEL_WAIT, LARGE_LATE, OVER_WAIT, SAME_FLUSH

# Characters. Messages over 4.2 KB come up to a second late (the Postgres queue polls for them), so such a
# failure may come after the next attempt's chunks.
LARGE: Final = 3_500


class Intake:
    """What subscriptions bring of the steps of one run."""

    __slots__ = ("_earliest_due", "_emitter", "_end", "_states", "_subscriptions", "late", "settle")

    def __init__(
        self,
        states: States,
        subscriptions: Subscriptions,
        emitter: Emitter,
        earliest_due: EarliestDue,
        *,
        end: RunEnd,
        settle: Callable[[], float],
    ) -> None:
        """`settle`: how many seconds chunks may lag behind an end now."""
        self.late = 0  # chunks that came after their attempt was over
        self.settle = settle
        self._states = states
        self._subscriptions = subscriptions
        self._emitter = emitter
        self._end = end
        self._earliest_due = earliest_due

    def chunk(self, one: SubscriptionState, step: Step, event: LiveEvent, now: float) -> None:
        """A subscription brought a chunk."""
        if step.evidence.name is None:
            self._states.core_poll.want(now)
        if event.index is None:
            event = _numbered(event, step.executions)
        self._place(one, step, event, now)

    def place_contested(self, step: Step) -> None:
        """Place those chunks of which it is known now which execution sent them."""
        waiting = -1
        while waiting != len(step.executions.contested):
            waiting = len(step.executions.contested)
            for each in step.executions.take_contested():
                self._place(each.subscription, step, each.event, each.received_at)

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
            execution.after = evidence.failed_live(now)
            self.attribute(step, now)
        if what in {Place.KNOWN, Place.LATE}:
            self.late += what is Place.LATE
        elif sequencer.ended or (execution.attempt is not None and execution.attempt < sequencer.attempt):
            self._of_no_use(step, execution, event)
        elif index >= execution.next:
            executions.hold(execution, event)
            self._overtaken(one, step, execution, now)
            if execution.attempt is None and self._states.has_history:
                self._states.history_poll.by(now + self._states.lag.seconds(now))

    def _execution(
        self, one: SubscriptionState, step: Step, event: LiveEvent, now: float
    ) -> tuple[Execution | None, Place]:
        """The execution that a chunk belongs to; None if it would begin another one after the step's end."""
        executions = step.executions
        over = [self._over_at(step, each, now) for each in executions.all]
        unbroken = [self._unbroken(one, step, each) for each in executions.all]
        newest = executions.all[-1] if executions.all else None
        same_flush = newest is not None and now < newest.last_received_at + SAME_FLUSH
        passed = [self._passed(one, step, each, now) for each in executions.all]
        n, what = place(event, executions.all, over, unbroken, passed, same_flush=same_flush)
        if what is Place.CONTESTED:
            if newest is not None and not same_flush and continues_with_an_earlier_time(event, newest):
                newest.clock_put_back = True
            return None, what
        if what is Place.BEGINS and step.sequencer.ended:
            return None, what
        begun_at = float("-inf") if newest is None else executions.all[n].first_received_at
        if what in {Place.ADDS, Place.BEGINS} and now < begun_at - SAME_FLUSH:
            return None, Place.CONTESTED  # it came long before that execution, or the newest one, began
        execution = executions.begin(now) if what is Place.BEGINS else executions.all[n]
        index = event.index or 0
        if execution is not executions.all[-1] and not execution.holds(index, event.at):
            executions.all[-1].given_elsewhere(index)
        if what is not Place.KNOWN:
            execution.note(index, event.at, now)
        return execution, what

    def _unbroken(self, one: SubscriptionState, step: Step, execution: Execution) -> bool:
        """Whether no attempt can have begun unnoticed since the execution's last chunk.

        True where no other attempt can follow; where `one` has brought a chunk of this execution; and where
        another subscription that is still open has brought the last one.
        """
        evidence = step.evidence
        if evidence.is_last_attempt:
            return True
        key = (evidence.id, execution.number)
        return key in one.last_chunk or any(
            each.last_chunk.get(key) == execution.last_index for each in self._subscriptions.open
        )

    @staticmethod
    def _passed(one: SubscriptionState, step: Step, execution: Execution, now: float) -> bool:
        """Whether what a subscription brings now was sent after the execution's last chunk.

        True where it brought that long ago, or was opened long after it came.
        """
        at_last = one.last_chunk.get((step.evidence.id, execution.number)) == execution.last_index
        since = now if at_last else one.opened_at
        return since > execution.last_received_at + LARGE_LATE

    def _overtaken(self, one: SubscriptionState, step: Step, execution: Execution, now: float) -> None:
        """A chunk came after its attempt's end: more may come, so the settling time begins again."""
        key = (step.evidence.id, execution.attempt or 0)
        end = one.ends.get(key)
        if end is not None:
            settled_at = max(end.settled_at, now + self.settle())
            one.ends[key] = ReceivedEnd(end.at, settled_at)

    def _of_no_use(self, step: Step, execution: Execution, event: LiveEvent) -> None:
        """A chunk of an attempt that is over, or of a step that has ended."""
        sequencer = step.sequencer
        if sequencer.ended and execution.attempt in {None, sequencer.attempt}:
            self._too_late(step, event)
            return
        self.late += 1

    @staticmethod
    def _over_at(step: Step, execution: Execution, received_at: float) -> int | None:
        """The time after which an execution sends nothing more, by a failure that is its own; else None.

        `received_at`: when the chunk in question came.
        """
        failures, proven = step.evidence.failures, step.evidence.proven
        failure = failures.get(proven if execution.attempt is None else execution.attempt)
        if failure is None or (execution.attempt == proven and step.evidence.is_last_attempt):
            return None
        if execution.attempt is not None:
            if not failure.stopped and received_at >= failure.known_at + OVER_WAIT:
                return execution.last_at
            return failure.at if failure.live and not failure.stopped else None
        if failure.at is None or execution.first_at is None or not failure.live:
            return None
        return failure.at if execution.first_at < failure.at else None

    def _too_late(self, step: Step, event: LiveEvent) -> None:
        """A chunk came after the step's end was emitted, and it was not known to be missing."""
        self.late += 1
        end, sequencer = step.evidence.end, step.sequencer
        if self._end.phase is Phase.OVER or end is None or sequencer.gap_emitted:
            return
        # The code of a stopped step may go on for a while; what it sends after the end is not wanted.
        before = end.at is not None and event.at is not None and event.at < end.at
        if before or not end.stopped:
            sequencer.gap_emitted = True
            self._emitter.gap(GapCause.UPSTREAM, step.evidence.name, sequencer.attempt, None)

    def lifecycle(self, one: SubscriptionState, step: Step, event: LiveEvent, now: float) -> None:
        """A subscription brought an event of a step that is no chunk."""
        evidence, kind = step.evidence, event.kind
        attempt = (event.retry_count if event.retry_count is not None else max(evidence.proven - 1, 0)) + 1
        key = (evidence.id, attempt)
        if kind is Kind.STARTED:
            evidence.running = True
            if not evidence.started_live:
                evidence.started_live, evidence.started_at = True, event.at
                evidence.created_at = event.at if event.at is not None else evidence.created_at
            one.began(evidence.id, 1, now)
        elif kind in STEP_END_KINDS:
            settle = self.settle()
            one.ends.setdefault(key, ReceivedEnd(now, now + settle))
            evidence.attempt_began(attempt, now)
            if kind is Kind.COMPLETED:
                output = payloads.output(event.payload)
                evidence.ended(Outcome(STEP_COMPLETED, attempt, output, event.at, True, now, now))
            elif kind is Kind.CANCELLED:
                self._cancelled(evidence, attempt, event.at, now)
            else:
                evidence.attempt_failed(attempt, event.payload, event.at, now, live=True)
                if len(event.payload) < LARGE and not evidence.is_over(attempt + 1):
                    one.began(evidence.id, attempt + 1, now)
                evidence.running = False
                if evidence.undecided:
                    if evidence.retries_used_up:
                        evidence.failed_for_good(now)
                    self._states.want_history(now)
                    self._states.core_poll.want(now)
        if evidence.name is None:
            self._states.core_poll.want(now)
        self.attribute(step, now)

    def _cancelled(self, evidence: Evidence, attempt: int, at: int | None, now: float) -> None:
        """A subscription brought a cancellation; only the history knows whether it was a schedule timeout."""
        ask = self._states.askable
        emit_at = now + CANCEL_WAIT if ask else now
        evidence.ended(Outcome(STEP_CANCELLED, attempt, None, at, True, now, emit_at, confirmed=not ask))
        if ask:
            self._states.want_history(now)

    def attribute(self, step: Step, now: float, *, over: bool = False) -> None:
        """Decide which attempts the waiting executions are."""
        moment = Moment(now, self._states.attempt_wait(now), self._states.askable and not over, over)
        before: Execution | None = None
        for n, execution in enumerate(step.executions.all, start=1):
            if execution.attempt is None:
                newer = len(step.executions.all) - n
                after = [one.after for one in step.executions.all]
                in_turn = after.count(execution.after) == 1 and execution.after + 1 in after
                decided = attribute(execution, before, step.evidence, moment, newer=newer, in_turn=in_turn)
                if decided.attempt is None:
                    self._earliest_due.by(decided.until)
                    break
                execution.attempt = decided.attempt
                if decided.attempt > step.evidence.proven:
                    step.evidence.attempt_began(decided.attempt, now)
                    step.evidence.running = True
                earlier = step.executions.all[: n - 1] if decided.attempt else []
                same = next((one for one in reversed(earlier) if one.attempt == decided.attempt), None)
                if same is not None:
                    execution.guessed = self._guessed(execution, same, step.evidence)
                    step.executions.continues(execution, same)
            if execution.attempt is not None:
                if execution.attempt < step.sequencer.attempt and execution.held:
                    self.late += step.executions.drop(execution)
                before = execution

    def _guessed(self, execution: Execution, before: Execution, evidence: Evidence) -> bool:
        """Whether nothing but a guess says that `execution` is the attempt of `before`, run again.

        A history that is behind a done run may lack its attempts too.
        """
        if execution.first_index > before.last_index or evidence.was_evicted:
            return False
        behind = self._end.phase is Phase.CLAIMED and evidence.history_status not in AT_REST
        return behind or evidence.history_as_of < execution.first_received_at


def _numbered(event: LiveEvent, executions: Executions) -> LiveEvent:
    """The chunk with an index: chunks of an SDK that sends none are numbered as they arrive."""
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
