"""What a replica that takes a run over adds to the log: new items, and gaps for what is missing."""

from __future__ import annotations

from typing import Any, Final

import pytest

from proxy.core.events import (
    RUN_COMPLETED,
    STEP_COMPLETED,
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
from proxy.log.contents import Contents, Continuation

RUN: Final = "11111111-1111-4111-8111-111111111111"
LATE, UPSTREAM = GapCause.JOINED_LATE, GapCause.UPSTREAM


def event(kind: str, step: str = "a", attempt: int | None = 1, **more: Any) -> Event:
    return Event(kind, RUN, step, f"id-{step}", attempt=attempt, **more)


def chunk(index: int, step: str = "a", attempt: int = 1) -> Event:
    return event(STEP_STREAM, step, attempt, index=index, payload=f"{attempt}/{index}")


def gap(cause: GapCause, missed: int | None, step: str = "a", attempt: int = 1) -> StepGap:
    return StepGap(cause, step, attempt, missed)


def contents(*items: Item) -> Contents:
    one = Contents()
    for item in items:
        one.note(item)
    return one


STARTED, DONE = event(STEP_STARTED), event(STEP_COMPLETED, payload={"x": 1})
WHOLE_RUN: Final = StepGap(UPSTREAM, None, None, None)
RETRYING, RESET = event(STEP_RETRYING), Reset("a", 2)
OVER: Final = (Event(RUN_COMPLETED, RUN), End("completed"))

CASES: Final[dict[str, tuple[list[Item], list[Item], list[Item]]]] = {
    # name: what the log holds, what the new leader's follower brings, what passes
    "the log is empty": ([], [STARTED, chunk(0), DONE], [STARTED, chunk(0), DONE]),
    "the log has everything": ([STARTED, chunk(0), DONE, *OVER], [STARTED, chunk(0), DONE, *OVER], []),
    "chunks go on": ([STARTED, chunk(0), chunk(1)], [STARTED, chunk(0), chunk(1), chunk(2)], [chunk(2)]),
    "a late join that misses nothing": (
        [STARTED, chunk(0), chunk(1)],
        [STARTED, gap(LATE, 2), chunk(2), chunk(3)],
        [chunk(2), chunk(3)],
    ),
    "a late join that overlaps": (
        [STARTED, chunk(0), chunk(1)], [gap(LATE, 1), chunk(1), chunk(2)], [chunk(2)],
    ),
    "a late join that misses some": (
        [STARTED, chunk(0)],
        [STARTED, gap(LATE, 4), chunk(4)],
        [gap(UPSTREAM, 3), chunk(4)],
    ),
    "a hole later on": ([STARTED, chunk(0)], [chunk(1), gap(UPSTREAM, 2), chunk(4)],
                        [chunk(1), gap(UPSTREAM, 2), chunk(4)]),
    "an end whose text is not proven": (
        [STARTED, chunk(0)], [STARTED, gap(LATE, None), DONE], [gap(UPSTREAM, None), DONE],
    ),
    "an end with its gap": (
        [STARTED, gap(UPSTREAM, None), DONE], [STARTED, gap(LATE, None), DONE], [],
    ),
    "an end by another word": ([STARTED, DONE], [STARTED, event(STEP_COMPLETED, attempt=None)], []),
    "a retry goes on": (
        [STARTED, chunk(0)],
        [STARTED, gap(LATE, None), RETRYING, RESET, chunk(0, attempt=2)],
        [gap(UPSTREAM, None), RETRYING, RESET, chunk(0, attempt=2)],
    ),
    "a retry": (
        [STARTED, chunk(0), RETRYING, RESET, chunk(0, attempt=2)],
        [STARTED, gap(LATE, None), RETRYING, RESET, gap(LATE, 1, attempt=2), chunk(1, attempt=2)],
        [chunk(1, attempt=2)],
    ),
    "half of a retry": ([STARTED, chunk(0), RETRYING], [STARTED, RETRYING, RESET], [RESET]),
    "half of the end": ([STARTED, DONE, OVER[0]], [STARTED, DONE, *OVER], [OVER[1]]),
    "another step begins": (
        [STARTED, DONE],
        [STARTED, DONE, event(STEP_STARTED, "b"), gap(LATE, 2, "b"), chunk(2, "b")],
        [event(STEP_STARTED, "b"), gap(LATE, 2, "b"), chunk(2, "b")],
    ),
    "a gap of the whole run": ([STARTED], [WHOLE_RUN], [WHOLE_RUN]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_only_what_is_new_passes(name: str) -> None:
    before, items, expected = CASES[name]
    assert Continuation(contents(*before)).news(items) == expected


@pytest.mark.parametrize("name", CASES)
def test_it_makes_no_difference_in_how_many_pieces_items_come(name: str) -> None:
    before, items, expected = CASES[name]
    one = Continuation(contents(*before))
    assert [passed for item in items for passed in one.news([item])] == expected


@pytest.mark.parametrize("name", CASES)
def test_a_summary_says_the_same(name: str) -> None:
    before, items, expected = CASES[name]
    assert Continuation(Contents.of(contents(*before).plain)).news(items) == expected


@pytest.mark.parametrize("name", CASES)
def test_what_passed_once_passes_never_again(name: str) -> None:
    before, items, _ = CASES[name]
    one = contents(*before)
    Continuation(one).news(items)
    again = [item for item in Continuation(one).news(items) if not isinstance(item, StepGap)]
    assert again == []


@pytest.mark.parametrize("cut", range(6))
def test_what_was_served_before_the_last_items_is_known(cut: int) -> None:
    items: list[Item] = [STARTED, chunk(0), chunk(1), RETRYING, RESET, chunk(0, attempt=2), DONE, *OVER]
    rest = items[cut:]
    before = contents(*items).before(rest)
    assert Continuation(before).news(rest) == rest
