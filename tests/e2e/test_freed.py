"""Closed streams and runs are freed by reference counts, without Python's garbage collector.

The collector is off in these tests. The tests count the objects that it would have to find.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from httpx_sse import aconnect_sse

from proxy.runs.follower import RunFollower
from proxy.server.http.fast_path import FastPath
from proxy.server.http.request_limits import LimitedProtocol
from proxy.simulator import Engine
from proxy.simulator.script.default import chat
from proxy.simulator.script.model import Step, Workflow, script
from proxy.streams.channel import Channel
from proxy.streams.dispatcher import Dispatcher
from proxy.streams.run_session import RunSession
from proxy.streams.session import Session
from proxy.streams.subscriber import Subscriber
from tests.e2e.test_front import NOBODY
from tests.support.served import Served, served
from tests.support.waiting import until

YAML = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}
server: {linger: 10ms, drain: {grace: 3s, spread: 1s}}
streams:
  all:
    path: /all/{workflowRunId}
    wait_for_run: 0s
    backlog: {keep_after_end: 10ms}
    rules: [{events: ["*", step_stream], data: {type: type, payload: payload}}]
"""
ENDLESS = Workflow("endless", (Step("wait", takes=100_000.0),))
OURS = (RunSession, RunFollower, Channel, Dispatcher, Session, Subscriber, FastPath, LimitedProtocol)


def held() -> dict[str, int]:
    """How many of each are in memory, reachable or not."""
    found = [type(one) for one in gc.get_objects()]
    return {kind.__name__: found.count(kind) for kind in OURS}


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(script(chat(), ENDLESS), speed=20.0, seed=7) as one:
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    path = tmp_path / "streams.yaml"
    path.write_text(YAML)
    async with served(path, engine.env) as one:
        yield one


@pytest.fixture
def counted(proxy: Served) -> Iterator[dict[str, int]]:
    """The counts before the test, with the garbage collector off."""
    gc.collect()
    gc.disable()
    try:
        yield held()
    finally:
        gc.enable()


async def read(proxy: Served, run: str, *, to_the_end: bool) -> None:
    async with (
        httpx.AsyncClient(timeout=20) as client,
        aconnect_sse(client, "GET", f"{proxy.url}/all/{run}") as source,
    ):
        async for event in source.aiter_sse():
            if event.event == "stream.end" or not to_the_end:
                break


async def test_a_client_that_left_and_its_run_are_freed(
    engine: Engine, proxy: Served, counted: dict[str, int]
) -> None:
    for _ in range(3):
        await read(proxy, await engine.trigger("endless"), to_the_end=False)
    await until(lambda: proxy.hub.teams["default"].runs.idle)
    await until(lambda: held() == counted)


async def test_a_run_that_has_ended_is_freed(engine: Engine, proxy: Served, counted: dict[str, int]) -> None:
    for _ in range(3):
        await read(proxy, await engine.trigger("chat", {"message": "hi"}), to_the_end=True)
    await until(lambda: proxy.hub.teams["default"].runs.idle)
    await until(lambda: held() == counted)


async def test_a_run_that_does_not_exist_is_freed(proxy: Served, counted: dict[str, int]) -> None:
    async with httpx.AsyncClient() as client:
        for _ in range(3):
            assert (await client.get(f"{proxy.url}/all/{NOBODY}")).status_code == 404
    await until(lambda: held() == counted)


async def test_a_run_that_could_not_be_looked_up_is_freed(
    engine: Engine, proxy: Served, counted: dict[str, int]
) -> None:
    run = await engine.trigger("endless")
    await engine.stop()
    async with httpx.AsyncClient(timeout=20) as client:
        for _ in range(3):
            assert (await client.get(f"{proxy.url}/all/{run}")).status_code in {200, 503}
    await until(lambda: proxy.hub.teams["default"].runs.idle)
    await until(lambda: held() == counted)
