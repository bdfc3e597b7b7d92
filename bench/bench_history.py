"""What the heart costs per chunk: a history alone, and a run with its door of paper; µs, best of several.

python bench/bench_history.py
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from proxy.core.events import Item
from proxy.core.observations import CoreState, CoreStep, Kind, LiveEvent, PastState, PastStep, Status
from proxy.hatchet.upstream import Deliver
from proxy.runs.follower import Run
from proxy.runs.reconcile.reconciler import History

RUN = "11111111-0000-0000-0000-000000000001"
COUNT = 50_000
ROUNDS = 5


def chunks() -> list[LiveEvent]:
    """A step's tokens, as the door makes them."""
    at = "2026-01-01T00:00:00.{:06}Z"
    return [LiveEvent(RUN, Kind.STREAM, RUN, "token ", at.format(n), None, n) for n in range(COUNT)]


def begun(others: int = 0) -> tuple[History, Callable[[LiveEvent], None]]:
    """A history in the middle of a step, beside some that are over."""
    history = History(RUN)
    line = history.opened(0.0, ordered=True)
    steps = [CoreStep(f"s{n}", f"other-{n}", Status.QUEUED) for n in range(others)]
    history.core(CoreState(RUN, Status.RUNNING, False, (CoreStep("task", RUN, Status.RUNNING), *steps)), 0.0)
    past = [PastStep(f"s{n}", f"other-{n}", Status.COMPLETED, 0, 0) for n in range(others)]
    history.past(PastState(RUN, Status.RUNNING, (PastStep("task", RUN, Status.RUNNING, 0, 0), *past)), 0.0)
    history.live(line, LiveEvent(RUN, Kind.STARTED, RUN, retry_count=0), 0.0)
    history.take()
    return history, lambda event: history.live(line, event, 1.0)


def in_order(others: int) -> float:
    """One line, in order: the hot path."""
    events = chunks()
    history, tell = begun(others)
    take = history.take
    began = time.perf_counter()
    for event in events:
        tell(event)
        take()
    return time.perf_counter() - began


def doubled() -> float:
    """Two lines that tell the same: the second's are doubles."""
    events = chunks()
    history, tell = begun()
    other = history.opened(0.0, ordered=False)
    history.live(other, LiveEvent(RUN, Kind.STARTED, RUN, retry_count=0), 0.0)
    began = time.perf_counter()
    for event in events:
        tell(event)
        history.live(other, event, 1.0)
        history.take()
    return time.perf_counter() - began


def swapped() -> float:
    """Every pair in the wrong order: the slow path."""
    events = chunks()
    history, tell = begun()
    began = time.perf_counter()
    for n in range(0, COUNT, 2):
        tell(events[n + 1])
        tell(events[n])
        history.take()
    return time.perf_counter() - began


class Paper:
    """A door that tells all at once."""

    has_history = False

    def __init__(self, events: list[LiveEvent]) -> None:
        self.events = events
        self.took = 0.0
        self.told = asyncio.Event()

    async def follow(self, run_id: str, deliver: Deliver, opened: Callable[[], None] | None = None) -> None:
        if opened is not None:
            opened()
        await asyncio.sleep(0.05)
        deliver(LiveEvent(RUN, Kind.STARTED, RUN, retry_count=0))
        began = time.perf_counter()
        for event in self.events:
            deliver(event)
        self.took = time.perf_counter() - began
        self.told.set()
        await asyncio.sleep(60)

    async def follow_metadata(
        self, key: str, value: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> None:
        await asyncio.sleep(60)

    async def core(self, run_id: str) -> CoreState:
        return CoreState(RUN, Status.RUNNING, False, (CoreStep("task", RUN, Status.RUNNING),))

    async def past(self, run_id: str) -> PastState | None:
        return None

    async def find(self, key: str, value: str) -> str | None:
        return None

    async def close(self) -> None:
        return None


def whole_run() -> float:
    """Through `Run`: clock, counting and publishing included."""

    async def measured() -> float:
        door = Paper(chunks())
        told: list[int] = []

        def publish(items: Sequence[Item]) -> None:
            told.append(len(items))

        run = Run(RUN, door, publish=publish)
        run.start()
        await door.told.wait()
        await asyncio.sleep(0.2)
        await run.close()
        assert sum(told) == COUNT + 1, sum(told)
        return door.took

    return asyncio.run(measured())


def main() -> None:
    """Print the table."""
    works: dict[str, Callable[[], float]] = {
        "history: a chunk in order": lambda: in_order(0),
        "history: the same in a run of 200 steps": lambda: in_order(200),
        "history: a chunk and its double": doubled,
        "history: chunks in swapped pairs": swapped,
        "run: a chunk in order, published": whole_run,
    }
    for name, work in works.items():
        best = min(work() for _ in range(ROUNDS))
        print(f"{name:<42} {best / COUNT * 1e6:6.2f} µs per chunk")


if __name__ == "__main__":
    main()
