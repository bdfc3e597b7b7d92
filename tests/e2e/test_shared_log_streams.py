"""Two replicas with one log on Redis: merged chunks, streams of several runs, and workers as replicas."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from proxy.replicas.shared_run import SharedRun
from proxy.simulator import Engine
from proxy.simulator.script.model import Child, Chunks, Script, Step, Workflow, script
from proxy.streams.run_session import RunSession
from tests.support.demo_run import LOSSLESS
from tests.support.eventsource import EventSource, Frame
from tests.support.processes import serving
from tests.support.redis_server import redis_server
from tests.support.roaming_client import RoamingClient
from tests.support.served import Served, served
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(90), pytest.mark.asyncio(loop_scope="module")]

WORDS: Final = tuple(f"word{n} ".encode() for n in range(60))
TEXT: Final = b"".join(WORDS).decode()
YAML: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}", tap: {stream: "on"}}
server: {log: "REDIS", drain: {grace: 5s, spread: 0s}}
streams:
  merged:
    rules:
      - {events: step_stream, steps: answer, merge: 30ms, event: token, data: {n: index, text: payload}}
      - {events: step_stream, steps: notes, merge: 50ms, event: note, data: {n: index, text: payload}}
      - {events: step_completed, event: done, data: step}
"""
RUNS: Final = """
  family:
    path: /family/{workflowRunId}
    include: [children]
    rules:
      - {events: ["*", step_stream], data: {type: type, run: run_id, index: index}}
  talk:
    path: /talk/{metadata.chat}
    runs: all
    rules:
      - {events: ["*", step_stream], data: {type: type, run: run_id, index: index}}
"""
SLOWER: Final = YAML.replace("merge: 30ms", "merge: 40ms")


def workflows() -> Script:
    answer = Step("answer", chunks=Chunks(WORDS, 0.008), output={"text": TEXT})
    notes = Step("notes", chunks=Chunks(WORDS[:25], 0.02), output={"text": ""})
    parent = Step("parent", children=(Child("leaf"),), output={"p": 1})
    leaf = Step("leaf", chunks=Chunks(WORDS[:5], 0.01), output={"l": 1})
    return script(Workflow("chat", (answer, notes)), Workflow("parent", (parent,)), Workflow("leaf", (leaf,)))


@dataclass
class Deployment:
    engine: Engine
    replicas: list[Served]
    folder: Path

    @property
    def urls(self) -> list[str]:
        return [one.url for one in self.replicas]

    async def run(self) -> str:
        return await self.engine.trigger("chat", {}, {"stream": "on"})


@asynccontextmanager
async def deployed(folder: Path, *yamls: str) -> AsyncIterator[Deployment]:
    with redis_server(folder) as redis:
        async with Engine(workflows(), quirks=LOSSLESS) as engine, AsyncExitStack() as stack:
            made = []
            for number, yaml in enumerate(yamls):
                file = folder / f"{number}.yaml"
                file.write_text(yaml.replace("REDIS", redis.url))
                made.append(await stack.enter_async_context(served(file, engine.env)))
            await until(lambda: engine.streams == len(made), "every replica has its tap")
            yield Deployment(engine, made, folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("shared"), YAML + RUNS, YAML + RUNS) as one:
        yield one


def role_of(session: RunSession | None) -> str:
    assert session is not None
    assert isinstance(session.run, SharedRun)
    return session.run.role.value


async def read_to_end(url: str, path: str) -> list[Frame]:
    async with EventSource(url + path, patience=0.2) as source:
        return [frame async for frame in source.frames()]


def by_cursor(*streams: list[Frame]) -> dict[str, set[tuple[str, str]]]:
    """What clients were sent under each cursor."""
    found = defaultdict(set)
    for frames in streams:
        for frame in frames:
            found[frame.id].add((frame.event, frame.data))
    return found


def text_of(frames: list[Frame], event: str) -> str:
    return "".join(json.loads(frame.data)["text"] for frame in frames if frame.event == event)


async def test_merged_chunks_are_the_same_frames_on_every_replica(deployment: Deployment) -> None:
    path = f"/streams/merged/{await deployment.run()}"
    roaming = [RoamingClient(path), RoamingClient(path)]
    one, other, *_ = await asyncio.gather(
        read_to_end(deployment.urls[0], path),
        read_to_end(deployment.urls[1], path),
        roaming[0].read(deployment.urls),
        roaming[1].read(deployment.urls[::-1]),
    )
    late = await read_to_end(deployment.urls[1], path)
    streams = [one, other, roaming[0].frames, roaming[1].frames, late]
    assert {cursor: sent for cursor, sent in by_cursor(*streams).items() if len(sent) > 1} == {}
    for frames in streams:
        assert text_of(frames, "token") == TEXT
        assert text_of(frames, "note") == b"".join(WORDS[:25]).decode()
        assert [frame.event for frame in frames if frame.event.startswith("stream.")] == ["stream.end"]
        assert [(frame.id, frame.data) for frame in frames] == [(frame.id, frame.data) for frame in one]
    assert 5 < len([frame for frame in one if frame.event == "token"]) <= len(WORDS) // 2
    assert roaming[0].connections >= len(roaming[0].frames)


async def test_a_follower_with_another_merge_than_the_leader_asks_for_its_flushes(tmp_path: Path) -> None:
    async with deployed(tmp_path, YAML, SLOWER) as two:
        run = await two.run()
        path = f"/streams/merged/{run}"
        leading = asyncio.create_task(read_to_end(two.urls[0], path))
        runs = two.replicas[0].hub.teams["default"].runs
        await until(lambda: runs.get(run) is not None, "the first replica has begun to open the run")
        await until(lambda: role_of(runs.get(run)) == "leading", "the first replica leads the run")
        following = await read_to_end(two.urls[1], path)
        assert text_of(await leading, "token") == text_of(following, "token") == TEXT


def contents_of(frames: list[Frame]) -> list[str]:
    """What the frames of a stream of several runs say, whatever the order between the runs is."""
    return sorted(frame.data for frame in frames if not frame.event.startswith("stream."))


async def first_frames(url: str, count: int, cursor: str = "") -> list[Frame]:
    """So many frames that are no control frames, and the control frames between them."""
    found: list[Frame] = []
    async with EventSource(url, last_event_id=cursor) as source:
        async for frame in source.frames():
            found.append(frame)
            if len(contents_of(found)) == count:
                return found
    return found


async def test_a_stream_of_a_run_and_its_children_begins_anew_on_another_replica_and_says_so(
    deployment: Deployment,
) -> None:
    path = f"/family/{await deployment.engine.trigger('parent', {}, {'stream': 'on'})}"
    whole = await read_to_end(deployment.urls[0], path)
    part = await first_frames(deployment.urls[0] + path, 3)
    async with EventSource(deployment.urls[1] + path, last_event_id=part[-1].id) as source:
        again = [frame async for frame in source.frames()]
    assert [json.loads(frame.data)["cause"] for frame in again if frame.event == "stream.gap"] == [
        "unknown_cursor"
    ]
    assert contents_of(again) == contents_of(whole)
    assert whole[-1].event == again[-1].event == "stream.end"
    roaming = RoamingClient(path)
    roaming.cursor = whole[-1].id
    await roaming.read(deployment.urls[::-1])
    assert roaming.frames == [], "the end is known to every replica"


async def test_a_conversation_begins_anew_on_another_replica_and_says_so(deployment: Deployment) -> None:
    for _ in range(2):
        run = await deployment.engine.trigger("leaf", {}, {"stream": "on", "chat": "c1"})
        await read_to_end(deployment.urls[0], f"/family/{run}")
    events = 2 * (5 + 3)
    whole = await first_frames(deployment.urls[0] + "/talk/c1", events)
    again = await first_frames(deployment.urls[1] + "/talk/c1", events, whole[3].id)
    assert [json.loads(frame.data)["cause"] for frame in again if frame.event == "stream.gap"] == [
        "unknown_cursor"
    ]
    assert contents_of(again) == contents_of(whole)


async def test_workers_are_replicas_too(deployment: Deployment) -> None:
    file = deployment.folder / "0.yaml"
    async with serving(file, deployment.engine.env, 0, "--workers", "2") as (proxy, url):
        await until(lambda: deployment.engine.streams == 4, "each worker has its tap")
        for _ in range(2):  # most likely runs of both workers
            path = f"/streams/merged/{await deployment.run()}"
            roaming = RoamingClient(path)
            connected, _ = await asyncio.gather(read_to_end(url, path), roaming.read([url, *deployment.urls]))
            late = await read_to_end(deployment.urls[1], path)
            assert [(frame.id, frame.data) for frame in roaming.frames] == [
                (frame.id, frame.data) for frame in connected
            ]
            assert [(frame.id, frame.data) for frame in late] == [
                (frame.id, frame.data) for frame in connected
            ]
        assert await proxy.stop() == 0
    assert "shared log" not in proxy.output, "an end is no outage"
    await until(lambda: deployment.engine.streams == 2, "the taps of the workers are closed")
