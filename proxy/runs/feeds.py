"""Feeds: the subscriptions that bring a run's events and are not its own: the tap, a shared one, searches."""

from __future__ import annotations

from random import Random
from typing import Final

from proxy.core.events import GapCause
from proxy.runs.due_clock import DueClock
from proxy.runs.reconcile.reconciler import Reconciler
from proxy.runs.reconcile.subscription_state import Pulse, Selection, SubscriptionState
from proxy.runs.subscription import SPREAD

TAP_WAIT: Final = 1.0  # seconds that a run waits for a broken tap; then it subscribes by itself
TAP: Final = "tap"
SHARED: Final = "shared"  # the subscription of a stream of several runs that the team's tap does not bring
OF_MANY: Final = (TAP, SHARED)


class Feeds:
    """The feeds of one run, by the name of their source.

    `pair`: the metadata pair of the team's tap, which brings the events of a run that carries it.
    """

    __slots__ = ("_clock", "_is_shared", "_reconciler", "_rng", "_tap_lost_at", "open", "pair")

    def __init__(
        self, reconciler: Reconciler, *, clock: DueClock, rng: Random, pair: tuple[str, str] | None
    ) -> None:
        self.pair = pair
        self.open: dict[str, SubscriptionState] = {}
        self._reconciler = reconciler
        self._clock = clock
        self._rng = rng
        self._tap_lost_at = float("-inf")
        self._is_shared = False

    @property
    def sources(self) -> list[str]:
        """What brings the run's events: ``tap``, ``shared``, ``search``."""
        return [source if source in OF_MANY else "search" for source in self.open]

    def begin(self, source: str, pulse: Pulse, since: float, *, at: float | None) -> bool:
        """See `RunFollower.feed`; returns whether `source` did not bring the run's events before."""
        if source in self.open or not self._carries(source):
            return False
        self._is_shared = self._is_shared or source == SHARED
        self.open[source] = self._reconciler.opened(
            self._clock.now() if at is None else at, Selection.BY_METADATA, pulse, since=since
        )
        return True

    def end(self, source: str, *, broken: bool, hung_up: bool, at: float | None) -> bool:
        """See `RunFollower.unfeed`; returns whether `source` brought the run's events until now."""
        state = self.open.pop(source, None)
        if state is None:
            return False
        now = self._clock.now()
        if broken and source in OF_MANY:
            self._tap_lost_at = now
        cause = GapCause.UPSTREAM if broken else None
        later = 0.0 if hung_up else self._rng.uniform(0.0, SPREAD)
        self._reconciler.closed(state, now if at is None else at, cause, hung_up=hung_up, later=later)
        return True

    @property
    def replace_searches(self) -> bool:
        """Whether the run's own subscription or the tap brings as much as its searches."""
        searches = [state for source, state in self.open.items() if source not in OF_MANY]
        return self._reconciler.does_without(searches)

    def suffice(self, now: float) -> bool:
        """Whether the run needs no subscription of its own: the tap brings its events, or soon will."""
        if SHARED in self.open:
            return True
        if self.pair is None or self._reconciler.core_state is None:
            return self._is_shared and now < self._tap_lost_at + TAP_WAIT
        if not self._carries(TAP):
            state = self.open.pop(TAP, None)
            if state is not None:
                self._reconciler.closed(state, now, None)
            return False
        return TAP in self.open or now < self._tap_lost_at + TAP_WAIT

    def waits_until(self, now: float) -> float | None:
        """Until when the run waits for a broken tap to open again; None: it does not."""
        until = self._tap_lost_at + TAP_WAIT
        if now >= until or any(source in self.open for source in OF_MANY):
            return None
        return until

    def _carries(self, source: str) -> bool:
        """Whether `source` brings this run's events; the tap does if the run carries its pair."""
        state = self._reconciler.core_state
        if source != TAP or self.pair is None or state is None:
            return True
        key, value = self.pair
        return state.metadata.get(key) == value
