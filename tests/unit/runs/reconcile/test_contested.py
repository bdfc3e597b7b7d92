"""Chunks that may be of two executions: they wait until one is excluded, or become a gap."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy.core.observations import PastTaskEvent, Status
from proxy.runs.reconcile.subscription_state import Selection
from proxy.runs.reconcile.timing import OVER_WAIT
from tests.support.reconciler_world import World, legal
from tests.support.scenario import (
    STEP,
    at,
    chunk,
    chunks,
    completed,
    core,
    failed,
    gaps,
    past,
    started,
    world,
)


def running(retry: int = 0, **more: object) -> World:
    """A run that goes on, whose history counts `retry` retries from 1.0 on."""
    return world(
        [(0, core(Status.RUNNING))],
        [(0, past(Status.RUNNING)), (1.0, past(Status.RUNNING, retry, **more))],
    )


def test_the_chunks_of_two_attempts_in_one_flush_are_sorted_by_index() -> None:
    """Chunk 11 of attempt 1 comes behind chunk 0 of attempt 2, to a client that joined between the two."""
    made = running(retry=1)
    one = made.open(ordered=False)
    made.until(1.05)
    made.emit(one, chunk(0, 1.041), chunk(11, 1.021), failed(1.09))
    made.until(1.2)
    made.emit(one, chunk(1, 1.091), chunk(2, 1.141))
    made.until(1.3)
    made.emit(one, completed(1.3, retry=1))
    made.until(5)
    legal(made.items)
    assert chunks(made, 2) == ["0@1.041", "1@1.091", "2@1.141"]
    assert "11@1.021" not in chunks(made, 2)
    assert {gap.attempt for gap in gaps(made)} >= {1}


def test_a_chunk_that_fits_two_executions_waits_until_a_later_one_excludes_one_of_them() -> None:
    """A timed-out attempt's code goes on beside the next attempt, which loses nothing by that."""
    timeout = (PastTaskEvent("TIMED_OUT", at(0.9), 0),)
    made = running(retry=1, events=timeout, started_at=at(1.0))
    one = made.open(ordered=False)
    made.emit(one, started(), *(chunk(n, 0.1 + n / 20) for n in range(6)))
    made.until(1.2)
    made.emit(one, chunk(0, 1.2))
    made.until(1.25)
    made.emit(one, chunk(6, 1.25, "of attempt 1"))
    executions = made.reconciler._steps.get_or_add(STEP, made.now).executions
    assert executions.contested, "it may be of attempt 2, with 1 to 5 missing"
    made.until(1.3)
    made.emit(one, chunk(1, 1.3))
    assert not executions.contested, "1 was sent after it"
    made.until(1.4)
    made.emit(one, chunk(2, 1.4), completed(1.45, retry=1))
    made.until(3)
    legal(made.items)
    assert chunks(made, 2) == ["0@1.2", "1@1.3", "2@1.4"]
    assert not [gap for gap in gaps(made) if gap.attempt == 2]


def test_a_chunk_that_fits_two_executions_to_the_end_is_a_gap() -> None:
    made = running(retry=1, started_at=at(1.0))
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1), chunk(1, 0.2))
    made.until(1.2)
    made.emit(one, chunk(0, 1.2), chunk(2, 1.25))
    made.until(1.3)
    made.emit(one, completed(1.3, retry=1))
    made.until(3)
    legal(made.items)
    assert "2@1.25" not in chunks(made)
    assert [gap for gap in gaps(made) if gap.attempt == 2]


def test_what_comes_long_after_an_attempt_failed_is_not_contested() -> None:
    """The workers' clock is behind the engine's, so times alone cannot exclude the failed attempt."""
    made = running(retry=1)
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1), chunk(1, 0.2))
    made.until(0.9)
    made.emit(one, failed(5.0))
    made.until(1.2)
    made.emit(one, chunk(0, 1.2), chunk(2, 1.25))
    made.until(0.9 + OVER_WAIT)
    assert chunks(made, 2) == ["0@1.2"], "a large chunk may come a second late"
    made.emit(one, chunk(3, 1.9))
    made.until(3.0)
    assert chunks(made, 2) == ["0@1.2", "3@1.9"]
    assert [gap.missed for gap in gaps(made) if gap.attempt == 2] == [2]


def test_the_same_contested_chunk_is_kept_once_though_two_subscriptions_bring_it() -> None:
    made = running(retry=1, started_at=at(1.0))
    one, two = made.open(ordered=False), made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1), chunk(1, 0.2))
    made.until(1.2)
    made.emit(one, chunk(0, 1.2), chunk(2, 1.25))
    made.emit(two, chunk(0, 1.2), chunk(2, 1.25))
    executions = made.reconciler._steps.get_or_add(STEP, made.now).executions
    assert len(executions.contested) == 1
    assert executions.count == 1 + sum(len(each.held) for each in executions.all)


def test_a_first_chunk_sent_before_a_failure_of_the_history_is_of_the_attempt_that_failed() -> None:
    """The connection held the chunk back; meanwhile the history has shown the failure."""
    waits = replace(
        past(Status.FAILED), steps=(replace(past(Status.FAILED).steps[0], finished_at=at(0.065)),)
    )
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.QUEUED)), (0.1, waits)])
    one = made.open(ordered=False)
    made.until(0.6)
    made.emit(one, chunk(0, 0.061), failed(0.065))
    made.until(5)
    legal(made.items)
    assert chunks(made, 1) == ["0@0.061"]
    assert not chunks(made, 2)


def test_late_chunks_of_a_failed_attempt_that_two_subscriptions_bring_are_not_the_retrys() -> None:
    """The history is late, and says that the retry waits; the failure overtook chunks 13 and 14."""
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (0.3, past(Status.QUEUED, 1))])
    one, two = made.open(ordered=False), made.open(ordered=False)
    made.until(0.28)
    made.emit(one, failed(0.273), chunk(13, 0.188), chunk(14, 0.227))
    made.until(1.0)
    made.emit(two, failed(0.273), chunk(13, 0.188), chunk(14, 0.227))
    made.until(3.0)
    legal(made.items)
    assert not chunks(made, 2)
    assert [gap.attempt for gap in gaps(made)] == [1]


def test_what_came_before_an_end_of_attempt_2_was_known_is_not_its_without_a_history() -> None:
    """A search hands over what it buffered, after the run's own subscription brought the end of attempt 2."""
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING))])
    made.past_away = True
    one = made.open(ordered=False)
    made.until(2.3)
    made.emit(one, completed(2.3, retry=1))
    made.until(2.5)
    late = made.reconciler.opened(0.1, Selection.BY_METADATA)
    for at_, event in ((0.9, chunk(5, 0.9)), (1.1, chunk(6, 1.1)), (1.5, failed(1.5)), (1.6, chunk(0, 1.6))):
        made.reconciler.received(late, event, at_)
    made.until(10)
    legal(made.items)
    assert "5@0.9" not in chunks(made, 2)
    assert "6@1.1" not in chunks(made, 2)


def test_a_retrys_chunk_that_continues_the_failed_attempt_is_not_emitted_as_that_attempts() -> None:
    """Chunk 1 of attempt 1 and chunks 0 and 1 of attempt 2 are lost: 3 may be of either, by two clocks."""
    made = running(retry=1)
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1), chunk(2, 0.3))
    made.until(0.4)
    made.emit(one, failed(0.4))
    made.until(0.7)
    made.emit(one, chunk(3, 0.7))
    made.until(0.75)
    made.emit(one, chunk(2, 0.68), chunk(4, 0.75))
    made.until(3.0)
    legal(made.items)
    assert "3@0.7" not in chunks(made, 1)
    assert chunks(made, 2) == ["2@0.68", "3@0.7", "4@0.75"]


def test_the_last_attempts_chunks_that_its_failure_overtook_are_its_whatever_the_clocks_say() -> None:
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, retries=0))])
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1))
    made.until(0.4)
    made.emit(one, failed(0.4), chunk(1, 0.7))
    made.until(3.0)
    assert chunks(made) == ["0@0.1", "1@0.7"]
    assert not gaps(made)


def test_after_a_break_the_last_attempts_next_chunk_is_emitted_at_once() -> None:
    """No other attempt can have begun meanwhile; else the history would be waited for."""
    made = world([(0, core(Status.RUNNING))], [(0, past(Status.RUNNING, retries=0))])
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1))
    made.until(0.5)
    made.close(one)
    two = made.open(ordered=False)
    made.emit(two, chunk(1, 0.5))
    assert chunks(made) == ["0@0.1", "1@0.5"]


def test_held_back_chunks_that_continue_the_retry_by_index_but_were_sent_before_it_are_not_its() -> None:
    made = running(retry=1)
    one, slow = made.open(ordered=False), made.open(ordered=False)
    made.until(1.2)
    made.emit(one, chunk(0, 1.1), chunk(1, 1.15))
    made.until(2.0)
    made.emit(slow, chunk(2, 0.6), chunk(3, 0.65))
    made.until(2.1)
    made.emit(one, completed(2.1, retry=1))
    made.until(5.0)
    legal(made.items)
    assert chunks(made, 2) == ["0@1.1", "1@1.15"]


def test_chunks_held_back_until_the_attempts_failure_is_old_are_a_gap_and_not_the_attempts_before() -> None:
    """Lifecycle events are off, and the history only counts attempts, so nothing says how the first ended."""
    again = {"retry": 1, "started_at": at(1.0), "finished_at": at(2.0)}
    made = world(
        [(0, core(Status.RUNNING)), (4.5, core(Status.FAILED))],
        [
            (0, past(Status.RUNNING)),
            (1.0, past(Status.RUNNING, **again)),
            (2.0, past(Status.FAILED, **again)),
        ],
    )
    one = made.open(ordered=False)
    made.until(0.1)
    made.emit(one, chunk(0, 0.1))
    made.until(1.3)
    made.emit(one, chunk(0, 1.3))
    made.until(2.05)
    made.reconciler.history_poll.want(made.now)
    made.until(2.2 + OVER_WAIT)
    made.emit(one, chunk(1, 1.6), chunk(2, 1.9))
    made.until(10)
    legal(made.items)
    assert chunks(made, 2) == ["0@1.3"]
    assert [gap for gap in gaps(made) if gap.attempt == 2]


def test_chunks_from_before_a_clock_was_put_back_are_not_sent_as_the_retrys() -> None:
    """Half a second back, just before the retry began: the failed attempt's chunks are timed within it."""
    again = {"retry": 1, "started_at": at(0.55)}
    made = world(
        [(1.8, core(Status.RUNNING)), (4.0, core(Status.COMPLETED))],
        [(0.9, past(Status.RUNNING, **again)), (2.5, past(Status.COMPLETED, **again))],
    )
    made.lag_of_chunks = 1.0
    one = made.open(ordered=False)
    made.until(0.6)
    made.emit(one, chunk(5, 0.6, "1/5"))
    made.until(0.7)
    made.emit(one, chunk(6, 0.7, "1/6"))
    made.until(0.85)
    made.emit(one, chunk(7, 0.35, "1/7"))
    made.until(1.1)
    made.emit(one, failed(0.75), chunk(0, 0.58, "2/0"))
    made.emit(one, completed(1.4, retry=1))
    for index in range(1, 8):
        made.until(1.1 + index / 10)
        made.emit(one, chunk(index, 0.58 + index / 10, f"2/{index}"))
    made.until(10)
    legal(made.items)
    assert not [text for text in chunks(made, 2) if text.startswith("1/")]
    assert [gap for gap in gaps(made) if gap.attempt == 2] or len(chunks(made, 2)) == 8


def test_a_chunk_from_before_the_failure_is_not_the_retrys_though_that_is_timed_before_it() -> None:
    """The worker's clock was put back half a second between the two attempts; the engine's was not."""
    failure = (PastTaskEvent("FAILED", at(0.99), 0),)
    made = running(retry=1, started_at=at(0.55), events=failure)
    one = made.open(ordered=False)
    made.until(0.9)
    made.emit(one, chunk(0, 0.9, "1/0"))
    made.until(0.99)
    made.emit(one, failed(0.99))
    made.until(1.3)
    made.emit(one, completed(1.3, retry=1))
    made.until(5)
    legal(made.items)
    assert chunks(made, 2) == []
    assert [gap.attempt for gap in gaps(made)] == [1, 2]


def test_a_retrys_chunk_that_comes_after_the_failure_is_its_though_the_workers_clock_is_behind() -> None:
    failure = (PastTaskEvent("FAILED", at(0.99), 0),)
    made = running(retry=1, started_at=at(0.55), events=failure)
    one = made.open(ordered=False)
    made.until(0.99)
    made.emit(one, failed(0.99))
    made.until(1.2)
    made.emit(one, chunk(0, 0.6, "2/0"), completed(1.3, retry=1))
    made.until(5)
    legal(made.items)
    assert chunks(made, 2) == ["2/0"]


@pytest.mark.parametrize("broken", [False, True])
def test_two_attempts_are_not_one_though_the_clock_was_ahead_during_the_first(broken: bool) -> None:
    """Joined in mid-attempt; no state is known yet, and the retry's chunks are timed before the first's.

    The clock is behind when the third attempt begins, so the second's chunks are timed after that.
    """
    made = world(
        [(9.0, core(Status.RUNNING)), (10.0, core(Status.COMPLETED))],
        [(9.0, past(Status.RUNNING, 2, started_at=at(1.0))), (10.0, past(Status.COMPLETED, 2))],
    )
    one = made.open(ordered=False)
    for index in range(9, 15):
        made.until(1 + index / 25)
        made.emit(one, chunk(index, 6 + index / 25, f"1/{index}"))
    made.until(1.6)
    if broken:
        made.close(one)
        made.until(3.0)
        one = made.open(ordered=False)
    else:
        made.emit(one, failed(6.6, retry=0))
    for index in range(6):
        made.until(3.2 + index / 25)
        made.emit(one, chunk(index, 3.2 + index / 25, f"2/{index}"))
    made.until(20)
    legal(made.items)
    assert chunks(made, 3) == []
    assert not [text for text in chunks(made, 1) if text.startswith("2/")]
    assert gaps(made)[-1].attempt == 3
