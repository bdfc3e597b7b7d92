"""The order of what happened in several runs before a client came."""

from __future__ import annotations

from proxy.core.events import End, Event, Item, StepGap
from proxy.core.events import GapCause as Cause
from proxy.streams.merged.order import in_order


def at(second: int | None, type_: str = "step_completed", run: str = "r") -> Event:
    return Event(type_, run, "s", "id", at=None if second is None else f"1970-01-01T00:00:{second:02d}Z")


def order(*queues: list[Item], starts: list[int] | None = None, sequential: bool = False) -> list[int]:
    found = in_order(queues, starts or [0] * len(queues), sequential=sequential)
    for number, queue in enumerate(queues):
        assert [item for owner, item in found if owner == number] == queue, "each run keeps its order"
    return [number for number, _ in found]


def test_items_of_several_runs_are_sorted_by_their_times() -> None:
    assert order([at(1), at(5), at(6)], [at(2), at(3)]) == [0, 1, 1, 0, 0]


def test_an_item_without_a_time_follows_the_one_before_it() -> None:
    gap = StepGap(Cause.UPSTREAM, "s", 1, None)
    assert order([at(1), gap, at(None), at(5)], [at(2)]) == [0, 0, 0, 1, 0]


def test_a_run_keeps_its_order_even_where_its_times_run_backwards() -> None:
    assert order([at(4), at(1), at(2)], [at(3), at(5)]) == [1, 0, 0, 0, 1]


def test_fractions_of_a_second_are_numbers_and_not_text() -> None:
    early = Event("step_started", "r", at="1970-01-01T00:00:01.05Z")
    late = Event("step_started", "r", at="1970-01-01T00:00:01.1Z")
    assert order([late], [early]) == [1, 0]


def test_an_item_without_any_time_stands_where_its_run_was_created() -> None:
    second = 1_000_000_000
    assert order([at(1), at(3)], [at(None)], starts=[0, 2 * second]) == [0, 1, 0]


def test_sequential_runs_come_one_after_the_other() -> None:
    end = End("completed")
    assert order([at(5), end], [at(1), end], sequential=True) == [0, 0, 1, 1]
