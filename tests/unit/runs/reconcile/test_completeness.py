"""An end is told without a gap only where a line that streamed the step, and was alive, says so."""

from __future__ import annotations

import pytest

from proxy.core.events import STEP_CANCELLED, STEP_COMPLETED, STEP_FAILED, GapCause, StepGap
from proxy.core.observations import Kind, LiveEvent, Status
from proxy.runs.reconcile.subscription_state import Line
from tests.laws.test_history_doubts import OTHER, RUN, STEP, chunk, clock, core, past, started, told, world
from tests.support.playing import World, legal

CANCELLED = LiveEvent(RUN, Kind.CANCELLED, None, "", clock(3.1), hangup=True)


def end(kind: Kind, t: float) -> LiveEvent:
    text = '"x"' if kind is Kind.COMPLETED else "ValueError: x"
    return LiveEvent(RUN, kind, STEP, text, clock(t), 0)


def gaps(made: World) -> list[StepGap]:
    return [item for item in made.items if isinstance(item, StepGap)]


def two_lines() -> tuple[World, Line, Line]:
    """A step that one line streams, and another that was opened beside it at 1 s and has heard nothing."""
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, retries=0))])
    first = made.open(ordered=False)
    made.tell(first, started())
    made.until(0.2)
    made.tell(first, chunk(0, 0.2))
    made.until(1.0)
    second = made.open(ordered=True)
    made.until(3.0)
    return made, first, second


ENDS = pytest.mark.parametrize(
    ("kind", "type_"), [(Kind.COMPLETED, STEP_COMPLETED), (Kind.FAILED, STEP_FAILED)]
)


@ENDS
def test_an_end_waits_for_the_line_that_streamed_the_step(kind: Kind, type_: str) -> None:
    made, first, second = two_lines()
    made.tell(second, end(kind, 3))
    made.until(3.02)
    assert not told(made, type_) and made.history.awaits_others(3.02), "it may be on its way there, or dead"
    made.tell(first, chunk(1, 2.9))
    made.tell(first, end(kind, 3))
    assert not made.history.awaits_others(3.02)
    made.until(3.1)
    assert told(made, type_)
    assert not gaps(made)
    legal(made.items)


@ENDS
def test_an_end_that_nobody_vouches_for_comes_with_a_gap(kind: Kind, type_: str) -> None:
    made, _, second = two_lines()
    made.tell(second, end(kind, 3))
    made.until(3.5)
    assert told(made, type_)
    assert gaps(made) == [StepGap(GapCause.UPSTREAM, "one", 1, None)]
    legal(made.items)


def test_an_end_that_waited_for_a_line_which_breaks_comes_at_once_with_a_gap() -> None:
    made, first, second = two_lines()
    made.tell(second, end(Kind.COMPLETED, 3))
    made.close(first)
    made.until(3.01)
    assert told(made, STEP_COMPLETED) and gaps(made)


def test_a_line_that_was_alive_after_the_other_was_bound_need_not_be_waited_for() -> None:
    made, first, second = two_lines()
    made.tell(first, LiveEvent(RUN, Kind.STARTED, OTHER, "", clock(2.9), 0))
    made.tell(second, end(Kind.COMPLETED, 3))
    assert told(made, STEP_COMPLETED) and not gaps(made)


def test_a_line_that_told_a_chunk_itself_vouches_for_the_end() -> None:
    made, _, second = two_lines()
    made.tell(second, chunk(1, 2.0))
    made.tell(second, end(Kind.COMPLETED, 3))
    assert told(made, STEP_COMPLETED) and not gaps(made)


def stopped() -> tuple[World, Line]:
    """A step that streams on one line, and is cancelled at 3 s; the core says so at 5."""
    made = world(
        [(0, core(Status.RUNNING)), (5, core(Status.CANCELLED))],
        [(0, past(Status.RUNNING)), (3, past(Status.CANCELLED, finished_at=clock(3)))],
    )
    line = made.open(ordered=True)
    made.tell(line, started())
    made.until(0.2)
    made.tell(line, chunk(0, 0.2))
    made.until(3.05)
    made.history.past_look.want(3.05)
    made.until(3.1)
    return made, line


def test_a_stop_that_only_a_state_tells_comes_with_a_gap_where_the_line_may_be_dead() -> None:
    made, _ = stopped()
    made.until(4.0)
    assert not told(made, STEP_CANCELLED)
    made.until(4.2)
    assert told(made, STEP_CANCELLED)
    assert gaps(made) == [StepGap(GapCause.UPSTREAM, "one", 1, None)]


def test_who_tells_the_runs_end_vouches_for_a_step_that_was_stopped() -> None:
    made, line = stopped()
    made.tell(line, CANCELLED)
    made.until(3.4)
    assert told(made, STEP_CANCELLED) and not gaps(made)


def test_what_was_held_back_comes_with_the_first_sign_of_life() -> None:
    made, line = stopped()
    made.until(3.8)
    made.tell(line, chunk(1, 2.8))
    made.tell(line, chunk(2, 2.9))
    made.until(4.0)
    assert [index for index, _ in enumerate(told(made, "step_stream"))] == [0, 1, 2]
    assert told(made, STEP_CANCELLED) and not gaps(made)


def test_chunks_that_come_while_the_history_has_a_retry_queued_are_not_the_retrys() -> None:
    """Held back by the connection for so long that the state was faster; without lifecycle events."""
    made = world(
        [(0, core(Status.RUNNING)), (12, core(Status.COMPLETED))],
        [
            (0, past(Status.QUEUED)),
            (1, past(Status.QUEUED, 1)),
            (9, past(Status.RUNNING, 1, started_at=clock(9))),
            (11, past(Status.COMPLETED, 1)),
        ],
    )
    line = made.open(ordered=False)
    made.until(2.0)
    made.history.past_look.want(2.0)
    made.until(2.5)
    for index in range(3):
        made.tell(line, chunk(index, 0.5 + index / 10, f"first/{index}"))
    made.until(9.5)
    for index in range(2):
        made.tell(line, chunk(index, 9.2 + index / 10, f"second/{index}"))
    made.until(30)
    assert told(made, "step_stream") == [(2, "second/0"), (2, "second/1")]
    legal(made.items)


def test_a_chunk_that_comes_after_the_end_on_two_lines_is_said_to_be_missing_once() -> None:
    made, first, second = two_lines()
    made.tell(second, chunk(1, 2.0))
    made.tell(second, end(Kind.COMPLETED, 3))
    for line in (first, second):
        made.tell(line, chunk(2, 2.9))
    assert gaps(made) == [StepGap(GapCause.UPSTREAM, "one", 1, 1)]


def test_who_told_the_end_without_knowing_does_not_vouch_for_it_by_hanging_up() -> None:
    made, first, second = two_lines()
    third = made.open(ordered=True)
    made.until(5.0)
    made.tell(second, end(Kind.COMPLETED, 5))
    made.tell(third, end(Kind.COMPLETED, 5))
    made.tell(third, end(Kind.COMPLETED, 5))
    made.close(third)
    made.until(6.0)
    assert told(made, STEP_COMPLETED) and gaps(made)
    assert first.knows(STEP, 1) and not second.knows(STEP, 1)


@pytest.mark.parametrize("last", ["who knows", "who does not"])
def test_whoever_of_two_tells_the_runs_end_last_it_vouches(last: str) -> None:
    made, line = stopped()
    other = made.open(ordered=True)
    for one in (line, other) if last == "who does not" else (other, line):
        made.tell(one, CANCELLED)
    made.until(3.4)
    assert told(made, STEP_CANCELLED) and not gaps(made)


def test_a_chunk_that_is_sent_after_the_cancellation_takes_nothing_back() -> None:
    made, line = stopped()
    made.tell(line, CANCELLED)
    made.tell(line, chunk(1, 3.2))
    made.until(5)
    assert told(made, STEP_CANCELLED) and not gaps(made)


def test_a_false_end_before_does_not_vouch_for_a_stop() -> None:
    made = world(
        [(0, core(Status.QUEUED)), (6, core(Status.RUNNING)), (9.5, core(Status.CANCELLED))],
        [
            (0, past(Status.QUEUED)),
            (6, past(Status.RUNNING)),
            (9, past(Status.CANCELLED, finished_at=clock(9))),
        ],
    )
    line = made.open(ordered=True)
    made.tell(line, started())
    made.until(0.1)
    made.tell(line, LiveEvent(RUN, Kind.COMPLETED, None, "", clock(0.1), hangup=True))
    made.until(40)
    assert told(made, STEP_CANCELLED) == [(1, None)] and gaps(made)


def test_a_retry_that_no_line_has_told_of_may_have_been_told_to_any() -> None:
    made = world(
        [(0, core(Status.RUNNING)), (9, core(Status.CANCELLED))],
        [
            (0, past(Status.RUNNING)),
            (1, past(Status.QUEUED, 1)),
            (4, past(Status.RUNNING, 1, started_at=clock(4))),
            (7, past(Status.CANCELLED, 1, finished_at=clock(7))),
        ],
    )
    first = made.open(ordered=True)
    made.tell(first, started())
    made.until(1.0)
    made.tell(first, end(Kind.FAILED, 1))
    made.until(1.01)
    made.open(ordered=True)
    made.until(2.05)
    made.close(first, None)
    made.until(40)
    assert told(made, STEP_CANCELLED) == [(2, None)] and gaps(made)


def test_without_a_history_a_retry_that_is_cancelled_asks_who_was_alive() -> None:
    cores = [(0, Status.RUNNING), (1, Status.QUEUED), (4, Status.RUNNING), (7, Status.CANCELLED)]
    made = world([(at, core(status)) for at, status in cores], [])
    line = made.open(ordered=True)
    made.tell(line, started())
    made.tell(line, chunk(0, 0))
    made.until(1.0)
    made.tell(line, end(Kind.FAILED, 1))
    made.until(40)
    assert told(made, STEP_CANCELLED) == [(2, None)] and gaps(made)


def test_what_comes_late_and_was_sent_before_the_stop_is_said_to_be_missing() -> None:
    made, line = stopped()
    made.until(3.8)
    made.tell(line, chunk(1, 2.8))
    made.until(3.95)
    assert told(made, STEP_CANCELLED)
    made.tell(line, chunk(2, 2.9))
    made.tell(line, chunk(3, 3.5))
    assert gaps(made) == [StepGap(GapCause.UPSTREAM, "one", 1, 1)]
