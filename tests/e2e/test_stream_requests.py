"""What a request for a stream is answered with, and what it leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from proxy.log.cursor import Cursor, read_cursor
from proxy.server.http import stream_request
from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Step, Workflow, script
from proxy.streams.run_session import RunSession
from tests.e2e.test_recheck import BOTH, reading
from tests.support.issuer import token
from tests.support.served import Served, served
from tests.support.waiting import until

SECRET = "the secret of the tokens, long enough for HS256: 0123456789"
ADA = {"Authorization": f"Bearer {token(SECRET, 'HS256', role='reader')}"}
DOCUMENT = {"Accept": "application/json"}
YAML = f"""
version: 1
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}"}}
server: {{linger: 200ms, drain: {{grace: 3s, spread: 1s}}}}
auth:
  jwt: {{key: "{SECRET}", algorithms: [HS256]}}
streams:
  all:
    path: /all/{{workflowRunId}}
    rules: [{{events: ["*", step_stream], data: {{type: type}}}}]
  once:
    path: /once/{{workflowRunId}}
    unknown: 204
    finished: 204
    backlog: {{keep_after_end: 1s}}
    rules: [{{events: step_*, data: type}}]
  family:
    path: /family/{{workflowRunId}}
    include: [children]
    rules: [{{events: ["*", step_stream], data: {{type: type}}}}]
  named:
    path: /named/{{workflowRunId}}
    rules: [{{events: ["*", step_stream], data: workflow}}]
  talk:
    path: /talk/{{metadata.chat}}
    runs: all
    allow: run.metadata.user == claims.sub || claims.role == 'staff'
    rules: [{{events: ["*", step_stream], data: {{type: type, run: run_id}}}}]
"""


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    answer = Step("answer", chunks=Chunks((b"Hel", b"lo"), 0.02), output={"text": "Hello"})
    made_of = script(Workflow("chat", (answer,)), Workflow("endless", (Step("wait", takes=100_000.0),)))
    async with Engine(made_of, seed=7) as one:
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    path = tmp_path / "streams.yaml"
    path.write_text(YAML)
    async with served(path, engine.env) as one:
        yield one


@pytest.fixture
async def client(proxy: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20, headers=ADA) as one:
        yield one


# -- limits of the process --


@BOTH
async def test_the_last_place_of_a_process_is_given_to_a_client_that_has_to_wait_for_its_run(
    engine: Engine, proxy: Served, client: httpx.AsyncClient, extra: dict[str, str]
) -> None:
    proxy.hub.max_clients = 1  # type: ignore[misc]
    run = await engine.trigger("endless")
    async with reading(client, f"/all/{run}", extra) as first:
        await first.until("step_started")
        late = await client.get(f"/all/{run}", headers=extra)
        assert "event: stream.wait\n" in late.text
        assert '{"cause":"limit"}' in late.text
    await until(lambda: not proxy.hub.sessions)
    async with reading(client, f"/all/{run}", extra) as next_one:
        await next_one.until("step_started")


# -- runs that are over --


async def test_a_run_that_was_over_before_anybody_asked_is_over_for_a_stream_and_whole_in_a_document(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat")
    await until(lambda: engine.run(run).done)
    assert (await client.get(f"/once/{run}")).status_code == 204, "at once, by its state"
    found = (await client.get(f"/once/{run}", headers=DOCUMENT)).json()
    assert found["status"] == "completed"
    assert [message["data"] for message in found["messages"]][-2:] == [
        "step_completed",
        {"status": "completed"},
    ]


async def test_a_client_that_has_seen_a_part_of_a_run_that_is_over_gets_the_rest(
    engine: Engine, proxy: Served, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("endless")
    async with reading(client, f"/once/{run}", {}) as reader:
        await reader.until('data: "step_started"\n\n')
    cursor = reader.text.rsplit("id: ", 1)[1].split("\n")[0]
    await engine.cancel(run)

    def is_known_to_be_over() -> bool:
        session = proxy.hub.teams["default"].runs.get(run)
        return engine.run(run).done and (session is None or session.over)

    await until(is_known_to_be_over)
    rest = await client.get(f"/once/{run}", headers={"Last-Event-ID": cursor})
    assert rest.status_code == 200
    assert "event: stream.end\n" in rest.text


async def test_a_long_poll_waits_for_its_run_as_long_as_for_messages(
    engine: Engine, proxy: Served, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.create_task(client.get("/talk/later", params={"wait": "20s"}))
    await until(lambda: proxy.hub.waiting)
    await asyncio.wait([asked], timeout=0.8)  # a snapshot waits for half a second
    assert not asked.done()
    await engine.trigger("chat", metadata={"chat": "later", "user": "ada"})
    answer = await asked
    assert answer.status_code == 200
    assert answer.json()["messages"]


# -- names --


async def test_the_name_of_the_workflow_is_in_the_first_frame_also_where_no_rule_depends_on_it(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat")
    text = (await client.get(f"/named/{run}")).text
    names = [line for line in text.split("\n") if line.startswith("data: ") and "{" not in line]
    assert names
    assert set(names) == {'data: "chat"'}


# -- streams of several runs --


async def test_a_client_of_a_stream_of_several_runs_leaves_no_lease_behind(
    engine: Engine, proxy: Served, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("endless", metadata={"chat": "short", "user": "ada"})
    runs = proxy.hub.teams["default"].runs
    for path in (f"/family/{run}", "/talk/short"):
        async with reading(client, path, {}) as reader:
            await reader.until("step_started")
            assert runs.leases(run) == 1, "that of the stream"
        await until(lambda: not proxy.hub.sessions)
        await until(lambda: runs.leases(run) == 0, path)


@BOTH
async def test_a_conversation_is_open_to_those_who_may_read_each_of_its_runs(
    engine: Engine, proxy: Served, client: httpx.AsyncClient, extra: dict[str, str]
) -> None:
    async def turn(user: str) -> str:
        return await engine.trigger("endless", metadata={"chat": "shared", "user": user})

    async def is_refused_for_an_older_run() -> bool:
        refused = await client.get("/talk/shared", headers=extra)
        assert refused.status_code == 403
        detail: str = refused.json()["detail"]
        return detail == "the rules of this stream do not allow you each of its runs"

    await turn("ada")
    staff = {"Authorization": f"Bearer {token(SECRET, 'HS256', role='staff')}", **extra}
    async with (
        reading(client, "/talk/shared", extra) as reader,
        reading(client, "/talk/shared", staff) as other,
    ):
        await reader.until("step_started")
        bobs = await turn("bob")
        assert bobs not in await reader.rest(), "it ends before the first item of that run"
        assert [line["ending"] for line in proxy.log if line["event"] == "stream over"] == ["dropped"]
        await other.until(bobs)
        await other.until(await turn("ada"))
        await until(is_refused_for_an_older_run, "the newest run, which the list has soon, is one of ada's")
    await until(lambda: proxy.hub.teams["default"].limits.connections == 0)


# -- where replicas share a log --


async def test_a_client_of_a_session_that_went_apart_from_the_log_comes_back_to_it_and_to_no_other(
    engine: Engine, proxy: Served, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("endless")
    runs = proxy.hub.teams["default"].runs
    async with reading(client, f"/all/{run}", {}) as first:
        await first.until('"step_started"')
        cursor = first.text.rsplit("id: ", 1)[1].split("\n")[0]
        apart = runs.get(run)
        assert apart is not None
        runs.set_apart(apart)
        async with reading(client, f"/all/{run}", {"Last-Event-ID": cursor}) as again:
            assert [session.run for session in proxy.hub.sessions] == [apart, apart]
            assert runs.leases(run) == 0, "the other session of the run is given back"
            await engine.cancel(run)
            text = await again.rest()
    assert "unknown_cursor" not in text
    assert "event: stream.end\n" in text


async def test_what_a_cursor_names_is_read_from_the_log_before_the_stream_begins(
    engine: Engine, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await engine.trigger("endless")
    reached: list[tuple[str, Cursor | None]] = []

    async def reach(session: RunSession, cursor: Cursor | None) -> None:
        reached.append((session.run_id, cursor))

    async with reading(client, f"/all/{run}", {}) as first:
        await first.until('"step_started"')
        cursor = first.text.rsplit("id: ", 1)[1].split("\n")[0]
        monkeypatch.setattr(stream_request, "reach", reach)
        async with reading(client, f"/all/{run}", {"Last-Event-ID": cursor}):
            assert reached == [(run, read_cursor(cursor))]
