"""Trouble that no client meets is known within a minute: in /readyz, one log line, a metric."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from proxy.simulator import Engine
from tests.support.processes import free_port
from tests.support.served import Served, served
from tests.support.waiting import until

YAML: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}
AUTH
streams:
  chat: {path: "/message/{workflowRunId}", rules: [{events: "*"}]}
  found: {path: "/found/{metadata.message_id}", wait_for_run: 1s, rules: [{events: "*"}]}
"""
AUTH: Final = 'auth: {jwt: {jwks_url: "http://127.0.0.1:PORT/jwks", audience: a, algorithms: [RS256]}}'


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty seconds are a fiftieth of a second."""
    monkeypatch.setattr("proxy.teams.prober.EVERY", 0.02)
    monkeypatch.setattr("proxy.teams.monitored_upstream.IDLE", 0.0)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(speed=5.0, seed=3) as one:
        yield one


def file(folder: Path, auth: str = "") -> Path:
    path = folder / "streams.yaml"
    path.write_text(YAML.replace("AUTH", auth))
    return path


async def looked_up(proxy: Served) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=proxy.url, timeout=30) as client:
        found: dict[str, Any] = (await client.get("/readyz")).json()["teams"]["default"]
        return found


async def metric(proxy: Served, name: str) -> float:
    async with httpx.AsyncClient(base_url=proxy.url, timeout=30) as client:
        text = (await client.get("/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith(f"stream_proxy_{name}{{")]
    return float(line.rpartition(" ")[2])


def lines(proxy: Served, event: str) -> list[dict[str, Any]]:
    return [line for line in proxy.log if line["event"] == event]


async def test_hatchet_that_dies_and_comes_back_while_nobody_is_connected(
    engine: Engine, tmp_path: Path
) -> None:
    async with served(file(tmp_path), engine.env) as proxy:

        async def state() -> str:
            return str((await looked_up(proxy))["upstream"]["state"])

        async def away() -> bool:
            return await state() == "away"

        async def back() -> bool:
            return await state() == "reachable"

        await until(back, within=30)
        await engine.faults.stop_grpc()
        await until(away, within=30)
        async with httpx.AsyncClient(base_url=proxy.url, timeout=30) as client:
            assert (await client.get("/readyz?strict")).status_code == 503
        assert await metric(proxy, "upstream_up") == 0
        assert [line["kind"] for line in lines(proxy, "trouble with Hatchet")] == ["HatchetAway"], "one line"
        await engine.faults.start_grpc()
        await until(back, within=30)
        assert len(lines(proxy, "Hatchet answers again")) == 1


@pytest.mark.parametrize("path", ["/wrong", "/api/v2", "/login"])
async def test_a_history_at_a_wrong_path_is_reported_without_a_run(
    engine: Engine, tmp_path: Path, path: str
) -> None:
    env = {**engine.env, "HATCHET_CLIENT_SERVER_URL": engine.env["HATCHET_CLIENT_SERVER_URL"] + path}
    async with served(file(tmp_path), env) as proxy:

        async def is_logged() -> bool:
            return "trouble" in (await looked_up(proxy))["history"]

        await until(is_logged, within=30)
        assert "hatchet.api" in (await looked_up(proxy))["history"]["trouble"]
        assert await metric(proxy, "history_up") == 0
        assert await metric(proxy, "upstream_up") == 1
        assert [line["kind"] for line in lines(proxy, "trouble with Hatchet")] == ["HistoryAway"]


@pytest.mark.parametrize("path", ["", "/", "/api", "/api/v1", "/api/v1/", "/api/v1/stable"])
async def test_a_server_url_that_ends_in_the_apis_own_path_is_corrected(
    engine: Engine, tmp_path: Path, path: str
) -> None:
    env = {**engine.env, "HATCHET_CLIENT_SERVER_URL": engine.env["HATCHET_CLIENT_SERVER_URL"] + path}
    async with served(file(tmp_path), env) as proxy:

        async def fine() -> bool:
            return bool((await looked_up(proxy))["history"]["state"] == "reachable")

        await until(fine, within=30)
        assert await metric(proxy, "history_up") == 1


async def test_an_issuer_without_keys_is_said_without_a_token(engine: Engine, tmp_path: Path) -> None:
    path = file(tmp_path, AUTH.replace("PORT", str(free_port())))
    async with served(path, engine.env) as proxy:

        async def is_logged() -> bool:
            return "trouble" in (await looked_up(proxy))["issuer"]

        await until(is_logged, within=30)
        assert "the issuer at 127.0.0.1 cannot be reached" in (await looked_up(proxy))["issuer"]["trouble"]
        assert await metric(proxy, "issuer_up") == 0
        assert len(lines(proxy, "trouble with the issuer")) == 1


async def test_a_team_without_an_issuer_has_no_trouble_with_it(engine: Engine, tmp_path: Path) -> None:
    async with served(file(tmp_path), engine.env) as proxy:
        assert (await looked_up(proxy))["issuer"] == {"state": "off"}
        assert await metric(proxy, "issuer_up") == 1


async def test_a_number_in_a_metadata_path_that_finds_no_run_is_explained_in_the_log(
    engine: Engine, tmp_path: Path
) -> None:
    async with (
        served(file(tmp_path), engine.env) as proxy,
        httpx.AsyncClient(base_url=proxy.url, timeout=30) as client,
    ):
        assert (await client.get("/found/4242")).status_code == 404
        assert (await client.get("/found/a-text")).status_code == 404
        (line,) = lines(proxy, "metadata value is not text")
        assert line["key"] == "message_id"
        assert "texts" in line["remedy"]


async def test_the_line_of_a_stream_has_the_gaps_of_its_client_by_cause(
    engine: Engine, tmp_path: Path
) -> None:
    async with (
        served(file(tmp_path), engine.env) as proxy,
        httpx.AsyncClient(base_url=proxy.url, timeout=30) as client,
    ):
        run = await engine.trigger("chat")
        await client.get(f"/message/{run}", headers={"Last-Event-ID": "not-a-cursor"})
        (line,) = lines(proxy, "stream over")
        assert line["gaps_unknown_cursor"] == 1
        assert line["gaps"] >= 1
