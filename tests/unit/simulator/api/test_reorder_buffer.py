"""The engine's reorder buffer, as its source has it: what waits, how long, and what is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.simulator import messages
from proxy.simulator.api.reorder_buffer import ReorderBuffer
from proxy.simulator.messages import Message
from proxy.simulator.scheduler import ManualScheduler

Timed = list[tuple[float, int | str]]


@pytest.fixture
def scheduler() -> ManualScheduler:
    return ManualScheduler()


@pytest.fixture
def passed() -> Timed:
    return []


@pytest.fixture
def add(scheduler: ManualScheduler, passed: Timed) -> Callable[[int | str], None]:
    def pass_on(message: Message) -> None:
        kinds = {messages.FAILED: "failed", messages.COMPLETED: "completed", messages.STARTED: "started"}
        what = message.index if message.index is not None else kinds.get(message.kind, "")
        passed.append((scheduler.now(), "over" if message.step_run_id is None else what))

    buffer = ReorderBuffer(scheduler, pass_on)

    def add(what: int | str) -> None:
        kinds = {"failed": messages.FAILED, "completed": messages.COMPLETED, "started": messages.STARTED}
        if what == "over":
            buffer.add(Message("run", messages.CANCELLED))
        elif isinstance(what, int):
            buffer.add(Message("run", messages.STREAM, "step", b"", 0.0, None, what))
        else:
            buffer.add(Message("run", kinds[what], "step"))

    return add


CASES: dict[str, tuple[Timed, Timed]] = {
    "in order, at once": ([(0, 0), (0.1, 1), (0.2, 2)], [(0, 0), (0.1, 1), (0.2, 2)]),
    "a swap is put right": ([(0, 0), (0.1, 2), (0.2, 1)], [(0, 0), (0.2, 1), (0.2, 2)]),
    "who has not seen index 0 waits 5 s": ([(0, 4), (1, 5)], [(5, 4), (5, 5)]),
    "after the hold the next comes at once": ([(0, 4), (1, 5), (6, 6)], [(5, 4), (5, 5), (6, 6)]),
    "the step's end releases": ([(0, 4), (1, "completed")], [(1, 4), (1, "completed")]),
    "the run's end releases nothing": ([(0, 4), (1, "over")], [(1, "over"), (5, 4)]),
    "an attempt that begins again waits for the step's end": (
        [(0, 0), (0.1, 1), (0.2, "failed"), (0.3, 0), (0.4, 1), (0.5, "completed")],
        [(0, 0), (0.1, 1), (0.2, "failed"), (0.5, 0), (0.5, 1), (0.5, "completed")],
    ),
    "two seconds after a step's end what waits is lost": (
        [(0, 0), (0.1, "failed"), (0.2, 0), (3, 1), (9, "completed")],
        [(0, 0), (0.1, "failed"), (5.2, 1), (9, "completed")],  # by the timer of what was lost
    ),
    "lifecycle events never wait": ([(0, 4), (0.1, "started")], [(0.1, "started"), (5, 4)]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_buffer_passes_on_and_when(
    case: str, scheduler: ManualScheduler, passed: Timed, add: Callable[[int | str], None]
) -> None:
    comes, wanted = CASES[case]
    for at, what in comes:
        scheduler.after(at, add, what)
    scheduler.advance(20)
    assert [(round(t, 3), what) for t, what in passed] == wanted
