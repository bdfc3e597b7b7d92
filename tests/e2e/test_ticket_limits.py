"""Requests for tickets are bounded, say why they are refused, and leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from proxy.server.http import endpoints
from proxy.simulator import Engine
from tests.support.issuer import private_key, token
from tests.support.processes import free_port
from tests.support.served import Served, served
from tests.support.waiting import until

NOBODY = "00000000-0000-4000-8000-000000000000"
SECRET = "the secret of the tokens, long enough for HS256: 0123456789"
PAGE = "https://app.example.com"
ADA = {"Authorization": f"Bearer {token(SECRET, 'HS256')}"}
YAML = f"""
version: 1
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}"}}
server: {{linger: 200ms, drain: {{grace: 3s, spread: 1s}}}}
auth:
  jwt: {{key: "{SECRET}", algorithms: [HS256]}}
  from: [bearer, ticket]
  tickets: {{key: "a key for the tickets, long enough: 0123456789", lifetime: 10m}}
LIMITS
streams:
  chat:
    path: /chat/{{workflowRunId}}
    wait_for_run: 300ms
    cors: {{origins: ["{PAGE}"]}}
    allow: run.metadata.user == claims.sub
    rules: [{{events: "*"}}]
  open:
    path: /open/{{workflowRunId}}
    rules: [{{events: "*"}}]
  of_other_workflow:
    path: /other/{{metadata.user}}
    workflow: another
    wait_for_run: 300ms
    allow: run.metadata.user == claims.sub
    rules: [{{events: "*"}}]
"""


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(speed=20.0, seed=7) as one:
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(written(tmp_path), engine.env) as one:
        yield one


@pytest.fixture
async def client(proxy: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as one:
        yield one


def written(folder: Path, limits: str = "") -> Path:
    path = folder / "streams.yaml"
    path.write_text(YAML.replace("LIMITS", limits))
    return path


async def ask(
    client: httpx.AsyncClient, run: str, stream: str = "chat", path: str = "/tickets"
) -> httpx.Response:
    return await client.post(path, json={"stream": stream, "run": run}, headers=ADA)


async def test_requests_that_wait_for_their_run_are_bounded_and_each_gives_its_place_back(
    proxy: Served, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "MAX_PENDING", 2)
    waiting = [asyncio.create_task(ask(client, NOBODY)) for _ in range(2)]
    team = proxy.hub.teams["default"]
    await until(lambda: team.runs.leases(NOBODY) == 2)
    refused = await ask(client, NOBODY)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [404, 404]
    assert (await ask(client, NOBODY)).status_code == 404, "there is room again"
    assert team.runs.leases(NOBODY) == 0
    lines = [line for line in proxy.log if line["event"] == "refused"]
    assert [line["limit"] for line in lines if "limit" in line] == ["pending_tickets"]
    assert team.counters.refusals == {"429": 1, "404": 3}
    assert proxy.hub.health().teams[0].limits["pending_tickets"].refused == 1


async def test_a_ticket_gives_its_run_back(engine: Engine, proxy: Served, client: httpx.AsyncClient) -> None:
    run = await engine.trigger("chat", metadata={"user": "ada"})
    assert (await ask(client, run)).status_code == 201
    assert proxy.hub.teams["default"].runs.leases(run) == 0


async def test_a_listed_page_can_read_its_ticket_and_why_it_gets_none(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    mine, other = [await engine.trigger("chat", metadata={"user": user}) for user in ("ada", "bob")]
    for run, status in ((mine, 201), (other, 403), (NOBODY, 404), ("none", 400)):
        asked = {"stream": "chat", "run": run}
        answer = await client.post("/tickets", json=asked, headers={**ADA, "Origin": PAGE})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["cache-control"] == "no-store"


async def test_a_rate_that_is_exceeded_is_counted_as_a_limit(engine: Engine, tmp_path: Path) -> None:
    path = written(tmp_path, "limits: {connects_per_second: 1}")
    async with served(path, engine.env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        answers = [await ask(client, NOBODY, "open") for _ in range(5)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        assert all("connects_per_second" in answer.json()["detail"] for answer in refused)
        limit = proxy.hub.health().teams[0].limits["connects_per_second"]
        assert limit.refused == len(refused)


async def test_while_hatchet_is_away_a_ticket_is_asked_for_again_later(
    engine: Engine, proxy: Served, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat", metadata={"user": "ada"})
    await engine.faults.stop_grpc()
    answer = await ask(client, run)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "trouble with Hatchet" in [line["event"] for line in proxy.log]


async def test_a_run_of_another_workflow_gets_no_ticket(engine: Engine, client: httpx.AsyncClient) -> None:
    await engine.trigger("chat", metadata={"user": "ada"})
    assert (await ask(client, "ada", "of_other_workflow")).status_code == 404


async def test_a_single_team_has_its_tickets_at_one_path_alone(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat", metadata={"user": "ada"})
    assert (await ask(client, run)).status_code == 201
    assert (await ask(client, run, path="/default/tickets")).status_code == 404


async def test_without_a_token_nobody_learns_which_streams_there_are(client: httpx.AsyncClient) -> None:
    asked = [
        await client.post("/tickets", json={"stream": name, "run": NOBODY}) for name in ("chat", "nothing")
    ]
    assert [answer.status_code for answer in asked] == [401, 401]
    assert asked[0].content == asked[1].content
    assert (await ask(client, NOBODY, "nothing")).status_code == 404


async def test_another_method_is_told_which_one_to_use(client: httpx.AsyncClient) -> None:
    for path, methods in (("/tickets", {"POST", "OPTIONS"}), ("/healthz", {"GET", "HEAD"})):
        answer = await client.put(path)
        assert answer.status_code == 405
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.headers["allow"].split(", ")) == methods


async def test_while_the_issuer_is_away_a_ticket_is_asked_for_again_later(
    engine: Engine, tmp_path: Path
) -> None:
    path = written(tmp_path)
    away = f"jwks_url: http://127.0.0.1:{free_port()}/, algorithms: [RS256]"
    path.write_text(path.read_text().replace(f'key: "{SECRET}", algorithms: [HS256]', away))
    headers = {"Authorization": f"Bearer {token(private_key('RS256'), 'RS256', kid='1')}"}
    async with served(path, engine.env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        answer = await client.post("/tickets", json={"stream": "chat", "run": NOBODY}, headers=headers)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
