"""How often a line may be written: at once, then once a minute, and what was suppressed is always counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.observability.throttle import OTHERS, Throttle


def test_the_first_time_is_admitted_at_once() -> None:
    assert Throttle().admit("away", 0.0) == 0


def test_a_thousand_times_a_minute_are_admitted_once() -> None:
    throttle = Throttle(period=60.0)
    admitted = [throttle.admit("away", second * 0.06) for second in range(1000)]
    assert admitted[0] == 0
    assert admitted[1:] == [None] * 999


def test_the_next_time_says_how_many_were_suppressed() -> None:
    throttle = Throttle(period=60.0)
    for second in (0.0, 10.0, 20.0, 59.9):
        throttle.admit("away", second)
    assert throttle.admit("away", 60.0) == 3
    assert throttle.admit("away", 60.1) is None
    assert throttle.admit("away", 120.0) == 1


def test_different_keys_do_not_suppress_each_other() -> None:
    throttle = Throttle()
    assert [throttle.admit("away", 0.0), throttle.admit("refused", 0.0)] == [0, 0]


def test_what_was_suppressed_is_due_after_the_period() -> None:
    throttle = Throttle(period=60.0)
    throttle.admit("away", 0.0)
    throttle.admit("away", 1.0)
    assert throttle.take_due(59.0) == []
    assert throttle.take_due(60.0) == [("away", 1)]
    assert throttle.take_due(61.0) == []


def test_what_was_due_is_suppressed_for_another_period() -> None:
    throttle = Throttle(period=60.0)
    throttle.admit("away", 0.0)
    throttle.admit("away", 1.0)
    throttle.take_due(60.0)
    assert throttle.admit("away", 119.9) is None
    assert throttle.admit("away", 120.0) == 1


def test_a_key_that_did_not_recur_for_a_period_is_admitted_at_once_again() -> None:
    throttle = Throttle(period=60.0)
    throttle.admit("away", 0.0)
    assert throttle.take_due(60.0) == []
    assert throttle.admit("away", 61.0) == 0


def test_however_many_keys_there_are_few_are_remembered() -> None:
    throttle = Throttle(period=60.0, max_keys=3)
    admitted = [throttle.admit(number, 0.0) for number in range(100)]
    assert admitted == [0, 0, 0, 0] + [None] * 96
    assert throttle.take_due(60.0) == [(OTHERS, 96)]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 30)), max_size=200))
def test_each_time_is_admitted_or_counted_exactly_once(happenings: list[tuple[str, float]]) -> None:
    throttle, now, admitted, suppressed = Throttle(period=60.0, max_keys=3), 0.0, 0, 0
    for key, pause in happenings:
        now += pause
        answer = throttle.admit(key, now)
        if answer is not None:
            admitted, suppressed = admitted + 1, suppressed + answer
    suppressed += sum(number for _, number in throttle.take_due(now + 120.0))
    assert admitted + suppressed == len(happenings)
