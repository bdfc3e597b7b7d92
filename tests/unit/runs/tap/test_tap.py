"""The tap: one subscription for a team; what comes before the first client is kept, within a budget."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import pytest
from msgspec import structs
from msgspec.structs import replace

from proxy.core.events import Event, GapCause, Item, StepGap
from proxy.core.observations import CoreState, CoreStep, Kind, LiveEvent, Status
from proxy.hatchet.errors import HatchetAway
from proxy.runs.event_buffer import OVERHEAD
from proxy.runs.feeds import TAP_WAIT
from proxy.runs.follower import RunFollower
from proxy.runs.subscription import SPREAD
from proxy.runs.tap.tap import ENDED_FOR, IDLE_FOR, SWEEP, Tap
from tests.support.fakes import FakeSubscription, FakeUpstream, HandClock, rest
from tests.unit.runs.test_follower import RUN, TRACE, chunk, completed, core, failed, hangup, past, started

PAIR = ("stream", "on")
OTHER = "11111111-0000-0000-0000-000000000002"


def paired(state: CoreState) -> CoreState:
    return replace(state, metadata={**state.metadata, "stream": "on"})


def of_other(*events: LiveEvent) -> list[LiveEvent]:
    return [structs.replace(event, run_id=OTHER, step_run_id=event.step_run_id and OTHER) for event in events]


@dataclass
class Team:
    """A tap and the runs on it."""

    upstream: FakeUpstream
    clock: HandClock
    tap: Tap
    runs: list[RunFollower] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    grown: list[int] = field(default_factory=list)

    def watch(self, run_id: str = RUN) -> RunFollower:
        def publish(items: Sequence[Item]) -> None:
            self.items += items

        run = RunFollower(
            run_id,
            self.upstream,
            publish=publish,
            clock=self.clock,
            rng=Random(7),
            pair=PAIR,
            recovered=self.tap.hatchet_is_back,
        )
        self.runs.append(run)
        self.tap.attach(run)
        run.start()
        return run

    def published(self) -> list[str]:
        return [item.type if isinstance(item, Event) else type(item).__name__.lower() for item in self.items]

    def gaps(self) -> list[StepGap]:
        return [item for item in self.items if isinstance(item, StepGap)]

    @property
    def subscription(self) -> FakeSubscription:
        """The tap's subscription."""
        (held,) = [held for held in self.upstream.by_pair() if held.pair == PAIR]
        return held

    @property
    def own(self) -> list[FakeSubscription]:
        """The runs' own subscriptions."""
        return [held for held in self.upstream.open if held.pair != PAIR]


@asynccontextmanager
async def opened_team() -> AsyncIterator[Team]:
    """A team whose tap is open; two runs that carry its pair go on."""
    upstream, clock = FakeUpstream(), HandClock()
    upstream.cores[RUN] = paired(core())
    upstream.pasts[RUN] = past()
    upstream.cores[OTHER] = paired(
        replace(core(), run_id=OTHER, steps=(CoreStep("task", OTHER, Status.RUNNING),))
    )
    grown: list[int] = []
    tap = Tap(*PAIR, upstream, clock=clock, rng=Random(7), grew=grown.append)
    team = Team(upstream, clock, tap, grown=grown)
    tap.start()
    await rest()
    yield team
    for run in team.runs:
        await run.close()
    await tap.close()
    await rest()
    assert not upstream.open
    assert tap.bytes == sum(grown) == 0


@pytest.fixture
async def team() -> AsyncIterator[Team]:
    async with opened_team() as team:
        yield team


async def test_a_client_that_joins_late_gets_everything_from_the_first_token(team: Team) -> None:
    team.subscription.emit(started(), *[chunk(n) for n in range(50)])
    await team.clock.turn(10)
    team.watch()
    await team.clock.turn(0.1)
    assert team.published() == ["step_started", *["step_stream"] * 50]
    assert team.own == [], "the tap is the only subscription"
    team.subscription.emit(chunk(50), completed())
    await team.clock.turn(0.1)
    assert team.published()[-2:] == ["step_stream", "step_completed"]


async def test_a_watched_run_costs_no_subscription_of_its_own(team: Team) -> None:
    team.watch()
    team.subscription.emit(started(), chunk(0), completed())
    team.upstream.cores[RUN] = paired(core(Status.COMPLETED, output='{"ok":true}'))
    team.subscription.emit(hangup())
    await team.clock.turn(0.2)
    assert team.published()[-1] == "end"
    assert [held.pair for held in team.upstream.opened_ever] == [PAIR]


async def test_a_run_without_the_pair_subscribes_by_its_own_trace(team: Team) -> None:
    team.upstream.cores[RUN] = core()
    team.watch()
    await rest()
    assert [held.pair for held in team.own] == [("traceparent", TRACE)]


async def test_a_tap_that_hangs_up_is_opened_again_at_once_and_announces_nothing_where_nothing_is_missing(
    team: Team,
) -> None:
    team.watch()
    team.subscription.emit(started(), chunk(0), hangup())
    team.subscription.end()
    await rest()
    team.subscription.emit(chunk(1), completed())
    await team.clock.turn(0.5)
    assert team.published() == ["step_started", "step_stream", "step_stream", "step_completed"]


async def test_what_a_tap_missed_of_a_watched_run_is_a_gap(team: Team) -> None:
    team.watch()
    team.subscription.emit(started(), chunk(0), hangup())
    team.subscription.end()
    await rest()
    team.subscription.emit(chunk(3))
    await team.clock.turn(0.5)
    assert team.gaps() == [StepGap(GapCause.UPSTREAM, "task", 1, 2)]
    assert team.published().count("step_stream") == 2


async def test_what_a_tap_missed_of_a_run_without_a_follower_is_a_gap(team: Team) -> None:
    team.subscription.emit(*of_other(started(), chunk(0), hangup()))
    team.subscription.end()
    await rest()
    team.subscription.emit(*of_other(chunk(3)))
    team.watch(OTHER)
    await team.clock.turn(3)
    assert team.gaps() == [StepGap(GapCause.UPSTREAM, "task", 1, 2)]
    assert team.published().count("step_stream") == 2


async def test_a_tap_that_broke_after_a_false_end_may_have_missed_what_came_then(team: Team) -> None:
    team.subscription.emit(started(), chunk(0), hangup())
    team.subscription.end()
    await rest()
    team.subscription.emit(completed())
    team.watch()
    await team.clock.turn(1)
    assert team.gaps() == [StepGap(GapCause.UPSTREAM, "task", 1, None)]


async def test_an_end_that_was_kept_with_all_chunks_has_no_gap(team: Team) -> None:
    team.subscription.emit(started(), *[chunk(n) for n in range(3)], completed())
    await team.clock.turn(10)
    team.watch()
    await team.clock.turn(1)
    assert team.published() == ["step_started", *["step_stream"] * 3, "step_completed"]


async def test_events_that_were_dropped_from_what_is_kept_are_a_gap(team: Team) -> None:
    team.subscription.emit(started(), chunk(0))
    team.tap.shrink(0)
    team.subscription.emit(chunk(1), completed())
    team.watch()
    await team.clock.turn(1)
    assert [gap.step for gap in team.gaps()] == ["task"]
    assert team.published().count("step_stream") == 1


async def test_a_run_that_is_watched_again_gets_only_what_came_since_with_a_gap(team: Team) -> None:
    first = team.watch()
    team.subscription.emit(started(), chunk(0))
    await team.clock.turn(1)
    team.tap.detach(first)
    await first.close()
    team.subscription.emit(chunk(1))
    team.items.clear()
    team.watch()
    await team.clock.turn(1)
    assert team.gaps() == [StepGap(GapCause.JOINED_LATE, "task", 1, 1)]
    assert team.published().count("step_stream") == 1


async def test_while_the_tap_is_away_a_run_subscribes_by_itself_and_stops_when_the_tap_is_back(
    team: Team,
) -> None:
    team.watch()
    await rest()
    team.subscription.emit(started())
    team.upstream.refuse = HatchetAway("down")
    team.subscription.end()
    await team.clock.turn(TAP_WAIT / 2)
    assert team.own == []
    team.upstream.refuse = None
    team.tap._subscription.backoff.at = team.clock.now() + 20
    waiting = team.tap._subscription
    await team.clock.turn(8)
    assert waiting.wanted
    assert len(team.upstream.by_pair()) >= 1
    await team.clock.turn(20)
    assert team.tap.live
    assert team.own == []


async def test_a_run_stays_with_the_tap_through_a_short_break(team: Team) -> None:
    team.watch()
    team.subscription.emit(started(), hangup())
    team.subscription.end()
    await team.clock.turn(2)
    assert [held.pair for held in team.upstream.opened_ever] == [PAIR, PAIR]


async def test_the_last_follower_of_a_run_gets_its_events_and_the_one_before_subscribes_by_itself(
    team: Team,
) -> None:
    """A run session went apart from the shared log, and the run got another one."""
    team.watch()
    team.subscription.emit(started(), chunk(0))
    await team.clock.turn(0.1)
    team.items.clear()
    team.watch()
    await team.clock.turn(TAP_WAIT + SPREAD + 1)
    assert len(team.own) == 1
    assert team.tap.live


async def test_an_event_of_one_run_never_reaches_another(team: Team) -> None:
    team.watch()
    team.watch(OTHER)
    await team.clock.turn(0.3)
    team.items.clear()
    team.subscription.emit(started(), *of_other(started(), chunk(0)))
    await team.clock.turn(0.3)
    assert {item.run_id for item in team.items if isinstance(item, Event) and item.index is not None} == {
        OTHER
    }


async def test_a_failure_and_a_retry_come_whole_through_the_tap(team: Team) -> None:
    team.upstream.pasts[RUN] = past(retries=1)
    team.watch()
    team.subscription.emit(started(), chunk(0), failed())
    team.upstream.pasts[RUN] = past(retry=1, retries=1)
    await team.clock.turn(0.5)
    team.subscription.emit(chunk(0, at="03"), completed(retry=1))
    await team.clock.turn(0.5)
    assert team.published() == [
        "step_started",
        "step_stream",
        "step_retrying",
        "reset",
        "step_stream",
        "step_completed",
    ]


# -- what is kept --


async def test_memory_is_bounded_and_the_least_recently_used_run_goes_first() -> None:
    upstream = FakeUpstream()
    tap = Tap(*PAIR, upstream, budget=10 * (OVERHEAD + 2), clock=HandClock(), rng=Random(7))
    tap.start()
    await rest()
    ids = [f"11111111-0000-0000-0000-{n:012}" for n in range(4)]
    for run_id in ids:
        upstream.open[0].emit(*[structs.replace(chunk(n), run_id=run_id) for n in range(3)])
    assert tap.bytes == 9 * (OVERHEAD + 2)
    assert list(tap._buffers) == ids[1:]
    upstream.open[0].emit(structs.replace(chunk(3), run_id=ids[1]))
    upstream.open[0].emit(structs.replace(chunk(4), run_id=ids[1]))
    assert list(tap._buffers) == [ids[3], ids[1]], "the one that was used last is kept"
    await tap.close()
    assert tap.bytes == 0


async def test_runs_are_forgotten_some_time_after_their_end(team: Team) -> None:
    team.subscription.emit(started(), completed(), hangup())
    assert team.tap.bytes > 0
    await team.clock.turn(ENDED_FOR - 20)
    assert team.tap.bytes > 0
    await team.clock.turn(40)
    assert team.tap.bytes == 0


async def test_runs_that_have_not_ended_are_kept_through_a_long_backoff(team: Team) -> None:
    team.subscription.emit(started(), failed())
    await team.clock.turn(ENDED_FOR + 100)
    assert team.tap.bytes > 0
    await team.clock.turn(IDLE_FOR)
    assert team.tap.bytes == 0


async def test_a_run_event_that_is_followed_by_a_steps_is_no_end(team: Team) -> None:
    team.subscription.emit(started(), structs.replace(hangup(), kind=Kind.COMPLETED), chunk(0))
    await team.clock.turn(ENDED_FOR + 40)
    assert team.tap.bytes > 0


async def test_after_an_outage_the_tap_is_opened_as_soon_as_a_core_state_answers(team: Team) -> None:
    team.watch()
    await rest()
    upstream = team.upstream
    upstream.refuse = upstream.cores[RUN] = HatchetAway("refused")
    for held in list(upstream.open):
        held.end(HatchetAway("gone"))
    await team.clock.turn(60)
    team.tap._subscription.backoff.at = team.clock.now() + 60
    upstream.refuse, upstream.cores[RUN] = None, paired(core())
    while team.runs[0]._reader.trouble is not None:
        await team.clock.turn(0.1)
    await team.clock.turn(SPREAD)
    assert team.tap.live


async def test_an_exception_in_a_sweep_is_reported_and_the_next_sweep_comes(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = []

    def broken(now: float) -> None:
        raise RecursionError

    monkeypatch.setattr(team.tap, "_drop_old", broken)
    monkeypatch.setattr(team.tap._observer, "unforeseen", errors.append)
    await team.clock.turn(3 * SWEEP)
    assert len(errors) == 3
