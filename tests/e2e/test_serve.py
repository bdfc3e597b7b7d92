"""The command ``serve`` as an operator uses it: exit statuses, messages, signals, reload."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import httpx
import pytest
from httpx_sse import aconnect_sse

from proxy.simulator import Engine
from proxy.simulator.script.model import Step, Workflow, script
from tests.support.delivery import SlowSocket
from tests.support.secrets import HATCHET_TOKEN
from tests.support.served import BIN, Command
from tests.support.waiting import until

FULL = 800_000  # bytes: more than the buffers of a socket and of a connection hold
YAML = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN:?make one in the dashboard}"}
server: {drain: {grace: 3s, spread: 1s}}
streams:
  chat:
    path: /message/{workflowRunId}
    rules: [{events: ["*", step_stream], data: {type: type, version: "'one'"}}]
"""

TOKEN: Final = {"HATCHET_CLIENT_TOKEN": HATCHET_TOKEN}


def stream_proxy(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {
        key: value for key, value in os.environ.items() if not key.startswith(("HATCHET_", "STREAM_PROXY"))
    }
    return subprocess.run(
        [str(BIN / "stream-proxy"), *arguments],
        env=clean | env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    path = tmp_path / "streams.yaml"
    path.write_text(YAML)
    return path


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(speed=5.0, seed=3) as one:
        yield one


def test_a_missing_token_is_one_sentence_that_names_it(yaml: Path) -> None:
    done = stream_proxy("serve", "--config", str(yaml))
    assert done.returncode == 1
    assert "HATCHET_CLIENT_TOKEN" in done.stderr
    assert "make one in the dashboard" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_or_unreadable_path_is_a_usage_error(tmp_path: Path) -> None:
    for arguments in (("serve",), ("serve", "--config", str(tmp_path / "none.yaml"))):
        done = stream_proxy(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_a_taken_port_is_status_three_and_one_sentence(yaml: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = stream_proxy(
            "serve", "--config", str(yaml), "--port", str(port), HATCHET_CLIENT_TOKEN=HATCHET_TOKEN
        )
    assert done.returncode == 3
    assert f"127.0.0.1:{port}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_beyond_loopback_authentication_must_be_configured(yaml: Path) -> None:
    done = stream_proxy(
        "serve", "--config", str(yaml), "--host", "0.0.0.0", HATCHET_CLIENT_TOKEN=HATCHET_TOKEN
    )
    assert done.returncode == 1
    assert "auth: none" in done.stderr


async def test_sigterm_drains_and_ends_with_zero(yaml: Path, engine: Engine) -> None:
    proxy = await Command(yaml, engine.env).start()
    run = await engine.trigger("chat")
    names: list[str] = []
    async with (
        httpx.AsyncClient(base_url=proxy.url, timeout=20) as client,
        aconnect_sse(client, "GET", f"/message/{run}") as source,
    ):
        async for frame in source.aiter_sse():
            if not names:
                proxy.terminate()
            names.append(frame.event)
    assert names[-1] == "stream.drain"
    assert await proxy.ended() == 0
    assert not [line for line in proxy.lines if "Traceback" in line]


async def test_a_second_sigterm_ends_a_drain_that_a_stuck_client_holds_up(tmp_path: Path) -> None:
    yaml = tmp_path / "streams.yaml"
    forwarding = YAML.replace("data: {type:", "data: {result: payload, type:")
    yaml.write_text(forwarding.replace("grace: 3s", "grace: 10m"))
    large = {"text": "x" * (FULL // 2)}
    first, second = (
        Step("first", takes=0.05, output=large),
        Step("second", ("first",), takes=0.05, output=large),
    )
    workflow = Workflow("long", (first, second, Step("wait", ("second",), takes=600.0, timeout=900.0)))
    async with Engine(script(workflow), seed=3) as engine:
        proxy = await Command(yaml, engine.env).start()
        run = await engine.trigger("long")
        stuck = await SlowSocket(proxy.url, f"/message/{run}").open()
        received = 0
        async with (
            httpx.AsyncClient(base_url=proxy.url, timeout=60) as client,
            client.stream("GET", f"/message/{run}") as stream,
        ):
            async for piece in stream.aiter_raw():
                received += len(piece)
                if received > FULL:  # so the other client, which reads nothing, has full buffers
                    break
        proxy.terminate()
        while True:
            line = await asyncio.to_thread(proxy.process.stderr.readline)  # type: ignore[union-attr]
            if json.loads(line)["event"] == "draining":
                break
        proxy.terminate()
        assert await proxy.ended() == 1
        assert not [line for line in proxy.lines if "stopped" in line], "it waited for the drain"
        stuck.close()


async def test_serve_starts_while_hatchet_is_unreachable_and_streams_once_it_answers(
    yaml: Path, engine: Engine
) -> None:
    run = await engine.trigger("chat")
    await engine.faults.stop_grpc()
    proxy = await Command(yaml, engine.env).start()
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as client:
        first = await client.get(f"/message/{run}")
        assert 'event: stream.wait\ndata: {"cause":"hatchet"}' in first.text
        await engine.faults.start_grpc()
        texts: list[str] = []

        async def streams() -> bool:
            texts.append((await client.get(f"/message/{run}")).text)
            return "stream.wait" not in texts[-1]

        await until(streams, "Hatchet is back")
        assert 'event: stream.end\ndata: {"status":"completed"}' in texts[-1]
    proxy.terminate()
    assert await proxy.ended() == 0
    assert [line for line in proxy.lines if "trouble with Hatchet" in line]


async def test_a_changed_file_becomes_live_and_a_broken_one_never(yaml: Path, engine: Engine) -> None:
    proxy = await Command(yaml, engine.env).start()
    run = await engine.trigger("chat")

    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as client:

        async def version() -> str:
            text = (await client.get(f"/message/{run}")).text
            return "two" if '"two"' in text else "one"

        async def standing() -> str:
            answer = await client.get("/readyz")
            assert answer.status_code == 200
            return str(answer.json()["teams"]["default"]["config"]["state"])

        async def becomes(asked: Callable[[], Awaitable[str]], wanted: str) -> None:
            async def is_so() -> bool:
                return await asked() == wanted

            await until(is_so, f"{asked.__name__}: {wanted}")

        assert await version() == "one"
        other = yaml.with_name("other.yaml")
        other.write_text(YAML.replace("'one'", "'two'"))
        other.rename(yaml)
        await becomes(version, "two")
        yaml.write_text(YAML.replace("events:", "evnts:"))
        await becomes(standing, "last good")
        assert await version() == "two"
        yaml.write_text(YAML)
        await becomes(standing, "current")
        assert await version() == "one"
    proxy.terminate()
    assert await proxy.ended() == 0
    logged = [json.loads(line)["event"] for line in proxy.lines]
    assert logged.count("reload failed") == 1
    assert logged.count("reloaded") == 2


async def test_sighup_reloads_at_once(yaml: Path, engine: Engine) -> None:
    proxy = await Command(yaml, engine.env).start()
    yaml.write_text(YAML.replace("events:", "evnts:"))
    proxy.process.send_signal(signal.SIGHUP)
    line = await asyncio.to_thread(proxy.process.stderr.readline)  # type: ignore[union-attr]
    assert json.loads(line)["event"] == "reload failed"
    proxy.terminate()
    await proxy.ended()


async def test_sigquit_drains_and_sigusr_does_nothing(yaml: Path, engine: Engine) -> None:
    proxy = await Command(yaml, engine.env).start()
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        proxy.process.send_signal(number)
    async with httpx.AsyncClient(base_url=proxy.url) as client:
        assert (await client.get("/healthz")).status_code == 200
    proxy.process.send_signal(signal.SIGQUIT)
    assert await proxy.ended() == 0
    assert [json.loads(line)["event"] for line in proxy.lines][-2:] == ["draining", "stopped"]
