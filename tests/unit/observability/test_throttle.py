"""How often a thing may be said: at once, then once a minute, and nothing that was held back goes untold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.observability.throttle import OTHERS, Throttle


def test_the_first_time_is_said_at_once() -> None:
    assert Throttle().ask("away", 0.0) == 0


def test_a_thousand_times_a_minute_are_one_line() -> None:
    quiet = Throttle(every=60.0)
    said = [quiet.ask("away", second * 0.06) for second in range(1000)]
    assert said[0] == 0
    assert said[1:] == [None] * 999


def test_the_next_line_says_how_many_were_held_back() -> None:
    quiet = Throttle(every=60.0)
    for second in (0.0, 10.0, 20.0, 59.9):
        quiet.ask("away", second)
    assert quiet.ask("away", 60.0) == 3
    assert quiet.ask("away", 60.1) is None
    assert quiet.ask("away", 120.0) == 1


def test_different_things_do_not_hold_each_other_back() -> None:
    quiet = Throttle()
    assert [quiet.ask("away", 0.0), quiet.ask("refused", 0.0)] == [0, 0]


def test_what_was_held_back_is_due_in_the_end() -> None:
    quiet = Throttle(every=60.0)
    quiet.ask("away", 0.0)
    quiet.ask("away", 1.0)
    assert quiet.due(59.0) == []
    assert quiet.due(60.0) == [("away", 1)]
    assert quiet.due(61.0) == []


def test_what_has_been_quiet_for_a_turn_is_forgotten_and_said_at_once_again() -> None:
    quiet = Throttle(every=60.0)
    quiet.ask("away", 0.0)
    assert quiet.due(60.0) == []
    assert quiet.ask("away", 61.0) == 0


def test_however_many_things_there_are_few_are_remembered() -> None:
    quiet = Throttle(every=60.0, things=3)
    said = [quiet.ask(number, 0.0) for number in range(100)]
    assert said == [0, 0, 0, 0] + [None] * 96
    assert quiet.due(60.0) == [(OTHERS, 96)]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 30)), max_size=200))
def test_each_time_is_said_or_counted_exactly_once(happenings: list[tuple[str, float]]) -> None:
    quiet, now, said, held = Throttle(every=60.0, things=3), 0.0, 0, 0
    for thing, pause in happenings:
        now += pause
        answer = quiet.ask(thing, now)
        if answer is not None:
            said, held = said + 1, held + answer
    held += sum(number for _, number in quiet.due(now + 120.0))
    assert said + held == len(happenings)
