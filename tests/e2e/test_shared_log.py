"""Three replicas with one log on Redis: a client may change the replica at every frame."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from proxy.simulator import Engine
from tests.chaos.replicas import Replica
from tests.chaos.world import truth, workflows
from tests.support.eventsource import EventSource, Frame
from tests.support.processes import running
from tests.support.redis_cluster import redis_cluster, wait_for
from tests.support.redis_server import RedisServer, redis_sentinel, redis_server
from tests.support.reference import RunPicture, Truth, judge
from tests.support.roaming_client import RoamingClient
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(150)  # several processes start in each test

TAP: Final = ", tap: {stream: 'on'}"
YAML: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"%s}
server: {drain: {grace: 8s, spread: 0s}, log: "%s"%s}
streams:
  all:
    path: /run/{workflowRunId}
    retry: 1s
    rules:
      - events: ["*", step_stream]
        data: {type: type, step: step, attempt: attempt, index: index, payload: payload, recovered: recovered}
"""


@dataclass
class Deployment:
    """An engine, a Redis, and replicas that share its log."""

    engine: Engine
    redis: RedisServer
    replicas: list[Replica]

    @property
    def urls(self) -> list[str]:
        return [one.url for one in self.replicas]

    async def taps_are_open(self) -> bool:
        """Whether every replica has its tap: what is sent before it is open is lost to it."""
        async with httpx.AsyncClient() as client:
            texts = [(await client.get(f"{url}/metrics")).text for url in self.urls]
        return all('upstream_subscriptions{kind="tap",team="default"} 1' in text for text in texts)


@asynccontextmanager
async def deployment(
    folder: Path, *, replicas: int = 3, more: str = "", tap: str = TAP, url: str | None = None
) -> AsyncIterator[Deployment]:
    """`url`: of another Redis than the one of the deployment."""
    with redis_server(folder) as redis:
        config = folder / "streams.yaml"
        config.write_text(YAML % (tap, url or redis.url, more))
        async with Engine(workflows()) as engine, AsyncExitStack() as stack:
            made = [Replica(config, dict(engine.env)) for _ in range(replicas)]
            await asyncio.gather(*(one.start() for one in made))
            for one in made:
                stack.push_async_callback(one.stop, kill=False)
            there = Deployment(engine, redis, made)
            if tap:
                await until(there.taps_are_open, "every replica has its tap")
            yield there
        assert [what for one in made for what in one.complaints] == []


async def read_to_end(url: str, path: str) -> list[Frame]:
    """The frames of a client that stays, with all reconnects on the way."""
    async with EventSource(url + path, patience=0.2) as source:
        return [frame async for frame in source.frames()]


async def over(deployment: Deployment) -> str:
    """The path of a run that is over, whose log one replica alone has written."""
    run = await deployment.engine.trigger("quick", {}, {"stream": "on"})
    await read_to_end(deployment.urls[0], f"/run/{run}")
    return f"/run/{run}"


def missing(picture: RunPicture, true: Truth) -> dict[str, list[int]]:
    """The chunks that a client was not sent, by step.

    A gap without a number may come although nothing is missing: a busy machine proves the tail too late.
    """
    return {
        name: lost
        for name, step in true.steps.items()
        if (lost := [n for n in range(len(step.chunks)) if n not in picture.steps[name].chunks])
    }


def by_cursor(*streams: list[Frame]) -> dict[str, set[tuple[str, str]]]:
    """What clients were sent under each cursor."""
    found = defaultdict(set)
    for frames in streams:
        for frame in frames:
            if frame.id and frame.event not in ("stream.gap", "stream.drain"):
                found[frame.id].add((frame.event, frame.data))
    return found


async def read_by_three(
    deployment: Deployment, kind: str, meanwhile: Callable[[], Any] | None = None
) -> list[dict[str, list[int]]]:
    """What three clients of one run miss; each cursor has led them to the same frame."""
    run = await deployment.engine.trigger(kind, {}, {"stream": "on"})
    path = f"/run/{run}"
    roaming = [RoamingClient(path), RoamingClient(path)]
    tasks = [
        asyncio.create_task(roaming[0].read(deployment.urls)),
        asyncio.create_task(roaming[1].read(deployment.urls[::-1])),
    ]
    connected = asyncio.create_task(read_to_end(deployment.urls[0], path))
    if meanwhile is not None:
        await until(lambda: len(roaming[0].frames) > 8, "the run goes on")
        await asyncio.to_thread(meanwhile)
    await asyncio.gather(*tasks)
    streams = [roaming[0].frames, roaming[1].frames, await connected]
    assert {cursor: sent for cursor, sent in by_cursor(*streams).items() if len(sent) > 1} == {}
    assert roaming[0].connections > len(roaming[0].frames) / 2, "it has hardly changed the replica"
    lost = []
    for frames in streams:
        picture = RunPicture()
        for frame in frames:
            picture.frame(frame)
        true = truth(deployment.engine, run, defaultdict(list))
        assert judge(picture, true) == []
        lost.append(missing(picture, true))
    return lost


async def test_any_replica_serves_any_cursor(tmp_path: Path) -> None:
    async with deployment(tmp_path) as three:
        readings = [read_by_three(three, kind) for kind in ("dag", "task", "broken")]
        assert await asyncio.gather(*readings) == [[{}, {}, {}]] * 3
        flushed = await read_by_three(three, "task", lambda: three.redis.call("FLUSHALL"))
        assert flushed == [{}, {}, {}], "the leader writes the log again"
        late = await read_to_end(three.urls[1], await over(three))
        assert [frame.event for frame in late][-1] == "stream.end"


async def test_a_rollout_loses_nothing_and_announces_no_gap(tmp_path: Path) -> None:
    async with deployment(tmp_path, replicas=2) as two:
        run = await two.engine.trigger("task", {}, {"stream": "on"})
        reading = asyncio.create_task(read_to_end(two.urls[0], f"/run/{run}"))
        other = RoamingClient(f"/run/{run}")
        reading_elsewhere = asyncio.create_task(other.read(two.urls))
        await until(lambda: len(other.frames) > 5, "the run goes on")
        await two.replicas[0].stop(kill=False)
        await two.replicas[0].start()
        frames = await reading
        await reading_elsewhere
        for seen in (frames, other.frames):
            picture = RunPicture()
            for frame in seen:
                picture.frame(frame)
            true = truth(two.engine, run, defaultdict(list))
            assert judge(picture, true) == []
            assert missing(picture, true) == {}


async def test_without_redis_a_replica_goes_on_from_memory_and_says_so(tmp_path: Path) -> None:
    async with deployment(tmp_path, replicas=1) as one:
        run = await one.engine.trigger("task", {}, {"stream": "on"})
        reading = asyncio.create_task(read_to_end(one.urls[0], f"/run/{run}"))
        steps = one.engine.run(run).steps.values()
        await until(lambda: any(step.next_index > 3 for step in steps), "the run is in mid-stream")
        one.redis.kill()

        async def ready() -> dict[str, object]:
            async with httpx.AsyncClient() as client:
                answer: dict[str, object] = (await client.get(f"{one.urls[0]}/readyz")).json()
                return answer

        async def is_away() -> bool:
            return (await ready())["status"] == "degraded"

        await until(is_away, "readyz says that the log is away")
        frames = await reading
        picture = RunPicture()
        for frame in frames:
            picture.frame(frame)
        true = truth(one.engine, run, defaultdict(list))
        assert judge(picture, true) == []
        assert missing(picture, true) == {}
        one.redis.start()

        async def is_back() -> bool:
            return (await ready())["status"] == "ready"

        await until(is_back, "readyz says that the log is back")


@contextmanager
def sentinel(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The URL of a Redis with a replica and a Sentinel, and what kills its master."""
    with (
        redis_server(folder, repl_diskless_sync_delay="0") as master,
        redis_server(folder, replicaof=f"127.0.0.1 {master.port}") as replica,
        redis_sentinel(folder, "main", master) as watching,
    ):
        wait_for(lambda: replica.call("ROLE")[3] == "connected")
        wait_for(lambda: watching.call("SENTINEL", "REPLICAS", "main"))
        yield f"redis+sentinel://127.0.0.1:{watching.port}/main", master.kill


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The URL of a Redis Cluster, and what kills one of its masters, which has a replica."""
    with redis_cluster(folder, replicas=1) as servers:
        yield servers.url, servers.masters[0].kill


@pytest.mark.parametrize("several", [sentinel, cluster])
async def test_while_a_master_is_replaced_clients_that_stay_miss_nothing(
    tmp_path: Path, several: Callable[[Path], AbstractContextManager[tuple[str, Callable[[], None]]]]
) -> None:
    with several(tmp_path) as (url, kill):
        async with deployment(tmp_path, replicas=2, url=url) as two:
            *_, connected = await read_by_three(two, "task", kill)
            assert connected == {}

            async def are_ready() -> bool:
                async with httpx.AsyncClient() as client:
                    answers = [(await client.get(f"{url}/readyz")).json() for url in two.urls]
                return [answer["status"] for answer in answers] == ["ready", "ready"]

            await until(are_ready, "both replicas use the master that took its place")


REFUSALS: Final[dict[str, tuple[dict[str, str], str, tuple[str, ...], str]]] = {
    "a wrong password": ({"requirepass": "right"}, "redis://:wrong@127.0.0.1:%d/0", (), "or the password"),
    "a policy that loses logs": (
        {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"},
        "redis://127.0.0.1:%d/0",
        (),
        "maxmemory-policy allkeys-lru",
    ),
    "keys of another application": (
        {}, "redis://127.0.0.1:%d/0", ("SET", "hsp:about", "cache"), "another application",
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSALS)
async def test_serve_refuses_a_redis_that_must_not_be_used(tmp_path: Path, why: str) -> None:
    settings, url, before, refusal = REFUSALS[why]
    server = RedisServer(tmp_path, settings)
    server.start()
    try:
        if before:
            server.call(*before)
        config = tmp_path / "streams.yaml"
        config.write_text(YAML % ("", url % server.port, ""))
        env = {"HATCHET_CLIENT_TOKEN": "ey.ey.x"}
        async with Engine(workflows()) as engine:
            env = dict(engine.env)
        async with running("serve", "--config", config, "--port", "0", env=env) as one:
            assert await one.ended() == 1
        assert refusal in one.output
        assert "wrong" not in one.output.replace("server.log", "")
        assert len(one.output.strip().splitlines()) == 1, one.output
    finally:
        server.kill()
