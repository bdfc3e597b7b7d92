"""What gives way when a team's backlogs exceed its bytes: in order, with a margin, once in a turn."""

from __future__ import annotations

import asyncio

from proxy.observability.counters import TeamCounters
from proxy.teams.memory_budget import SHRINK_TO, MemoryBudget


class Holder:
    """Holds bytes of a budget and counts how often it is asked for some."""

    def __init__(self, budget: MemoryBudget, *, least: int = 0) -> None:
        self.bytes = 0
        self.asked: list[int] = []
        self._budget = budget
        self._least = least

    def grow(self, by: int) -> None:
        self.bytes += by
        self._budget.grew(by)

    def shrink(self, to_bytes: int) -> None:
        self.asked.append(to_bytes)
        self.grow(max(to_bytes, self._least) - self.bytes)


def budget(limit: int | None, holders: list[Holder]) -> tuple[MemoryBudget, TeamCounters]:
    counters = TeamCounters()
    return MemoryBudget(counters, limit, lambda: holders), counters


async def test_within_the_limit_nobody_is_asked() -> None:
    holders: list[Holder] = []
    made, counters = budget(1000, holders)
    holders.append(Holder(made))
    holders[0].grow(1000)
    await asyncio.sleep(0)
    assert (holders[0].asked, counters.backlog_bytes) == ([], 1000)


async def test_beyond_the_limit_the_first_holder_gives_until_there_is_a_margin() -> None:
    holders: list[Holder] = []
    made, counters = budget(1000, holders)
    holders += [Holder(made), Holder(made)]
    holders[0].grow(500)
    holders[1].grow(600)
    assert holders[0].asked == [], "not in the middle of an append"
    await asyncio.sleep(0)
    assert counters.backlog_bytes == int(1000 * SHRINK_TO)
    assert (holders[0].asked, holders[1].asked) == ([300], [])


async def test_the_next_holder_gives_what_the_first_one_cannot() -> None:
    holders: list[Holder] = []
    made, counters = budget(1000, holders)
    holders += [Holder(made, least=450), Holder(made)]
    holders[0].grow(500)
    holders[1].grow(600)
    await asyncio.sleep(0)
    assert counters.backlog_bytes == int(1000 * SHRINK_TO)
    assert holders[1].asked == [450]


async def test_many_appends_in_a_turn_make_room_once_and_the_next_turn_again() -> None:
    holders: list[Holder] = []
    made, _ = budget(1000, holders)
    holders.append(Holder(made))
    for _ in range(20):
        holders[0].grow(100)
    await asyncio.sleep(0)
    assert len(holders[0].asked) == 1
    holders[0].grow(500)
    await asyncio.sleep(0)
    assert len(holders[0].asked) == 2


async def test_without_a_limit_bytes_are_counted_alone() -> None:
    holders: list[Holder] = []
    made, counters = budget(None, holders)
    holders.append(Holder(made))
    holders[0].grow(10**9)
    await asyncio.sleep(0)
    assert (holders[0].asked, counters.backlog_bytes) == ([], 10**9)
