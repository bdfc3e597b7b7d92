"""HTTP as a client sees it: statuses, headers, frames and ids of a proxy on the embedded engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from proxy.simulator import Engine
from tests.support.served import Served, served
from tests.support.waiting import until

NOBODY = "00000000-0000-4000-8000-000000000000"
YAML = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}
server: {linger: 200ms, drain: {grace: 3s, spread: 1s}}
streams:
  simple:
    path: /message/{workflowRunId}
    wait_for_run: 300ms
    rules:
      - events: step_completed
        steps: [start, load_docs, reason_docs, generate_response]
        data: {type: type, payload: payload, messageId: run_id}
  all:
    path: /all/{workflowRunId}
    wait_for_run: 300ms
    cors: {origins: ["https://app.example.com"], credentials: true}
    rules:
      - events: ["*", step_stream]
        event: run_event
        data: {type: type, step: step, attempt: attempt, index: index, payload: payload, recovered: recovered}
  mine:
    path: /mine/{metadata.message_id}
    wait_for_run: 2s
    rules:
      - {events: ["*", step_stream], data: {type: type, run: run_id}}
"""


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(speed=5.0, seed=7) as one:
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


async def listen(
    client: httpx.AsyncClient, path: str, cursor: str | None = None, until: str = "stream.end"
) -> list[ServerSentEvent]:
    """The events that an EventSource receives until a frame named `until`."""
    headers = {} if cursor is None else {"Last-Event-ID": cursor}
    received: list[ServerSentEvent] = []
    async with aconnect_sse(client, "GET", path, headers=headers) as source:
        source.response.raise_for_status()
        async for frame in source.aiter_sse():
            received.append(frame)
            if frame.event == until:
                break
    return received


def run_events(received: list[ServerSentEvent]) -> list[dict[str, Any]]:
    return [one.json() for one in received if one.event == "run_event"]


async def test_the_tutorials_endpoint_is_sent_byte_for_byte(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat", {"message": "hi"})
    lines = []
    async with client.stream("GET", f"/message/{run}") as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        async for line in response.aiter_lines():
            lines.append(line)
    data = [line for line in lines if line.startswith("data: ")]
    payload = '{"status":"reading hatchet docs"}'
    assert data[0] == f'data: {{"type":"step_completed","payload":{payload},"messageId":"{run}"}}'
    assert len(data) == 5
    assert data[4] == 'data: {"status":"completed"}'
    assert lines[0].startswith("retry: ")
    assert [line for line in lines if line.startswith("event: ")] == ["event: stream.end"]


async def test_clients_before_during_and_after_a_run_get_the_same_events(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat", {"message": "hi"})
    first = asyncio.create_task(listen(client, f"/all/{run}"))
    async with client.stream("GET", f"/all/{run}") as third:
        await anext(aiter(third.aiter_lines()))  # the run is followed, and somewhere in its middle
    second = asyncio.create_task(listen(client, f"/all/{run}"))
    one, two = await first, await second
    late = await listen(client, f"/all/{run}")
    assert [(e.id, e.data) for e in one] == [(e.id, e.data) for e in two] == [(e.id, e.data) for e in late]
    steps = [(e["type"], e["step"]) for e in run_events(one) if e["type"] != "step_stream"]
    for name in ("start", "load_docs", "reason_docs", "generate_response"):
        assert steps.index(("step_started", name)) < steps.index(("step_completed", name))
    assert steps[-1] == ("run_completed", None)
    chunks = [e for e in run_events(one) if e["type"] == "step_stream"]
    assert [e["index"] for e in chunks] == list(range(len(chunks)))
    assert "".join(e["payload"] for e in chunks).startswith("You asked: hi")


async def test_one_upstream_however_many_clients_and_streams(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat")
    paths = [f"/all/{run}", f"/message/{run}"] * 10
    await asyncio.gather(*(listen(client, path) for path in paths))
    assert engine.calls["SubscribeToWorkflowEvents"] <= 12, engine.calls


async def test_the_end_cursor_gets_204_without_asking_hatchet(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat")
    end = (await listen(client, f"/all/{run}"))[-1]
    await engine.faults.stop_grpc()
    answer = await client.get(f"/all/{run.upper()}", headers={"Last-Event-ID": end.id})
    assert (answer.status_code, answer.content) == (204, b"")
    answer = await client.get(f"/all/{run}", params={"last_event_id": end.id})
    assert answer.status_code == 204


async def test_a_cursor_resumes_where_it_stands(engine: Engine, client: httpx.AsyncClient) -> None:
    run = await engine.trigger("chat")
    whole = await listen(client, f"/all/{run}")
    middle = len(whole) // 2
    rest = await listen(client, f"/all/{run}", cursor=whole[middle].id)
    assert [one.data for one in rest] == [one.data for one in whole[middle + 1 :]]


@pytest.mark.parametrize("cursor", ["x", "x" * 8192, "AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAA.7", "%00"])
async def test_an_unknown_cursor_is_a_fresh_start_with_one_gap(
    engine: Engine, client: httpx.AsyncClient, cursor: str
) -> None:
    run = await engine.trigger("chat")
    whole = await listen(client, f"/message/{run}")
    again = await listen(client, f"/message/{run}", cursor=cursor)
    assert (again[0].event, again[0].json()) == (
        "stream.gap",
        {"cause": "unknown_cursor", "step": None, "attempt": None, "missed": None},
    )
    assert [one.data for one in again[1:]] == [one.data for one in whole]


async def test_a_cursor_of_another_run_never_shows_another_runs_frame(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    one, two = await engine.trigger("chat"), await engine.trigger("chat")
    first = await listen(client, f"/message/{one}")
    second = await listen(client, f"/message/{two}", cursor=first[0].id)
    assert second[0].json()["cause"] == "unknown_cursor"
    assert {frame.json()["messageId"] for frame in second if "messageId" in frame.data} == {two}
    third = await listen(client, f"/message/{two}", cursor=first[-1].id)
    assert third[0].json()["cause"] == "unknown_cursor"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/message/not-a-uuid", 400),
        ("GET", f"/message/{NOBODY}", 404),
        ("GET", "/nothing/here", 404),
        ("POST", f"/message/{NOBODY}", 405),
        ("DELETE", f"/message/{NOBODY}", 405),
        ("GET", "/mine/" + "x" * 201, 400),
        ("GET", "/mine/a%0Ab", 400),
        ("GET", "/mine/nobody", 404),
        ("HEAD", f"/message/{NOBODY}", 404),
    ],
)
async def test_a_permanent_error_is_a_problem_document_with_a_status(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    if method != "HEAD":
        assert answer.json()["status"] == status
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_head_sends_the_headers_of_the_stream(engine: Engine, client: httpx.AsyncClient) -> None:
    run = await engine.trigger("chat")
    answer = await client.head(f"/all/{run}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.content == b""


async def test_a_client_that_waits_gets_the_run_once_it_is_triggered(
    engine: Engine, client: httpx.AsyncClient, proxy: Served
) -> None:
    engine.switch(metadata_hangup=False)  # it would leave the last chunks unproven
    listening = asyncio.create_task(listen(client, "/mine/m-1"))
    await until(lambda: proxy.hub.waiting and engine.streams, "the client is there first")
    run = await engine.trigger("chat", metadata={"message_id": "m-1"})
    received = await listening
    assert {json.loads(one.data)["run"] for one in received if "run" in one.data} == {run}
    assert json.loads(received[0].data)["type"] == "step_started"
    chunks = [one for one in received if '"step_stream"' in one.data]
    assert len(chunks) > 5
    assert not [one for one in received if one.event == "stream.gap"]
    after = await listen(client, "/mine/m-1")
    assert [one.data for one in after] == [one.data for one in received]
    newer = await engine.trigger("chat", metadata={"message_id": "m-1"})
    answer = await client.get("/mine/m-1", headers={"Last-Event-ID": received[-1].id})
    assert answer.status_code == 204, "a cursor stays with its run, even if a newer one carries the pair"

    async def newest() -> bool:
        return bool(json.loads((await listen(client, "/mine/m-1"))[0].data)["run"] == newer)

    await until(newest, "the history lists the newer run")  # it is a little behind


async def test_while_hatchet_is_unreachable_clients_get_stream_wait(
    engine: Engine, client: httpx.AsyncClient, proxy: Served
) -> None:
    run = await engine.trigger("chat")
    await engine.faults.stop_grpc()
    answer = await client.get(f"/message/{run}", headers={"Accept": "text/event-stream"})
    assert answer.status_code == 200
    retry, _, rest = answer.text.partition("\n")
    assert int(retry.removeprefix("retry: ")) > 3000
    assert rest == 'event: stream.wait\ndata: {"cause":"hatchet"}\n\n'
    answer = await client.get(f"/message/{run}", headers={"Accept": "application/json"})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert [line for line in proxy.log if line["event"] == "trouble with Hatchet"]
    await engine.faults.start_grpc()
    received: list[ServerSentEvent] = []

    async def streams_again() -> bool:
        received[:] = await listen(client, f"/message/{run}", until="")
        return received[-1].event != "stream.wait"

    await until(streams_again, "Hatchet answers again")
    assert received[-1].json() == {"status": "completed"}


async def test_a_refused_token_is_named_in_the_log(
    engine: Engine, client: httpx.AsyncClient, proxy: Served
) -> None:
    run = await engine.trigger("chat")
    engine.faults.refuse_tokens()
    received = await listen(client, f"/message/{run}", until="stream.wait")
    assert received[-1].json() == {"cause": "hatchet"}
    assert "TokenRefused" in {line.get("kind") for line in proxy.log}


async def test_an_origin_that_is_listed_may_read_with_credentials(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat")
    origin = {"Origin": "https://app.example.com"}
    async with client.stream("GET", f"/all/{run}", headers=origin) as response:
        assert response.headers["access-control-allow-origin"] == "https://app.example.com"
        assert response.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in response.headers["vary"]
    preflight = await client.options(
        f"/all/{run}", headers={**origin, "Access-Control-Request-Method": "GET"}
    )
    assert preflight.status_code == 204
    assert "GET" in preflight.headers["access-control-allow-methods"]
    missing = await client.get(f"/all/{NOBODY}", headers=origin)
    assert missing.status_code == 404
    assert missing.headers["access-control-allow-origin"] == "https://app.example.com"


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "https://app.example.com.evil.com"])
async def test_a_foreign_origin_is_refused(engine: Engine, client: httpx.AsyncClient, origin: str) -> None:
    run = await engine.trigger("chat")
    for path in (f"/all/{run}", f"/message/{run}"):
        answer = await client.get(path, headers={"Origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


async def test_a_page_of_the_own_host_needs_no_cors(
    engine: Engine, client: httpx.AsyncClient, proxy: Served
) -> None:
    run = await engine.trigger("chat")
    assert (await client.head(f"/all/{run}", headers={"Origin": proxy.url})).status_code == 200


async def test_the_upstream_of_a_client_that_left_is_closed_after_linger(
    engine: Engine, client: httpx.AsyncClient, proxy: Served
) -> None:
    run = await engine.trigger("chat")
    await listen(client, f"/all/{run}", until="run_event")
    assert proxy.hub.counters.team("default").runs == 1
    await until(lambda: not proxy.hub.counters.team("default").runs)
    await until(lambda: not engine.streams)
    assert proxy.hub.counters.team("default").backlog_bytes == 0


async def test_a_drain_sends_stream_drain_to_every_client_and_ends(
    engine: Engine, client: httpx.AsyncClient, proxy: Served
) -> None:
    run = await engine.trigger("chat")
    listening = asyncio.create_task(listen(client, f"/message/{run}", until="stream.drain"))
    await until(lambda: bool(proxy.hub.sessions))
    async with asyncio.timeout(5):
        await proxy.stop()
    received = await listening
    assert received[-1].event == "stream.drain"
    assert received[-1].data == "{}"
    assert received[-1].retry is not None
    with pytest.raises(httpx.ConnectError):
        await client.get("/healthz")


async def test_probes_and_metrics_answer_beside_the_streams(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/healthz")).status_code == 200
    ready = await client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["teams"]["default"]["config"]["state"] == "current"
    run = await engine.trigger("chat")
    await listen(client, f"/message/{run}")
    text = (await client.get("/metrics")).text
    assert 'stream_proxy_clients{stream="simple",team="default"} 0.0' in text
    assert run not in text


async def test_each_stream_is_logged_as_one_line_without_payload(
    engine: Engine, client: httpx.AsyncClient, proxy: Served
) -> None:
    run = await engine.trigger("chat", {"message": "secret question"})
    await listen(client, f"/all/{run}")
    await until(lambda: any(line["event"] == "stream over" for line in proxy.log))
    (line,) = [line for line in proxy.log if line["event"] == "stream over"]
    assert (line["run"], line["stream"], line["ending"]) == (run, "all", "end")
    assert "secret question" not in proxy.written.getvalue()
