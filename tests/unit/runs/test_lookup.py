"""By the application's own id: before the trigger, during the run, after it; shared by all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from random import Random

import pytest

from proxy.core.events import Event, Item
from proxy.hatchet.errors import HistoryAway, RunUnknown
from proxy.runs.follower import Run
from proxy.runs.lookup import Finder
from tests.support.fakes import FakeUpstream, HandClock, rest
from tests.unit.runs.test_follower import RUN, chunk, completed, core, past, started

PAIR = ("message_id", "m1")
CHILD = "11111111-0000-0000-0000-00000000000c"


class Desk:
    """A finder at its Hatchet."""

    def __init__(self) -> None:
        self.upstream = FakeUpstream()
        self.clock = HandClock()
        self.finder = Finder(self.upstream, clock=self.clock, rng=Random(7))
        self.items: list[Item] = []
        self.run = Run(RUN, self.upstream, publish=self.publish, clock=self.clock, rng=Random(7))

    def publish(self, items: Sequence[Item]) -> None:
        self.items += items

    def told(self) -> list[str]:
        return [item.type for item in self.items if isinstance(item, Event)]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await desk.finder.close()
    await desk.run.close()
    await rest()
    assert not desk.upstream.open


async def test_a_run_that_the_list_knows_is_found_without_a_subscription(desk: Desk) -> None:
    desk.upstream.found[PAIR] = RUN
    found = await desk.finder.find(*PAIR, 10)
    assert found.run_id == RUN
    assert not desk.upstream.opened_ever


async def test_who_comes_before_the_trigger_gets_the_first_token(desk: Desk) -> None:
    finding = asyncio.ensure_future(desk.finder.find(*PAIR, 10))
    await desk.clock.turn(3)
    (search,) = desk.upstream.by_pair()
    desk.upstream.cores[RUN] = core()
    desk.upstream.pasts[RUN] = past()
    search.tell(started(), chunk(0), replace(chunk(0), run_id=CHILD, step_run_id=CHILD))
    desk.upstream.found[PAIR] = RUN
    await desk.clock.turn(0.2)
    found = await finding
    assert found.run_id == RUN
    desk.run.start()
    found.feed(desk.run)
    search.tell(chunk(1), replace(chunk(1), run_id=CHILD, step_run_id=CHILD))
    await desk.clock.turn(0.2)
    assert desk.told() == ["step_started", "step_stream", "step_stream"]


async def test_the_search_goes_on_until_the_runs_own_subscription_has_caught_up(desk: Desk) -> None:
    finding = asyncio.ensure_future(desk.finder.find(*PAIR, 10))
    await rest()
    (search,) = desk.upstream.by_pair()
    desk.upstream.cores[RUN] = core()
    desk.upstream.pasts[RUN] = past()
    search.tell(started(), chunk(0))
    await desk.clock.turn(0.5)
    found = await finding
    desk.run.start()
    found.feed(desk.run)
    await desk.clock.turn(1)
    assert search in desk.upstream.open
    for line in desk.upstream.by_id():
        line.tell(chunk(0), chunk(1))
    await desk.clock.turn(0.5)
    assert search not in desk.upstream.open
    desk.upstream.by_id()[0].tell(chunk(2), completed())
    await rest()
    assert desk.told() == ["step_started", *["step_stream"] * 3, "step_completed"]


async def test_or_for_six_seconds(desk: Desk) -> None:
    finding = asyncio.ensure_future(desk.finder.find(*PAIR, 10))
    await rest()
    (search,) = desk.upstream.by_pair()
    desk.upstream.cores[RUN] = core()
    search.tell(started(), chunk(0))
    await desk.clock.turn(0.5)
    found = await finding
    desk.run.start()
    found.feed(desk.run)
    await desk.clock.turn(7)
    assert search not in desk.upstream.open


async def test_several_who_wait_for_the_same_pair_share_one_search(desk: Desk) -> None:
    waiting = [asyncio.ensure_future(desk.finder.find(*PAIR, 10)) for _ in range(5)]
    await rest()
    assert len(desk.upstream.by_pair()) == 1
    desk.upstream.by_pair()[0].tell(started())
    await desk.clock.turn(1)
    assert {(await one).run_id for one in waiting} == {RUN}


async def test_after_the_patience_the_run_is_unknown_and_nothing_stays_open(desk: Desk) -> None:
    finding = asyncio.ensure_future(desk.finder.find(*PAIR, 2))
    await desk.clock.turn(2.1)
    with pytest.raises(RunUnknown):
        await finding
    await rest()
    assert not desk.upstream.open


async def test_a_list_that_is_away_is_said_to_be(desk: Desk) -> None:
    desk.upstream.found[PAIR] = HistoryAway("no answer")
    finding = asyncio.ensure_future(desk.finder.find(*PAIR, 2))
    await desk.clock.turn(2.1)
    with pytest.raises(HistoryAway):
        await finding


async def test_what_the_subscription_missed_the_list_still_finds(desk: Desk) -> None:
    finding = asyncio.ensure_future(desk.finder.find(*PAIR, 10))
    await desk.clock.turn(1.5)
    desk.upstream.found[PAIR] = RUN
    await desk.clock.turn(1.1)
    assert (await finding).run_id == RUN
