"""Scenarios of one run for the reconciler: short names for events, states and what came out."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from proxy.core.events import STEP_STREAM, Event, StepGap
from proxy.core.instant import SECOND
from proxy.core.observations import CoreState, CoreStep, Kind, LiveEvent, PastState, PastStep, Status
from proxy.runs.reconcile.reconciler import Reconciler
from proxy.runs.reconcile.states import HistoryLag
from tests.support.reconciler_world import World

RUN, STEP, OTHER = "run", "a", "b"
MIDNIGHT = 1_767_225_600 * SECOND  # 2026-01-01, nanoseconds


def at(t: float) -> int:
    """The instant `t` seconds after the run began."""
    return MIDNIGHT + round(t * SECOND)


def chunk(index: int, t: float, text: str = "", step: str = STEP) -> LiveEvent:
    """A chunk that its worker sent at `t`; its payload says which it is."""
    return LiveEvent(RUN, Kind.STREAM, step, text or f"{index}@{t:g}", at(t), None, index)


def started(step: str = STEP, t: float = 0.0) -> LiveEvent:
    """A step's STARTED: the engine sends it when the step is created."""
    return LiveEvent(RUN, Kind.STARTED, step, "", at(t), 0)


def failed(t: float, retry: int = 0, step: str = STEP, text: str = "E: no") -> LiveEvent:
    """The failure of an attempt; `retry` counts from 0, as the wire does."""
    return LiveEvent(RUN, Kind.FAILED, step, text, at(t), retry)


def completed(t: float, retry: int = 0, step: str = STEP, output: str = "{}") -> LiveEvent:
    """A step's COMPLETED."""
    return LiveEvent(RUN, Kind.COMPLETED, step, output, at(t), retry)


def run_event(kind: Kind, t: float) -> LiveEvent:
    """A WORKFLOW_RUN event with a hangup."""
    return LiveEvent(RUN, kind, None, "", at(t), hangup=True)


def core(status: Status, *steps: CoreStep) -> CoreState:
    """A core state; without `steps` of one step with the run's status."""
    done = status in {Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    return CoreState(RUN, status, done, steps or (CoreStep("one", STEP, status),))


def core_pair(one: Status, two: Status, status: Status) -> CoreState:
    """A core state of two steps."""
    return core(status, CoreStep("one", STEP, one), CoreStep("two", OTHER, two))


def past(status: Status, retry: int = 0, **more: Any) -> PastState:
    """A history of one step whose limit is two retries; `more` are fields of `PastStep`."""
    step = replace(PastStep("one", STEP, status, retry, 2, created_at=at(0)), **more)
    return PastState(RUN, status, (step,))


def past_pair(one: Status, two: Status, *, retries: int = 2) -> PastState:
    """A history of two steps."""
    steps = (
        PastStep("one", STEP, one, 0, retries, created_at=at(0)),
        PastStep("two", OTHER, two, 0, retries, created_at=at(0)),
    )
    return PastState(RUN, Status.RUNNING, steps)


def world(
    cores: list[tuple[float, CoreState]],
    pasts: list[tuple[float, PastState]],
    *,
    history_lag: HistoryLag | None = None,
    **more: Any,
) -> World:
    """A run whose states change at the given times; without `pasts` there is no history."""

    def core_at(t: float) -> CoreState | None:
        return next((state for since, state in reversed(cores) if since <= t), None)

    def past_at(t: float) -> PastState | None:
        return next((state for since, state in reversed(pasts) if since <= t), None)

    reconciler = Reconciler(RUN, has_history=bool(pasts), history_lag=history_lag)
    made = World(reconciler, core_at, past_at, **more)
    made.start()
    return made


def published(made: World, *types: str) -> list[tuple[int | None, object]]:
    """(attempt, payload) of the events of these types, in order."""
    return [(i.attempt, i.payload) for i in made.items if isinstance(i, Event) and i.type in types]


def chunks(made: World, attempt: int | None = None) -> list[str]:
    """The payloads of the chunks of an attempt, or of all."""
    return [
        text for n, text in published(made, STEP_STREAM) if attempt in {None, n} and isinstance(text, str)
    ]


def gaps(made: World) -> list[StepGap]:
    """The gaps that were announced."""
    return [item for item in made.items if isinstance(item, StepGap)]
