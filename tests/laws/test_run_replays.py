"""A DAG that is replayed, joined at many moments: clients receive the replay alone, to its own end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from config.model.files import HatchetConfig
from proxy.core.events import STEP_COMPLETED, End, Event, Item
from proxy.hatchet.client import HatchetClient
from proxy.hatchet.endpoint import endpoint
from proxy.runs.follower import RunFollower
from proxy.simulator import Engine
from proxy.simulator.recordings.client import Client
from proxy.simulator.script.model import Step, Workflow, script
from tests.support.reconciler_world import legal
from tests.support.waiting import until

STEPS = ("one", "two", "three", "four")
JOINS = 20  # at as many moments of the replay
TURN = 0.06  # seconds between two of its steps, in which the core state says done


@dataclass
class Publisher:
    items: list[Item] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, items: Sequence[Item]) -> None:
        self.items += items
        if isinstance(items[-1], End):
            self.ended.set()

    def completed(self) -> list[tuple[str | None, int | None]]:
        return [(i.step, i.attempt) for i in self.items if isinstance(i, Event) and i.type == STEP_COMPLETED]


def chain(takes: float) -> Workflow:
    steps = [
        Step(name, STEPS[max(n - 1, 0) : n], takes=takes, output={name: n}) for n, name in enumerate(STEPS)
    ]
    return Workflow("chain", tuple(steps))


@pytest.mark.parametrize("takes", [0.25, 0.1, 0.02])
@pytest.mark.parametrize("api", ["auto", "off"])
async def test_a_client_that_joins_a_replay_receives_it_to_its_own_end(api: str, takes: float) -> None:
    async with Engine(script(chain(takes)), seed=3) as engine:
        config = HatchetConfig.model_validate({"token": engine.env["HATCHET_CLIENT_TOKEN"], "api": api})
        upstream = HatchetClient(config, engine.env)
        async with Client(endpoint(config, engine.env)) as client:
            lasts = len(STEPS) * (takes + TURN)
            moments = [n * lasts / JOINS for n in range(JOINS)]
            await asyncio.gather(*(joined(engine, upstream, client, delay, api) for delay in moments))
        await upstream.close()


async def joined(engine: Engine, upstream: HatchetClient, client: Client, delay: float, api: str) -> None:
    run_id = await client.trigger("chain", {}, {})
    await done(engine, run_id)
    await engine.replay(run_id)
    await asyncio.sleep(delay)  # the moment of the join is the case
    published = Publisher()
    run = RunFollower(run_id, upstream, publish=published.publish)
    run.start()
    await published.ended.wait()
    await run.close()
    assert engine.run(run_id).settled, f"joined {delay} s after the replay: an end before the end"
    legal(published.items)
    if api == "auto":  # without a history no source shows the attempt of a step whose events were missed
        assert sorted(published.completed()) == sorted((name, 2) for name in STEPS)


async def done(engine: Engine, run_id: str) -> None:
    run = engine.run(run_id)
    await until(lambda: run.done and run.history_status == "COMPLETED")
