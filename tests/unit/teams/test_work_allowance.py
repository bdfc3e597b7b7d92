"""What the rules of one team may work in a second, whatever the number of its streams and events."""

from __future__ import annotations

from typing import Any

import pytest

from config.expressions.api import WORK_LIMIT
from proxy.core.events import Event
from proxy.rules.ruleset import USED_UP, Rules
from proxy.teams.work_allowance import BURST, RATE, WorkAllowance
from tests.support.fakes import HandClock
from tests.support.streams import stream_of

HOSTILE = """
- {events: step_completed, data: "map(&map(&[@, @], $.list), payload.list)"}
""".replace("$.list", "[`1`,`2`,`3`,`4`,`5`,`6`,`7`,`8`]")
PLAIN = "- {events: step_completed, data: payload.text}"


class Setup:
    """A team's allowance, a clock, and the streams that share the allowance."""

    def __init__(self, *streams: str) -> None:
        self.clock = HandClock()
        self.refused = 0
        self.failures: list[str] = []
        self.allowance = WorkAllowance(self.count, clock=self.clock)
        self.used = 0
        spent = self.allowance.spent

        def counted(units: int, granted: int) -> None:
            self.used += min(units, granted)
            spent(units, granted)

        self.allowance.spent = counted  # type: ignore[method-assign]
        self.streams = [Rules(stream_of(text), self.failed, self.allowance) for text in streams]

    def count(self) -> None:
        self.refused += 1

    def failed(self, rule: str, event: str, reason: str) -> None:
        self.failures.append(reason)


def event(size: int = 20_000) -> Event:
    return Event("step_completed", "r", "s", "id", {"list": list(range(size)), "text": "t"}, 1)


async def test_ten_hostile_streams_together_work_no_more_than_the_team_may() -> None:
    setup = Setup(*[HOSTILE] * 10)
    for _ in range(100):  # ten seconds, ten events a second
        for rules in setup.streams:
            rules.message(event())
        await setup.clock.turn(0.1)
    assert setup.used <= BURST + 10 * RATE
    alone = 100 * 10 * WORK_LIMIT
    assert setup.used < alone / 20, "without the allowance each event of each stream may use the limit"
    assert setup.refused > 500
    assert any(USED_UP in reason for reason in setup.failures)


async def test_plain_rules_of_a_team_over_its_allowance_go_on() -> None:
    setup = Setup(HOSTILE, PLAIN)
    for _ in range(20):
        setup.streams[0].message(event())
    assert setup.refused
    message = setup.streams[1].message(event())
    assert message is not None
    assert message.data == b'"t"'


async def test_another_teams_allowance_is_its_own() -> None:
    hostile, other = Setup(HOSTILE), Setup("- {events: step_completed, data: length(payload.list)}")
    for _ in range(20):
        hostile.streams[0].message(event())
    message = other.streams[0].message(event())
    assert message is not None
    assert (message.data, other.refused, other.failures) == (b"20000", 0, [])


async def test_after_a_pause_the_team_may_work_again_up_to_one_burst() -> None:
    setup = Setup('- {events: step_completed, data: "payload.list[].[@]"}')
    rules = setup.streams[0]
    while rules.message(event()) is not None:
        pass
    assert rules.message(event()) is None
    await setup.clock.turn(3600)
    assert setup.allowance.grant() == BURST
    assert rules.message(event()) is not None


async def test_usual_rules_never_meet_the_allowance() -> None:
    setup = Setup("- {events: step_stream, when: length(payload) > `0`, data: {text: payload, n: index}}")
    chunk = Event("step_stream", "r", "s", "id", "some words", 1, 0)
    for _ in range(100):
        for _ in range(50):  # 5,000 events a second
            assert setup.streams[0].message(chunk) is not None
        await setup.clock.turn(0.01)
    assert setup.refused == 0


@pytest.mark.parametrize("text", [HOSTILE, PLAIN])
def test_rules_without_a_team_are_bounded_event_by_event_alone(text: str) -> None:
    failures: list[Any] = []
    rules = Rules(stream_of(text), lambda *failure: failures.append(failure))
    for _ in range(5):
        rules.message(event())
    assert not any(USED_UP in reason for _, _, reason in failures)
