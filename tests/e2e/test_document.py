"""A stream as a JSON document, at once or by long poll: equal to what an EventSource has received."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Script, Step, Workflow, script
from tests.support.delivery import becomes
from tests.support.eventsource import EventSource
from tests.support.served import Served, served

pytestmark = pytest.mark.timeout(60)

NOBODY = "00000000-0000-4000-8000-000000000000"
PAGE = "https://app.example.com"
ACCEPT = {"Accept": "application/json"}
PAIR = {"stream": "on"}
RULES = """
    rules:
      - {events: step_stream, event: token, data: {text: payload, index: index}}
      - {events: ["step_*", "run_*"], data: type}
"""
YAML = f"""
version: 1
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}", tap: {{stream: "on"}}}}
server: {{drain: {{grace: 3s, spread: 1s}}}}
limits: {{connections_per_run: 2}}
streams:
  chat:
    path: /chat/{{workflowRunId}}
    wait_for_run: 5m # a snapshot never waits so long
    cors: {{origins: ["{PAGE}"], credentials: true}}
{RULES}
  ui: {{format: ai-sdk, path: "/ui/{{workflowRunId}}", rules: [{{events: step_stream, as: text}}]}}
  openai: {{format: openai, path: "/openai/{{workflowRunId}}", rules: [{{events: step_stream, as: text}}]}}
  text: {{format: text, path: "/text/{{workflowRunId}}", rules: [{{events: step_stream, as: text}}]}}
"""


def workflow() -> Script:
    answer = Step("answer", chunks=Chunks(tuple(b"%d " % n for n in range(20)), 0.02), output={})
    return script(Workflow("chat", (answer,)), Workflow("idle", (Step("idle", takes=100.0),)))


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(workflow(), seed=7) as one:
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    path = tmp_path / "streams.yaml"
    path.write_text(YAML)
    async with served(path, engine.env) as one:
        await becomes(lambda: engine.streams == 1)
        yield one


@pytest.fixture
async def client(proxy: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as one:
        yield one


async def streamed(url: str) -> list[dict[str, Any]]:
    """Every frame of a run as a document has it."""
    found = []
    async with EventSource(url) as source:
        async for frame in source.frames():
            found.append({"event": frame.event, "data": frame.value})
            if frame.event == "stream.end":
                break
    return found


async def test_a_snapshot_is_what_an_event_source_has_received(
    engine: Engine, proxy: Served, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat", metadata=PAIR)
    before = (await client.get(f"/chat/{run}", headers=ACCEPT)).json()
    assert before["status"] == "running"
    received = []
    async with EventSource(f"{proxy.url}/chat/{run}") as source:
        async for frame in source.frames():
            received.append({"event": frame.event, "data": frame.value})
            if len(received) == 8:
                middle = (await client.get(f"/chat/{run}", headers=ACCEPT)).json()
            if frame.event == "stream.end":
                break
    assert received[: len(before["messages"])] == before["messages"]
    assert middle["status"] == "running"
    assert len(middle["messages"]) >= 8
    assert middle["messages"] == received[: len(middle["messages"])]
    answer = await client.get(f"/chat/{run}", headers=ACCEPT)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"].startswith("Accept, ")
    after = answer.json()
    assert (after["status"], after["messages"]) == ("completed", received)
    for name in ("after", "last_event_id"):
        seen = await client.get(f"/chat/{run}", params={name: after["cursor"]}, headers=ACCEPT)
        assert seen.status_code == 204
        rest = await client.get(f"/chat/{run}", params={name: middle["cursor"]}, headers=ACCEPT)
        assert rest.json()["messages"] == received[len(middle["messages"]) :]


async def test_a_snapshot_of_a_run_that_nobody_followed_has_all_of_it(
    engine: Engine, proxy: Served, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat")
    await becomes(lambda: engine.run(run).done)
    found = (await client.get(f"/chat/{run}", headers=ACCEPT)).json()
    assert found["status"] == "completed"
    assert found["messages"] == await streamed(f"{proxy.url}/chat/{run}")


async def test_long_polls_together_are_the_whole_stream(
    engine: Engine, proxy: Served, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat", metadata=PAIR)
    found: list[Any] = []
    cursor, status, polls = "", "running", 0
    while status == "running":
        answer = await client.get(f"/chat/{run}", params={"wait": "20s", "after": cursor})
        document = answer.json()
        assert document["messages"]
        assert document["cursor"] != cursor
        found += document["messages"]
        cursor, status, polls = document["cursor"], document["status"], polls + 1
    assert found == await streamed(f"{proxy.url}/chat/{run}")
    assert 2 < polls < 20
    assert (await client.get(f"/chat/{run}", params={"wait": "20s", "after": cursor})).status_code == 204


async def test_a_long_poll_counts_as_a_client_and_ends_with_its_time(
    engine: Engine, proxy: Served, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("idle", metadata=PAIR)
    cursor = (await client.get(f"/chat/{run}", params={"wait": "5s"})).json()["cursor"]
    path = {"wait": "20s", "after": cursor}
    polls = [asyncio.create_task(client.get(f"/chat/{run}", params=path)) for _ in range(2)]
    await becomes(lambda: len(proxy.hub.sessions) == 2)
    refused = await client.get(f"/chat/{run}", headers={**ACCEPT, "Origin": PAGE})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["access-control-allow-origin"] == PAGE
    for poll in polls:
        poll.cancel()
    await becomes(lambda: not proxy.hub.sessions)
    empty = (await client.get(f"/chat/{run}", params={"wait": "10ms", "after": cursor})).json()
    assert empty == {"status": "running", "cursor": cursor, "messages": []}


async def test_what_cannot_be_read_is_said_to_pages_too(engine: Engine, client: httpx.AsyncClient) -> None:
    run = await engine.trigger("chat", metadata=PAIR)
    for wait in ("20", "", "-1s", "51s", "1h", "soon", "1.5s"):
        answer = await client.get(f"/chat/{run}", params={"wait": wait}, headers={"Origin": PAGE})
        assert answer.status_code == 400, wait
        assert answer.headers["content-type"] == "application/problem+json"
        assert "50s" in answer.json()["detail"]
        assert answer.headers["access-control-allow-origin"] == PAGE
    unknown = (await client.get(f"/chat/{run}", params={"after": "nonsense"}, headers=ACCEPT)).json()
    assert unknown["messages"][0] == {
        "event": "stream.gap",
        "data": {"cause": "unknown_cursor", "step": None, "attempt": None, "missed": None},
    }
    assert (await client.get(f"/chat/{NOBODY}", headers=ACCEPT)).status_code == 404, "not after 5 minutes"
    assert (await client.get("/chat/1", headers=ACCEPT)).status_code == 400
    head = await client.head(f"/chat/{run}", headers=ACCEPT)
    assert (head.status_code, head.headers["content-type"]) == (200, "application/json")


async def test_which_clients_get_a_document(engine: Engine, client: httpx.AsyncClient) -> None:
    run = await engine.trigger("chat", metadata=PAIR)
    await becomes(lambda: engine.run(run).done)
    kinds = {
        "application/json": "application/json",
        "application/json, text/plain, */*": "application/json",  # axios
        "application/json, text/event-stream": "text/event-stream; charset=utf-8",
        "application/json, text/event-stream;q=0.5": "application/json",
        "application/json;q=0, */*": "text/event-stream; charset=utf-8",
        "*/*": "text/event-stream; charset=utf-8",
    }
    for accept, kind in kinds.items():
        async with client.stream("GET", f"/chat/{run}", headers={"Accept": accept}) as answer:
            assert answer.headers["content-type"] == kind, accept
    async with client.stream(
        "GET", f"/chat/{run}?wait=1s", headers={"Accept": "text/event-stream"}
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")


async def test_a_format_has_documents_too(engine: Engine, client: httpx.AsyncClient) -> None:
    run = await engine.trigger("chat", metadata=PAIR)
    await becomes(lambda: engine.run(run).done)
    whole = "".join(f"{n} " for n in range(20))
    found = (await client.get(f"/ui/{run}", headers=ACCEPT)).json()
    deltas = [each["data"] for each in found["messages"] if each["data"] != "[DONE]"]
    assert "".join(each["delta"] for each in deltas if each["type"] == "text-delta") == whole
    assert found["messages"][-1] == {"event": "message", "data": "[DONE]"}
    text = (await client.get(f"/text/{run}", headers=ACCEPT)).json()
    assert text["messages"] == [{"event": "message", "data": whole}]
    async with client.stream("GET", f"/openai/{run}", headers=ACCEPT) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream"), "its clients always say so"
    completion = (await client.get(f"/openai/{run}?wait=0s", headers=ACCEPT)).json()
    assert completion["status"] == "completed"


async def test_while_hatchet_is_away_a_client_comes_back_later(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat", metadata=PAIR)
    await engine.faults.stop_grpc()
    for headers in (ACCEPT, {"Accept": "application/json, */*"}):
        answer = await client.get(f"/chat/{run}", headers=headers)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0


async def test_a_drain_answers_long_polls(engine: Engine, proxy: Served, client: httpx.AsyncClient) -> None:
    run = await engine.trigger("idle", metadata=PAIR)
    cursor = (await client.get(f"/chat/{run}", params={"wait": "5s"})).json()["cursor"]
    poll = asyncio.create_task(client.get(f"/chat/{run}", params={"wait": "20s", "after": cursor}))
    await becomes(lambda: proxy.hub.sessions)
    await proxy.stop()
    answer = await poll
    assert answer.status_code == 200
    assert answer.json() == {"status": "running", "cursor": cursor, "messages": []}
