"""Follows one run of one team: reads states, subscribes, wakes up when something is due, and publishes items.

    Subscription ──received─▶                        ──plan───▶  StateReader, SubscriptionSet, wake-up
    tap, search  ──deliver──▶  Reconciler (decides)
    StateReader  ──core─────▶                        ──items──▶  publish

An error of Hatchet never ends a run: it is kept in `trouble`, and the call is tried again. Only the verified
end ends a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from msgspec import Struct

from proxy.core.clock import AlarmClock, LoopClock
from proxy.core.events import GapCause, Item
from proxy.core.observations import CoreState, LiveEvent
from proxy.hatchet.errors import HatchetAway, HatchetError
from proxy.hatchet.upstream import Upstream
from proxy.runs.due_clock import DueClock, WakeUp
from proxy.runs.feeds import Feeds
from proxy.runs.lag import LagMeter
from proxy.runs.observer import Observer
from proxy.runs.quota import SubscriptionQuota
from proxy.runs.reconcile.reconciler import Reconciler
from proxy.runs.reconcile.states import HistoryLag
from proxy.runs.reconcile.subscription_state import Pulse, Selection, SubscriptionState
from proxy.runs.state_reader import CLOSED, StateReader
from proxy.runs.subscription import SPREAD
from proxy.runs.subscriptions import SubscriptionSet

AGAIN: Final = 1.0  # seconds until the run is attended again after an unforeseen error


class RunSettings(Struct, frozen=True):
    """What operators can set."""

    check_after: float = 15.0  # seconds without an event after which the states are read


class RunFollower:
    """One run; `publish` gets its items, each once, in order.

    `pair`: the metadata pair of the team's tap; a run that carries it subscribes by itself only while the tap
    is away. `recovered` is called when Hatchet answers this run again after an outage.
    """

    def __init__(
        self,
        run_id: str,
        upstream: Upstream,
        *,
        publish: Callable[[Sequence[Item]], None],
        settings: RunSettings | None = None,
        clock: AlarmClock | None = None,
        observer: Observer | None = None,
        quota: SubscriptionQuota | None = None,
        lag: LagMeter | None = None,
        history_lag: HistoryLag | None = None,
        rng: Random | None = None,
        pair: tuple[str, str] | None = None,
        recovered: Callable[[], None] | None = None,
    ) -> None:
        self.run_id = run_id
        self._recovered = recovered
        self._publish = publish
        self._clock = DueClock(clock or LoopClock())
        self._observer = observer or Observer()
        self._rng = rng or Random()
        self._lag = lag or LagMeter()
        settings = settings or RunSettings()
        self._reconciler = Reconciler(
            run_id,
            has_history=upstream.has_history,
            check_after=settings.check_after,
            settle=self._lag.settle,
            history_lag=history_lag,
        )
        self._reader = StateReader(
            run_id,
            upstream,
            self._reconciler,
            clock=self._clock,
            rng=self._rng,
            observer=self._observer,
            changed=self._changed,
            recovered=self._hatchet_is_back,
        )
        quota = quota or SubscriptionQuota()
        self._overload = quota.overload
        self._subscriptions = SubscriptionSet(
            run_id,
            upstream,
            self,
            quota=quota,
            clock=self._clock,
            rng=self._rng,
            observer=self._observer,
        )
        self._feeds = Feeds(self._reconciler, clock=self._clock, rng=self._rng, pair=pair)
        self._wake_up = WakeUp(self._clock, self._attend)
        self._trouble: HatchetError | None = None  # of a subscription
        self._started = self._closed = self._stopped = False
        self._counted = (0, 0)

    # -- from outside --

    @property
    def over(self) -> bool:
        """Whether the verified end was published."""
        return self._reconciler.over

    @property
    def state(self) -> CoreState | None:
        """The last core state, where there is one."""
        return self._reconciler.core_state

    @property
    def workflow(self) -> str | None:
        """The name of its workflow, once the history has given it."""
        return self._reconciler.workflow

    def name_workflow(self, name: str) -> None:
        """Its workflow is `name`: items have it from now on."""
        self._reconciler.name_workflow(name)

    @property
    def trouble(self) -> HatchetError | None:
        """The last error of Hatchet that this run met, until a call succeeds."""
        return self._reader.trouble or self._trouble

    @property
    def state_only(self) -> bool:
        """Whether its events come from its states alone, because the team's subscriptions are used up."""
        return self._subscriptions.refused

    @property
    def sources(self) -> list[str]:
        """What brings its events besides its states: ``tap``, ``search``, ``trace``, ``run id``."""
        return [*self._feeds.sources, *self._subscriptions.kinds]

    def start(self) -> None:
        """Begin."""
        if self._started or self._closed:
            return
        self._started = True
        self._reconciler.core_poll.want(self._clock.now())
        self._attend()

    async def first_state(self) -> CoreState:
        """The first core state. Raises RunUnknown, HatchetAway, TokenRefused, RateLimited as things stand."""
        if self.state is not None:
            return self.state
        if self._closed:
            raise HatchetAway(CLOSED)
        self.start()
        return await self._reader.first_state()

    async def is_replaced(self) -> bool:
        """False: there is no shared log."""
        return False

    async def reach(self, position: int) -> None:
        """Do nothing: there is no shared log."""

    def feed(self, source: str, pulse: Pulse, since: float, *, at: float | None = None) -> None:
        """`source`, a subscription that is not this run's own, brings the run's events, since `since`.

        `at`: when the subscription was opened, for one whose events were buffered; None: now. `deliver` and
        `unfeed` take `at` in the same way. All times are seconds of the run's clock.
        """
        if not self._closed and not self.over and self._feeds.begin(source, pulse, since, at=at):
            self._attend()

    def deliver(self, event: LiveEvent, source: str, *, at: float | None = None) -> None:
        """An event of this run from the subscription `source`; `at`: when it came, None: now."""
        state = self._feeds.open.get(source)
        if state is not None and not self._closed and event.run_id == self.run_id:
            self._received(state, event, self._clock.now() if at is None else at)

    def unfeed(
        self,
        source: str,
        *,
        broken: bool = True,
        hung_up: bool = False,
        at: float | None = None,
    ) -> None:
        """`source` brings nothing more, from `at` on (None: now).

        `broken`: events may be missing. `hung_up`: its last event had the engine's hangup flag.
        """
        if self._closed:
            return
        if self._feeds.end(source, broken=broken, hung_up=hung_up, at=at):
            self._changed()

    @property
    def does_without_searches(self) -> bool:
        """Whether it needs no search: its own subscription or the tap brings as much, or the run is over."""
        return self.over or self._closed or self._feeds.replace_searches

    async def close(self) -> None:
        """End everything, and wait for it; nothing is published after that."""
        self._closed = True
        self._wake_up.close()
        tasks = [*self._reader.close(), *self._subscriptions.close()]
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        self._publish = _to_nobody  # breaks a reference cycle: the receiver of items holds this run
        self._recovered = None
        self._trouble = None  # breaks a cycle too: its traceback holds this run

    # -- its own subscriptions --

    def subscription_opened(self, selection: Selection) -> SubscriptionState:
        """One is open; returns its state."""
        state = self._reconciler.opened(self._clock.now(), selection)
        state.overload = self._overload
        self._changed()
        return state

    def subscription_received(self, state: SubscriptionState, event: LiveEvent) -> None:
        """One brought an event."""
        if event.run_id != self.run_id:
            if state.selection is Selection.BY_RUN_ID:  # a pair can belong to several runs, an id cannot
                self._observer.foreign_event()
            return
        if event.index is not None and event.at is not None:
            self._lag.observe(event.at)
        self._received(state, event, self._clock.now())

    def subscription_closed(
        self,
        state: SubscriptionState,
        cause: GapCause | None,
        trouble: HatchetError | None,
        *,
        hung_up: bool,
    ) -> None:
        """One is over."""
        self._trouble = trouble
        later = 0.0 if hung_up or cause is None else self._rng.uniform(0.0, SPREAD)
        self._reconciler.closed(state, self._clock.now(), cause, hung_up=hung_up, later=later)
        if cause is not None:
            self._changed()

    def subscription_failed(self, trouble: HatchetError | None) -> None:
        """One could not be opened."""
        self._trouble = trouble
        self._changed()

    # -- what happens --

    def _received(self, state: SubscriptionState, event: LiveEvent, now: float) -> None:
        try:
            item = self._reconciler.next_in_order(state, event, now)
            if item is not None:
                self._publish((item,))
                return
            self._reconciler.received(state, event, now)
        except Exception as error:
            self._observer.unforeseen(error)
            self._reconciler.core_poll.want(now)  # what the event contained is read from the states
        self._trouble = None
        self._reader.hatchet_answered()
        self._changed()

    def _hatchet_is_back(self) -> None:
        self._subscriptions.hatchet_is_back()
        if self._recovered is not None:
            self._recovered()

    def _changed(self) -> None:
        self._flush()
        self._attend()

    def _flush(self) -> None:
        reconciler = self._reconciler
        try:
            items = reconciler.take()
            if items:
                self._publish(items)
        except Exception as error:
            self._observer.unforeseen(error)
        ends, late = self._counted
        if (reconciler.false_ends, reconciler.late) == (ends, late):
            return
        for _ in range(reconciler.false_ends - ends):
            self._observer.false_end()
        if reconciler.late > late:
            self._observer.late_chunk(reconciler.late - late)
        self._counted = (reconciler.false_ends, reconciler.late)

    def _attend(self) -> None:
        """Do everything that is due now, and set the wake-up for what is due next.

        After an exception that should not be possible it is called again, so that the run goes on.
        """
        if self._closed or not self._started:
            return
        now = self._clock.now()
        try:
            self._do_what_is_due(now)
        except Exception as error:
            self._observer.unforeseen(error)
            self._wake_up.by(now, now + AGAIN)

    def _do_what_is_due(self, now: float) -> None:
        reconciler = self._reconciler
        due = reconciler.plan.due
        if due is not None and due <= now:
            self._tick(now)
        if reconciler.over:
            self._stop()
            return
        again_at = self._subscriptions.update(
            now, reconciler.core_state, wanted=not self._feeds.suffice(now), young=reconciler.is_young
        )
        reconciler.state_only(now, self._subscriptions.refused)
        self._reader.poll(now)
        self._flush()
        plan = reconciler.plan
        times = (self._reader.next_at(plan), plan.due, again_at, self._feeds.waits_until(now))
        self._wake_up.by(now, min((at for at in times if at is not None), default=float("inf")))

    def _tick(self, now: float) -> None:
        try:
            self._reconciler.tick(now)
        except Exception as error:
            self._observer.unforeseen(error)
            self._reconciler.core_poll.by(now + AGAIN)
        self._flush()

    def _stop(self) -> None:
        """The end was published: stop all calls to Hatchet."""
        if self._stopped:
            return
        self._stopped = True
        self._wake_up.cancel()
        self._reader.stop()
        self._subscriptions.close()


def _to_nobody(items: Sequence[Item]) -> None:
    """The run was closed."""
