"""Whether the run is over: from hints, which may be false, to the verified end.

    RUNNING ── hint ──▶ SUSPECTED ── core done ──▶ CLAIMED ── stands, or every end is known ──▶ OVER
       ▲                    │                         │
       └── a step goes on ──┴──── core not done ──────┘

A hint is a run event, a hangup or the end of a subscription: the engine sends them also while the run goes
on, so they only make the proxy read the core state. A done state is a claim: between two steps of a replay
the core state says done for some 80 ms, so where a replay is possible it must still say so after that.
Everything about the phase of a run is in this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

from proxy.core.events import RUN_CANCELLED, RUN_COMPLETED, RUN_FAILED, STEP_FAILED, STEP_SKIPPED
from proxy.core.observations import CoreState, Kind, LiveEvent, PastState, Status
from proxy.runs.reconcile import payloads
from proxy.runs.reconcile.evidence import Evidence
from proxy.runs.reconcile.outcomes import AT_REST
from proxy.runs.reconcile.timing import ALONE, CLOSE_WAIT, END_POLLS, LIVE_WAIT, REPLAY_PAUSE

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

    __slots__ = ("claimed_at", "false_ends", "hint", "hint_at", "phase", "polls_left", "stands", "stirred_at")

    def __init__(self) -> None:
        self.phase = Phase.RUNNING
        self.hint: LiveEvent | None = None  # the last run event, unless something disproved it
        self.hint_at = 0.0
        self.polls_left = 0  # how often the core state is still to be read because of the last hint
        self.claimed_at = 0.0
        self.stands = False  # the core state has said done for longer than a replay's pause
        self.stirred_at = float("-inf")  # when a step's last event came that is no chunk
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

    def stirred(self, now: float) -> None:
        """A step began or ended."""
        self.goes_on()
        self.stands = False
        self.stirred_at = now

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
        if asked >= max(self.claimed_at, self.stirred_at) + pause:
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
        all_heard: bool,
        doubtful: bool,
        alone: bool,
        listening: bool,
        history_behind: bool,
    ) -> float | None:
        """Until when a claimed end waits; None: it can be emitted now; infinity: for another core state.

        `all_heard`: subscriptions brought every step's end. `doubtful`: a replay is possible. `alone`:
        nothing but the core state can say that it goes on. `listening`: a subscription may still bring what
        the state says. `history_behind`: the history may still have details.
        """
        if doubtful and not self.stands:
            if alone and not all_heard:
                return float("inf")
            if now < self.claimed_at + CLOSE_WAIT:
                return self.claimed_at + CLOSE_WAIT
        if all_heard:
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
        told = known.get(state.step_run_id)
        evidence = steps.get(state.step_run_id)
        if told is None or told.status not in AT_REST:
            return False
        if evidence is not None and told.retry_count + 1 < evidence.proven:
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
