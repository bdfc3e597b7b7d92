"""How far chunks lag behind, from their workers' times alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.instant import SECOND
from proxy.runs.lag import WINDOW, LagMeter
from proxy.runs.reconcile.timing import LAG_IDLE, SETTLE

MS = SECOND // 1000


class WallClock:
    """A wall clock that is set by the test, nanoseconds since 1970."""

    def __init__(self) -> None:
        self.now = 1_767_225_600 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def wall() -> WallClock:
    return WallClock()


@pytest.fixture
def meter(wall: WallClock) -> LagMeter:
    return LagMeter(wall)


def test_without_a_chunk_there_is_no_lag(meter: LagMeter) -> None:
    assert meter.seconds == 0
    assert meter.settle() == SETTLE


def test_the_lag_is_what_exceeds_the_smallest_difference(meter: LagMeter, wall: WallClock) -> None:
    for way in (30, 20, 25):
        meter.observe(wall.now - way * MS)
    assert meter.seconds == pytest.approx(0.005, abs=0.006)
    meter.observe(wall.now - 520 * MS)
    assert meter.seconds == pytest.approx(0.5, abs=0.001)
    assert meter.settle() == pytest.approx(2 * 0.5 - LAG_IDLE, abs=0.01)


def test_an_end_waits_for_a_chunk_that_lags_as_those_before_it(meter: LagMeter, wall: WallClock) -> None:
    meter.observe(wall.now)
    meter.observe(wall.now - 60 * MS)
    assert meter.settle() == pytest.approx(0.06 + (0.06 - LAG_IDLE), abs=0.01)


@pytest.mark.parametrize("skew", [-3600, -1, 0, 1, 3600])
def test_a_workers_clock_that_is_wrong_is_no_lag(meter: LagMeter, wall: WallClock, skew: int) -> None:
    for _ in range(50):
        wall.now += 10 * MS
        meter.observe(wall.now + skew * SECOND)
    assert meter.settle() == SETTLE


def test_a_lag_is_forgotten_after_two_windows_and_not_before_one(meter: LagMeter, wall: WallClock) -> None:
    meter.observe(wall.now)
    meter.observe(wall.now - 2 * SECOND)
    wall.now += WINDOW
    assert meter.seconds == pytest.approx(2.0, abs=0.01)
    wall.now += 2 * WINDOW
    assert meter.seconds < 0.01


def test_a_lag_that_lasts_stays_measured(meter: LagMeter, wall: WallClock) -> None:
    meter.observe(wall.now)
    for _ in range(100):
        wall.now += 100 * MS
        meter.observe(wall.now - 2 * SECOND)
        assert meter.seconds > 1.9


def test_clocks_that_drift_apart_are_no_lag_in_the_long_run(meter: LagMeter, wall: WallClock) -> None:
    at = wall.now
    for _ in range(2_000):
        wall.now += SECOND
        at += SECOND - SECOND // 2_000_000  # half a millisecond in a thousand seconds
        meter.observe(at)
    assert meter.settle() == SETTLE


@given(st.lists(st.integers(-(10**19), 10**19), max_size=30))
def test_no_time_of_a_worker_makes_it_wait_less_than_the_least(times: list[int]) -> None:
    wall = WallClock()
    meter = LagMeter(wall)
    for at in times:
        wall.now += MS
        meter.observe(at)
        assert meter.settle() >= SETTLE
