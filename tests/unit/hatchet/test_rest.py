"""The REST history: what it answers, what it may not do to us, and what becomes of its refusals."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from proxy.hatchet.client import FIND_LIMIT, FIND_PAGES, HatchetClient
from proxy.hatchet.endpoint import endpoint
from proxy.hatchet.errors import HistoryAway
from proxy.hatchet.rest import ANSWER_FACTOR, Rest
from tests.support.hatchet_server import RUN, TENANT, config, token

RECORDINGS = Path(__file__).parent.parent.parent / "recordings" / "rest"
SECRET = "a-secret-output"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Answer], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    runners: list[web.AppRunner] = []

    async def start(answer: Answer) -> str:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., HatchetClient]]:
    clients: list[HatchetClient] = []

    def make(api: str, **written: Any) -> HatchetClient:
        clients.append(HatchetClient(config(api=api, host_port="127.0.0.1:1", **written), {}))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


def always(status: int, body: bytes = b"{}", headers: dict[str, str] | None = None) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers, content_type="application/json")

    return answer


Open = Callable[..., HatchetClient]


async def test_a_run_is_asked_for_with_the_token_and_read(serve: Serve, connect: Open) -> None:
    seen: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, request.headers["Authorization"]))
        return web.json_response(body=(RECORDINGS / "run_chat.json").read_bytes())

    client = connect(await serve(answer))
    assert client.has_history
    state = await client.past(RUN)
    assert state is not None
    assert len(state.steps) == 4
    assert seen == [(f"/api/v1/stable/workflow-runs/{RUN}", f"Bearer {token()}")]


async def test_an_unknown_run_is_none(serve: Serve, connect: Open) -> None:
    assert await connect(await serve(always(404))).past(RUN) is None


async def test_a_compressed_answer_is_read(serve: Serve, connect: Open) -> None:
    body = gzip.compress((RECORDINGS / "run_dag2.json").read_bytes())
    client = connect(await serve(always(200, body, {"Content-Encoding": "gzip"})))
    assert await client.past(RUN) is not None


async def test_a_lone_surrogate_in_an_output_is_no_reason_to_fail(serve: Serve, connect: Open) -> None:
    answer = json.loads((RECORDINGS / "run_flaky.json").read_text())
    answer["tasks"][0]["output"] = {"text": "\ud800"}
    client = connect(await serve(always(200, json.dumps(answer).encode())))
    state = await client.past(RUN)
    assert state is not None
    assert state.steps[0].output == {"text": "\ud800"}


async def test_a_large_integer_in_an_output_stays_exact(serve: Serve, connect: Open) -> None:
    answer = json.loads((RECORDINGS / "run_flaky.json").read_text())
    answer["tasks"][0]["output"] = {"id": 2**64 + 1}
    client = connect(await serve(always(200, json.dumps(answer).encode())))
    state = await client.past(RUN)
    assert state is not None
    assert state.steps[0].output == {"id": 2**64 + 1}


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b"{}", "does not accept hatchet.token"),
        (403, b"{}", "does not accept hatchet.token"),
        (302, b"", "redirects"),
        (400, b"{}", "HTTP 400"),
        (429, b"{}", "HTTP 429"),
        (500, SECRET.encode(), "HTTP 500"),
        (200, b"<html>" + SECRET.encode(), "does not answer with JSON"),
        (200, b"", "does not answer with JSON"),
        (200, b"[]", "has another form than expected"),
        (200, b'{"run": null}', "has another form than expected"),
        (200, b'{"run": {"metadata": {"id": "x"}, "status": "' + SECRET.encode() + b'"}}', "another form"),
    ],
)
async def test_every_other_answer_is_history_away_and_quotes_nothing(
    serve: Serve, connect: Open, status: int, body: bytes, says: str
) -> None:
    client = connect(await serve(always(status, body, {"Location": "http://127.0.0.1:1/"})))
    with pytest.raises(HistoryAway, match=says) as caught:
        await client.past(RUN)
    assert SECRET not in str(caught.value)
    assert token() not in str(caught.value)


async def test_a_server_that_is_not_there_is_history_away(connect: Open) -> None:
    with pytest.raises(HistoryAway, match="cannot be reached"):
        await connect("http://127.0.0.1:1").past(RUN)


async def test_an_answer_that_never_ends_is_cut_off(serve: Serve, connect: Open) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65536)
        except (ConnectionError, asyncio.CancelledError):
            return response

    client = connect(await serve(endless), max_message="1MiB")
    with pytest.raises(HistoryAway, match=str(ANSWER_FACTOR * 1024 * 1024)):
        await client.past(RUN)


async def test_a_compressed_bomb_is_cut_off(serve: Serve, connect: Open) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    client = connect(await serve(always(200, bomb, {"Content-Encoding": "gzip"})), max_message="1MiB")
    with pytest.raises(HistoryAway, match="is over"):
        await client.past(RUN)


async def test_an_answer_that_does_not_come_has_its_time(serve: Serve) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    at = endpoint(config(api=await serve(never), host_port="x:1"), {})
    rest = Rest(at, timeout=0.1)
    with pytest.raises(HistoryAway, match="in time"):
        await rest.get("/")
    await rest.close()
    with pytest.raises(HistoryAway, match="closed"):
        await rest.get("/")


async def test_the_newest_run_with_a_pair_is_found_by_any_value(serve: Serve, connect: Open) -> None:
    asked: list[Any] = []
    value = "a:b, c&d=☀"

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append((request.path, dict(request.query)))
        row = {
            "metadata": {"createdAt": "2026-11-22T07:43:28.1Z"},
            "workflowRunExternalId": RUN,
            "additionalMetadata": {"id": value},
        }
        return web.json_response({"rows": [row]})

    assert await connect(await serve(answer)).find("id", value) == RUN
    ((path, query),) = asked
    assert path == f"/api/v1/stable/tenants/{TENANT}/workflow-runs"
    assert query["additional_metadata"] == f"id:{value}"
    assert query["only_tasks"] == "false"
    assert query["since"].endswith("Z")


async def test_a_run_behind_pages_of_its_children_is_found_and_the_search_ends(
    serve: Serve, connect: Open
) -> None:
    offsets: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        offsets.append(int(request.query["offset"]))
        row = {
            "metadata": {"createdAt": "2026-11-22T07:43:28.1Z"},
            "workflowRunExternalId": RUN,
            "additionalMetadata": {"id": "1"},
        }
        child = row | {"parentTaskExternalId": RUN}
        last = (
            int(request.query["offset"]) == 2 * FIND_LIMIT and request.query["additional_metadata"] == "id:1"
        )
        return web.json_response({"rows": [child] * (FIND_LIMIT - 1) + [row if last else child]})

    client = connect(await serve(answer))
    assert await client.find("id", "1") == RUN
    assert offsets == [0, FIND_LIMIT, 2 * FIND_LIMIT]
    offsets.clear()
    assert await client.find("id", "2") is None
    assert len(offsets) == FIND_PAGES


async def test_a_workflows_steps_are_listed_and_an_unknown_workflow_is_none(
    serve: Serve, connect: Open
) -> None:
    config_of = json.loads((RECORDINGS / "run_dag2.json").read_text())["workflowConfig"]

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == f"/api/v1/tenants/{TENANT}/workflows":
            return web.json_response({"rows": [{"name": "dag2", "metadata": {"id": "the-id"}}]})
        assert request.path == "/api/v1/workflows/the-id/versions"
        return web.json_response({"workflowConfig": config_of})

    client = connect(await serve(answer))
    assert await client.workflow_steps("dag2") == ("a-dash", "bad", "skipped", "onfail-on-failure")
    assert await client.workflow_steps("dag") is None
