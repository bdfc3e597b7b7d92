"""One run's life against a Hatchet of paper: what it asks, when, and that nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from proxy.runs.bridge_quota import Bridges

from proxy.core.events import End, Event, GapCause, Item, StepGap
from proxy.core.observations import CoreState, CoreStep, Kind, LiveEvent, PastState, PastStep, Status
from proxy.hatchet.errors import BadChunk, HatchetAway, MessageTooLarge, RunUnknown
from proxy.runs.follower import Run
from tests.support.fakes import FakeUpstream, HandClock, rest

RUN = "11111111-0000-0000-0000-000000000001"
TRACE = "00-abc-def-01"


def started(step: str = RUN) -> LiveEvent:
    return LiveEvent(RUN, Kind.STARTED, step, at="2026-01-01T00:00:00Z", retry_count=0)


def chunk(index: int, step: str = RUN, text: str | None = None) -> LiveEvent:
    return LiveEvent(
        RUN, Kind.STREAM, step, text or f"c{index}", at=f"2026-01-01T00:00:01.{index:03}Z", index=index
    )


def completed(output: str = '{"ok":true}', step: str = RUN, retry: int = 0) -> LiveEvent:
    return LiveEvent(RUN, Kind.COMPLETED, step, output, at="2026-01-01T00:00:02Z", retry_count=retry)


def failed(step: str = RUN, retry: int = 0) -> LiveEvent:
    return LiveEvent(
        RUN, Kind.FAILED, step, "ValueError: no\nTraceback", at="2026-01-01T00:00:02Z", retry_count=retry
    )


def hangup(kind: Kind = Kind.COMPLETED) -> LiveEvent:
    return LiveEvent(RUN, kind, None, at="2026-01-01T00:00:03Z", hangup=True)


def core(status: Status = Status.RUNNING, step: Status | None = None, **more: str | None) -> CoreState:
    done = status in {Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    steps = (CoreStep("task", RUN, step or status, **more),)
    return CoreState(RUN, status, done, steps, {"traceparent": TRACE})


def past(status: Status = Status.RUNNING, retry: int = 0, retries: int | None = 0) -> PastState:
    return PastState(RUN, status, (PastStep("task", RUN, status, retry, retries),))


@dataclass
class Stage:
    """A run on its Hatchet, and what it has told."""

    upstream: FakeUpstream
    clock: HandClock
    items: list[Item] = field(default_factory=list)
    bridges: Bridges = field(default_factory=Bridges)

    def __post_init__(self) -> None:
        self.run = Run(
            RUN, self.upstream, publish=self.publish, clock=self.clock, bridges=self.bridges, rng=Random(7)
        )

    def publish(self, items: Sequence[Item]) -> None:
        self.items += items

    def told(self) -> list[str]:
        return [item.type if isinstance(item, Event) else type(item).__name__.lower() for item in self.items]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage(FakeUpstream(), HandClock())
    stage.upstream.cores[RUN] = core()
    stage.upstream.pasts[RUN] = past()
    before = asyncio.all_tasks()
    yield stage
    await stage.run.close()
    await rest()
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not [task for task in left if "proxy" in repr(task)], "a run leaves no task behind"
    assert not stage.upstream.open
    assert stage.bridges.open == 0


async def test_a_run_is_told_to_its_verified_end(stage: Stage) -> None:
    stage.run.start()
    await rest()
    line = stage.upstream.by_id()[0]
    line.tell(started(), chunk(0), chunk(1), completed())
    stage.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    line.tell(hangup())
    await stage.clock.turn(0.1)
    assert stage.told() == [
        "step_started",
        "step_stream",
        "step_stream",
        "step_completed",
        "run_completed",
        "end",
    ]
    assert stage.run.over


async def test_a_hangup_proves_nothing(stage: Stage) -> None:
    stage.run.start()
    await rest()
    first = stage.upstream.by_id()[0]
    first.tell(started(), hangup())
    first.end()
    await rest()
    second = stage.upstream.by_id()
    assert len(second) == 1 and second[0] is not first, "subscribed again at once"
    assert not stage.run.over
    second[0].tell(chunk(0), completed())
    stage.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    second[0].tell(hangup())
    await stage.clock.turn(0.3)
    assert stage.told()[-1] == "end"
    assert "stepgap" not in stage.told(), "chunk 0 came: nothing was missed"


async def test_a_young_run_gets_a_second_look_and_keeps_who_speaks_first(stage: Stage) -> None:
    stage.upstream.pasts[RUN] = None
    stage.run.start()
    await stage.clock.turn(0.11)
    first, second = stage.upstream.by_id()[:2]
    second.tell(started())
    await rest()
    assert stage.upstream.by_id() == [second]
    assert first not in stage.upstream.open


async def test_where_both_stay_silent_one_is_kept_after_two_seconds(stage: Stage) -> None:
    stage.upstream.pasts[RUN] = None
    stage.run.start()
    await stage.clock.turn(0.11)
    assert len(stage.upstream.by_id()) == 2
    await stage.clock.turn(2.5)
    assert len(stage.upstream.by_id()) == 1
    assert stage.upstream.most_open <= 3


async def test_an_old_run_gets_no_second_look(stage: Stage) -> None:
    other = PastStep("before", "22222222-0000-0000-0000-000000000002", Status.COMPLETED, 0, 0)
    state = past()
    stage.upstream.pasts[RUN] = PastState(RUN, Status.RUNNING, (other, *state.steps))
    stage.run.start()
    await stage.clock.turn(1.0)
    assert len(stage.upstream.by_id()) == 1


async def test_a_run_joined_in_mid_step_is_bridged_until_its_own_subscription_speaks(stage: Stage) -> None:
    stage.run.start()
    await rest()
    (bridge,) = stage.upstream.by_pair()
    assert bridge.pair == ("traceparent", TRACE)
    bridge.tell(chunk(5), chunk(6))
    await stage.clock.turn(0.3)
    assert [item for item in stage.items if isinstance(item, StepGap)] == [
        StepGap(GapCause.JOINED_LATE, "task", 1, 5)
    ]
    assert stage.told().count("step_stream") == 2
    for line in stage.upstream.by_id():
        line.tell(chunk(5), chunk(6), chunk(7))
    await rest()
    assert not stage.upstream.by_pair()
    assert stage.told().count("step_stream") == 3


async def test_a_bridge_is_closed_after_six_seconds(stage: Stage) -> None:
    stage.run.start()
    await stage.clock.turn(5.9)
    assert len(stage.upstream.by_pair()) == 1
    await stage.clock.turn(0.2)
    assert not stage.upstream.by_pair()
    await stage.clock.turn(30)
    assert not stage.upstream.by_pair()


async def test_no_bridge_is_opened_beyond_the_teams_share(stage: Stage) -> None:
    stage.bridges.most = 0
    stage.run.start()
    await stage.clock.turn(1)
    assert not stage.upstream.by_pair()


async def test_a_chunk_that_is_not_utf8_costs_the_chunk_only(stage: Stage) -> None:
    stage.run.start()
    await rest()
    line = stage.upstream.by_id()[0]
    line.tell(started(), chunk(0))
    line.end(BadChunk("not UTF-8"))
    await stage.clock.turn(0.3)
    line = stage.upstream.by_id()[-1]
    line.tell(chunk(2), chunk(3), completed())
    await stage.clock.turn(0.3)
    assert StepGap(GapCause.UPSTREAM, "task", 1, 1) in stage.items
    assert stage.told()[-1] == "step_completed"


async def test_a_message_that_is_too_large_is_said_to_be(stage: Stage) -> None:
    stage.run.start()
    await rest()
    line = stage.upstream.by_id()[0]
    line.tell(started(), chunk(0))
    line.end(MessageTooLarge("over 4 MiB"))
    stage.upstream.cores[RUN] = core(Status.COMPLETED, output='{"big":1}')
    stage.upstream.pasts[RUN] = past(Status.COMPLETED)
    await stage.clock.turn(1)
    assert StepGap(GapCause.TOO_LARGE, "task", 1, None) in stage.items
    assert stage.told()[-3:] == ["step_completed", "run_completed", "end"]


async def test_the_run_waits_while_hatchet_is_away_and_goes_on_after(stage: Stage) -> None:
    stage.upstream.refuse = HatchetAway("refused")
    stage.upstream.cores[RUN] = HatchetAway("refused")
    known = asyncio.ensure_future(stage.run.known())
    await stage.clock.turn(1)
    with pytest.raises(HatchetAway):
        await known
    assert isinstance(stage.run.trouble, HatchetAway)
    await stage.clock.turn(60)
    calls = len(stage.upstream.calls)
    assert calls < 40, "with growing patience"
    stage.upstream.refuse = None
    stage.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    stage.upstream.pasts[RUN] = past(Status.COMPLETED)
    await stage.clock.turn(20)
    assert stage.told()[-1] == "end"
    assert stage.run.trouble is None


async def test_a_run_that_is_not_known_yet_is_asked_for_again(stage: Stage) -> None:
    del stage.upstream.cores[RUN]
    with pytest.raises(RunUnknown):
        await stage.run.known()
    stage.upstream.cores[RUN] = core()
    state = asyncio.ensure_future(stage.run.known())
    await stage.clock.turn(0.2)
    assert (await state).run_id == RUN


async def test_a_silent_run_is_looked_at_after_a_while(stage: Stage) -> None:
    stage.run.start()
    await rest()
    stage.upstream.by_id()[0].tell(started(), chunk(0))
    await rest()
    stage.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    stage.upstream.pasts[RUN] = past(Status.COMPLETED)
    await stage.clock.turn(16)
    assert stage.told()[-1] == "end"


async def test_a_retry_is_told_once_the_history_has_said_so(stage: Stage) -> None:
    stage.upstream.pasts[RUN] = past(retries=2)
    stage.run.start()
    await rest()
    line = stage.upstream.by_id()[0]
    line.tell(started(), chunk(0), failed())
    stage.upstream.pasts[RUN] = past(Status.RUNNING, retry=1, retries=2)
    await stage.clock.turn(0.3)
    assert stage.told() == ["step_started", "step_stream", "step_retrying", "reset"]
    stage.upstream.by_pair()[0].tell(replace(chunk(0, text="again"), at="2026-01-01T00:00:09Z"))
    await stage.clock.turn(0.1)
    event = stage.items[-1]
    assert isinstance(event, Event) and (event.attempt, event.index, event.payload) == (2, 0, "again")


async def test_joining_after_the_end_gives_results_and_end(stage: Stage) -> None:
    stage.upstream.cores[RUN] = core(Status.COMPLETED, output='{"ok":true}')
    stage.upstream.pasts[RUN] = past(Status.COMPLETED)
    stage.run.start()
    await rest()
    assert stage.told() == ["step_started", "stepgap", "step_completed", "run_completed", "end"]
    assert isinstance(stage.items[-1], End)


async def test_no_subscription_is_given_up_while_an_end_waits_for_what_it_has_to_say(stage: Stage) -> None:
    stage.upstream.pasts[RUN] = past(retry=0, retries=1)
    stage.run.start()
    await rest()
    first = stage.upstream.by_id()[0]
    first.tell(started())
    await stage.clock.turn(0.1)
    first.tell(failed(retry=0))
    stage.upstream.pasts[RUN] = past(retry=1, retries=1)
    await stage.clock.turn(0.2)  # tried again: another is opened, and so is a bridge
    fresh = stage.upstream.by_id()[1]
    fresh.tell(completed(retry=1))
    await rest()
    assert first in stage.upstream.open, "it told the failure: what came next it would know"
    first.tell(completed(retry=1))
    await stage.clock.turn(0.1)
    assert "step_completed" in stage.told()
    assert not any(isinstance(item, StepGap) for item in stage.items)
    assert first not in stage.upstream.open


async def test_a_silent_young_run_is_looked_at_until_a_state_says_that_it_streams(stage: Stage) -> None:
    """Its subscriptions came too late for the first chunk, so the engine holds the others back from them."""
    stage.upstream.cores[RUN] = core(Status.QUEUED)
    stage.upstream.pasts[RUN] = past(Status.QUEUED)
    stage.run.start()
    await stage.clock.turn(0.15)
    assert not stage.upstream.by_pair()
    stage.upstream.pasts[RUN] = past(Status.RUNNING)
    await stage.clock.turn(0.25)
    (bridge,) = stage.upstream.by_pair()
    bridge.tell(chunk(3), chunk(4))
    await stage.clock.turn(0.3)
    assert stage.told().count("step_stream") == 2
