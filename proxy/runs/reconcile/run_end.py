"""The verified end of a run: what the done state says of steps that nobody told, then the run's own event.

Only here is the core state believed about a step's outcome: before it is done, a finished step reads QUEUED.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from proxy.core.events import (
    RUN_CANCELLED,
    RUN_COMPLETED,
    RUN_FAILED,
    STEP_CANCELLED,
    STEP_COMPLETED,
    STEP_FAILED,
    STEP_SKIPPED,
    CoreState,
    CoreStep,
    End,
    Kind,
    LiveEvent,
    PastState,
    Status,
)
from proxy.runs.reconcile import payloads
from proxy.runs.reconcile.emitter import Story
from proxy.runs.reconcile.evidence import Outcome
from proxy.runs.reconcile.sequencer import Step

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
RESTING: Final = frozenset(RUN_END)
STANDING: Final = frozenset({Status.COMPLETED, Status.CANCELLED})


def unseen(core: CoreState, steps: Mapping[str, Step]) -> bool:
    """Whether the done state tells of a step's end of which no line has told all."""
    for known in core.steps:
        step = steps.get(known.step_run_id)
        if step is None or not (step.ended or _told_live(step)):
            return True
    return False


def _told_live(step: Step) -> bool:
    return step.end is not None and step.end.live and step.questioned is None


def caught_up(past: PastState | None, core: CoreState, steps: Mapping[str, Step]) -> bool:
    """Whether the history has arrived where the core state is: it tells attempts that the core does not."""
    if past is None or past.status not in RESTING:
        return False
    known = {p.step_run_id: p for p in past.steps}
    for state in core.steps:
        told = known.get(state.step_run_id)
        step = steps.get(state.step_run_id)
        if told is None or told.status not in RESTING:
            return False
        if step is not None and told.retry_count + 1 < step.proven:
            return False
    return True


def tried_again(core: CoreState, steps: Mapping[str, Step], now: float) -> None:
    """Count the attempts that a done state proves: a failure that was the last would read FAILED."""
    for known in core.steps:
        step = steps.get(known.step_run_id)
        if step is not None and step.undecided and _status(known, core) in STANDING:
            step.begun(step.proven + 1, now)


def _status(known: CoreStep, core: CoreState) -> Status:
    ended = known.status in RESTING or core.status is not Status.CANCELLED
    return known.status if ended else Status.CANCELLED


def tell(
    story: Story,
    core: CoreState,
    past: PastState | None,
    in_order: Sequence[Step],
    *,
    now: float,
    ended_live: LiveEvent | None,
    failed_order: list[str],
) -> None:
    """Tell all that is left of every step, then the run's event and the end."""
    states = {known.step_run_id: known for known in core.steps}
    times = {p.step_run_id: p.finished_at for p in past.steps} if past is not None else {}
    for step in in_order:
        known = states.get(step.id)
        if known is not None and not step.ended:
            _conclude(step, known, core, at=times.get(step.id), now=now)
        step.advance(story, now, last=True)
    kind = RUN_END.get(core.status, RUN_COMPLETED)
    live = ended_live is not None and ended_live.kind is LIVE_END[kind]
    at = (
        ended_live.at if live and ended_live is not None else (past.finished_at if past is not None else None)
    )
    if kind == RUN_COMPLETED:
        payload: Any = _outputs(core, in_order)
    elif kind == RUN_FAILED:
        payload = _first_failure(in_order, failed_order)
    else:
        payload = None
    story.run(kind, payload, at, not live)
    story.items.append(End(kind.removeprefix("run_")))


def _conclude(step: Step, known: CoreStep, core: CoreState, *, at: str | None, now: float) -> None:
    """The state's word on a step that has not ended."""
    status = _status(known, core)
    if status is Status.COMPLETED:
        seen = step.end is not None and step.end.type == STEP_COMPLETED and step.end.live
        skip = not seen and step.id != core.run_id and payloads.skipped(known.output)
        kind = STEP_SKIPPED if skip else STEP_COMPLETED
        if step.end is None or step.end.type != kind or not step.end.live:
            payload = None if skip else payloads.output(known.output)
            step.end = Outcome(kind, step.proven, payload, at, False, now)
    elif status is Status.FAILED:
        if step.end is None or step.end.type != STEP_FAILED or (step.untold and known.error):
            step.end = None
            step.fails(now, known.error, at)
    elif status is Status.CANCELLED and step.end is None:  # finished steps of a cancelled run read so, too
        step.end = Outcome(STEP_CANCELLED, step.proven, None, at, False, now)


def _outputs(core: CoreState, in_order: Iterable[Step]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    states = {known.step_run_id: known for known in core.steps}
    for step in in_order:
        known = states.get(step.id)
        if known is None:
            continue
        done = known.status is Status.COMPLETED and not (
            step.end is not None and step.end.type == STEP_SKIPPED
        )
        told[known.name] = payloads.output(known.output) if done else None
    return told


def _first_failure(in_order: Sequence[Step], failed_order: list[str]) -> dict[str, Any]:
    failed = [step for step in in_order if step.end is not None and step.end.type == STEP_FAILED]
    timed = [step for step in failed if step.end is not None and step.end.at]
    if failed and len(timed) == len(failed):
        first: Step | None = min(timed, key=lambda step: (step.end.at or "") if step.end else "")
    else:
        by_id = {step.id: step for step in failed}
        told = [by_id[step_id] for step_id in failed_order if step_id in by_id]
        first = (told or failed or [None])[0]  # type: ignore[list-item]
    if first is None or first.end is None:
        return {"message": "", "detail": "", "step": None}
    return {**first.end.payload, "step": first.name}
