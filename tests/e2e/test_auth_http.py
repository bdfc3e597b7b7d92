"""Authentication and isolation of several teams on one proxy, over HTTP, on the embedded engine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse

from proxy.server.reloader import Reloader
from proxy.simulator import Engine
from proxy.simulator.script.default import chat
from proxy.simulator.script.model import Step, Workflow, script
from tests.support.issuer import Issuer, jwk, pem, private_key, token
from tests.support.served import Served, served

NOBODY = "00000000-0000-4000-8000-000000000000"
PAGE = {"Origin": "https://app.example.com"}
SECRET = "the secret of the payments team, long enough: 0123456789"
ENDLESS = Workflow("endless", (Step("wait", takes=100_000.0),))
PROXY = """
version: 1
server: {linger: 200ms, drain: {grace: 2s, spread: 1s}}
teams:
  payments:
    hatchet: {token: "${PAYMENTS}"}
    auth:
      jwt: {key: "${SECRET}", audience: streams, algorithms: [HS256], leeway: 0s}
      from: [bearer, cookie:session, ticket]
      tickets: {key: "a key for the tickets of the payments team", lifetime: 10m}
    limits: {connections_per_subject: 2}
  search:
    hatchet: {token: "${SEARCH}"}
    auth:
      jwt: {jwks_url: "${ISSUER}", algorithms: [RS256]}
      from: [bearer, ticket]
      tickets: {key: "a key for the tickets of the payments team", lifetime: 2s}
"""
PAYMENTS = """
version: 1
streams:
  chat:
    path: /chat/{workflowRunId}
    wait_for_run: 200ms
    cors: {origins: ["https://app.example.com"], credentials: true}
    allow: claims.sub == run.metadata.user_id
    rules: [{events: ["*", step_stream], event: run_event, data: {type: type, step: step}}]
  staff:
    path: /staff/{workflowRunId}
    wait_for_run: 200ms
    allow: claims.role == 'staff' && !(claims.banned)
    rules: [{events: ["*", step_stream], event: run_event, data: {type: type}}]
"""
SEARCH = """
version: 1
streams:
  chat:
    path: /chat/{workflowRunId}
    wait_for_run: 200ms
    rules: [{events: ["*", step_stream], event: run_event, data: {type: type}}]
"""


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(script(chat(), ENDLESS), speed=20.0, seed=7, tenants=2) as one:
        yield one


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer([jwk(private_key("RS256"), kid="1")]) as one:
        yield one


@pytest.fixture
def env(engine: Engine, issuer: Issuer) -> dict[str, str]:
    payments, search = engine.env_of(0), engine.env_of(1)
    tokens = {"PAYMENTS": payments.pop("HATCHET_CLIENT_TOKEN"), "SEARCH": search.pop("HATCHET_CLIENT_TOKEN")}
    return {**payments, **tokens, "SECRET": SECRET, "ISSUER": issuer.url}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "teams").mkdir()
    (tmp_path / "proxy.yaml").write_text(PROXY)
    (tmp_path / "teams" / "payments.yaml").write_text(PAYMENTS)
    (tmp_path / "teams" / "search.yaml").write_text(SEARCH)
    return tmp_path


@pytest.fixture
async def proxy(folder: Path, env: dict[str, str]) -> AsyncIterator[Served]:
    async with served(folder, env) as one:
        yield one


@pytest.fixture
async def client(proxy: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as one:
        yield one


def bearer(**claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(SECRET, 'HS256', **{'aud': 'streams', **claims})}"}


def of_search(**claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(private_key('RS256'), kid='1', **claims)}"}


async def run_of(engine: Engine, user: str = "ada", tenant: int = 0) -> str:
    return await engine.trigger("chat", metadata={"user_id": user}, tenant=tenant)


async def frame_names(
    client: httpx.AsyncClient, path: str, headers: dict[str, str] | None = None
) -> list[str]:
    """The names of the frames up to the end of the stream."""
    async with aconnect_sse(client, "GET", path, headers=headers or {}) as source:
        assert source.response.status_code == 200, await source.response.aread()
        return [frame.event async for frame in source.aiter_sse() if frame.data]


async def ask_ticket(
    client: httpx.AsyncClient, run: str, headers: dict[str, str], **more: str
) -> httpx.Response:
    team = more.pop("team", "payments")
    return await client.post(f"/{team}/tickets", json={"stream": "chat", "run": run, **more}, headers=headers)


# -- authentication ---------------------------------------------------------------------------------


async def test_without_credentials_the_answer_is_401_and_says_what_is_accepted(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    for run in (await run_of(engine), NOBODY):  # without credentials the response does not depend on the run
        answer = await client.get(f"/payments/chat/{run}")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="payments"'
        assert answer.json()["detail"] == (
            "no credentials were given; accepted are: a bearer token, the cookie session, a ticket"
        )


async def test_a_token_opens_a_stream_from_the_header_and_from_the_cookie(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await run_of(engine)
    assert (await frame_names(client, f"/payments/chat/{run}", bearer()))[-1] == "stream.end"
    cookie = {"Cookie": "a=b; session=" + bearer()["Authorization"].removeprefix("Bearer ")}
    assert (await frame_names(client, f"/payments/chat/{run}", cookie))[-1] == "stream.end"


async def test_what_is_wrong_with_a_token_is_said_without_the_token(client: httpx.AsyncClient) -> None:
    for claims, reason in (
        ({"exp": int(time.time()) - 5}, "the token has expired"),
        ({"aud": "others"}, "the token is for another audience"),
    ):
        headers = bearer(**claims)
        answer = await client.get(f"/payments/chat/{NOBODY}", headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (401, reason)
        assert headers["Authorization"][-20:] not in str(answer.headers) + answer.text


async def test_a_token_of_one_team_is_refused_by_another(engine: Engine, client: httpx.AsyncClient) -> None:
    run = await run_of(engine, tenant=1)
    assert (await client.get(f"/search/chat/{run}", headers=bearer())).status_code == 401
    assert (await client.get(f"/payments/chat/{run}", headers=of_search())).status_code == 401
    assert (await frame_names(client, f"/search/chat/{run}", of_search()))[-1] == "stream.end"


async def test_clients_wait_while_the_issuer_was_never_reachable(
    engine: Engine, issuer: Issuer, folder: Path, env: dict[str, str]
) -> None:
    issuer.status = 503  # before the start, because the keys are fetched then
    run = await run_of(engine, tenant=1)
    async with served(folder, env) as fresh, httpx.AsyncClient(base_url=fresh.url, timeout=20) as client:
        assert await frame_names(client, f"/search/chat/{run}", of_search()) == ["stream.wait"]
        answer = await client.get(f"/search/chat/{run}", headers={**of_search(), "Accept": "text/html"})
        assert answer.status_code == 503 and "retry-after" in answer.headers
        issuer.status = 200
        assert (await frame_names(client, f"/search/chat/{run}", of_search()))[-1] == "stream.end"


# -- tickets ----------------------------------------------------------------------------------------


async def test_a_ticket_is_accepted_for_its_stream_on_every_replica(
    engine: Engine, client: httpx.AsyncClient, folder: Path, env: dict[str, str]
) -> None:
    run = await run_of(engine)
    asked = time.time()
    answer = await ask_ticket(client, run.upper(), bearer())
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    given = answer.json()
    assert set(given) == {"ticket", "expires_at"}
    expires_at = datetime.fromisoformat(given["expires_at"]).timestamp()
    assert int(asked) + 600 <= expires_at <= time.time() + 600
    path = f"/payments/chat/{run}?ticket={given['ticket']}"
    assert (await frame_names(client, path))[-1] == "stream.end"
    async with served(folder, env) as replica, httpx.AsyncClient(base_url=replica.url) as elsewhere:
        assert (await frame_names(elsewhere, path))[-1] == "stream.end"


async def test_a_ticket_is_refused_for_anything_else(engine: Engine, client: httpx.AsyncClient) -> None:
    run, other = await run_of(engine), await run_of(engine)
    ticket = (await ask_ticket(client, run, bearer(role="staff"))).json()["ticket"]
    for path in (f"/payments/chat/{other}", f"/payments/staff/{run}", f"/search/chat/{run}"):
        answer = await client.get(path, params={"ticket": ticket})
        assert answer.status_code == 401, path
        assert ticket not in answer.text + str(answer.headers)
    as_bearer = await client.get(f"/payments/chat/{run}", headers={"Authorization": f"Bearer {ticket}"})
    assert as_bearer.status_code == 401


async def test_a_ticket_is_issued_only_for_what_allow_accepts(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    hers, his = await run_of(engine), await run_of(engine, "bob")
    assert (await ask_ticket(client, hers, bearer())).status_code == 201
    assert (await ask_ticket(client, his, bearer())).status_code == 403
    assert (await ask_ticket(client, NOBODY, bearer())).status_code == 404
    assert (await ask_ticket(client, hers, {})).status_code == 401
    assert (await ask_ticket(client, hers, bearer(), stream="other")).status_code == 404
    assert (await ask_ticket(client, "not-a-uuid", bearer())).status_code == 400
    bad = await client.post("/payments/tickets", content=b"{", headers=bearer())
    assert bad.status_code == 400 and "expected a JSON object" in bad.json()["detail"]
    huge = await client.post("/payments/tickets", content=b"x" * 5000, headers=bearer())
    assert huge.status_code == 400


async def test_no_ticket_is_issued_for_a_ticket(engine: Engine, client: httpx.AsyncClient) -> None:
    run = await run_of(engine)
    ticket = (await ask_ticket(client, run, bearer())).json()["ticket"]
    again = await client.post(f"/payments/tickets?ticket={ticket}", json={"stream": "chat", "run": run})
    assert again.status_code == 401


async def test_a_ticket_expires_with_its_token_and_allow_is_checked_again(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run, until = await run_of(engine), int(time.time()) + 100
    given = (await ask_ticket(client, run, bearer(exp=until, role="staff"), stream="staff")).json()
    assert datetime.fromisoformat(given["expires_at"]).timestamp() <= until
    assert (await frame_names(client, f"/payments/staff/{run}?ticket={given['ticket']}"))[-1] == "stream.end"
    banned = await ask_ticket(client, run, bearer(role="staff", banned=True), stream="staff")
    assert banned.status_code == 403


async def test_a_stream_ends_when_its_ticket_expires_and_the_next_response_is_401(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("endless", tenant=1)
    given = (await ask_ticket(client, run, of_search(), team="search")).json()
    path = f"/search/chat/{run}?ticket={given['ticket']}"
    names = await frame_names(client, path)
    assert names[-1] == "stream.expired"
    assert time.time() >= datetime.fromisoformat(given["expires_at"]).timestamp()
    assert (await client.get(path)).status_code == 401


async def test_a_ticket_never_appears_in_a_log(
    engine: Engine, client: httpx.AsyncClient, proxy: Served
) -> None:
    run = await run_of(engine)
    ticket = (await ask_ticket(client, run, bearer())).json()["ticket"]
    await frame_names(client, f"/payments/chat/{run}?ticket={ticket}")
    await client.get(f"/payments/chat/{run}?ticket={ticket}x")
    await client.get(f"/payments/nothing/{run}?ticket={ticket}")
    assert ticket[:30] not in proxy.written.getvalue()
    assert ticket[:30] not in (await client.get("/metrics")).text


# -- allow --------------------------------------------------------------------------------------------


async def test_another_users_run_is_refused_and_another_teams_run_is_unknown(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    his, theirs = await run_of(engine, "bob"), await run_of(engine, tenant=1)
    refused = await client.get(f"/payments/chat/{his}", headers=bearer())
    assert (refused.status_code, refused.json()["detail"]) == (
        403,
        "the rules of this stream do not allow you this run",
    )
    missing = await client.get(f"/payments/chat/{NOBODY}", headers=bearer())
    of_others = await client.get(f"/payments/chat/{theirs}", headers=bearer())
    assert missing.status_code == of_others.status_code == 404
    assert missing.content == of_others.content
    drop = {"date", "content-length"}
    assert [h for h in missing.headers.items() if h[0] not in drop] == [
        h for h in of_others.headers.items() if h[0] not in drop
    ]


@pytest.mark.parametrize(
    "claims",
    [{"sub": None}, {"sub": ""}, {"sub": None, "user_id": "ada"}, {"sub": "ADA"}, {"sub": "ada "}],
)
async def test_allow_refuses_missing_empty_and_similar_values(
    engine: Engine, client: httpx.AsyncClient, claims: dict[str, Any]
) -> None:
    owned, unowned = await run_of(engine), await engine.trigger("chat")
    for run in (owned, unowned):
        assert (await client.get(f"/payments/chat/{run}", headers=bearer(**claims))).status_code == 403


async def test_an_end_cursor_is_204_with_good_credentials_only_and_without_asking_allow(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await run_of(engine)
    async with aconnect_sse(client, "GET", f"/payments/chat/{run}", headers=bearer()) as source:
        end = [frame async for frame in source.aiter_sse()][-1].id
    path, cursor = f"/payments/chat/{run}", {"Last-Event-ID": end}
    assert (await client.get(path, headers={**bearer(sub="bob"), **cursor})).status_code == 204
    assert (await client.get(path, headers=cursor)).status_code == 401


# -- pages ----------------------------------------------------------------------------------------------


async def test_a_foreign_page_is_refused_before_hatchet_is_called(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await run_of(engine)
    cookie = {"Cookie": "session=" + bearer()["Authorization"].removeprefix("Bearer ")}
    for page in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        for answer in (
            await client.get(f"/payments/chat/{run}", headers={**cookie, **page}),
            await ask_ticket(client, run, {**cookie, **page}),
        ):
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
    listed = await client.head(
        f"/payments/chat/{run}", headers={**cookie, **PAGE, "Sec-Fetch-Site": "cross-site"}
    )
    assert listed.status_code == 200
    assert listed.headers["access-control-allow-credentials"] == "true"


async def test_a_listed_page_can_read_why_it_is_refused(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.get(f"/payments/chat/{NOBODY}", headers=PAGE),
        await ask_ticket(client, NOBODY, PAGE),
    ):
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == PAGE["Origin"]


async def test_a_page_gets_no_ticket_for_a_stream_that_does_not_list_it(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await run_of(engine)
    assert (await ask_ticket(client, run, {**bearer(), **PAGE})).status_code == 201
    answer = await ask_ticket(client, run, {**bearer(role="staff"), **PAGE}, stream="staff")
    assert answer.status_code == 403


async def test_a_preflight_for_tickets_is_answered(client: httpx.AsyncClient) -> None:
    asking = {**PAGE, "Access-Control-Request-Method": "POST"}
    answer = await client.options("/payments/tickets", headers=asking)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    foreign = await client.options("/payments/tickets", headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403


# -- secrets that change ------------------------------------------------------------------------------------


async def test_a_secret_file_is_read_again_on_reload_and_older_tokens_are_refused(
    engine: Engine, folder: Path, env: dict[str, str], tmp_path: Path
) -> None:
    keys = tmp_path / "jwt-key", tmp_path / "ticket-key"
    for key in keys:
        key.write_text(SECRET + "\n")
    config = PROXY.replace("${SECRET}", f"${{file:{keys[0]}}}")
    config = config.replace('"a key for the tickets of the payments team"', f'"${{file:{keys[1]}}}"')
    (folder / "proxy.yaml").write_text(config)
    run = await run_of(engine)
    async with served(folder, env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        ticket = (await ask_ticket(client, run, bearer())).json()["ticket"]
        path = f"/payments/chat/{run}"
        assert (await client.head(f"{path}?ticket={ticket}")).status_code == 200
        for key in keys:
            key.write_text("another secret of the payments team, as long: 0123456789")
        await proxy.reloader.reload()
        assert (await client.head(path, headers=bearer())).status_code == 401
        assert (await client.head(f"{path}?ticket={ticket}")).status_code == 401
        renewed = token("another secret of the payments team, as long: 0123456789", "HS256", aud="streams")
        assert (await client.head(path, headers={"Authorization": f"Bearer {renewed}"})).status_code == 200


async def test_a_public_key_in_a_file_verifies_tokens(
    engine: Engine, folder: Path, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "public.pem").write_text(pem(private_key("ES256", "first")))
    config = PROXY.replace(
        'jwks_url: "${ISSUER}", algorithms: [RS256]',
        f'key: "${{file:{tmp_path}/public.pem}}", algorithms: [ES256]',
    )
    (folder / "proxy.yaml").write_text(config)
    run = await run_of(engine, tenant=1)
    async with served(folder, env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        good, bad = (token(private_key("ES256", name), "ES256") for name in ("first", "second"))
        for signed, status in ((good, 200), (bad, 401)):
            answer = await client.head(f"/search/chat/{run}", headers={"Authorization": f"Bearer {signed}"})
            assert answer.status_code == status


# -- limits -----------------------------------------------------------------------------------------------


async def test_over_its_limit_a_subject_waits_and_others_do_not(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run, his = await run_of(engine), await run_of(engine, "bob")
    path = f"/payments/chat/{run}"
    async with (
        client.stream("GET", path, headers=bearer()) as one,
        client.stream("GET", path, headers=bearer()) as two,
    ):
        assert (one.status_code, two.status_code) == (200, 200)
        assert await frame_names(client, path, bearer()) == ["stream.wait"]
        impatient = await client.get(path, headers={**bearer(), "Accept": "application/json"})
        assert impatient.status_code == 429 and "retry-after" in impatient.headers
        assert (await frame_names(client, f"/payments/chat/{his}", bearer(sub="bob")))[-1] == "stream.end"
    async with asyncio.timeout(10):
        while (await frame_names(client, path, bearer()))[-1] != "stream.end":
            continue  # until the proxy has noticed that the two are gone


async def test_runs_without_clients_are_closed_for_new_ones(
    engine: Engine, folder: Path, env: dict[str, str]
) -> None:
    config = PROXY.replace("linger: 200ms", "linger: 1m").replace("connections_per_subject: 2", "runs: 2")
    (folder / "proxy.yaml").write_text(config)
    runs = [await engine.trigger("endless", metadata={"user_id": "ada"}) for _ in range(5)]
    async with served(folder, env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        followed = proxy.hub.teams["payments"].runs
        for run in runs:
            async with client.stream("GET", f"/payments/chat/{run}", headers=bearer()) as stream:
                assert stream.status_code == 200
                assert followed.get(run) is not None and len(followed) <= 2
                await anext(stream.aiter_raw())
            async with asyncio.timeout(10):
                while followed.leases(run):
                    await asyncio.sleep(0)
        assert [session.run_id for session in followed] == runs[-2:]


async def test_ticket_requests_over_the_rate_get_429_with_retry_after(
    engine: Engine, folder: Path, env: dict[str, str]
) -> None:
    proxy_yaml = PROXY.replace("connections_per_subject: 2", "connects_per_second: 3")
    (folder / "proxy.yaml").write_text(proxy_yaml)
    run = await run_of(engine)
    async with served(folder, env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        answers = [await ask_ticket(client, run, bearer()) for _ in range(6)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:3] == [201] * 3 and 429 in statuses
        assert "retry-after" in answers[statuses.index(429)].headers


# -- teams without auth ------------------------------------------------------------------------------------


async def test_beyond_loopback_a_reload_opens_a_team_only_for_auth_none(
    engine: Engine, folder: Path, env: dict[str, str]
) -> None:
    run = await run_of(engine)
    async with served(folder, env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        beyond = Reloader(folder, env, proxy.hub, proxy.hub.event_log, on_loopback=False)
        block = PROXY[PROXY.index("    auth:") : PROXY.index("    limits:")]
        for written, status in (
            ("", 401),
            ("    auth: none\n", 403),
        ):  # 403: without auth there are no claims
            (folder / "proxy.yaml").write_text(PROXY.replace(block, written))
            await beyond.reload()
            assert (await client.get(f"/payments/chat/{run}")).status_code == status
        assert "`auth` is missing for payments" in proxy.written.getvalue()


# -- teams --------------------------------------------------------------------------------------------------


async def test_clients_of_a_broken_team_wait_and_other_teams_are_not_affected(
    engine: Engine, folder: Path, env: dict[str, str]
) -> None:
    (folder / "teams" / "payments.yaml").write_text("version: 1\nstreams: [")
    run = await run_of(engine, tenant=1)
    async with served(folder, env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        assert (await frame_names(client, f"/search/chat/{run}", of_search()))[-1] == "stream.end"
        assert await frame_names(client, f"/payments/chat/{NOBODY}", bearer()) == ["stream.wait"]
        ticket = await client.post("/payments/tickets", json={"stream": "chat", "run": NOBODY})
        assert (ticket.status_code, "retry-after" in ticket.headers) == (503, True)
        (folder / "teams" / "payments.yaml").write_text(PAYMENTS)
        await proxy.reloader.reload()
        hers = await run_of(engine)
        assert (await frame_names(client, f"/payments/chat/{hers}", bearer()))[-1] == "stream.end"


@pytest.mark.parametrize(
    "secret",
    [
        "hatchet: {token: x}",
        "auth: none",
        "limits: {connections: 1}",
        "server: {port: 1}",
        "teams: {search: {hatchet: {token: x}}}",
        "shapes: {s: {a: '${SEARCH}'}}",
        "shapes: {s: {a: '${file:/etc/passwd}'}}",
    ],
)
async def test_a_team_file_names_no_secret_address_or_other_team(
    folder: Path, env: dict[str, str], secret: str
) -> None:
    (folder / "teams" / "payments.yaml").write_text(PAYMENTS + secret + "\n")
    async with served(folder, env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        assert await frame_names(client, f"/payments/chat/{NOBODY}") == ["stream.wait"]
        assert env["SEARCH"] not in proxy.written.getvalue()
        assert json.loads((await client.get("/readyz")).text)["teams"]["search"]
