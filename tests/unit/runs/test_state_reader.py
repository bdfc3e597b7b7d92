"""The reads of a run's states: one at a time, contained, and asked again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from proxy.core.observations import CoreState, PastState, Status
from proxy.hatchet.errors import HatchetAway, HatchetError, HistoryAway, RunUnknown, TokenRefused
from proxy.runs.reconcile.reconciler import Reconciler
from proxy.runs.reconcile.timing import AWAY_FIRST, AWAY_SLOWEST
from proxy.runs.state_reader import StateReader
from tests.support.fakes import FakeUpstream, HandClock, rest
from tests.unit.runs.test_follower import RUN, Counts, core, past


class SlowUpstream(FakeUpstream):
    """An upstream whose answers come when the test lets them, and that may make mistakes."""

    def __init__(self) -> None:
        super().__init__()
        self.mistake: Exception | None = None
        self.held: asyncio.Event | None = None

    async def core(self, run_id: str) -> CoreState:
        if self.held is not None:
            self.calls.append("core")
            await self.held.wait()
        if self.mistake is not None:
            self.calls.append("core")
            raise self.mistake
        return await super().core(run_id)

    async def past(self, run_id: str) -> PastState | None:
        if self.mistake is not None:
            self.calls.append("past")
            raise self.mistake
        return await super().past(run_id)


class Setup:
    """A reader with its reconciler; reads are begun as a follower would begin them."""

    def __init__(self) -> None:
        self.upstream = SlowUpstream()
        self.clock = HandClock()
        self.counts = Counts()
        self.reconciler = Reconciler(RUN)
        self.changes = 0
        self.recoveries = 0
        self.reader = StateReader(
            RUN,
            self.upstream,
            self.reconciler,
            clock=self.clock,
            rng=Random(7),
            observer=self.counts,
            changed=self.changed,
            recovered=self.recovered,
        )

    def changed(self) -> None:
        self.changes += 1
        self.reader.poll(self.clock.now())

    def recovered(self) -> None:
        self.recoveries += 1

    def want(self) -> None:
        self.reconciler.core_poll.want(self.clock.now())
        self.reader.poll(self.clock.now())

    async def pass_time(self, seconds: float) -> None:
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            await self.clock.turn(0.05)
            self.reader.poll(self.clock.now())
            await rest()


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    setup = Setup()
    setup.upstream.cores[RUN] = core()
    setup.upstream.pasts[RUN] = past()
    yield setup
    await asyncio.gather(*setup.reader.close(), return_exceptions=True)


async def test_what_the_plan_asks_for_is_read_and_reported(setup: Setup) -> None:
    setup.want()
    await rest()
    assert setup.reconciler.core_state == core()
    assert setup.upstream.calls == ["core", "past"], "the first core state makes the history wanted"
    assert setup.changes == 2


async def test_a_state_is_not_asked_for_twice_at_once(setup: Setup) -> None:
    setup.upstream.held = asyncio.Event()
    setup.want()
    await rest()
    assert setup.reader.next_at(setup.reconciler.plan) is None
    await setup.pass_time(1)
    setup.want()
    await rest()
    assert setup.upstream.calls == ["core"]


async def test_everyone_who_waits_for_the_first_state_gets_it(setup: Setup) -> None:
    waiting = [asyncio.ensure_future(setup.reader.first_state()) for _ in range(3)]
    await setup.pass_time(0.1)
    assert [(await one).run_id for one in waiting] == [RUN] * 3
    assert setup.upstream.calls.count("core") <= 2


@pytest.mark.parametrize("trouble", [HatchetAway("away"), TokenRefused("refused")])
async def test_trouble_is_raised_kept_and_forgotten_when_it_has_passed(
    setup: Setup, trouble: HatchetError
) -> None:
    setup.upstream.cores[RUN] = trouble
    waiting = asyncio.ensure_future(setup.reader.first_state())
    await rest()
    with pytest.raises(type(trouble)):
        await waiting
    assert setup.reader.trouble is trouble
    with pytest.raises(type(trouble)):
        await setup.reader.first_state()
    assert setup.upstream.calls == ["core"], "while Hatchet is left alone nobody asks"
    setup.upstream.cores[RUN] = core()
    await setup.pass_time(2 * AWAY_FIRST)
    assert setup.reader.trouble is None
    assert setup.reconciler.core_state is not None


async def test_an_event_shows_that_hatchet_is_there(setup: Setup) -> None:
    setup.upstream.cores[RUN] = HatchetAway("away")
    setup.want()
    await rest()
    setup.reader.hatchet_answered()
    assert setup.reader.trouble is None
    assert not setup.reconciler.core_poll.held_off(setup.clock.now())


async def test_a_run_that_is_not_known_is_no_trouble_and_is_asked_for_again(setup: Setup) -> None:
    setup.upstream.cores[RUN] = RunUnknown("no such run")
    waiting = asyncio.ensure_future(setup.reader.first_state())
    await rest()
    with pytest.raises(RunUnknown):
        await waiting
    assert setup.reader.trouble is None
    setup.upstream.cores[RUN] = core()
    await setup.pass_time(0.3)
    assert setup.reconciler.core_state is not None


async def test_an_unforeseen_exception_in_a_read_is_counted_and_the_read_is_made_again(setup: Setup) -> None:
    setup.upstream.mistake = RecursionError("too deep")
    setup.want()
    await rest()
    assert [str(error) for error in setup.counts.errors] == ["too deep"]
    await setup.pass_time(3 * AWAY_SLOWEST)
    assert 3 <= len(setup.upstream.calls) <= 20
    setup.upstream.mistake = None
    await setup.pass_time(2 * AWAY_SLOWEST)
    assert setup.reconciler.core_state is not None


@pytest.mark.parametrize("state", ["core", "history"])
async def test_an_unforeseen_exception_over_an_answer_is_counted_and_the_read_is_made_again(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    right = getattr(Reconciler, state)

    def wrong(*args: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(Reconciler, state, wrong)
    waiting = asyncio.ensure_future(setup.reader.first_state())
    await setup.pass_time(0.2)
    assert (await waiting).run_id == RUN, "the state came, whatever became of it"
    assert {str(error) for error in setup.counts.errors} == {"too deep"}
    monkeypatch.setattr(Reconciler, state, right)
    calls = setup.upstream.calls.count("core" if state == "core" else "past")
    await setup.pass_time(2 * AWAY_SLOWEST)
    assert setup.upstream.calls.count("core" if state == "core" else "past") > calls


async def test_a_history_that_is_away_is_left_alone_for_longer_each_time(setup: Setup) -> None:
    setup.upstream.pasts[RUN] = HistoryAway("no answer")
    setup.want()
    await setup.pass_time(60)
    assert setup.reconciler.history_poll.failures > 3
    assert setup.upstream.calls.count("past") < 30
    assert setup.counts.errors == []


async def test_a_closed_reader_refuses_waiting_callers_and_reads_no_more(setup: Setup) -> None:
    setup.upstream.held = asyncio.Event()
    waiting = asyncio.ensure_future(setup.reader.first_state())
    await rest()
    await asyncio.gather(*setup.reader.close(), return_exceptions=True)
    with pytest.raises(HatchetAway):
        await waiting
    setup.upstream.held.set()
    await rest()
    assert setup.reconciler.core_state is None
    assert setup.changes == 1, "its own asking; no answer was reported"


async def test_a_done_run_is_read_no_more(setup: Setup) -> None:
    setup.upstream.cores[RUN] = core(Status.COMPLETED, output="{}")
    setup.upstream.pasts[RUN] = past(Status.COMPLETED)
    setup.want()
    await rest()
    assert setup.reconciler.over
    assert setup.reader.next_at(setup.reconciler.plan) is None


async def test_a_recovery_is_reported_once_for_each_outage(setup: Setup) -> None:
    setup.want()
    await setup.pass_time(1)
    assert setup.recoveries == 0, "there was no outage"
    setup.upstream.cores[RUN] = HatchetAway("away")
    setup.want()
    await setup.pass_time(10)
    assert setup.recoveries == 0, "it still lasts"
    setup.upstream.cores[RUN] = core()
    await setup.pass_time(10)
    setup.want()
    await setup.pass_time(10)
    assert setup.recoveries == 1


async def test_an_event_is_a_recovery_too(setup: Setup) -> None:
    setup.upstream.cores[RUN] = HatchetAway("away")
    setup.want()
    await setup.pass_time(1)
    setup.reader.hatchet_answered()
    setup.reader.hatchet_answered()
    assert setup.recoveries == 1
