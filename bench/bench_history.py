"""What following a run costs per chunk: the reconciler alone, and a follower with an upstream of values.

python bench/bench_history.py

Prints µs per chunk, the best of several rounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from proxy.core.events import Item
from proxy.core.observations import CoreState, CoreStep, Kind, LiveEvent, PastState, PastStep, Status
from proxy.hatchet.upstream import Deliver
from proxy.runs.follower import RunFollower
from proxy.runs.reconcile.reconciler import Reconciler
from proxy.runs.reconcile.subscription_state import Selection, SubscriptionState

RUN = "11111111-0000-0000-0000-000000000001"
MIDNIGHT = 1_767_225_600_000_000_000  # 2026-01-01, nanoseconds since 1970
COUNT = 50_000
ROUNDS = 5
STARTED = LiveEvent(RUN, Kind.STARTED, RUN, at=MIDNIGHT, retry_count=0)


def chunks() -> list[LiveEvent]:
    """A step's tokens, a millisecond apart."""
    return [
        LiveEvent(RUN, Kind.STREAM, RUN, "token ", MIDNIGHT + n * 1_000_000, None, n) for n in range(COUNT)
    ]


def begun(others: int = 0) -> tuple[Reconciler, SubscriptionState]:
    """A run in the middle of a step, beside `others` that are over; and its subscription."""
    reconciler = Reconciler(RUN)
    subscription = reconciler.opened(0.0, Selection.BY_METADATA)
    steps = [CoreStep(f"s{n}", f"other-{n}", Status.QUEUED) for n in range(others)]
    task = CoreStep("task", RUN, Status.RUNNING)
    reconciler.core(CoreState(RUN, Status.RUNNING, False, (task, *steps)), 0.0)
    past = [PastStep(f"s{n}", f"other-{n}", Status.COMPLETED, 0, 0) for n in range(others)]
    running = PastStep("task", RUN, Status.RUNNING, 0, 0)
    reconciler.history(PastState(RUN, Status.RUNNING, (running, *past)), 0.0)
    reconciler.received(subscription, STARTED, 0.0)
    reconciler.tick(1.0)
    reconciler.take()
    return reconciler, subscription


def feed(reconciler: Reconciler, subscription: SubscriptionState, event: LiveEvent) -> None:
    """As a follower does: the short cut where it holds, else the whole way."""
    if reconciler.next_in_order(subscription, event, 1.0) is None:
        reconciler.received(subscription, event, 1.0)
        reconciler.take()


def in_order(others: int) -> float:
    """One subscription, in order: the hot path."""
    events = chunks()
    reconciler, subscription = begun(others)
    began = time.perf_counter()
    for event in events:
        feed(reconciler, subscription, event)
    return time.perf_counter() - began


def whole_way() -> float:
    """The same without the short cut."""
    events = chunks()
    reconciler, subscription = begun()
    began = time.perf_counter()
    for event in events:
        reconciler.received(subscription, event, 1.0)
        reconciler.take()
    return time.perf_counter() - began


def doubled() -> float:
    """Two subscriptions that bring the same: the second's are known already."""
    events = chunks()
    reconciler, subscription = begun()
    other = reconciler.opened(0.0, Selection.BY_RUN_ID)
    reconciler.received(other, STARTED, 0.0)
    began = time.perf_counter()
    for event in events:
        feed(reconciler, subscription, event)
        feed(reconciler, other, event)
    return time.perf_counter() - began


def swapped() -> float:
    """Every pair in the wrong order: the slow path."""
    events = chunks()
    reconciler, subscription = begun()
    began = time.perf_counter()
    for n in range(0, COUNT, 2):
        feed(reconciler, subscription, events[n + 1])
        feed(reconciler, subscription, events[n])
    return time.perf_counter() - began


class AllAtOnce:
    """An upstream that delivers all chunks at once."""

    has_history = False

    def __init__(self, events: list[LiveEvent]) -> None:
        self.events = events
        self.took = 0.0
        self.delivered = asyncio.Event()

    async def follow(self, run_id: str, deliver: Deliver, opened: Callable[[], None] | None = None) -> None:
        if opened is not None:
            opened()
        await asyncio.sleep(0.05)
        deliver(STARTED)
        began = time.perf_counter()
        for event in self.events:
            deliver(event)
        self.took = time.perf_counter() - began
        self.delivered.set()
        await asyncio.sleep(60)

    async def follow_metadata(
        self, key: str, value: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> None:
        await asyncio.sleep(60)

    async def core(self, run_id: str) -> CoreState:
        return CoreState(RUN, Status.RUNNING, False, (CoreStep("task", RUN, Status.RUNNING),))

    async def past(self, run_id: str) -> PastState | None:
        return None

    async def keep_open(self, step_run_id: str) -> None:
        return None

    async def check_history(self) -> None:
        raise NotImplementedError

    async def find(self, key: str, value: str) -> str | None:
        return None

    async def close(self) -> None:
        return None


def whole_run() -> float:
    """Through a `RunFollower`: clock, counting and publishing included."""

    async def measured() -> float:
        upstream = AllAtOnce(chunks())
        counts: list[int] = []

        def publish(items: Sequence[Item]) -> None:
            counts.append(len(items))

        run = RunFollower(RUN, upstream, publish=publish)
        run.start()
        await upstream.delivered.wait()
        await asyncio.sleep(0.2)
        await run.close()
        assert sum(counts) == COUNT + 1, sum(counts)
        return upstream.took

    return asyncio.run(measured())


def main() -> None:
    """Print the table."""
    works: dict[str, Callable[[], float]] = {
        "reconciler: a chunk in order": lambda: in_order(0),
        "reconciler: the same in a run of 200 steps": lambda: in_order(200),
        "reconciler: the same without the short cut": whole_way,
        "reconciler: a chunk on two subscriptions": doubled,
        "reconciler: chunks in swapped pairs": swapped,
        "follower: a chunk in order, published": whole_run,
    }
    for name, work in works.items():
        best = min(work() for _ in range(ROUNDS))
        print(f"{name:<42} {best / COUNT * 1e6:6.2f} µs per chunk")


if __name__ == "__main__":
    main()
