"""The tap: one subscription for a team; what comes before the first client is kept, within a budget."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from proxy.core.events import Event, GapCause, Item, StepGap
from proxy.core.observations import CoreState, CoreStep, Status
from proxy.hatchet.errors import HatchetAway
from proxy.runs.follower import Run
from proxy.runs.tap import ENDED_FOR, OVERHEAD, Tap
from tests.support.fakes import FakeUpstream, HandClock, rest
from tests.unit.runs.test_follower import RUN, chunk, completed, core, hangup, past, started

PAIR = ("stream", "on")
OTHER = "11111111-0000-0000-0000-000000000002"


def paired(state: CoreState) -> CoreState:
    return replace(state, metadata={**state.metadata, "stream": "on"})


@dataclass
class Team:
    """A tap and the runs on it."""

    upstream: FakeUpstream
    clock: HandClock
    tap: Tap
    runs: list[Run] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)

    def watch(self, run_id: str = RUN) -> Run:
        def publish(items: Sequence[Item]) -> None:
            self.items += items

        run = Run(run_id, self.upstream, publish=publish, clock=self.clock, rng=Random(7), pair=PAIR)
        self.runs.append(run)
        self.tap.attach(run)
        run.start()
        return run

    def told(self) -> list[str]:
        return [item.type if isinstance(item, Event) else type(item).__name__.lower() for item in self.items]

    @property
    def line(self):  # type: ignore[no-untyped-def]
        (held,) = self.upstream.by_pair()
        return held


@pytest.fixture
async def team() -> AsyncIterator[Team]:
    upstream, clock = FakeUpstream(), HandClock()
    upstream.cores[RUN] = paired(core())
    upstream.pasts[RUN] = past()
    team = Team(upstream, clock, Tap(*PAIR, upstream, clock=clock, rng=Random(7)))
    team.tap.start()
    await rest()
    yield team
    for run in team.runs:
        await run.close()
    await team.tap.close()
    await rest()
    assert not upstream.open
    assert team.tap.bytes == 0


async def test_a_client_that_joins_late_gets_everything_from_the_first_token(team: Team) -> None:
    team.line.tell(started(), *[chunk(n) for n in range(50)])
    await team.clock.turn(10)
    team.watch()
    await team.clock.turn(0.1)
    assert team.told() == ["step_started", *["step_stream"] * 50]
    assert not team.upstream.by_id(), "the tap is the only subscription"
    team.line.tell(chunk(50), completed())
    await team.clock.turn(0.1)
    assert team.told()[-2:] == ["step_stream", "step_completed"]


async def test_a_watched_run_costs_no_subscription_of_its_own(team: Team) -> None:
    team.watch()
    team.line.tell(started(), chunk(0), completed())
    team.upstream.cores[RUN] = paired(core(Status.COMPLETED, output='{"ok":true}'))
    team.line.tell(hangup())
    await team.clock.turn(0.2)
    assert team.told()[-1] == "end"
    assert [held.pair for held in team.upstream.opened_ever] == [PAIR]


async def test_a_run_without_the_pair_subscribes_by_itself(team: Team) -> None:
    team.upstream.cores[OTHER] = replace(
        core(), run_id=OTHER, steps=(CoreStep("task", OTHER, Status.RUNNING),)
    )
    team.watch(OTHER)
    await rest()
    assert [held.run_id for held in team.upstream.by_id()] == [OTHER]


async def test_a_tap_that_hangs_up_is_opened_again_at_once_and_nothing_is_announced_where_nothing_is_missing(
    team: Team,
) -> None:
    team.watch()
    team.line.tell(started(), chunk(0))
    team.line.end()
    await rest()
    team.line.tell(chunk(1), completed())
    await team.clock.turn(0.5)
    assert team.told() == ["step_started", "step_stream", "step_stream", "step_completed"]


async def test_what_a_tap_missed_is_a_gap_for_runs_that_are_watched_and_for_those_that_are_kept(
    team: Team,
) -> None:
    team.watch()
    for held in (False, True):
        run = OTHER if held else RUN
        mine = [replace(e, run_id=run, step_run_id=run) for e in (started(), chunk(0), chunk(3))]
        team.line.tell(*mine[:2])
        team.line.end()
        await rest()
        team.line.tell(mine[2])
        await team.clock.turn(0.5)
        if held:
            team.upstream.cores[OTHER] = paired(
                replace(core(), run_id=OTHER, steps=(CoreStep("task", OTHER, Status.RUNNING),))
            )
            team.items.clear()
            team.watch(OTHER)
            await team.clock.turn(1)
        assert StepGap(GapCause.UPSTREAM, "task", 1, 2) in team.items
        assert team.told().count("step_stream") == 2


async def test_a_tap_that_broke_after_a_false_end_may_have_missed_what_came_then(team: Team) -> None:
    team.line.tell(started(), chunk(0), hangup())
    team.line.end()
    await rest()
    team.line.tell(completed())  # chunks in between are nowhere to be seen
    team.watch()
    await team.clock.turn(1)
    assert StepGap(GapCause.UPSTREAM, "task", 1, None) in team.items


async def test_while_the_tap_is_away_runs_subscribe_by_themselves_after_a_moment(team: Team) -> None:
    team.watch()
    await rest()
    team.upstream.refuse = HatchetAway("down")
    team.line.end()
    await team.clock.turn(0.5)
    assert not team.upstream.by_id()
    team.upstream.refuse = None
    tap_waits_until = team.tap._backoff.at
    team.tap._backoff.at = tap_waits_until + 100
    await team.clock.turn(8)
    assert len(team.upstream.open) >= 1


async def test_memory_is_bounded_the_least_recently_used_run_goes_first(team: Team) -> None:
    team.tap._budget = 10 * (OVERHEAD + 2)
    ids = [f"11111111-0000-0000-0000-{n:012}" for n in range(4)]
    for run_id in ids:
        for n in range(3):
            team.line.tell(replace(chunk(n), run_id=run_id))
    assert team.tap.runs_kept == 3
    assert team.tap.bytes <= 10 * (OVERHEAD + 2)
    assert ids[0] not in team.tap._kept


async def test_runs_are_forgotten_some_time_after_their_end(team: Team) -> None:
    team.line.tell(started(), completed(), hangup())
    assert team.tap.runs_kept == 1
    await team.clock.turn(ENDED_FOR + 20)
    assert team.tap.runs_kept == 0
    assert team.tap.bytes == 0
