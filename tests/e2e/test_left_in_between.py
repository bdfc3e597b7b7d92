"""A client that leaves, or a reload that comes, before a stream has begun leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from config.model.files import HatchetConfig
from proxy.core.observations import CoreState, PastState
from proxy.hatchet.client import HatchetClient
from proxy.hatchet.errors import HatchetAway
from proxy.server.http import requested_run
from proxy.simulator import Engine
from proxy.streams import run_queries
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
    backlog: {keep_after_end: 3s}
    rules: [{events: ["*", step_stream], data: {type: type, payload: payload}}]
  named:
    path: /named/{workflowRunId}
    backlog: {keep_after_end: 3s}
    rules: [{events: ["*", step_stream], data: {type: type, workflow: workflow}}]
"""


class Gate(HatchetClient):
    """A client of Hatchet whose answers can be held back."""

    def __init__(self, config: HatchetConfig, engine: Engine) -> None:
        super().__init__(config, engine.env)
        self.open = asyncio.Event()
        self.open.set()
        self.knows_runs = True  # as the history, which is behind
        self.when_asked: Callable[[], None] = lambda: None

    async def core(self, run_id: str) -> CoreState:
        self.when_asked()
        await self.open.wait()
        return await super().core(run_id)

    async def past(self, run_id: str) -> PastState | None:
        return await super().past(run_id) if self.knows_runs else None


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(speed=20.0, seed=7) as one:
        yield one


@pytest.fixture
def gates() -> list[Gate]:
    return []


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path, gates: list[Gate]) -> AsyncIterator[Served]:
    def opened(config: HatchetConfig) -> Gate:
        gates.append(Gate(config, engine))
        return gates[-1]

    path = tmp_path / "streams.yaml"
    path.write_text(YAML)
    async with served(path, engine.env, opened) as one:
        yield one


async def test_a_client_that_leaves_during_the_lookup_of_a_replay_releases_the_run(
    engine: Engine, proxy: Served, gates: list[Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_queries, "REPLAY_CHECK", 0.0)  # the next request asks again
    run = await engine.trigger("chat", {"message": "hi"})
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as client:
        await client.get(f"/all/{run}")
    team = proxy.hub.teams["default"]
    assert team.runs.get(run) is not None
    await until(lambda: team.runs.leases(run) == 0)
    gates[-1].open.clear()
    host, _, port = proxy.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /all/{run} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    await until(lambda: team.runs.leases(run) == 1)
    writer.close()
    await until(lambda: not proxy.hub.waiting)
    assert team.runs.leases(run) == 0
    gates[-1].open.set()
    await until(lambda: not len(team.runs))


async def test_hatchet_is_asked_about_a_replay_only_for_clients_without_a_cursor_of_the_run_that_is_kept(
    engine: Engine, proxy: Served, gates: list[Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_queries, "REPLAY_CHECK", 0.0)
    run = await engine.trigger("chat", {"message": "hi"})
    asked: list[str] = []
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as client:
        whole = (await client.get(f"/all/{run}")).text
        gates[-1].when_asked = lambda: asked.append(run)
        first = whole.split("id: ", 1)[1].split("\n")[0]
        rest = await client.get(f"/all/{run}", headers={"Last-Event-ID": first})
        assert rest.text.endswith(whole[-100:])
        assert asked == []
        await client.get(f"/all/{run}")
        assert asked == [run]


async def test_a_reload_while_a_request_waits_for_its_run_leaks_no_lease(
    engine: Engine, proxy: Served, gates: list[Gate]
) -> None:
    team = proxy.hub.teams["default"]
    without = team.config.model_copy(update={"streams": {}})
    reloads: list[int] = []

    def reload() -> None:
        if not reloads:
            reloads.append(team.limits.connections)
            team.configure(without, team.server)

    gates[-1].when_asked = reload  # while the request waits for the run's state
    run = await engine.trigger("chat", {"message": "hi"})
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as client:
        response = await client.get(f"/all/{run}")
    assert reloads == [1]
    await until(lambda: team.limits.connections == 0 and not proxy.hub.sessions)
    assert response.status_code == 200, "it began before the reload"
    assert "stream.end" in response.text


async def test_a_stream_that_is_removed_while_a_request_waits_for_a_workflows_name_is_read_to_its_end(
    engine: Engine, proxy: Served, gates: list[Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    team = proxy.hub.teams["default"]
    gates[-1].knows_runs = False
    run = await engine.trigger("chat", {"message": "hi"})
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as client:
        monkeypatch.setattr(requested_run, "NAME_PATIENCE", 0.0)
        async with client.stream("GET", f"/named/{run}") as first:
            assert first.status_code == 200, "the stream is open, without the name"
            monkeypatch.setattr(requested_run, "NAME_PATIENCE", 20.0)
            asking = asyncio.create_task(client.get(f"/named/{run}"))
            await until(lambda: len(proxy.hub.waiting) == 1 and team.runs.leases(run) == 2)
            streams = {"all": team.config.streams["all"]}
            team.configure(team.config.model_copy(update={"streams": streams}), team.server)
            gates[-1].knows_runs = True
            response = await asking
    assert response.status_code == 200, "it began before the reload"
    assert "stream.end" in response.text


async def test_a_client_that_waits_for_a_run_of_a_removed_team_gets_a_reconnect_time(
    engine: Engine, proxy: Served, gates: list[Gate]
) -> None:
    gates[-1].open.clear()
    team = proxy.hub.teams["default"]
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as client:
        asking = asyncio.create_task(client.get(f"/all/{NOBODY}"))
        await until(lambda: len(proxy.hub.waiting) == 1 and team.runs.leases(NOBODY) > 0)
        await team.close()
        response = await asking
    assert response.status_code == 200, "any other status ends an EventSource for good"
    assert "event: stream.wait" in response.text
    assert team.limits.connections == 0
    gates[-1].open.set()


async def test_a_dropped_run_opens_no_stream(engine: Engine, proxy: Served) -> None:
    run = await engine.trigger("chat", {"message": "hi"})
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as client:
        await client.get(f"/all/{run}")
    team = proxy.hub.teams["default"]
    session, stream = team.runs.get(run), team.streams["all"]
    assert session is not None
    assert await session.open(stream) is session.opened(stream)
    await team.close()
    with pytest.raises(HatchetAway):
        await session.open(stream)
