"""Which attempt chunks belong to, which end is believed: scenarios that once went wrong, each on its own."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy.core.events import STEP_COMPLETED, STEP_FAILED, STEP_RETRYING, End, GapCause, Reset, StepGap
from proxy.core.observations import CoreStep, Kind, PastState, PastStep, PastTaskEvent, Status
from tests.support.cost import relative_cost
from tests.support.reconciler_world import World, legal
from tests.support.scenario import (
    OTHER,
    RUN,
    STEP,
    at,
    chunk,
    chunks,
    completed,
    core,
    core_pair,
    failed,
    gaps,
    past,
    past_pair,
    published,
    run_event,
    started,
    world,
)

LATE = GapCause.JOINED_LATE
LOST = GapCause.UPSTREAM


def ended(made: World) -> bool:
    return any(isinstance(item, End) for item in made.items)


# -- chunks of another attempt --


def test_chunks_that_the_engine_held_back_are_not_taken_for_the_next_attempts() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (1, past(Status.RUNNING, 1))])
    first = made.open(ordered=True)
    made.emit(first, started(), chunk(0, 0.1), chunk(1, 0.2))
    made.until(0.5)
    slow = made.open(ordered=True)
    made.until(1.2)
    made.emit(first, failed(1))
    made.until(1.5)
    made.emit(first, chunk(0, 1.6), chunk(1, 1.7))
    made.emit(slow, chunk(0, 1.6))
    made.emit(slow, chunk(2, 0.3), chunk(3, 0.4))  # of attempt 1, held back by the engine for five seconds
    made.emit(first, chunk(2, 1.8))
    made.until(3)
    legal(made.items)
    assert chunks(made, 2) == ["0@1.6", "1@1.7", "2@1.8"]


def test_of_two_executions_before_an_end_of_attempt_2_none_is_sent_as_the_other() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.QUEUED))])
    one = made.open(ordered=True)
    made.until(0.5)
    made.emit(one, chunk(0, 1.0), chunk(1, 1.01), chunk(0, 1.5), chunk(1, 1.51))
    made.emit(one, completed(1.6, retry=1))
    made.until(5)
    legal(made.items)
    assert chunks(made, 1) in ([], ["0@1", "1@1.01"])
    assert chunks(made, 2) in ([], ["0@1.5", "1@1.51"])
    assert {gap.attempt for gap in gaps(made)} == {1, 2}, "by run id no tail is proven"


def test_a_late_chunk_of_an_attempt_two_failures_ago_is_sent_in_that_attempt() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (2, past(Status.RUNNING, 2))])
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.5), chunk(1, 0.6))
    made.until(1)
    made.emit(
        one, failed(1), *(chunk(n, 1.1 + n / 10) for n in range(3)), failed(1.5, retry=1), chunk(2, 0.7)
    )
    made.until(3)
    legal(made.items)
    assert chunks(made, 1) == ["0@0.5", "1@0.6", "2@0.7"]
    assert chunks(made, 2) == ["0@1.1", "1@1.2", "2@1.3"]
    assert gaps(made) == []


@pytest.mark.parametrize(("more", "sent"), [(0, [2]), (1, [])])
def test_a_chunk_that_only_its_time_gives_to_an_older_attempt_may_be_the_newest_ones(
    more: int, sent: list[int | None]
) -> None:
    """The clock was put back between two chunks; an attempt that sends another chunk 3 is whole."""
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (2, past(Status.RUNNING, 1))])
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.5))
    made.until(1)
    made.emit(one, failed(1), *(chunk(n, 1.1 + n / 10) for n in range(3)))
    made.until(1.5)
    made.emit(one, chunk(3, 0.7))
    made.emit(one, *(chunk(3 + n, 1.5 + n / 10) for n in range(more)))
    made.until(2)
    made.emit(one, completed(2.0, retry=1))
    made.until(4)
    legal(made.items)
    assert [gap.attempt for gap in gaps(made)] == sent


def test_a_late_chunk_of_the_attempt_before_the_last_is_not_sent_as_the_last_ones() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (3, past(Status.RUNNING, 2))])
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 1), chunk(2, 1.2))
    made.emit(one, failed(2, retry=1))  # the first failure was lost
    made.emit(one, chunk(1, 1.1))
    made.until(4)
    made.emit(one, chunk(0, 4), completed(5, retry=2))
    made.until(6)
    assert chunks(made, 3) == ["0@4"]


def test_a_retry_whose_failure_was_lost_waits_for_a_history_that_is_away() -> None:
    made = world(
        [(0, core(Status.RUNNING))],
        [(0, past(Status.RUNNING)), (1, past(Status.RUNNING, 1, started_at=at(1)))],
    )
    first = made.open(ordered=True)
    made.emit(first, started(), chunk(0, 0.1), chunk(1, 0.2))
    made.until(0.9)
    made.past_away = True
    made.close(first)
    again = made.open(ordered=True)
    for index in range(3):  # of attempt 2: its failure was sent while no subscription was open
        made.until(1.1 + index / 10)
        made.emit(again, chunk(index, 1.1 + index / 10))
    made.until(4)
    assert chunks(made) == ["0@0.1", "1@0.2"], "nothing says whose the others are"
    made.past_away = False
    made.until(15)
    made.emit(again, chunk(3, 15), completed(16, retry=1))
    made.until(17)
    legal(made.items)
    assert [attempt for attempt, _ in published(made, STEP_RETRYING)] == [1]
    assert chunks(made, 2) == ["0@1.1", "1@1.2", "2@1.3", "3@15"]
    assert chunks(made, 1) == ["0@0.1", "1@0.2"]


def test_without_a_history_chunks_that_begin_again_wait_for_the_end() -> None:
    made = world([(0, core(Status.RUNNING))], [])
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1), chunk(1, 0.2))
    made.until(1.0)
    made.emit(one, chunk(0, 1.0), chunk(1, 1.1), chunk(2, 1.2))
    made.until(9.0)
    assert chunks(made) == ["0@0.1", "1@0.2"], "another attempt, or an evicted one run again"
    made.emit(one, completed(9.0))
    made.until(10.0)
    assert chunks(made, 1) == ["0@0.1", "1@0.2", "2@1.2"]


def test_a_history_that_was_away_once_is_waited_for_before_an_attempt_is_believed() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, 1))], past_away=True)
    one = made.open(ordered=False)
    made.until(0.05)
    made.emit(one, chunk(4, 0.1))
    made.past_away = False
    made.until(0.5)
    assert [(n, text) for n, text in published(made, "step_stream")] == [(2, "4@0.1")]
    assert published(made, STEP_RETRYING) == [(1, None)]
    assert Reset("one", 2) in made.items


def test_a_chunk_whose_index_waits_already_from_an_earlier_time_is_of_another_attempt() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (1.15, past(Status.RUNNING, 1))])
    one = made.open(ordered=False)
    made.until(0.9)
    for t, event in ((1.0, started()), (1.01, chunk(0, 1.01)), (1.07, chunk(2, 1.07))):
        made.until(t)
        made.emit(one, event)
    for index in (2, 3):  # the failure was lost, and so were chunks 0 and 1 of the attempt after it
        made.until(1.2 + index / 1000)
        made.emit(one, chunk(index, 1.2 + index / 1000))
    made.until(3)
    legal(made.items)
    assert chunks(made, 2) == ["2@1.202", "3@1.203"]
    assert chunks(made, 1) == ["0@1.01", "2@1.07"]


def test_a_chunk_of_before_a_clock_was_put_back_is_not_sent_as_the_retrys() -> None:
    """It was missed by metadata, and comes by run id after later ones."""
    made = world(
        [(0, core(Status.RUNNING)), (9, core(Status.COMPLETED))],
        [
            (0, past(Status.RUNNING)),
            (1.2, past(Status.QUEUED, 1)),
            (9, past(Status.COMPLETED, 1, finished_at=at(9))),
        ],
    )
    made.until(0.5)
    by_pair, by_id = made.open(ordered=False), made.open(ordered=True)
    for index, t in ((2, 0.52), (3, 0.57), (4, 0.62), (5, 0.17)):
        made.emit(by_pair, chunk(index, t))
        made.until(made.now + 0.05)
    made.emit(by_pair, failed(0.3))
    for index, t in ((1, 0.47), (2, 0.52), (3, 0.57), (4, 0.62), (5, 0.17)):
        made.emit(by_id, chunk(index, t))
    made.emit(by_id, failed(0.3))
    made.until(40)
    assert chunks(made, 1) == ["2@0.52", "3@0.57", "4@0.62", "5@0.17"]
    assert chunks(made, 2) == []
    legal(made.items)


def test_chunks_that_are_timed_before_their_attempt_began_are_sent_or_announced() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, 1, started_at=at(10)))])
    one = made.open(ordered=False)
    made.until(0.5)
    made.emit(one, chunk(0, 12), chunk(1, 12.1))
    made.until(1)
    assert gaps(made) == [StepGap(LATE, "one", 1, None)], "attempt 1 was over before anyone listened"
    made.emit(one, chunk(2, 7), chunk(3, 7.1))  # the worker's clock was put back by five seconds
    made.emit(one, completed(8, retry=1))
    made.until(3)
    assert "2@7" in chunks(made, 2) or StepGap(LOST, "one", 2, None) in made.items


def test_a_chunk_just_before_a_retry_is_not_the_retrys_where_the_retry_has_chunks_of_its_own() -> None:
    """Joined at the last chunk of an attempt; the retry began 24 ms later."""
    made = world(
        [(0, core(Status.RUNNING)), (3, core(Status.COMPLETED))],
        [
            (0, past(Status.RUNNING)),
            (1.05, past(Status.RUNNING, 1, started_at=at(1.024))),
            (3, past(Status.COMPLETED, 1, started_at=at(1.024))),
        ],
    )
    made.until(0.9)
    one = made.open(ordered=False)
    made.until(1.02)
    made.emit(one, chunk(11, 1.0, "first"))
    made.until(1.05)
    made.emit(one, failed(1.054), chunk(0, 1.03))
    made.until(1.3)
    made.emit(one, *[chunk(index, 1.1 + index / 100) for index in range(1, 11)])
    made.until(2.8)
    made.emit(one, chunk(11, 2.7), completed(2.8, retry=1))
    made.until(5)
    assert (2, "first") not in published(made, "step_stream")
    assert len([what for what in published(made, "step_stream") if what[0] == 2]) == 12
    legal(made.items)


def test_chunks_while_the_history_has_a_retry_queued_are_not_the_retrys() -> None:
    """Held back by the connection for so long that the state was faster; without lifecycle events."""
    made = world(
        [(0, core(Status.RUNNING)), (12, core(Status.COMPLETED))],
        [
            (0, past(Status.QUEUED)),
            (1, past(Status.QUEUED, 1)),
            (9, past(Status.RUNNING, 1, started_at=at(9))),
            (11, past(Status.COMPLETED, 1)),
        ],
    )
    one = made.open(ordered=False)
    made.until(2.0)
    made.reconciler.history_poll.want(2.0)
    made.until(2.5)
    made.emit(one, *[chunk(index, 0.5 + index / 10, f"first/{index}") for index in range(3)])
    made.until(9.5)
    made.emit(one, *[chunk(index, 9.2 + index / 10, f"second/{index}") for index in range(2)])
    made.until(30)
    assert published(made, "step_stream") == [(2, "second/0"), (2, "second/1")]
    legal(made.items)


def test_chunks_that_came_around_a_failure_on_a_broken_subscription_are_sent_or_announced() -> None:
    failure = past(Status.FAILED, error="E: no", finished_at=at(0.4))
    again = {"retry": 1, "started_at": at(0.45)}
    made = world(
        [(0, core(Status.RUNNING))],
        [(0, failure), (0.6, past(Status.RUNNING, **again)), (1.1, past(Status.COMPLETED, **again))],
    )
    made.until(0.485)
    one = made.open(ordered=True)
    made.until(0.49)
    made.emit(one, chunk(0, 0.49))
    made.until(0.52)
    made.close(one)
    made.emit(made.open(ordered=True), completed(1, retry=1))
    made.until(3)
    legal(made.items)
    assert chunks(made, 1) == []
    assert chunks(made, 2) == ["0@0.49"] or 2 in {gap.attempt for gap in gaps(made)}


# -- what breaks --


def test_a_chunk_that_ends_every_subscription_is_announced_though_each_was_replaced() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    first, second = made.open(ordered=True), made.open(ordered=False)
    for one in (first, second):
        made.emit(one, started(), chunk(0, 0.1), chunk(1, 0.2))
    made.close(first)  # chunk 2 is not UTF-8: the engine ends one subscription, then the other
    third = made.open(ordered=True)
    made.close(second)
    made.emit(third, completed(1))
    made.until(3)
    assert gaps(made) == [StepGap(LOST, "one", 1, None)]


@pytest.mark.parametrize("cause", [GapCause.UPSTREAM, None], ids=["broken", "closed by us"])
@pytest.mark.parametrize("ordered", [True, False], ids=["by run id", "by metadata"])
def test_a_subscription_that_was_opened_after_the_last_chunk_proves_nothing(
    ordered: bool, cause: GapCause | None
) -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    first = made.open(ordered=False)
    made.emit(first, started(), chunk(0, 0.1))
    made.until(1)
    fresh = made.open(ordered=ordered)
    made.close(first, cause)
    made.emit(fresh, completed(1))
    made.until(3)
    assert gaps(made) == [StepGap(LOST, "one", 1, None)]


def test_subscriptions_that_break_together_have_missed_what_came_between() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    first, second = made.open(ordered=True), made.open(ordered=False)
    for one in (first, second):
        made.emit(one, started(), chunk(0, 0.1))
    made.close(first)
    third = made.open(ordered=False)
    made.until(4)
    made.close(second, None)
    made.emit(third, completed(4))
    made.until(6)
    assert gaps(made) == [StepGap(LOST, "one", 1, None)]


def test_a_subscription_that_holds_an_attempt_back_does_not_stand_in_for_one_that_brought_it() -> None:
    pasts = [(0, past(Status.RUNNING)), (1, past(Status.RUNNING, 1)), (2.2, past(Status.COMPLETED, 1))]
    made = world([(0, core(Status.RUNNING))], pasts)
    holding, bringing = made.open(ordered=True), made.open(ordered=False)
    for one in (holding, bringing):
        made.emit(one, started(), chunk(0, 0.1))
    made.until(1)
    for one in (holding, bringing):
        made.emit(one, failed(1))
    made.until(2)
    made.emit(bringing, chunk(0, 2))
    made.close(bringing, None)
    made.emit(holding, completed(3, retry=1))
    made.until(4)
    assert chunks(made, 2) == ["0@2"]
    assert StepGap(LOST, "one", 2, None) in made.items


def test_what_another_subscription_goes_on_to_bring_is_no_gap() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    first = made.open(ordered=True)
    made.emit(first, started(), chunk(0, 0.1))
    fresh = made.open(ordered=False)
    made.close(first, None)
    made.emit(fresh, chunk(1, 0.2))
    made.until(1)
    made.emit(fresh, completed(1))
    made.until(3)
    assert gaps(made) == []


def test_a_step_that_only_a_closed_subscription_brought_has_a_gap_beside_one_that_goes_on() -> None:
    made = world(
        [(0, core_pair(Status.RUNNING, Status.RUNNING, Status.RUNNING))],
        [(0, past_pair(Status.RUNNING, Status.RUNNING))],
    )
    first = made.open(ordered=False)
    made.emit(first, started(), started(OTHER), chunk(0, 0.1, step=OTHER), chunk(0, 0.1))
    made.until(1)
    made.emit(first, failed(1))
    fresh = made.open(ordered=False)
    made.until(2)
    made.close(first, None)
    made.emit(fresh, chunk(0, 2.1), completed(2.5, retry=1), completed(2.5, step=OTHER))
    made.until(4)
    assert len(published(made, STEP_COMPLETED)) == 2
    assert gaps(made) == [StepGap(LOST, "two", 1, None)], "no subscription received all of it"


def test_by_run_id_each_attempts_tail_is_a_gap() -> None:
    pasts = [(0, past(Status.RUNNING)), (1.1, past(Status.RUNNING, 1)), (2.2, past(Status.COMPLETED, 1))]
    made = world([(0, core(Status.RUNNING))], pasts)
    one = made.open(ordered=True)
    made.emit(one, started(), chunk(0, 0.1))
    made.until(1)
    made.emit(one, failed(1))
    made.until(2)
    made.emit(one, chunk(0, 1.9), completed(2, retry=1))
    made.until(4)
    assert (chunks(made, 1), chunks(made, 2)) == (["0@0.1"], ["0@1.9"])
    assert gaps(made) == [StepGap(LOST, "one", 1, None), StepGap(LOST, "one", 2, None)]


def test_a_late_joiner_learns_how_many_chunks_it_missed_and_that_the_tail_is_unproven_by_run_id() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    by_id, by_pair = made.open(ordered=True), made.open(ordered=False)
    made.until(3)
    made.emit(by_pair, chunk(4, 3))
    made.until(6)
    made.close(by_pair, None)
    made.until(7)
    made.emit(by_id, chunk(4, 3), completed(7))
    made.until(9)
    assert gaps(made) == [StepGap(LATE, "one", 1, 4), StepGap(LOST, "one", 1, None)]


def test_chunks_that_the_engine_held_back_when_a_subscription_was_closed_are_announced() -> None:
    made = world(
        [(0, core_pair(Status.RUNNING, Status.QUEUED, Status.RUNNING))],
        [(0, past_pair(Status.RUNNING, Status.QUEUED))],
    )
    first = made.open(ordered=True)
    made.until(0.3)
    made.emit(first, chunk(0, 0.3))
    made.until(1)
    made.emit(first, failed(1))
    fresh = made.open(ordered=True)
    made.until(2)
    made.close(first, None)  # the engine would have sent the other step's chunks at its end
    made.emit(fresh, completed(2.5, step=OTHER))
    made.until(4)
    assert StepGap(LOST, "two", 1, None) in made.items, "it began while somebody listened"


def test_a_step_that_was_waiting_when_the_subscription_broke_may_have_begun_unnoticed() -> None:
    made = world(
        [(0, core(Status.QUEUED)), (2, core(Status.RUNNING))],
        [(0, past(Status.QUEUED)), (2, past(Status.RUNNING))],
    )
    first = made.open(ordered=True)
    made.until(0.1)
    made.close(first)
    made.until(3)  # it begins, and streams all it has
    made.emit(made.open(ordered=True), completed(4))
    made.until(5)
    assert gaps(made) == [StepGap(LATE, "one", 1, None)]


# -- failures and timeouts --


def test_a_chunk_that_its_steps_last_failure_overtook_is_announced_after_the_end() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, retries=0))])
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(1)
    made.emit(one, failed(1))
    made.until(2)
    made.emit(one, chunk(0, 0.9))
    assert [type(item).__name__ for item in made.items[-2:]] == ["Event", "StepGap"]


def test_a_step_that_timed_out_may_have_streamed_though_its_start_came_late() -> None:
    made = world(
        [(0, core(Status.RUNNING)), (4, core(Status.FAILED))],
        [(0, past(Status.QUEUED)), (4, past(Status.FAILED, retries=0, error="Task exceeded timeout of 3s"))],
    )
    one = made.open(ordered=True)
    made.until(1)
    made.emit(one, started())
    made.until(4)
    made.emit(one, run_event(Kind.FAILED, 4))
    made.until(9)
    assert [gap.attempt for gap in gaps(made)] == [1]
    assert ended(made)


def test_a_failure_that_no_subscription_brought_has_a_gap_in_each_attempt() -> None:
    failing = past(Status.FAILED, 2, error="E: no", finished_at=at(1))
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (1, failing)])
    one = made.open(ordered=True)
    made.emit(one, started(), chunk(0, 0.1))
    made.until(20)
    assert gaps(made) == [StepGap(LOST, "one", attempt, None) for attempt in (1, 2, 3)]
    assert published(made, STEP_FAILED) == [(3, {"message": "E: no", "detail": "E: no"})]


def test_a_timeout_waits_for_its_text_which_the_done_state_has() -> None:
    text = "Task exceeded timeout of 3s"
    silent = past(Status.FAILED, 2, finished_at=at(1))
    done = core(Status.FAILED, CoreStep("one", STEP, Status.FAILED, None, text))
    made = world([(0, core(Status.RUNNING)), (1.4, done)], [(0, past(Status.QUEUED, 2)), (1.2, silent)])
    one = made.open(ordered=True)
    for t in (0.5, 1.3):
        made.until(t)
        made.emit(one, run_event(Kind.FAILED, 1))
    made.until(20)
    assert published(made, STEP_FAILED) == [(3, {"message": text, "detail": text})]
    assert [(gap.cause, gap.attempt) for gap in gaps(made)] == [(LATE, 1), (LATE, 2), (LATE, 3)]


def test_a_timeout_in_a_run_that_goes_on_has_its_text_from_the_task_events() -> None:
    text = "Task exceeded timeout of 3s"
    event = PastTaskEvent("TIMED_OUT", at(1), 2, text)
    made = world(
        [(0, core(Status.RUNNING))], [(0, past(Status.FAILED, 2, finished_at=at(1), events=(event,)))]
    )
    made.open(ordered=True)
    made.until(0.5)
    assert published(made, STEP_FAILED)[0][1] == {"message": text, "detail": text}


def test_a_step_that_times_out_beside_one_that_streams_is_noticed_by_the_check() -> None:
    text = "Task exceeded timeout of 5s"
    timeout = PastTaskEvent("TIMED_OUT", at(5), 0, text)
    steps = past_pair(Status.RUNNING, Status.RUNNING, retries=0).steps
    over = replace(steps[1], status=Status.FAILED, finished_at=at(5), events=(timeout,))
    made = world(
        [(0, core_pair(Status.RUNNING, Status.RUNNING, Status.RUNNING))],
        [(0, PastState(RUN, Status.RUNNING, steps)), (5, PastState(RUN, Status.RUNNING, (steps[0], over)))],
    )
    one = made.open(ordered=True)
    made.emit(one, started(), started(OTHER))
    for index in range(20):
        made.until(index + 0.5)
        made.emit(one, chunk(index, index + 0.5))
    assert published(made, STEP_FAILED) == [(1, {"message": text, "detail": text})]


def test_a_run_that_is_cancelled_while_a_retry_waits_is_cancelled_in_the_retry() -> None:
    made = world([(0, core(Status.RUNNING)), (2, core(Status.CANCELLED))], [])
    one = made.open(ordered=True)
    made.emit(one, started())
    made.until(0.2)
    made.emit(one, chunk(0, 0.2), failed(0.3, text="ValueError: x"))
    made.close(one)
    made.until(30)
    assert published(made, STEP_RETRYING, "step_cancelled") == [
        (1, {"message": "ValueError: x", "detail": "ValueError: x"}),
        (2, None),
    ]
    assert gaps(made) == [StepGap(LOST, "one", 1, None), StepGap(LOST, "one", 2, None)]
    legal(made.items)


# -- the end --


def replayed(second: Status, retry: int) -> PastState:
    """Two steps of a replay: the first is over again, the second reads as before until it is its turn."""
    by_user = (PastTaskEvent("RETRIED_BY_USER", at(1), 0),)
    one = PastStep("one", STEP, Status.COMPLETED, 1, 0, {"new": 1}, events=by_user)
    two = PastStep("two", OTHER, second, retry, 0, {"two": retry}, events=by_user)
    return PastState(RUN, second, (one, two))


def test_between_two_steps_of_a_replay_no_end_is_sent_and_nothing_of_before() -> None:
    one, two = CoreStep("one", STEP, Status.COMPLETED), CoreStep("two", OTHER, Status.COMPLETED, '{"old":1}')
    false = core(Status.COMPLETED, one, two)
    runs = core(Status.RUNNING, replace(one, status=Status.QUEUED), replace(two, status=Status.RUNNING))
    true = core(Status.COMPLETED, one, replace(two, output='{"new":1}'))
    made = world(
        [(0, false), (0.05, runs), (2, true)],
        [
            (0, replayed(Status.COMPLETED, 0)),
            (0.2, replayed(Status.RUNNING, 1)),
            (2.1, replayed(Status.COMPLETED, 1)),
        ],
    )
    made.open(ordered=True)
    made.until(1.9)
    assert not ended(made)
    made.until(20)
    legal(made.items)
    assert [attempt for attempt, _ in published(made, STEP_COMPLETED)] == [2, 2]
    assert ended(made)


def test_without_a_history_an_end_that_no_subscription_delivered_is_read_twice() -> None:
    false, runs = core(Status.COMPLETED), core(Status.RUNNING)
    made = world([(0, false), (0.05, runs), (2, false)], [])
    made.open(ordered=True)
    made.until(1.9)
    assert not ended(made)
    made.until(20)
    assert ended(made)


def test_without_a_history_several_done_states_in_the_pauses_of_a_replay_are_no_end() -> None:
    done = core_pair(Status.COMPLETED, Status.COMPLETED, Status.COMPLETED)
    runs = core_pair(Status.QUEUED, Status.RUNNING, Status.RUNNING)
    made = world([(0, done), (0.8, runs), (3, done)], [])
    made.open(ordered=True)
    made.until(2.9)
    assert not ended(made), "done at 0, 0.1, 0.3 and 0.7 s"
    made.until(20)
    legal(made.items)
    assert ended(made)


def test_without_a_history_an_event_of_a_step_makes_the_done_states_before_it_void() -> None:
    made = world([(0, core_pair(Status.COMPLETED, Status.COMPLETED, Status.COMPLETED))], [])
    one = made.open(ordered=True)
    made.until(1.4)
    made.emit(one, completed(1.4, retry=1, step=OTHER))
    made.until(2.3)
    assert not ended(made)
    made.until(20)
    assert ended(made)


def test_without_a_history_old_runs_end_within_two_seconds_and_tasks_at_once() -> None:
    made = world([(0, core_pair(Status.COMPLETED, Status.COMPLETED, Status.COMPLETED))], [])
    made.until(2)
    assert ended(made)
    task = world([(0, core(Status.COMPLETED))], [])
    task.until(0.3)
    assert ended(task)


def test_a_run_whose_beginning_was_received_needs_no_second_done_state() -> None:
    runs = core_pair(Status.RUNNING, Status.QUEUED, Status.RUNNING)
    done = core_pair(Status.COMPLETED, Status.COMPLETED, Status.COMPLETED)
    made = world([(0, runs), (1, done)], [])
    one = made.open(ordered=True)
    made.emit(one, started())
    made.until(1)
    made.emit(one, run_event(Kind.COMPLETED, 1))
    made.until(1.5)
    assert ended(made)


def test_an_end_that_no_event_brings_is_polled_for_once_every_step_has_ended() -> None:
    made = world([(0, core(Status.RUNNING)), (1.2, core(Status.COMPLETED))], [(0, past(Status.RUNNING))])
    one = made.open(ordered=True)
    made.emit(one, started())
    made.until(1)
    made.emit(one, completed(1))
    made.until(1.8)
    assert ended(made)


def test_a_true_end_does_not_excuse_a_subscription_that_was_hung_up_long_before() -> None:
    made = world([(0, core(Status.QUEUED)), (2, core(Status.CANCELLED))], [(0, past(Status.QUEUED))])
    one = made.open(ordered=True)
    made.emit(one, started())
    made.until(0.5)
    made.emit(one, run_event(Kind.FAILED, 0.5))
    made.close(one)
    made.until(1.9)  # chunks were sent meanwhile; no subscription received them
    one = made.open(ordered=True)
    made.emit(one, run_event(Kind.CANCELLED, 1.9))
    made.until(5)
    assert gaps(made) == [StepGap(LOST, "one", 1, None)]


# -- a jump in attempts --


@pytest.mark.parametrize("retry", [100_000, 2**31 - 1])
@pytest.mark.parametrize("retries", [0, 2**31 - 1, None])
def test_a_jump_in_attempts_is_believed_as_a_number_and_never_counted_through(
    retry: int, retries: int | None
) -> None:
    state = replace(past(Status.RUNNING), steps=(replace(past(Status.RUNNING).steps[0], retries=retries),))
    made = world([(0, core(Status.RUNNING))], [(0, state)])
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(0.5)
    cost = relative_cost(lambda: made.emit(one, failed(1.0, retry=retry), chunk(0, 1.1)))
    cost += relative_cost(lambda: made.until(5))
    assert len([item for item in made.items if isinstance(item, Reset)]) <= 2
    assert cost < 10, "a loop over the attempts would cost a thousand times as much"
