"""The short cut for chunks in order: when it is taken, and when the general way decides."""

from __future__ import annotations

from proxy.core.observations import CoreState, CoreStep, Kind, LiveEvent, Status
from proxy.runs.reconcile.reconciler import Reconciler
from proxy.runs.reconcile.subscription_state import Selection, SubscriptionState

RUN = "00000000-0000-0000-0000-000000000001"
STEP = "00000000-0000-0000-0000-000000000002"
SENT = 10**18  # nanoseconds since 1970


def _chunk(index: int) -> LiveEvent:
    return LiveEvent(RUN, Kind.STREAM, STEP, "x", SENT + index, None, index)


def _streaming() -> tuple[Reconciler, SubscriptionState]:
    reconciler = Reconciler(RUN, has_history=False)
    subscription = reconciler.opened(0.0, Selection.BY_METADATA)
    reconciler.core_poll.begin(0.0)
    reconciler.core(CoreState(RUN, Status.RUNNING, False, (CoreStep("a", STEP, Status.RUNNING),), {}), 0.0)
    reconciler.received(subscription, LiveEvent(RUN, Kind.STARTED, STEP, "", SENT, 0), 0.0)
    reconciler.received(subscription, _chunk(0), 0.1)
    reconciler.take()
    return reconciler, subscription


def test_a_chunk_in_order_takes_the_short_cut() -> None:
    reconciler, subscription = _streaming()
    assert reconciler.next_in_order(subscription, _chunk(1), 0.2) is not None


def test_a_chunk_after_a_hint_at_the_runs_end_goes_the_general_way_which_takes_the_hint_back() -> None:
    reconciler, subscription = _streaming()
    reconciler.received(subscription, LiveEvent(RUN, Kind.COMPLETED, None, "", SENT), 0.2)
    assert reconciler.next_in_order(subscription, _chunk(1), 0.3) is None
    reconciler.received(subscription, _chunk(1), 0.3)
    assert reconciler.false_ends == 1
    reconciler.take()
    assert reconciler.next_in_order(subscription, _chunk(2), 0.4) is not None
