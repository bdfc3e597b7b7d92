"""How far the history is behind: measured by what its answers lack, and used before they are believed."""

from __future__ import annotations

import pytest

from proxy.core.observations import Status
from proxy.runs.reconcile.states import HistoryLag
from proxy.runs.reconcile.timing import HISTORY_LAG, HISTORY_LAG_MOST, LAG_MARGIN, LAG_WINDOW
from tests.support.reconciler_world import World
from tests.support.scenario import at, chunk, chunks, completed, core, failed, past, started, world


def test_unmeasured_it_is_that_of_an_idle_engine() -> None:
    assert HistoryLag().seconds(5.0) == HISTORY_LAG


def test_it_is_what_an_answer_lacked_and_somewhat_more() -> None:
    lag = HistoryLag()
    for since in (0.2, 0.6, 0.4):
        lag.lacked(since, 1.0)
    assert lag.seconds(1.0) == pytest.approx(0.6 * LAG_MARGIN)


def test_an_answer_that_lacks_nothing_shortens_nothing() -> None:
    lag = HistoryLag()
    lag.lacked(float("-inf"), 1.0)
    assert lag.seconds(1.0) == HISTORY_LAG


def test_one_answer_that_is_wrong_for_ever_does_not_hold_up_all_runs() -> None:
    lag = HistoryLag()
    lag.lacked(1e9, 1.0)
    assert lag.seconds(1.0) == HISTORY_LAG_MOST


def test_it_is_forgotten_after_two_windows_and_not_before_one() -> None:
    lag = HistoryLag()
    lag.lacked(1.0, 0.0)
    assert lag.seconds(LAG_WINDOW) == pytest.approx(LAG_MARGIN)
    assert lag.seconds(2 * LAG_WINDOW) == HISTORY_LAG
    lag.lacked(1.0, 100.0)
    assert lag.seconds(100.0 + 2 * LAG_WINDOW) == HISTORY_LAG, "nothing was measured in between"


def joined_after_a_retry(lag: HistoryLag) -> World:
    """Joined 0.4 s after attempt 2 began, by a history that is 0.6 s behind."""
    again = past(Status.RUNNING, 1, started_at=at(0.6))
    pasts = [(0, past(Status.RUNNING, started_at=at(0))), (0.6, again)]
    made = world([(0, core(Status.RUNNING))], pasts, past_lag=0.6, history_lag=lag, now=1.0)
    one = made.open(ordered=False)
    made.until(1.05)
    made.emit(one, chunk(7, 1.05))
    made.until(6)
    return made


def test_a_chunk_of_a_late_join_waits_for_an_answer_that_can_know_its_attempt() -> None:
    lag = HistoryLag()
    lag.lacked(0.6, 1.0)
    made = joined_after_a_retry(lag)
    assert (chunks(made, 1), chunks(made, 2)) == ([], ["7@1.05"])


def test_what_a_run_misses_in_an_answer_is_measured_for_all() -> None:
    lag = HistoryLag()
    pasts = [(0, past(Status.RUNNING)), (0.25, past(Status.RUNNING, 1))]
    made = world([(0, core(Status.RUNNING))], pasts, past_lag=0.4, history_lag=lag)
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1))
    made.until(0.2)
    made.emit(one, failed(0.2))
    made.until(2)
    assert 0.2 < lag.seconds(2.0) < 1.0


def test_a_history_in_time_measures_nothing() -> None:
    lag = HistoryLag()
    pasts = [(0, past(Status.RUNNING)), (0.25, past(Status.RUNNING, 1))]
    made = world([(0, core(Status.RUNNING))], pasts, history_lag=lag)
    one = made.open(ordered=False)
    made.emit(one, started(), chunk(0, 0.1))
    made.until(0.2)
    made.emit(one, failed(0.2))
    made.until(0.3)
    made.emit(one, chunk(0, 0.3), completed(0.4, retry=1))
    made.until(0.5)
    assert lag.seconds(0.5) <= 2 * HISTORY_LAG
