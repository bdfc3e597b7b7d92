"""A run's own subscriptions: none while the team's tap brings its events, else one, within the quota.

A run is followed by its own trace: the engine puts a `traceparent` into every run's metadata. The engine
needs no look-up for a subscription by that pair, holds nothing back, and sends every chunk. Only a run
without one is followed by its id. The engine delays such a subscription for a second if it comes too early.
So a second one is opened 0.1 s later while the run is young, and the one that brings the first event stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final, Protocol

from proxy.core.clock import Clock
from proxy.core.events import GapCause
from proxy.core.observations import CoreState, LiveEvent
from proxy.hatchet.errors import HatchetError
from proxy.hatchet.upstream import Upstream
from proxy.runs.observer import Observer
from proxy.runs.quota import SubscriptionQuota
from proxy.runs.reconcile.subscription_state import Selection, SubscriptionState
from proxy.runs.subscription import Subscription

TRACE: Final = "traceparent"
TRACE_KIND: Final = "trace"
RUN_KIND: Final = "run id"
SECOND_AFTER: Final = 0.1  # seconds after the first one by id: one that is opened then is not delayed
CHOICE: Final = 2.0  # seconds after which only one of two by id is kept: the engine's delay is a second
QUOTA_PAUSE: Final = 0.5  # seconds until a run without a place asks for one again


class Inputs(Protocol):
    """Receives what happens on a run's own subscriptions."""

    def subscription_opened(self, selection: Selection) -> SubscriptionState:
        """One is open; returns its state."""

    def subscription_received(self, state: SubscriptionState, event: LiveEvent) -> None:
        """One brought an event."""

    def subscription_closed(
        self,
        state: SubscriptionState,
        cause: GapCause | None,
        trouble: HatchetError | None,
        *,
        hung_up: bool,
    ) -> None:
        """One is over; `cause` None: we ended it."""

    def subscription_failed(self, trouble: HatchetError | None) -> None:
        """One could not be opened."""


class _Own:
    """One of a run's own subscriptions: the listener between `Subscription` and the run."""

    def __init__(self, selection: Selection, opened_at: float, inputs: Inputs) -> None:
        self.selection = selection
        self.opened_at = opened_at
        self.state: SubscriptionState | None = None
        self.subscription: Subscription
        self._inputs = inputs

    @property
    def has_received(self) -> bool:
        return self.state is not None and not self.state.silent

    def opened(self) -> None:
        self.state = self._inputs.subscription_opened(self.selection)

    def received(self, event: LiveEvent) -> None:
        if self.state is not None:
            self._inputs.subscription_received(self.state, event)

    def ended(self, cause: GapCause, trouble: HatchetError | None, *, hung_up: bool) -> None:
        state, self.state = self.state, None
        if state is not None:
            self._inputs.subscription_closed(state, cause, trouble, hung_up=hung_up)
        else:
            self._inputs.subscription_failed(trouble)


class SubscriptionSet:
    """A run's own subscriptions, and its place in the team's quota."""

    def __init__(
        self,
        run_id: str,
        upstream: Upstream,
        inputs: Inputs,
        *,
        quota: SubscriptionQuota,
        clock: Clock,
        rng: Random,
        observer: Observer,
    ) -> None:
        self.refused = False  # the quota has no place for this run
        self._run_id = run_id
        self._upstream = upstream
        self._inputs: Inputs | None = inputs  # None: closed
        self._quota = quota
        self._clock = clock
        self._rng = rng
        self._observer = observer
        self._own: list[_Own] = []
        self._has_place = False
        self._second_at: float | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def update(
        self, now: float, state: CoreState | None, *, wanted: bool, young: Callable[[], bool]
    ) -> float | None:
        """Open or close subscriptions as the run needs them; returns when to call again.

        `wanted`: no tap brings its events. `young`: whether the engine may have delayed a subscription by its
        id.
        """
        if not wanted or state is None:
            if self._own or self._has_place or self.refused:
                self._drop(self._own)
                self._leave_quota()
            return None
        if not self._own:
            if state.done:  # one that is open stays: it may still bring what the end overtook
                return None
            if not self._has_place and not self._take_place(now):
                return now + QUOTA_PAUSE
            trace = state.metadata.get(TRACE)
            if isinstance(trace, str) and trace:
                self._open(
                    Selection.BY_METADATA, "trace", partial(self._upstream.follow_metadata, TRACE, trace)
                )
                return None
            self._open_by_id()
            self._second_at = now + SECOND_AFTER
        return self._choose(now, young=young)

    @property
    def kinds(self) -> list[str]:
        """How each subscription that is open selects its events: by the run's ``trace`` or its ``run id``."""
        names = {Selection.BY_METADATA: TRACE_KIND, Selection.BY_RUN_ID: RUN_KIND}
        return [names[own.selection] for own in self._own if own.state is not None]

    def hatchet_is_back(self) -> None:
        """Hatchet answers again: shorten the wait of the subscriptions that are to be opened again."""
        for own in self._own:
            own.subscription.hatchet_is_back()

    def close(self) -> list[asyncio.Task[None]]:
        """End all; returns the tasks that end, to be awaited."""
        for own in self._own:
            own.state = None
        self._inputs = None  # breaks a reference cycle: the run holds this set
        self._drop(self._own)
        self._leave_quota()
        return list(self._ending)

    def _choose(self, now: float, *, young: Callable[[], bool]) -> float | None:
        """Of two by id, keep the one that brings the first event; returns when to choose again."""
        if self._second_at is not None and now >= self._second_at:
            self._second_at = None
            if len(self._own) == 1 and not self._own[0].has_received and young():
                self._open_by_id()
        if len(self._own) < 2:
            return self._second_at
        keep = next((own for own in self._own if own.has_received), None)
        patience = self._own[-1].opened_at + CHOICE
        if keep is None and now < patience:
            return patience
        keep = keep or self._own[-1]
        self._drop([own for own in self._own if own is not keep])
        return None

    def _open_by_id(self) -> None:
        self._open(Selection.BY_RUN_ID, "run", partial(self._upstream.follow, self._run_id))

    def _open(self, selection: Selection, kind: str, open_: Callable[..., object]) -> None:
        assert self._inputs is not None, "nothing is opened after `close`"
        own = _Own(selection, self._clock.now(), self._inputs)
        own.subscription = Subscription(
            open_,  # type: ignore[arg-type]
            own,
            kind=kind,
            clock=self._clock,
            rng=self._rng,
            observer=self._observer,
        )
        self._own.append(own)
        own.subscription.start()

    def _drop(self, dropped: list[_Own]) -> None:
        for own in list(dropped):
            self._own.remove(own)
            task = own.subscription.close()
            if task is not None:
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
            state, own.state = own.state, None
            if state is not None and self._inputs is not None:
                self._inputs.subscription_closed(state, None, None, hung_up=False)

    def _take_place(self, now: float) -> bool:
        self._has_place = self._quota.take(now)
        if self._has_place == self.refused:
            self.refused = not self._has_place
            self._quota.refused += 1 if self.refused else -1
            self._observer.state_only(1 if self.refused else -1)
        return self._has_place

    def _leave_quota(self) -> None:
        if self._has_place:
            self._has_place = False
            self._quota.give()
        if self.refused:
            self.refused = False
            self._quota.refused -= 1
            self._observer.state_only(-1)
