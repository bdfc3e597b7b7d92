"""The chunk that keeps the tap's subscription open: when it is sent, and when it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
from msgspec import structs
from msgspec.structs import replace

from proxy.core.observations import Kind, ListedRun, LiveEvent, Status
from proxy.hatchet.errors import HatchetAway
from proxy.runs.tap.keepalive import AGAIN, BETWEEN, LOOKS, REFUSALS
from proxy.runs.tap.tap import Tap
from tests.support.fakes import FakeSubscription, FakeUpstream, HandClock, rest
from tests.unit.runs.test_follower import RUN, chunk, completed, core, hangup, started

PAIR = ("stream", "on")
OTHER = "11111111-0000-0000-0000-000000000002"
SOON = LOOKS[0] + 0.01


@dataclass
class Setup:
    """A tap on a fake Hatchet."""

    upstream: FakeUpstream
    clock: HandClock
    tap: Tap

    @property
    def subscription(self) -> FakeSubscription:
        (held,) = self.upstream.open
        return held

    async def end(self) -> None:
        """The engine ends the subscription with OK and without a hangup; it is opened again."""
        held = self.subscription
        held.end()
        await rest()
        await self.clock.turn(0)
        assert self.subscription is not held

    async def hang_up(self, run_id: str = RUN) -> None:
        """The engine sends a run's end, hangs up, and the tap opens its subscription again."""
        held = self.subscription
        held.emit(structs.replace(hangup(), run_id=run_id))
        held.end()
        await rest()
        assert self.subscription is not held


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    setup = await opened()
    yield setup
    await closed(setup)


async def opened(*, keepalive: bool = True, has_history: bool = True) -> Setup:
    upstream, clock = FakeUpstream(has_history=has_history), HandClock()
    upstream.cores[RUN] = core(Status.COMPLETED)
    tap = Tap(*PAIR, upstream, clock=clock, rng=Random(7), keepalive=keepalive)
    tap.start()
    await rest()
    return Setup(upstream, clock, tap)


async def closed(setup: Setup) -> None:
    await setup.tap.close()
    await rest()
    assert not setup.upstream.open


def run_end(kind: Kind, run_id: str = RUN) -> LiveEvent:
    return LiveEvent(run_id, kind, None)


async def test_after_a_hangup_one_chunk_is_sent_for_the_run_that_is_over(setup: Setup) -> None:
    setup.subscription.emit(started(), chunk(0), completed())
    await setup.hang_up()
    await setup.clock.turn(SOON)
    assert setup.upstream.kept_open == [RUN]
    await setup.clock.turn(60)
    assert setup.upstream.kept_open == [RUN]


async def test_a_run_that_goes_on_gets_no_chunk(setup: Setup) -> None:
    setup.upstream.cores[RUN] = core()
    setup.subscription.emit(started())
    await setup.hang_up()
    await setup.clock.turn(SOON)
    assert setup.upstream.kept_open == []
    setup.upstream.cores[RUN] = core(Status.COMPLETED)
    await setup.hang_up()
    await setup.clock.turn(SOON)
    assert setup.upstream.kept_open == [RUN]


async def test_a_state_that_lags_behind_the_hangup_is_looked_at_again(setup: Setup) -> None:
    setup.upstream.cores[RUN] = core()
    setup.subscription.emit(started(), completed())
    await setup.hang_up()
    await setup.clock.turn(SOON)
    setup.upstream.cores[RUN] = core(Status.COMPLETED)
    await setup.clock.turn(LOOKS[1])
    assert setup.upstream.kept_open == [RUN]


async def test_the_real_end_soon_after_a_false_one_is_looked_at_in_its_turn(setup: Setup) -> None:
    setup.upstream.cores[RUN] = core()
    setup.subscription.emit(started())
    await setup.hang_up()
    await setup.clock.turn(sum(LOOKS) - 0.1)
    await setup.hang_up()
    await setup.clock.turn(0.2)
    setup.upstream.cores[RUN] = core(Status.COMPLETED)
    await setup.clock.turn(SOON)
    assert setup.upstream.kept_open == [RUN]


async def test_an_older_run_that_is_over_serves_while_the_last_one_goes_on(setup: Setup) -> None:
    setup.upstream.cores[OTHER] = replace(core(), run_id=OTHER)
    setup.subscription.emit(
        started(), completed(), structs.replace(started(), run_id=OTHER, step_run_id=OTHER)
    )
    await setup.hang_up()
    await setup.clock.turn(SOON)
    assert setup.upstream.kept_open == [RUN]


async def test_a_run_that_hatchet_has_forgotten_is_passed_over(setup: Setup) -> None:
    setup.subscription.emit(
        started(), completed(), structs.replace(started(), run_id=OTHER, step_run_id=OTHER)
    )
    assert OTHER not in setup.upstream.cores
    await setup.hang_up()
    await setup.clock.turn(SOON)
    assert setup.upstream.kept_open == [RUN]


async def test_at_the_start_a_finished_run_of_the_history_serves(setup: Setup) -> None:
    setup.upstream.listed[PAIR] = [ListedRun(RUN, None, 0, over=True)]
    await setup.clock.turn(SOON)
    assert setup.upstream.kept_open == [RUN]


async def test_without_a_history_nothing_is_asked_at_the_start() -> None:
    setup = await opened(has_history=False)
    setup.upstream.listed[PAIR] = [ListedRun(RUN, None, 0, over=True)]
    await setup.clock.turn(SOON)
    assert setup.upstream.calls == []
    await closed(setup)


@pytest.mark.parametrize("kind", [Kind.FAILED, Kind.CANCELLED])
async def test_a_run_that_ended_badly_keeps_the_subscription_open_by_itself(setup: Setup, kind: Kind) -> None:
    setup.subscription.emit(started(), run_end(kind))
    await setup.clock.turn(SOON)
    assert setup.upstream.kept_open == []


async def test_a_failure_that_was_retried_with_success_keeps_nothing_open(setup: Setup) -> None:
    setup.subscription.emit(started(), run_end(Kind.FAILED), run_end(Kind.COMPLETED))
    await setup.clock.turn(SOON)
    assert setup.upstream.kept_open == [RUN]


async def test_an_engine_that_hangs_up_all_the_same_gets_a_chunk_ever_more_rarely(setup: Setup) -> None:
    setup.subscription.emit(started(), completed())
    sent: list[int] = []
    for second in range(200):
        setup.subscription.emit(structs.replace(started(), run_id=OTHER, step_run_id=OTHER))
        await setup.hang_up(OTHER)
        await setup.clock.turn(1)
        if len(setup.upstream.kept_open) > len(sent):
            sent.append(second)
    pauses = [later - earlier for earlier, later in pairwise(sent)]
    assert pauses[0] >= BETWEEN
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 4 * BETWEEN


async def test_after_an_end_that_was_no_hangup_the_next_subscription_gets_its_chunk_at_once(
    setup: Setup,
) -> None:
    setup.subscription.emit(started(), completed())
    await setup.hang_up()
    await setup.clock.turn(SOON)
    assert setup.upstream.kept_open == [RUN]
    await setup.clock.turn(AGAIN)
    asked = len(setup.upstream.calls)
    await setup.end()
    assert setup.upstream.kept_open == [RUN, RUN]
    assert not [call for call in setup.upstream.calls[asked:] if call.startswith("core")]


async def test_ends_in_a_row_that_are_no_hangups_get_four_chunks_a_second_at_most(setup: Setup) -> None:
    setup.subscription.emit(started(), completed())
    await setup.hang_up()
    await setup.clock.turn(SOON + AGAIN)
    before = len(setup.upstream.kept_open)
    for _ in range(20):
        setup.subscription.emit(structs.replace(started(), run_id=OTHER, step_run_id=OTHER))
        await setup.end()
        await setup.clock.turn(0.1)
    assert 1 < len(setup.upstream.kept_open) - before <= 1 + 2.0 / AGAIN


async def test_a_hangup_before_the_chunk_can_have_come_says_nothing_of_the_engine(setup: Setup) -> None:
    setup.subscription.emit(started(), completed())
    await setup.hang_up()
    await setup.clock.turn(SOON + AGAIN)
    await setup.end()
    assert setup.upstream.kept_open == [RUN, RUN]
    setup.subscription.emit(structs.replace(started(), run_id=OTHER, step_run_id=OTHER))
    await setup.hang_up(OTHER)  # an end that was on its way before the chunk
    await setup.clock.turn(AGAIN)
    assert setup.upstream.kept_open == [RUN, RUN, RUN]
    setup.subscription.emit(structs.replace(started(), run_id=OTHER, step_run_id=OTHER))
    await setup.hang_up(OTHER)  # the second time it is the engine's answer
    await setup.clock.turn(BETWEEN)
    assert setup.upstream.kept_open == [RUN, RUN, RUN]


async def test_an_engine_that_refuses_the_chunk_is_asked_three_times(setup: Setup) -> None:
    setup.upstream.keep_open_fails = HatchetAway("PutStreamEvent: UNIMPLEMENTED")
    setup.subscription.emit(started(), completed())
    for _ in range(REFUSALS + 3):
        await setup.hang_up()
        await setup.clock.turn(2 * BETWEEN)
    assert len(setup.upstream.kept_open) == REFUSALS


async def test_an_outage_during_the_question_is_survived(setup: Setup) -> None:
    setup.upstream.cores[RUN] = HatchetAway("down")
    setup.subscription.emit(started(), completed())
    await setup.hang_up()
    await setup.clock.turn(SOON)
    setup.upstream.cores[RUN] = core(Status.COMPLETED)
    await setup.hang_up()
    await setup.clock.turn(SOON)
    assert setup.upstream.kept_open == [RUN]


async def test_switched_off_the_proxy_only_reads() -> None:
    setup = await opened(keepalive=False)
    setup.upstream.listed[PAIR] = [ListedRun(RUN, None, 0, over=True)]
    setup.subscription.emit(started(), completed())
    await setup.hang_up()
    await setup.clock.turn(60)
    assert setup.upstream.calls == []
    await closed(setup)


async def test_a_tap_that_is_closed_sends_nothing_more(setup: Setup) -> None:
    setup.subscription.emit(started(), completed())
    await setup.hang_up()
    await setup.tap.close()
    await setup.clock.turn(60)
    assert setup.upstream.kept_open == []
