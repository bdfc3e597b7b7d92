"""A hangup after an end: whether a flush of chunks can have fallen between two subscriptions."""

from __future__ import annotations

import pytest

from proxy.runs.reconcile.subscription_state import Pulse, ReceivedEnd, Selection, SubscriptionState
from proxy.runs.reconcile.timing import AFTER_FLUSHES, HANGUP_LEAST, NEXT_FLUSHES, OPENS, SETTLE

LONG_AGO = -10.0


def proven(
    *,
    chunk_at: float,
    hangup_at: float,
    other_end_at: float | None = None,
    shared_end_at: float | None = None,
    reopened_after: float = 1.0,
    lag: float = 0.0,
) -> bool:
    """Whether a hangup breaks no proof; milliseconds after the end, and `lag` of settling time more.

    `other_end_at`: of another step of the run, `shared_end_at`: of another run on the same subscription.
    """
    end = 100.0
    one = SubscriptionState(Selection.BY_METADATA, 0.0, Pulse())
    one.chunk_at = end + chunk_at / 1000
    one.ends["step", 1] = ReceivedEnd(end, end + SETTLE)
    if other_end_at is not None:
        one.ends["other", 1] = ReceivedEnd(end + other_end_at / 1000, end)
    if shared_end_at is not None:
        one.pulse.ends += [end, end + shared_end_at / 1000]
    one.closed_at = one.hung_up_at = end + hangup_at / 1000
    one.successor = SubscriptionState(Selection.BY_METADATA, one.closed_at + reopened_after / 1000, Pulse())
    settle = SETTLE + lag / 1000
    return one.stays_open(end, end + settle, settle)


@pytest.mark.parametrize("since_chunk", [20.5, 36.5, 38.0, 39.5])
def test_a_hangup_at_the_moment_of_a_flush_proves_nothing(since_chunk: float) -> None:
    """The engine lost chunks there: they had waited since the flush before."""
    hangup_at = 5 if since_chunk > 30 else 3.2
    assert not proven(chunk_at=hangup_at - since_chunk, hangup_at=hangup_at)


@pytest.mark.parametrize("since_chunk", [26.0, 30.5, 45.0, 80.0])
def test_a_hangup_between_two_flushes_cuts_off_nothing(since_chunk: float) -> None:
    assert proven(chunk_at=8 - since_chunk, hangup_at=8)


def test_the_three_hangups_that_lost_a_chunk_prove_nothing() -> None:
    for hangup_at, since_chunk in ((7.6, 36.7), (7.6, 38.1), (10.7, 39.5)):
        assert not proven(chunk_at=hangup_at - since_chunk, hangup_at=hangup_at)


def test_a_hangup_later_than_any_flush_cuts_off_nothing() -> None:
    late = AFTER_FLUSHES * 1000
    assert proven(chunk_at=late + 0.1 - 38, hangup_at=late + 0.1)
    assert not proven(chunk_at=late - 0.1 - 38, hangup_at=late - 0.1)


def test_a_flush_that_came_after_the_end_was_published_had_all_chunks_before_it() -> None:
    assert proven(chunk_at=-16, hangup_at=6), "22 ms after the flush, and the next one was empty"
    assert not proven(chunk_at=-18, hangup_at=4.5)
    assert not proven(chunk_at=-16, hangup_at=6, other_end_at=-30), "two ends may share a flush"
    assert not proven(chunk_at=-16, hangup_at=6, other_end_at=3), "one flush has no order"
    assert proven(chunk_at=-16, hangup_at=6, other_end_at=-90)
    assert not proven(chunk_at=-16, hangup_at=6, shared_end_at=-30), "nor of another run"
    assert proven(chunk_at=-16, hangup_at=6, shared_end_at=-90)


def test_a_flush_before_the_next_subscription_is_served_is_missed() -> None:
    first = NEXT_FLUSHES[1][0] * 1000
    late = OPENS * 1000 + 1.0
    assert proven(chunk_at=8 - (first - late - 0.5), hangup_at=8)
    assert not proven(chunk_at=8 - (first - late + 0.5), hangup_at=8)
    assert not proven(chunk_at=8 - (first - late - 0.5), hangup_at=8, reopened_after=3)


def test_a_hangup_in_the_middle_of_a_flush_proves_nothing() -> None:
    assert not proven(chunk_at=9.5, hangup_at=10)
    assert proven(chunk_at=8, hangup_at=10)


def test_a_hangup_with_the_end_proves_nothing() -> None:
    least = HANGUP_LEAST * 1000
    assert not proven(chunk_at=LONG_AGO * 1000, hangup_at=least * 0.9)
    assert proven(chunk_at=LONG_AGO * 1000, hangup_at=least * 1.1)


def test_where_chunks_lag_a_hangup_before_the_settling_time_proves_nothing() -> None:
    """At a load of 14 a hangup 40 ms after the end, with 81 ms to settle, cut off the last chunk."""
    assert not proven(chunk_at=5, hangup_at=15, lag=75)
    assert not proven(chunk_at=-32, hangup_at=40, lag=56)
    assert not proven(chunk_at=5, hangup_at=99, lag=75)
    assert proven(chunk_at=5, hangup_at=101, lag=75)


def test_without_a_next_subscription_nothing_is_proven() -> None:
    one = SubscriptionState(Selection.BY_METADATA, 0.0, Pulse())
    one.closed_at = one.hung_up_at = 100.01
    assert not one.stays_open(100.0, 100.025, SETTLE)
    assert one.stays_open(100.0, 100.01, SETTLE)
