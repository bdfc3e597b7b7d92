"""Streams of a team or a definition that is removed: they end, and the client gets 404."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from proxy.simulator import Engine
from proxy.simulator.script.model import Step, Workflow, script
from tests.support.served import Served, served
from tests.support.waiting import until

PROXY = """
version: 1
server: {linger: 5s, drain: {grace: 3s, spread: 1s}}
teams:
  a: {hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}}
  b: {hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}}
"""
WITHOUT_B = PROXY.replace('  b: {hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}}\n', "")
TEAM = """
version: 1
streams:
  live:
    path: /live/{workflowRunId}
    rules: [{events: "*", data: {type: type}}]
"""
TWO_STREAMS = TEAM + TEAM.replace("\nversion: 1\nstreams:\n", "").replace("live", "other")
ENDLESS = Workflow("endless", (Step("wait", takes=100_000.0),))


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(script(ENDLESS), seed=7) as one:
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    (tmp_path / "teams").mkdir()
    (tmp_path / "proxy.yaml").write_text(PROXY)
    (tmp_path / "teams" / "a.yaml").write_text(TEAM)
    (tmp_path / "teams" / "b.yaml").write_text(TWO_STREAMS)
    async with served(tmp_path, engine.env) as one:
        yield one


async def clients(client: httpx.AsyncClient, team: str) -> set[str]:
    """The values of a team's gauges of open streams."""
    text = (await client.get("/metrics")).text
    return set(re.findall(rf'^stream_proxy_clients{{[^}}]*team="{team}"[^}}]*}} (\S+)$', text, re.M))


def endings(proxy: Served) -> list[tuple[str, str, str]]:
    lines = [line for line in proxy.log if line["event"] == "stream over"]
    return [(line["team"], line["stream"], line["ending"]) for line in lines]


async def test_the_open_streams_of_a_removed_team_end_and_the_client_meets_404(
    engine: Engine, proxy: Served, tmp_path: Path
) -> None:
    run = await engine.trigger("endless")
    async with (
        httpx.AsyncClient(base_url=proxy.url, timeout=20) as client,
        client.stream("GET", f"/a/live/{run}") as kept,
        client.stream("GET", f"/b/live/{run}") as removed,
        client.stream("GET", f"/b/live/{run}") as removed_too,
    ):
        await until(lambda: len(proxy.hub.sessions) == 3)
        (tmp_path / "proxy.yaml").write_text(WITHOUT_B)
        (tmp_path / "teams" / "b.yaml").unlink()
        await proxy.reloader.reload()
        for stream in (removed, removed_too):
            async for _ in stream.aiter_raw():
                pass  # until the end of the stream, which a removed stream must have
        assert endings(proxy) == [("b", "live", "dropped")] * 2
        assert len(proxy.hub.sessions) == 1
        assert (await client.get(f"/b/live/{run}")).status_code == 404
        assert await clients(client, "b") <= {"0.0"}
        assert await clients(client, "a") == {"1.0"}
        assert not kept.is_stream_consumed


async def test_the_open_streams_of_a_removed_definition_end_and_others_of_the_team_go_on(
    engine: Engine, proxy: Served, tmp_path: Path
) -> None:
    run = await engine.trigger("endless")
    async with (
        httpx.AsyncClient(base_url=proxy.url, timeout=20) as client,
        client.stream("GET", f"/b/live/{run}"),
        client.stream("GET", f"/b/other/{run}") as removed,
    ):
        await until(lambda: len(proxy.hub.sessions) == 2)
        (tmp_path / "teams" / "b.yaml").write_text(TEAM)
        await proxy.reloader.reload()
        async for _ in removed.aiter_raw():
            pass
        assert endings(proxy) == [("b", "other", "dropped")]
        assert len(proxy.hub.sessions) == 1
        assert (await client.get(f"/b/other/{run}")).status_code == 404
