"""A history that lags behind proves nothing about what subscriptions brought since."""

from __future__ import annotations

import pytest

from proxy.core.events import GapCause, StepGap
from proxy.core.observations import Kind, Status
from tests.support.reconciler_world import World, legal
from tests.support.scenario import (
    at,
    chunk,
    chunks,
    completed,
    core,
    failed,
    gaps,
    past,
    run_event,
    started,
    world,
)


def retried_at_once(lag: float) -> World:
    """A step joined late; its retry sends its first chunk before the engine passes the failure on."""
    again = {"retry": 1, "started_at": at(0.62)}
    pasts = [(0, past(Status.RUNNING)), (0.63, past(Status.RUNNING, **again))]
    pasts.append((1.3, past(Status.COMPLETED, **again)))
    made = world([(0, core(Status.RUNNING)), (2.5, core(Status.COMPLETED))], pasts, past_lag=lag)
    one = made.open(ordered=False)
    made.until(0.5)
    made.emit(one, chunk(3, 0.5), chunk(4, 0.55))
    made.until(0.65)
    made.emit(one, failed(0.65), chunk(0, 0.63), chunk(5, 0.6))
    for index in range(1, 4):
        made.until(0.65 + index / 10)
        made.emit(one, chunk(index, 0.63 + index / 10))
    made.until(1.3)
    made.emit(one, completed(1.3, retry=1))
    made.until(10)
    legal(made.items)
    return made


@pytest.mark.parametrize("lag", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_a_retry_is_sent_or_announced_however_far_the_history_is_behind(lag: float) -> None:
    made = retried_at_once(lag)
    retry = ["0@0.63", "1@0.73", "2@0.83", "3@0.93"]
    assert chunks(made, 1) == ["3@0.5", "4@0.55", "5@0.6"]
    assert chunks(made, 2) == retry or StepGap(GapCause.UPSTREAM, "one", 2, None) in gaps(made)


def test_two_attempts_that_come_at_once_without_a_failure_are_not_sent_as_one() -> None:
    """A connection held them back, with lifecycle events off for a while; the history is away since."""
    again = past(Status.COMPLETED, 1, started_at=at(8.0), finished_at=at(8.5))
    made = world([(0, core(Status.RUNNING)), (12.0, core(Status.COMPLETED))], [(11.9, again)])
    one = made.open(ordered=False)
    made.until(9.0)
    made.past_away = True
    made.emit(one, *(chunk(index, 0.2 + index / 20, f"1/{index}") for index in range(5)))
    made.emit(one, *(chunk(index, 8.1 + index / 20, f"2/{index}") for index in range(3)))
    made.emit(one, completed(8.5, retry=1))
    made.until(12.0)
    made.past_away = False
    made.emit(one, run_event(Kind.COMPLETED, 12.0))
    made.until(20)
    legal(made.items)
    assert chunks(made, 1) in ([], [f"1/{index}" for index in range(5)])
    assert chunks(made, 2) == ["2/0", "2/1", "2/2"] or StepGap(GapCause.UPSTREAM, "one", 2, None) in gaps(
        made
    )
    assert not [text for text in chunks(made, 2) if text.startswith("1/")]


def test_chunks_of_a_failed_attempt_that_its_failure_overtook_are_not_sent_as_the_retrys() -> None:
    """Chunks lag by a second: the failure comes first, and the history counts the retry."""
    again = {"retry": 1, "started_at": at(0.62)}
    made = world(
        [(0, core(Status.RUNNING))], [(0, past(Status.RUNNING)), (0.7, past(Status.RUNNING, **again))]
    )
    one = made.open(ordered=False)
    made.until(0.65)
    made.emit(one, failed(0.65))
    made.until(1.2)
    made.emit(one, *(chunk(index, 0.1 + index / 10, f"1/{index}") for index in range(4)))
    made.emit(one, *(chunk(index, 0.63 + index / 10, f"2/{index}") for index in range(3)))
    made.until(3)
    assert chunks(made, 2) == ["2/0", "2/1", "2/2"]


def test_chunks_of_a_replay_are_not_sent_as_those_of_the_attempt_that_ended_before() -> None:
    """The end waits, because chunks lag; no source shows the replay yet."""
    made = world(
        [(0, core(Status.RUNNING)), (1.1, core(Status.COMPLETED)), (3, core(Status.RUNNING))],
        [
            (0, past(Status.RUNNING, retries=0)),
            (1.1, past(Status.COMPLETED, retries=0)),
            (3.2, past(Status.RUNNING, 1, retries=0)),
        ],
    )
    made.lag_of_chunks = 2.5
    one = made.open(ordered=False)
    made.emit(one, started())
    made.until(1.0)
    made.emit(one, completed(1.0))
    made.until(3.1)
    made.emit(one, chunk(0, 3.1, "2/0"), chunk(1, 3.11, "2/1"))
    made.until(5)
    assert chunks(made, 1) == []


@pytest.mark.parametrize(
    ("order", "size", "known"),
    [("the end first", 10, 1.4), ("the failure first", 10, 1.4), ("the failure first", 10_000, 5.0)],
)
def test_chunks_of_a_retry_that_were_taken_for_the_failed_attempts_are_announced(
    order: str, size: int, known: float
) -> None:
    """As on a real engine: a failure of 200 KB that comes later than its retry's chunks, a history behind."""
    again = {"retry": 1, "started_at": at(0.5)}
    pasts = [(0, past(Status.RUNNING, started_at=at(0.1))), (known, past(Status.RUNNING, **again))]
    made = world([(0, core(Status.RUNNING)), (1.5, core(Status.COMPLETED))], pasts)
    made.lag_of_chunks = 0.5
    made.now = 0.7
    made.start()
    one = made.open(ordered=False)
    made.until(0.9)
    made.emit(one, chunk(6, 0.74), chunk(7, 0.88))
    made.until(1.1)
    late = [completed(1.09, 1), failed(1.1, text="E: " + "x" * size)]
    for event in late if order == "the end first" else reversed(late):
        made.emit(one, event)
        made.until(made.now + 0.25)
    made.until(6)
    legal(made.items)
    assert chunks(made, 2) == ["6@0.74", "7@0.88"] or 2 in {gap.attempt for gap in gaps(made)}
