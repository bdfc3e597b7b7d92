"""A tap that is open and brings nothing: noticed by a chunk that does not come back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.core.events import GapCause, StepGap
from proxy.core.observations import Kind, ListedRun, LiveEvent, Status
from proxy.hatchet.codec import KEEPALIVE_INDEX
from proxy.hatchet.errors import HatchetAway
from proxy.runs.tap.probe import DEAF, ECHO, SILENT
from tests.unit.runs.tap.test_tap import OTHER, PAIR, Team, opened_team, paired
from tests.unit.runs.test_follower import RUN, chunk, completed, core, started

ECHOED = LiveEvent(OTHER, Kind.STREAM, OTHER, "", None, None, KEEPALIVE_INDEX)
LOST = StepGap(GapCause.UPSTREAM, "task", 1, None)


@pytest.fixture
async def team() -> AsyncIterator[Team]:
    """A run is followed and has streamed a chunk; another one that carries the pair is over."""
    async with opened_team() as team:
        team.upstream.listed[PAIR] = [ListedRun(OTHER, None, 0, over=True)]
        team.upstream.cores[OTHER] = paired(core(Status.COMPLETED))
        team.watch()
        await team.clock.turn(1)
        team.subscription.emit(started(), chunk(0))
        await team.clock.turn(0)
        yield team


async def end(team: Team) -> None:
    """The step's end comes, and the run's."""
    team.subscription.emit(completed())
    team.upstream.cores[RUN] = paired(core(Status.COMPLETED))
    await team.clock.turn(20)


async def test_a_silent_tap_is_probed_and_an_echo_proves_it(team: Team) -> None:
    for _ in range(3):
        before = len(team.upstream.kept_open)
        await team.clock.turn(SILENT + 0.1)
        assert len(team.upstream.kept_open) == before + 1
        team.subscription.emit(ECHOED)
    assert team.tap.live
    await end(team)
    assert team.gaps() == []


async def test_without_an_echo_what_comes_later_does_not_prove_what_was_sent_meanwhile(team: Team) -> None:
    await team.clock.turn(SILENT + ECHO + 0.1)
    assert not team.tap.live
    assert isinstance(team.tap.trouble, HatchetAway)
    await end(team)
    assert team.gaps() == [LOST]
    assert team.tap.live
    assert team.tap.trouble is None


async def test_a_deaf_tap_is_probed_until_it_echoes(team: Team) -> None:
    await team.clock.turn(SILENT + ECHO + 0.1)
    before = len(team.upstream.kept_open)
    await team.clock.turn(3 * (DEAF + ECHO) + 0.5)
    assert len(team.upstream.kept_open) == before + 3
    team.subscription.emit(ECHOED)
    assert team.tap.live


async def test_events_in_time_need_no_probe(team: Team) -> None:
    before = len(team.upstream.kept_open)
    for index in range(1, 10):
        await team.clock.turn(SILENT - 0.1)
        team.subscription.emit(chunk(index))
    assert len(team.upstream.kept_open) == before


async def test_while_no_run_goes_on_nothing_is_probed(team: Team) -> None:
    await end(team)
    before = len(team.upstream.kept_open)
    await team.clock.turn(10 * SILENT)
    assert len(team.upstream.kept_open) == before


async def test_where_no_finished_run_is_known_nothing_is_sent_and_nothing_concluded() -> None:
    async with opened_team() as team:
        team.watch()
        await team.clock.turn(3 * (SILENT + ECHO))
        assert team.upstream.kept_open == []
        assert team.tap.live


async def test_a_probe_that_hatchet_refuses_proves_nothing(team: Team) -> None:
    team.upstream.keep_open_fails = HatchetAway("down")
    await team.clock.turn(3 * (SILENT + ECHO))
    assert team.tap.live
