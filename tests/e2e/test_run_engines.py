"""Runs followed on an engine: embedded always, a real one where HATCHET_CLIENT_TOKEN is set.

Every workflow of the contract, joined at many moments, side by side: each result must be legal, end, and
have the lifecycle events that the run's final states show. Further tests measure the first second and the
mid-step join.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from config.model.files import HatchetConfig
from proxy.core.events import STEP_STREAM, End, Event, GapCause, Item, Reset, StepGap
from proxy.core.observations import Status
from proxy.hatchet.client import HatchetClient
from proxy.hatchet.endpoint import endpoint
from proxy.runs.follower import RunFollower
from proxy.runs.observer import Observer
from proxy.runs.reconcile.rebuild import rebuild
from proxy.runs.reconcile.timing import LAG_IDLE, SETTLE
from proxy.runs.tap.tap import Tap
from proxy.simulator import Engine
from proxy.simulator.recordings.client import Client
from tests.support.real_engine import RealWorker, contract_worker, run_worker
from tests.support.reconciler_world import identities, legal
from tests.support.waiting import stalls, until

TESTS = Path(__file__).parent.parent
SCRIPT = TESTS / "support" / "contract.yaml"
JOINS = (0.0, 0.05, 0.12, 0.4, 0.9, 1.7)  # seconds after the trigger
WORKFLOWS = (
    "contract_dag",
    "contract_dag_retry",
    "contract_last_retry",
    "contract_dag_fails",
    "contract_task",
    "contract_retry",
    "contract_fails",
    "contract_times_out",
    "contract_cancels_itself",
    "contract_nothing",
    "contract_parent",
    "contract_large",
    "contract_bytes",
)

pytestmark = pytest.mark.timeout(120)


@dataclass
class Published:
    """The items of a run, and when each was published."""

    run: RunFollower | None = None
    items: list[tuple[float, Item]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, items: Sequence[Item]) -> None:
        now = time.monotonic()
        self.items += [(now, item) for item in items]
        if isinstance(items[-1], End):
            self.ended.set()

    def plain(self) -> list[Item]:
        return [item for _, item in self.items]

    def chunks(self) -> list[tuple[float, Event]]:
        return [(t, i) for t, i in self.items if isinstance(i, Event) and i.type == STEP_STREAM]


@dataclass
class Setup:
    """An engine: our Hatchet client, and a client that triggers."""

    hatchet: HatchetClient
    client: Client
    env: Mapping[str, str]
    runs: list[RunFollower] = field(default_factory=list)

    async def trigger(self, workflow: str, metadata: dict[str, str] | None = None) -> str:
        return await self.client.trigger(workflow, {}, metadata or {})

    def follow(self, run_id: str, **more: Any) -> Published:
        published = Published()
        published.run = RunFollower(run_id, self.hatchet, publish=published.publish, **more)
        self.runs.append(published.run)
        published.run.start()
        return published


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWorker]:
    """A worker on the real engine."""
    with run_worker(contract_worker(SCRIPT), tmp_path_factory.mktemp("worker") / "log") as worker:
        yield worker


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real)])
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[Setup]:
    real = request.param == "real"
    if real and "HATCHET_CLIENT_TOKEN" not in os.environ:
        pytest.skip("HATCHET_CLIENT_TOKEN is not set")
    engine = None
    worker: RealWorker | None = None
    if real:
        worker = request.getfixturevalue("worker")
        env = {name: value for name, value in os.environ.items() if name.startswith("HATCHET_CLIENT_")}
    else:
        engine = Engine(SCRIPT, seed=5, quirks={"late_backoff": False})
        await engine.start()
        env = engine.env
    config = HatchetConfig.model_validate({"token": env["HATCHET_CLIENT_TOKEN"]})
    hatchet = HatchetClient(config, env)
    async with Client(endpoint(config, env)) as client:
        if worker is not None:
            await worker.takes_runs(client, "contract_task")
        made = Setup(hatchet, client, env)
        yield made
        for run in made.runs:
            await run.close()
    await hatchet.close()
    if engine is not None:
        await engine.stop()


async def test_every_workflow_joined_at_many_moments(setup: Setup) -> None:
    few = asyncio.Semaphore(13)  # a real engine's history lags by seconds where it is given more at once

    async def one(workflow: str, join: float) -> str | None:
        async with few:
            return await judged(workflow, join)

    async def judged(workflow: str, join: float) -> str | None:
        run_id = await setup.trigger(workflow)
        await asyncio.sleep(join)  # the moment of the join is the case
        published = setup.follow(run_id)
        await asyncio.wait_for(published.ended.wait(), 60)

        async def in_the_history() -> bool:
            past = await setup.hatchet.past(run_id)
            return past is not None and past.status not in (Status.QUEUED, Status.RUNNING)

        await until(in_the_history, every=0.1)
        items = published.plain()
        expected = identities(rebuild(await setup.hatchet.core(run_id), await setup.hatchet.past(run_id)))
        try:
            legal(items)
            assert identities(items) == expected
        except AssertionError as wrong:
            return f"{workflow} joined at {join}: {str(wrong)[:600]}"
        return None

    verdicts = await asyncio.gather(*(one(workflow, join) for workflow in WORKFLOWS for join in JOINS))
    assert not [verdict for verdict in verdicts if verdict]


# Moments at which the tests below join, in seconds after the trigger
MID_STEP: Final = 2.0  # contract_slow has sent some 20 of its 80 chunks
BEFORE_THE_FIRST_CHUNK: Final = 0.05
FIRST_ATTEMPT: Final = 0.15  # contract_retry is in its first attempt
BEFORE_THE_LAST_STEP_ENDS: Final = 1.3  # contract_dag's third step has sent some of its chunks

HOLD: Final = 5.0  # seconds for which the engine holds chunks of a subscription that began in mid-step


def late(at: float, event: Event, joined: float) -> float:
    """Seconds from a chunk's sending (or our joining) to its publishing; one machine, one clock."""
    assert event.at is not None
    sent = datetime.fromisoformat(event.at[:26].rstrip("Z") + "+00:00").timestamp()
    return at - max(sent - time.time() + time.monotonic(), joined)


async def test_joined_in_mid_step_the_next_chunk_arrives_before_the_engine_releases_it(
    setup: Setup,
) -> None:
    async with stalls() as machine:
        run_id = await setup.trigger("contract_slow")
        await asyncio.sleep(MID_STEP)
        joined = time.monotonic()
        published = setup.follow(run_id)
        await asyncio.wait_for(published.ended.wait(), 60)
    items = published.plain()
    legal(items)
    latest = max(late(t, event, joined) for t, event in published.chunks())
    assert latest < HOLD / 2
    gaps = [item for item in items if isinstance(item, StepGap)]
    # else a chunk may have come too late to be proven, or the hangup before it, which is a gap too many
    if machine.longest < SETTLE and latest < LAG_IDLE:
        assert [gap.cause for gap in gaps] == [GapCause.JOINED_LATE]
    assert gaps[0].cause == GapCause.JOINED_LATE
    assert gaps[0].missed == published.chunks()[0][1].index
    indices = [event.index or 0 for _, event in published.chunks()]
    assert indices == list(range(indices[0], 80)), "after that nothing is missing"


async def test_joined_right_after_the_trigger_tokens_arrive_as_they_are_sent(setup: Setup) -> None:
    run_id = await setup.trigger("contract_slow")
    await asyncio.sleep(BEFORE_THE_FIRST_CHUNK)
    joined = time.monotonic()
    published = setup.follow(run_id)
    await asyncio.wait_for(published.ended.wait(), 60)
    legal(published.plain())
    assert len(published.chunks()) > 70
    assert max(late(t, event, joined) for t, event in published.chunks()) < HOLD / 2


async def test_across_a_retry_no_chunk_is_held_back(setup: Setup) -> None:
    run_id = await setup.trigger("contract_retry")
    await asyncio.sleep(FIRST_ATTEMPT)
    published = setup.follow(run_id)
    await asyncio.wait_for(published.ended.wait(), 60)
    items = published.plain()
    legal(items)
    assert [item.attempt for item in items if isinstance(item, Reset)] == [2]
    second = [event.payload for _, event in published.chunks() if event.attempt == 2]
    gaps = [item for item in items if isinstance(item, StepGap) and item.attempt == 2]
    assert second == ["c0", "c1", "c2"] or gaps
    times = [t for t, event in published.chunks() if event.attempt == 2]
    assert not times or times[0] < times[-1], "not all at once at the end"


async def kept_open(setup: Setup, metadata: dict[str, str]) -> None:
    """A run that fails: the engine does not hang up a subscription by metadata after that."""
    failed = setup.follow(await setup.trigger("contract_fails", metadata))
    await asyncio.wait_for(failed.ended.wait(), 60)


async def test_a_tap_gets_everything_from_the_first_token_without_clients(
    setup: Setup,
) -> None:
    pair = ("stream", "heart")
    tap = Tap(*pair, setup.hatchet)
    tap.start()
    await until(lambda: tap.live, "the tap's subscription is open")
    await kept_open(setup, dict([pair]))
    run_ids = [await setup.trigger("contract_dag", {"stream": "heart"}) for _ in range(5)]
    await asyncio.sleep(BEFORE_THE_LAST_STEP_ENDS)
    results = []
    for run_id in run_ids:
        published = Published()
        published.run = RunFollower(run_id, setup.hatchet, publish=published.publish, pair=pair)
        setup.runs.append(published.run)
        tap.attach(published.run)
        published.run.start()
        results.append(published)
    for published in results:
        await asyncio.wait_for(published.ended.wait(), 60)
        items = published.plain()
        legal(items)
        assert [event.payload for _, event in published.chunks()] == ["the", "quick", "brown", "fox"]
        assert not [item for item in items if isinstance(item, StepGap) and item.step == "three"]
    await tap.close()


async def test_a_tap_that_was_hung_up_is_kept_open_from_then_on(setup: Setup) -> None:
    metadata = {"stream": str(uuid.uuid4())}
    (pair,) = metadata.items()
    ends = Ends()
    tap = Tap(*pair, setup.hatchet, observer=ends)
    tap.start()
    await until(lambda: tap.live, "the tap's subscription is open")
    first = setup.follow(await setup.trigger("contract_task", metadata))
    await asyncio.wait_for(first.ended.wait(), 60)
    await until(lambda: ends.of_taps > 0, "the engine has hung up")
    await until(lambda: tap.is_kept_open, "the tap is kept open")
    before = ends.of_taps
    for _ in range(3):
        run_id = await setup.trigger("contract_dag", metadata)
        published = Published()
        published.run = RunFollower(run_id, setup.hatchet, publish=published.publish, pair=pair)
        setup.runs.append(published.run)
        tap.attach(published.run)
        published.run.start()
        await asyncio.wait_for(published.ended.wait(), 60)
        items = published.plain()
        legal(items)
        assert [event.payload for _, event in published.chunks()] == ["the", "quick", "brown", "fox"]
        assert not [item for item in items if isinstance(item, StepGap) and item.step == "three"]
    assert ends.of_taps == before
    await tap.close()


class Ends(Observer):
    """Counts how often a tap's subscription has ended."""

    def __init__(self) -> None:
        self.of_taps = 0

    def subscribed(self, kind: str, change: int) -> None:
        self.of_taps += kind == "tap" and change < 0
