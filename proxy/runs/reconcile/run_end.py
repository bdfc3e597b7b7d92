"""Whether the run is over: from hints, which may be false, to the verified end.

    RUNNING ── hint ──▶ SUSPECTED ── core done ──▶ CLAIMED ── stands, or every end is known ──▶ OVER
       ▲                    │                         │
       └── a step goes on ──┴──── core not done ──────┘

A hint is a run event, a hangup or the end of a subscription: the engine sends them also while the run goes
on, so they only make the proxy read the core state. A done state is a claim: between two steps of a replay
the core state says done for some 80 ms, so where a replay is possible it must still be done after that.
Nothing outside of this file decides about the phase of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from proxy.core import payloads
from proxy.core.events import RUN_CANCELLED, RUN_COMPLETED, RUN_FAILED, STEP_FAILED, STEP_SKIPPED, End
from proxy.core.observations import CoreState, Kind, LiveEvent, PastState, Status
from proxy.runs.reconcile import outcomes
from proxy.runs.reconcile.emitter import Emitter
from proxy.runs.reconcile.evidence import Evidence
from proxy.runs.reconcile.joining import Joining
from proxy.runs.reconcile.outcomes import AT_REST
from proxy.runs.reconcile.sequencer import Step, Steps
from proxy.runs.reconcile.states import EarliestDue, States
from proxy.runs.reconcile.subscription_state import Subscriptions
from proxy.runs.reconcile.timing import (
    ALONE,
    CLOSE_WAIT,
    END_POLLS,
    LIVE_WAIT,
    REPLAY_PAUSE,
    REST,
    STATE_ONLY_EVERY,
)

RUN_END: Final = {
    Status.COMPLETED: RUN_COMPLETED,
    Status.FAILED: RUN_FAILED,
    Status.CANCELLED: RUN_CANCELLED,
}
LIVE_END: Final = {
    RUN_COMPLETED: Kind.COMPLETED,
    RUN_FAILED: Kind.FAILED,
    RUN_CANCELLED: Kind.CANCELLED,
}


class Phase(Enum):
    """How far a run's end is known."""

    RUNNING = "running"
    SUSPECTED = "suspected"
    CLAIMED = "claimed"
    OVER = "over"


class RunEnd:
    """The phase of one run."""

    __slots__ = (
        "claimed_at",
        "false_ends",
        "hint",
        "hint_at",
        "phase",
        "polls_left",
        "stands",
        "step_changed_at",
    )

    def __init__(self) -> None:
        self.phase = Phase.RUNNING
        self.hint: LiveEvent | None = None  # the last run event, unless something disproved it
        self.hint_at = 0.0
        self.polls_left = 0  # how often the core state is still to be read because of the last hint
        self.claimed_at = 0.0
        self.stands = False  # the core state has said done for longer than a replay's pause
        self.step_changed_at = float("-inf")  # when a step's last event came that is no chunk
        self.false_ends = 0

    def suspect(self) -> None:
        """Something looked like the end."""
        self.polls_left = END_POLLS
        if self.phase is Phase.RUNNING:
            self.phase = Phase.SUSPECTED

    def hinted(self, event: LiveEvent, now: float) -> None:
        """A subscription brought a run event."""
        self.hint = event
        self.hint_at = now
        self.suspect()

    def goes_on(self) -> None:
        """An event of a step came: the hint was false, or the run goes on again."""
        self.polls_left = 0
        if self.phase is Phase.SUSPECTED:
            self.phase = Phase.RUNNING
        if self.hint is not None:
            self.hint = None
            self.false_ends += 1

    def step_changed(self, now: float) -> None:
        """A step began or ended."""
        self.goes_on()
        self.stands = False
        self.step_changed_at = now

    def claimed(self, asked: float, now: float, *, alone: bool) -> bool:
        """The core state says done; True where it did not before.

        `alone`: nothing else could contradict it.
        """
        if self.phase is not Phase.CLAIMED:
            self.phase = Phase.CLAIMED
            self.claimed_at = now
            self.stands = False
            return True
        pause = ALONE if alone else REPLAY_PAUSE
        if asked >= max(self.claimed_at, self.step_changed_at) + pause:
            self.stands = True
        return False

    def denied(self, asked: float, *, running: bool) -> None:
        """The core state says that the run goes on; `running`: and that a step of it runs."""
        if self.phase is Phase.CLAIMED:
            self.phase = Phase.SUSPECTED if self.polls_left else Phase.RUNNING
        if running and asked >= self.hint_at:
            self.goes_on()
        if self.polls_left:
            self.polls_left -= 1
        if self.polls_left and running:
            self.polls_left = min(self.polls_left, 1)

    def wait(
        self,
        now: float,
        *,
        all_received: bool,
        doubtful: bool,
        alone: bool,
        listening: bool,
        history_behind: bool,
    ) -> float | None:
        """Until when a claimed end waits; None: it can be emitted now; infinity: for another core state.

        `all_received`: subscriptions brought every step's end. `doubtful`: a replay is possible. `alone`:
        nothing but the core state can say that it goes on. `listening`: a subscription may still bring what
        the state says. `history_behind`: the history may still have details.
        """
        if doubtful and not self.stands:
            if alone and not all_received:
                return float("inf")
            if now < self.claimed_at + CLOSE_WAIT:
                return self.claimed_at + CLOSE_WAIT
        if all_received:
            return None
        if listening and now < self.claimed_at + LIVE_WAIT:
            return self.claimed_at + LIVE_WAIT
        if history_behind and now < self.claimed_at + CLOSE_WAIT:
            return self.claimed_at + CLOSE_WAIT
        return None


def history_arrived(past: PastState | None, core: CoreState, steps: Mapping[str, Evidence]) -> bool:
    """Whether the history is as new as the done core state; it has the attempts, the core state has not."""
    if past is None or past.status not in AT_REST:
        return False
    known = {step.step_run_id: step for step in past.steps}
    for state in core.steps:
        past_step = known.get(state.step_run_id)
        evidence = steps.get(state.step_run_id)
        if past_step is None or past_step.status not in AT_REST:
            return False
        if evidence is not None and past_step.retry_count + 1 < evidence.proven:
            return False
    return True


def run_event(
    core: CoreState, past: PastState | None, in_order: Sequence[Evidence], hint: LiveEvent | None
) -> tuple[str, Any, int | None, bool]:
    """The run's own event at its verified end: type, payload, time, and whether it is recovered."""
    kind = RUN_END.get(core.status, RUN_COMPLETED)
    live = hint is not None and hint.kind is LIVE_END[kind]
    at = hint.at if live and hint is not None else (past.finished_at if past is not None else None)
    payload: Any = None
    if kind == RUN_COMPLETED:
        payload = _outputs(core, in_order)
    elif kind == RUN_FAILED:
        payload = _first_failure(in_order)
    return kind, payload, at, not live


def _outputs(core: CoreState, in_order: Sequence[Evidence]) -> dict[str, Any]:
    outputs: dict[str, Any] = {}
    states = {known.step_run_id: known for known in core.steps}
    for evidence in in_order:
        known = states.get(evidence.id)
        if known is None:
            continue
        skipped = evidence.end is not None and evidence.end.type == STEP_SKIPPED
        done = known.status is Status.COMPLETED and not skipped
        outputs[known.name] = payloads.output(known.output) if done else None
    return outputs


def _first_failure(in_order: Sequence[Evidence]) -> dict[str, Any]:
    """The failure that came first: by the engine's times if all have one, else by when they were received."""
    failed = [one for one in in_order if one.end is not None and one.end.type == STEP_FAILED]
    if not failed:
        return {"message": "", "detail": "", "step": None}
    timed = all(one.end is not None and one.end.at is not None for one in failed)
    first = min(failed, key=lambda one: ((one.end.at or 0) if timed else one.end.known_at) if one.end else 0)
    assert first.end is not None
    return {**first.end.payload, "step": first.name}


class Closing:
    """Emits the end of a run, or finds out what it waits for."""

    __slots__ = (
        "_attribute",
        "_earliest_due",
        "_emitter",
        "_end",
        "_joining",
        "_states",
        "_steps",
        "_subscriptions",
        "rested_at",
    )

    def __init__(
        self,
        states: States,
        steps: Steps,
        subscriptions: Subscriptions,
        emitter: Emitter,
        earliest_due: EarliestDue,
        *,
        end: RunEnd,
        joining: Joining,
        attribute: Callable[..., None],
    ) -> None:
        """`attribute` decides of a step which attempts its waiting executions are."""
        self.rested_at: float | None = None  # since when every step that is known has ended
        self._end = end
        self._states = states
        self._steps = steps
        self._subscriptions = subscriptions
        self._joining = joining
        self._emitter = emitter
        self._earliest_due = earliest_due
        self._attribute = attribute

    def close(self, now: float) -> None:
        """Emit the verified end if nothing has to be waited for; else set when to try again."""
        core = self._states.core
        assert core is not None
        evidences = {step.evidence.id: step.evidence for step in self._steps.all}
        all_received = all(
            (step := self._steps.get(known.step_run_id)) is not None and self._end_was_received(step)
            for known in core.steps
        )
        gone = not self._states.has_history or self._states.history_gone
        doubtful = (not all_received and gone) or any(
            one.retries is not None and one.proven > one.retries + 1 for one in evidences.values()
        )
        until = self._end.wait(
            now,
            all_received=all_received,
            doubtful=doubtful,
            alone=self.core_alone,
            listening=bool(self._subscriptions.open) and self._joining.joined,
            history_behind=not gone and not history_arrived(self._states.past, core, evidences),
        )
        if until is not None:
            if until != float("inf"):
                self._earliest_due.by(until)
            return
        past = (
            {one.step_run_id: one for one in self._states.past.steps} if self._states.past is not None else {}
        )
        states = {known.step_run_id: known for known in core.steps}
        outcomes.prove_retries(core, evidences.values(), now)
        in_order = self._steps.in_order()
        waits = False
        for step in in_order:
            known = states.get(step.evidence.id)
            if known is not None and not step.sequencer.ended:
                outcomes.conclude(step.evidence, known, core, past.get(step.evidence.id), now)
        for step in in_order:
            if self._steps.waits_for_another(step, now):
                waits = True
                continue
            self._attribute(step, now)
            if step.executions.unplaced and self._states.askable:
                until = max(one.first_received_at for one in step.executions.unplaced)
                until += self._states.attempt_wait(now)
                if now < until:
                    self._earliest_due.by(until)
                    waits = True
                    continue
            self._attribute(step, now, over=True)
            step.sequencer.advance(now)
            if step.sequencer.due is not None and not step.sequencer.ended:
                self._earliest_due.by(step.sequencer.due)
                waits = True
        if waits:
            return
        for step in in_order:
            step.sequencer.advance(now, last=True)
        kind, payload, at, recovered = run_event(
            core, self._states.past, [step.evidence for step in in_order], self._end.hint
        )
        self._emitter.run(kind, payload, at, recovered)
        self._emitter.items.append(End(kind.removeprefix("run_")))
        self._end.phase = Phase.OVER
        self._earliest_due.at = None
        self._states.core_poll.at = self._states.history_poll.at = None

    @staticmethod
    def _end_was_received(step: Step) -> bool:
        end = step.evidence.end
        return step.sequencer.ended or (end is not None and end.live)

    def rest(self, now: float) -> None:
        """Note since when every step has ended; if no step follows, the run may be over without an event."""
        resting = bool(self._steps.all) and all(step.sequencer.ended for step in self._steps.all)
        if not resting:
            self.rested_at = None
        elif self.rested_at is None:
            self.rested_at = now
        if self.rested_at is not None and self._end.hint is None and self.rested_at < float("inf"):
            self._earliest_due.by(self.rested_at + REST)
        if self._states.state_only:
            self._states.core_poll.by(now + STATE_ONLY_EVERY)
            if self._states.has_history:
                self._states.history_poll.by(now + STATE_ONLY_EVERY)

    @property
    def core_alone(self) -> bool:
        """Whether the core state alone says that this is the end, and it may be one between a replay's steps.

        A run of one task has no such pauses, and a run with a step whose STARTED was received is in its first
        execution, not in a replay.
        """
        if self._states.askable or self._states.core is None or len(self._states.core.steps) < 2:
            return False
        return not any(step.evidence.started_live for step in self._steps.all)
