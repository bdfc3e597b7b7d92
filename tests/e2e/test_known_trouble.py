"""Trouble that is known without a client: an issuer without keys, a limit, a team that cannot be served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.simulator import Engine
from proxy.simulator.script.default import chat
from proxy.simulator.script.model import Step, Workflow, script
from tests.e2e.test_wire import BOTH, LISTED, NOBODY, YAML, ask, bearer
from tests.support.issuer import Issuer, jwk, private_key
from tests.support.served import Served, served
from tests.support.waiting import until

WITH_ISSUER = """
version: 1
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}"}}
auth: {{jwt: {{jwks_url: "{url}", audience: streams, algorithms: [RS256]}}}}
streams:
  live: {{path: "/live/{{workflowRunId}}", rules: [{{events: step_completed}}]}}
"""


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    endless = Workflow("endless", (Step("wait", takes=100_000.0),))
    async with Engine(script(chat(), endless), speed=20.0, seed=7) as one:
        yield one


async def readiness(proxy: Served, query: str = "") -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(base_url=proxy.url) as client:
        answer = await client.get(f"/readyz{query}")
        return answer.status_code, answer.json()["teams"]["default"]


async def metrics(proxy: Served) -> str:
    async with httpx.AsyncClient(base_url=proxy.url) as client:
        return (await client.get("/metrics")).text


def lines(proxy: Served, event: str) -> list[dict[str, Any]]:
    return [line for line in proxy.log if line["event"] == event]


async def test_what_an_issuer_answers_instead_of_keys_is_logged_while_nobody_is_connected(
    engine: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "streams.yaml"
    discovery = b'{"issuer": "https://id.example.com", "jwks_uri": "https://id.example.com/keys"}'
    async with Issuer([jwk(private_key("RS256"), kid="1")], body=discovery) as issuer:
        path.write_text(WITH_ISSUER.format(url=issuer.url))
        async with served(path, engine.env) as proxy:
            await until(lambda: lines(proxy, "trouble with the issuer"))
            (line,) = lines(proxy, "trouble with the issuer")
            assert "discovery document" in line["why"] and "jwks_uri" in line["why"]
            status, team = await readiness(proxy, "?strict")
            assert (status, team["issuer"]["trouble"]) == (503, line["why"])
            assert 'stream_proxy_issuer_up{team="default"} 0.0' in await metrics(proxy)


@BOTH
async def test_the_log_the_metrics_and_readyz_say_which_limit_is_reached(
    engine: Engine, tmp_path: Path, extra: tuple[str, ...]
) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text(YAML)
    async with served(path, engine.env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        run = await engine.trigger("endless")
        name, _, value = bearer().partition(": ")
        async with client.stream("GET", f"/live/{run}", headers={name: value}) as first:
            assert first.status_code == 200
            pieces = first.aiter_raw()  # kept: the response is closed with its iterator
            await anext(pieces)
            response = await ask(proxy, f"GET /live/{run}", bearer(), *extra)
            assert b"stream.wait" in response.body
            (line,) = lines(proxy, "refused")
            assert (line["reason"], line["limit"]) == ("wait_limit", "connections_per_run")
            assert "connections_per_run" in line["why"]
            status, team = await readiness(proxy, "?strict")
            (limit,) = team["limits"]
            assert status == 200
            assert (limit["limit"], limit["used"], limit["of"], limit["refused"]) == (
                *("connections_per_run", 1, 1, 1),
            )
            text = await metrics(proxy)
            for sample in ("limit", "limit_used", "limit_refusals_total"):
                assert f'stream_proxy_{sample}{{limit="connections_per_run",team="default"}} 1.0' in text


# -- a team no version of which was ever good, in the single-file form -----------------------------------

FAILING = """
tests:
  - {name: it fails, stream: live, given: {type: step_completed, step: a}, expect: nothing}
"""


@BOTH
@pytest.mark.parametrize("path", [f"/live/{NOBODY}", "/anything", "/a/b/c", "/live/undefined"])
async def test_a_single_file_that_was_never_good_lets_clients_wait(
    engine: Engine, tmp_path: Path, path: str, extra: tuple[str, ...]
) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(YAML + FAILING)
    async with served(file, engine.env) as proxy:
        response = await ask(proxy, f"GET {path}", LISTED, *extra)
        assert response.status == 200
        assert b'event: stream.wait\ndata: {"cause":"config"}' in response.body
        assert response.headers["access-control-allow-origin"] == LISTED.removeprefix("Origin: ")
        preflight = await ask(
            proxy,
            f"OPTIONS {path}",
            LISTED,
            "Access-Control-Request-Method: GET",
            "Access-Control-Request-Headers: authorization",
            *extra,
        )
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-headers"] == "authorization"
        assert (await ask(proxy, "GET /healthz", *extra)).status == 200
        status, team = await readiness(proxy, "?strict")
        assert (status, team["config"]["state"]) == (503, "broken")
        ticket = await ask(proxy, "POST /tickets", LISTED, "Content-Length: 2", body=b"{}")
        assert ticket.status == 503
        file.write_text(YAML)
        await proxy.reloader.reload()
        assert (await ask(proxy, f"GET /live/{NOBODY}", *extra)).status == 401
