"""A world of one run for the reconciler, without an event loop: its subscriptions, its states and its time.

`World` answers the reconciler's polls from timetables of states. The test opens and closes subscriptions,
lets them deliver events, and advances the time. `legal` asserts the order that all items must have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from proxy.core.events import (
    RUN_EVENTS,
    STEP_ENDS,
    STEP_RETRYING,
    STEP_STARTED,
    STEP_STREAM,
    End,
    Event,
    GapCause,
    Item,
    Reset,
    StepGap,
)
from proxy.core.observations import CoreState, LiveEvent, PastState
from proxy.runs.reconcile.reconciler import Reconciler
from proxy.runs.reconcile.subscription_state import Selection, SubscriptionState
from proxy.runs.reconcile.timing import SETTLE

LIFECYCLE_WAIT = 40.0  # seconds of a world's time after its last event in which the end must have come


@dataclass
class World:
    """Answers the reconciler's polls from timetables, `lag` seconds after they began."""

    reconciler: Reconciler
    core_at: Callable[[float], CoreState | None]
    past_at: Callable[[float], PastState | None]
    lag: float = 0.01
    past_lag: float = 0.0
    past_away: bool = False
    now: float = 0.0
    items: list[Item] = field(default_factory=list)
    short_cut: bool = True
    in_order: int = 0
    lag_of_chunks: float = SETTLE  # seconds that an end waits for chunks, as a meter would measure it
    _answers: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reconciler._steps.settle = self.reconciler._intake.settle = lambda: self.lag_of_chunks

    def until(self, t: float) -> None:
        """Let time pass, doing what is due."""
        reconciler = self.reconciler
        while not reconciler.over:
            at = self._next()
            if at is None or at > t:
                break
            self.now = max(self.now, at)
            for answer in [a for a in self._answers if a[0] <= self.now]:
                self._answers.remove(answer)
                self._answer(answer[1])
            if reconciler.plan.due is not None and reconciler.plan.due <= self.now:
                reconciler.tick(self.now)
            self._ask()
            self.items += reconciler.take()
        self.now = max(self.now, t)

    def _next(self) -> float | None:
        reconciler = self.reconciler
        asked = {kind for _, kind in self._answers}
        times = [at for at, _ in self._answers]
        times += [reconciler.plan.due] if reconciler.plan.due is not None else []
        if "core" not in asked and reconciler.core_poll.at is not None:
            times.append(reconciler.core_poll.at)
        if "past" not in asked and reconciler.history_poll.at is not None:
            times.append(reconciler.history_poll.at)
        return min(times, default=None)

    def _ask(self) -> None:
        reconciler = self.reconciler
        asked = {kind for _, kind in self._answers}
        for kind, poll in (("core", reconciler.core_poll), ("past", reconciler.history_poll)):
            if kind not in asked and poll.at is not None and poll.at <= self.now:
                poll.begin(self.now)
                self._answers.append((self.now + self.lag, kind))

    def _answer(self, kind: str) -> None:
        if kind == "core":
            state = self.core_at(self.now - self.lag)
            if state is None:
                self.reconciler.core_poll.again(self.now)
            else:
                self.reconciler.core(state, self.now)
        elif self.past_away:
            self.reconciler.history_unavailable(self.now)
        else:
            self.reconciler.history(self.past_at(self.now - self.lag - self.past_lag), self.now)

    def open(self, *, ordered: bool) -> SubscriptionState:
        return self.reconciler.opened(self.now, Selection.BY_RUN_ID if ordered else Selection.BY_METADATA)

    def emit(self, subscription: SubscriptionState, *events: LiveEvent) -> None:
        """A subscription delivers events, now."""
        for event in events:
            if self.reconciler.over:
                return
            item = self.reconciler.next_in_order(subscription, event, self.now) if self.short_cut else None
            if item is not None:
                self.items.append(item)
                self.in_order += 1
            else:
                self.reconciler.received(subscription, event, self.now)
                self._take()

    def close(self, subscription: SubscriptionState, cause: GapCause | None = GapCause.UPSTREAM) -> None:
        if not self.reconciler.over:
            self.reconciler.closed(subscription, self.now, cause)
            self._take()

    def _take(self) -> None:
        self.items += self.reconciler.take()

    def start(self) -> None:
        self.reconciler.core_poll.want(self.now)


def lifecycle(items: Iterable[Item]) -> list[Event]:
    return [item for item in items if isinstance(item, Event) and item.type != STEP_STREAM]


def identities(items: Iterable[Item]) -> set[tuple[Any, ...]]:
    return {event.identity for event in lifecycle(items)}


def legal(items: Sequence[Item]) -> None:
    """Assert the order: started, per attempt chunks, retrying and reset, the step's end; the run's last."""
    published: set[tuple[Any, ...]] = set()
    steps: dict[str, list[Event]] = {}
    attempts: dict[str, int] = {}
    for n, item in enumerate(items):
        if isinstance(item, End):
            assert n == len(items) - 1, "the end is the last"
            assert isinstance(items[n - 1], Event) and items[n - 1].type == f"run_{item.status}"  # type: ignore[union-attr]
        assert not isinstance(item, StepGap) or item.missed is None or item.missed > 0
        if isinstance(item, Reset):
            before = items[n - 1]
            assert isinstance(before, Event) and before.type == STEP_RETRYING, "a reset follows its retrying"
            assert before.step == item.step and before.attempt == item.attempt - 1
        if not isinstance(item, Event):
            continue
        assert item.identity not in published, f"published twice: {item.identity}"
        published.add(item.identity)
        if item.type in RUN_EVENTS:
            assert n == len(items) - 2 and isinstance(items[-1], End), "the run's event comes before the end"
            continue
        assert item.step_run_id is not None and item.attempt is not None and item.step
        events = steps.setdefault(item.step_run_id, [])
        attempt = attempts.setdefault(item.step_run_id, 1)
        assert not events or events[-1].type not in STEP_ENDS, f"{item.type} after the step's end"
        assert (item.type == STEP_STARTED) == (not events), "started first, and once"
        assert item.attempt == attempt, f"{item.type} of attempt {item.attempt}, published in {attempt}"
        if item.type == STEP_STREAM and events[-1].type == STEP_STREAM:
            assert (item.index or 0) > (events[-1].index or 0), "chunks by index"
        if item.type == STEP_RETRYING:
            attempts[item.step_run_id] = attempt + 1
        events.append(item)


def at(event: LiveEvent, **changes: Any) -> LiveEvent:
    return structs.replace(event, **changes)
