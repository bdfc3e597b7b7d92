"""Replicas with one log and different rules, as in a rollout: the log has the events before any rule."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from proxy.simulator import Engine
from tests.chaos.replicas import Replica
from tests.chaos.world import workflows
from tests.e2e.test_shared_log import TAP, YAML, Deployment, read_to_end
from tests.support.demo_run import LOSSLESS
from tests.support.eventsource import EventSource, Frame
from tests.support.redis_server import redis_server
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(90)  # two processes start

NEWER: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"%s}
server: {drain: {grace: 8s, spread: 0s}, log: "%s"}
streams:
  all:
    path: /run/{workflowRunId}
    rules:
      - {events: step_stream, event: token, data: {number: index}}
  added:
    path: /added/{workflowRunId}
    rules:
      - {events: step_stream, data: {index: index}}
"""
CHUNKS: Final = 40  # of the workflow `task`


@asynccontextmanager
async def rollout(folder: Path) -> AsyncIterator[Deployment]:
    """A replica with the old rules, and one with the new ones."""
    with redis_server(folder) as redis:
        old, new = folder / "old.yaml", folder / "new.yaml"
        old.write_text(YAML % (TAP, redis.url, ""))
        new.write_text(NEWER % (TAP, redis.url))
        async with Engine(workflows(), quirks=LOSSLESS) as engine:
            replicas = [Replica(one, dict(engine.env)) for one in (old, new)]
            await asyncio.gather(*(one.start() for one in replicas))
            deployment = Deployment(engine, redis, replicas)
            try:
                await until(deployment.taps_are_open, "every replica has its tap")
                yield deployment
            finally:
                for one in replicas:
                    await one.stop(kill=False)


def numbers(frames: list[Frame], event: str, key: str) -> list[int]:
    return [json.loads(frame.data)[key] for frame in frames if frame.event == event and key in frame.data]


async def test_each_replica_applies_its_own_rules_to_the_events_of_one_log(tmp_path: Path) -> None:
    async with rollout(tmp_path) as two:
        run = await two.engine.trigger("task", {}, {"stream": "on"})
        old, new = await asyncio.gather(*(read_to_end(url, f"/run/{run}") for url in two.urls))
        chunks = [frame for frame in old if '"step_stream"' in frame.data]
        assert numbers(chunks, "message", "index") == [*range(CHUNKS)]
        assert numbers(new, "token", "number") == [*range(CHUNKS)]
        added = await read_to_end(two.urls[1], f"/added/{run}")
        assert numbers(added, "message", "index") == [*range(CHUNKS)], "a stream that is opened later"

        cursor = chunks[CHUNKS // 2].id
        async with EventSource(f"{two.urls[1]}/run/{run}", last_event_id=cursor) as source:
            frames = [frame async for frame in source.frames()]
        assert json.loads(frames[0].data)["cause"] == "unknown_cursor", "a cursor of other rules"
        assert numbers(frames, "token", "number") == [*range(CHUNKS)]
