"""Streams with a format over HTTP: statuses, headers, and the frames that make a client reconnect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Script, Step, Workflow, script
from tests.support.served import Served, served

pytestmark = pytest.mark.timeout(60)

NOBODY = "00000000-0000-4000-8000-000000000000"
YAML = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}
server: {drain: {grace: 3s, spread: 1s}}
streams:
  ai-sdk: {format: ai-sdk, path: "/ai-sdk/{workflowRunId}", rules: [{events: step_stream, as: text}]}
  mine: {format: ai-sdk, path: "/mine/{metadata.chat}", rules: [{events: step_stream, as: text}]}
  replay:
    format: ai-sdk
    path: /replay/{workflowRunId}
    finished: replay
    unknown: wait
    wait_for_run: 100ms
    rules: [{events: step_stream, as: text}]
  ag-ui: {format: ag-ui, path: "/ag-ui/{workflowRunId}", rules: [{events: step_stream, as: text}]}
  openai: {format: openai, path: "/openai/{workflowRunId}", rules: [{events: step_stream, as: text}]}
  text:
    format: text
    path: /text/{workflowRunId}
    heartbeat: 50ms
    rules: [{events: step_stream, steps: [answer, endless], as: text, whole: payload.text}]
  silent: {control: off, path: "/silent/{workflowRunId}", rules: [{events: step_*, data: type}]}
  only: {path: "/only/{workflowRunId}", unknown: 204, finished: 204, rules: [{events: step_*, data: type}]}
"""


def workflow() -> Script:
    answer = Step("answer", chunks=Chunks((b"Hel", b"lo"), 0.05), output={"text": "Hello"})
    endless = Step("endless", takes=0.1, chunks=Chunks((b"a",) * 1000, 0.1))
    return script(Workflow("chat", (answer,)), Workflow("endless", (endless,)))


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(workflow(), seed=7) as one:
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    path = tmp_path / "streams.yaml"
    path.write_text(YAML)
    async with served(path, engine.env) as one:
        yield one


@pytest.fixture
async def client(proxy: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as one:
        yield one


@pytest.mark.parametrize("path", ["ai-sdk", "only"])
async def test_204_answers_at_once_for_a_run_that_does_not_exist(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(f"/{path}/{NOBODY}")
    assert (answer.status_code, answer.content) == (204, b"")


async def test_204_answers_for_a_value_that_no_run_carries(client: httpx.AsyncClient) -> None:
    assert (await client.get("/mine/chat-1")).status_code == 204


async def test_an_unknown_run_is_404_where_the_stream_waits_for_it(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/replay/{NOBODY}")).status_code == 404


async def test_a_run_that_is_over_is_204_or_replayed(client: httpx.AsyncClient, engine: Engine) -> None:
    run_id = await engine.trigger("chat", {})
    whole = await client.get(f"/replay/{run_id}")
    assert whole.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert whole.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert whole.text.endswith("data: [DONE]\n\n")
    for path in ("ai-sdk", "only"):
        assert (await client.get(f"/{path}/{run_id}")).status_code == 204
    again = await client.get(f"/replay/{run_id}")
    assert again.text.endswith("data: [DONE]\n\n")
    end = again.text.rsplit("id: ", 1)[1].split("\n")[0]
    assert (await client.get(f"/replay/{run_id}", headers={"Last-Event-ID": end})).status_code == 204


async def test_a_client_with_a_cursor_of_a_finished_run_gets_what_it_lacks(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    run_id = await engine.trigger("chat", {})
    whole = (await client.get(f"/replay/{run_id}")).text
    frames = whole.split("\n\n")[:-1]
    cursor = frames[1].split("\n")[0].removeprefix("id: ")
    rest = (await client.get(f"/replay/{run_id}", headers={"Last-Event-ID": cursor})).text
    assert rest.split("\n", 1)[1].split("\n\n")[:-1] == frames[2:]


async def test_text_is_text_without_frames_and_heartbeats(client: httpx.AsyncClient, engine: Engine) -> None:
    run_id = await engine.trigger("chat", {})
    answer = await client.get(f"/text/{run_id}")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "Hello"


@pytest.mark.parametrize("path", ["ai-sdk", "ag-ui", "openai"])
async def test_a_drain_ends_the_stream_with_nothing_that_ends_the_message(
    client: httpx.AsyncClient, engine: Engine, proxy: Served, path: str
) -> None:
    run_id = await engine.trigger("endless", {})
    async with client.stream("GET", f"/{path}/{run_id}") as answer:
        lines = answer.aiter_lines()
        assert (await anext(lines)).startswith("retry: ")
        stopping = asyncio.create_task(proxy.stop())
        rest = [line async for line in lines]
    await stopping
    assert not any("finish" in line and '"stop"' in line for line in rest)
    assert not any(
        word in line for line in rest for word in ("[DONE]", "RUN_FINISHED", "RUN_ERROR", "event:")
    )
    assert rest[-1].startswith("retry: ")


async def test_a_text_that_a_drain_interrupts_is_cut_off_not_ended(
    client: httpx.AsyncClient, engine: Engine, proxy: Served
) -> None:
    run_id = await engine.trigger("endless", {})
    with pytest.raises(httpx.RemoteProtocolError):
        async with client.stream("GET", f"/text/{run_id}") as answer:
            stopping = asyncio.create_task(proxy.stop())
            await answer.aread()
    await stopping


async def test_a_client_of_http_1_0_sees_that_a_text_was_cut_off(engine: Engine, proxy: Served) -> None:
    run_id = await engine.trigger("endless", {})
    url = httpx.URL(proxy.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"GET /text/{run_id} HTTP/1.0\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    stopping = asyncio.create_task(proxy.stop())
    with pytest.raises(
        ConnectionResetError
    ):  # its bodies end with the connection: a reset is all that differs
        await reader.read()
    writer.close()
    await stopping


@pytest.mark.parametrize(
    ("path", "status"), [("ai-sdk", 200), ("ag-ui", 200), ("openai", 503), ("text", 503)]
)
async def test_while_hatchet_is_away_a_client_comes_back_later(
    client: httpx.AsyncClient, engine: Engine, path: str, status: int
) -> None:
    run_id = await engine.trigger("chat", {})
    await engine.stop()
    answer = await client.get(f"/{path}/{run_id}")
    assert answer.status_code == status
    if status == 200:
        assert answer.text.startswith("retry: ")
        assert "data:" not in answer.text
    else:
        assert int(answer.headers["retry-after"]) > 0


async def test_control_off_sends_messages_alone_and_an_end_that_stops_an_eventsource(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    run_id = await engine.trigger("chat", {})
    answer = await client.get(f"/silent/{run_id}")
    assert "event:" not in answer.text
    assert answer.text.count("data:") == 2
    end = answer.text.rsplit("id: ", 1)[1].strip()
    assert (await client.get(f"/silent/{run_id}", headers={"Last-Event-ID": end})).status_code == 204
