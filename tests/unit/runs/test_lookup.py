"""Runs found by the application's own id: before the trigger, during the run and after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random

import pytest
from msgspec import structs

from proxy.core.events import Event, Item, StepGap
from proxy.hatchet.errors import HatchetAway, HistoryAway, RunUnknown
from proxy.runs.feeds import TAP
from proxy.runs.follower import RunFollower
from proxy.runs.lookup import HAND_OVER, MOST_BUFFERED, PICK_UP, Finder
from proxy.runs.reconcile.subscription_state import Pulse
from tests.support.fakes import FakeSubscription, FakeUpstream, HandClock, rest
from tests.unit.runs.test_follower import RUN, TRACE, chunk, completed, core, hangup, past, started

PAIR = ("message_id", "m1")
CHILD = "11111111-0000-0000-0000-00000000000c"


class Setup:
    """A finder at its Hatchet, and a run for what it finds."""

    def __init__(self) -> None:
        self.upstream = FakeUpstream()
        self.clock = HandClock()
        self.finder = Finder(self.upstream, clock=self.clock, rng=Random(7))
        self.items: list[Item] = []
        self.run = RunFollower(RUN, self.upstream, publish=self.publish, clock=self.clock, rng=Random(7))

    def publish(self, items: Sequence[Item]) -> None:
        self.items += items

    def published(self) -> list[str]:
        return [item.type for item in self.items if isinstance(item, Event)]

    def gaps(self) -> list[StepGap]:
        return [item for item in self.items if isinstance(item, StepGap)]

    @property
    def search(self) -> FakeSubscription:
        """The subscription by the pair that is searched for."""
        (held,) = [held for held in self.upstream.by_pair() if held.pair == PAIR]
        return held

    @property
    def trace(self) -> FakeSubscription:
        """The run's own subscription."""
        (held,) = [held for held in self.upstream.by_pair() if held.pair == ("traceparent", TRACE)]
        return held

    async def triggered(self) -> None:
        """Somebody waits; then the run begins, and its first events come."""
        self.finding = asyncio.ensure_future(self.finder.find(*PAIR, 10))
        await self.clock.turn(3)
        self.upstream.cores[RUN] = core()
        self.upstream.pasts[RUN] = past()
        self.search.emit(started(), chunk(0), structs.replace(chunk(0), run_id=CHILD, step_run_id=CHILD))
        self.upstream.found[PAIR] = RUN
        await self.clock.turn(0.2)

    async def handed_over(self) -> None:
        """The run that was found takes over."""
        await self.triggered()
        found = await self.finding
        self.run.start()
        found.feed(self.run)
        await self.clock.turn(0.2)


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    setup = Setup()
    yield setup
    await setup.finder.close()
    await setup.run.close()
    await rest()
    assert not setup.upstream.open


async def test_a_run_that_the_list_knows_is_found_without_a_subscription(setup: Setup) -> None:
    setup.upstream.found[PAIR] = RUN
    found = await setup.finder.find(*PAIR, 10)
    assert found.run_id == RUN
    assert not setup.upstream.opened_ever


async def test_a_client_that_comes_before_the_trigger_gets_the_first_token_and_nothing_of_children(
    setup: Setup,
) -> None:
    await setup.handed_over()
    setup.search.emit(chunk(1), structs.replace(chunk(1), run_id=CHILD, step_run_id=CHILD))
    await setup.clock.turn(0.2)
    assert setup.published() == ["step_started", "step_stream", "step_stream"]
    assert setup.gaps() == []


async def test_the_first_run_that_is_received_is_taken_where_the_list_stays_behind(setup: Setup) -> None:
    finding = asyncio.ensure_future(setup.finder.find(*PAIR, 10))
    await rest()
    setup.search.emit(started(), structs.replace(chunk(0), run_id=CHILD, step_run_id=CHILD))
    await setup.clock.turn(0.5)
    assert (await finding).run_id == RUN


async def test_the_list_decides_where_a_child_is_received_before_its_parent(setup: Setup) -> None:
    finding = asyncio.ensure_future(setup.finder.find(*PAIR, 10))
    await rest()
    setup.search.emit(structs.replace(chunk(0), run_id=CHILD, step_run_id=CHILD))
    await setup.clock.turn(0.1)
    setup.upstream.found[PAIR] = RUN
    await setup.clock.turn(0.3)
    assert (await finding).run_id == RUN


async def test_the_search_stays_until_the_runs_own_subscription_has_brought_something(setup: Setup) -> None:
    await setup.handed_over()
    search = setup.search
    await setup.clock.turn(1)
    assert search in setup.upstream.open
    setup.trace.emit(chunk(0), chunk(1))
    await setup.clock.turn(0.5)
    assert search not in setup.upstream.open
    setup.trace.emit(chunk(2), completed())
    await setup.clock.turn(0.5)
    assert setup.published() == ["step_started", *["step_stream"] * 3, "step_completed"]
    assert setup.gaps() == [], "both brought every chunk from the first to the end"


async def test_the_search_stays_until_the_tap_has_brought_something(setup: Setup) -> None:
    await setup.handed_over()
    search = setup.search
    setup.run.feed(TAP, Pulse(), setup.clock.now())
    await setup.clock.turn(1)
    assert search in setup.upstream.open
    setup.run.deliver(chunk(1), TAP)
    await setup.clock.turn(0.5)
    assert search not in setup.upstream.open


async def test_the_search_stays_for_the_hand_over_time_at_most(setup: Setup) -> None:
    await setup.handed_over()
    search = setup.search
    await setup.clock.turn(HAND_OVER - 1)
    assert search in setup.upstream.open
    await setup.clock.turn(2)
    assert search not in setup.upstream.open


async def test_a_run_that_nobody_comes_for_is_not_followed_for_ever(setup: Setup) -> None:
    await setup.triggered()
    await setup.finding
    await setup.clock.turn(PICK_UP + 1)
    assert not setup.upstream.open


async def test_what_a_search_that_broke_missed_is_a_gap(setup: Setup) -> None:
    await setup.triggered()
    setup.search.emit(hangup())
    setup.search.end()
    await rest()
    setup.search.emit(completed())
    found = await setup.finding
    setup.run.start()
    found.feed(setup.run)
    await setup.clock.turn(1)
    assert [gap.step for gap in setup.gaps()] == ["task"]


async def test_more_events_than_are_kept_are_a_gap(setup: Setup) -> None:
    finding = asyncio.ensure_future(setup.finder.find(*PAIR, 10))
    await rest()
    setup.upstream.cores[RUN] = core()
    setup.upstream.pasts[RUN] = past()
    text = "x" * (MOST_BUFFERED // 4)
    setup.search.emit(started(), *[chunk(n, text=text) for n in range(4)], completed())
    await setup.clock.turn(0.5)
    found = await finding
    setup.run.start()
    found.feed(setup.run)
    setup.search.emit(completed())
    await setup.clock.turn(1)
    assert setup.published().count("step_stream") == 3
    assert [gap.step for gap in setup.gaps()] == ["task"]


async def test_all_callers_that_wait_for_one_pair_share_one_search(setup: Setup) -> None:
    waiting = [asyncio.ensure_future(setup.finder.find(*PAIR, 10)) for _ in range(5)]
    await rest()
    setup.search.emit(started())
    await setup.clock.turn(1)
    assert {(await one).run_id for one in waiting} == {RUN}
    assert len([held for held in setup.upstream.opened_ever if held.pair == PAIR]) == 1


async def test_after_the_patience_the_run_is_unknown_and_nothing_stays_open(setup: Setup) -> None:
    finding = asyncio.ensure_future(setup.finder.find(*PAIR, 2))
    await setup.clock.turn(2.1)
    with pytest.raises(RunUnknown):
        await finding
    await rest()
    assert not setup.upstream.open


async def test_a_list_that_is_away_is_reported_as_such(setup: Setup) -> None:
    setup.upstream.found[PAIR] = HistoryAway("no answer")
    finding = asyncio.ensure_future(setup.finder.find(*PAIR, 2))
    await setup.clock.turn(2.1)
    with pytest.raises(HistoryAway):
        await finding


async def test_while_hatchet_is_away_nobody_is_told_that_there_is_no_such_run(setup: Setup) -> None:
    setup.upstream.refuse = HatchetAway("down")  # the list answers: it has no such run
    finding = asyncio.ensure_future(setup.finder.find(*PAIR, 2))
    await setup.clock.turn(2.1)
    with pytest.raises(HatchetAway):
        await finding


async def test_a_run_that_only_the_list_knows_is_found_until_the_last_moment(setup: Setup) -> None:
    setup.upstream.refuse = HatchetAway("down")
    finding = asyncio.ensure_future(setup.finder.find(*PAIR, 2))
    await setup.clock.turn(1.9)
    setup.upstream.found[PAIR] = RUN
    await setup.clock.turn(0.05)
    assert not finding.done()
    await setup.clock.turn(0.1)
    assert (await finding).run_id == RUN


async def test_a_run_that_the_subscription_missed_is_found_in_the_list(setup: Setup) -> None:
    finding = asyncio.ensure_future(setup.finder.find(*PAIR, 10))
    await setup.clock.turn(1.5)
    setup.upstream.found[PAIR] = RUN
    await setup.clock.turn(1.1)
    assert (await finding).run_id == RUN


async def test_a_search_survives_an_outage(setup: Setup) -> None:
    setup.upstream.refuse = HatchetAway("down")
    finding = asyncio.ensure_future(setup.finder.find(*PAIR, 20))
    await setup.clock.turn(3)
    setup.upstream.refuse = None
    await setup.clock.turn(6)
    setup.search.emit(started())
    await setup.clock.turn(1)
    assert (await finding).run_id == RUN


async def test_an_exception_that_should_not_be_possible_does_not_end_a_search(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = []
    monkeypatch.setattr(setup.finder.observer, "unforeseen", errors.append)
    find, failures = setup.upstream.find, 0

    async def broken_twice(key: str, value: str, workflows: object = None) -> str | None:
        nonlocal failures
        failures += 1
        if failures in {2, 3}:
            raise RecursionError
        return await find(key, value)

    monkeypatch.setattr(setup.upstream, "find", broken_twice)
    finding = asyncio.ensure_future(setup.finder.find(*PAIR, 20))
    await setup.clock.turn(5)
    setup.upstream.found[PAIR] = RUN
    await setup.clock.turn(3)
    assert (await finding).run_id == RUN
    assert len(errors) == 2
