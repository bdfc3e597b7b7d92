"""What surrounds the process: a log that nobody reads, closed descriptors, pipes among the files."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from proxy.simulator import Engine
from tests.support.processes import free_port, running
from tests.support.secrets import HATCHET_TOKEN
from tests.support.served import BIN, Command
from tests.support.waiting import until

YAML: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}
server: {drain: {grace: 3s, spread: 1s}}
streams:
  chat: {path: "/message/{workflowRunId}", rules: [{events: "*"}]}
"""
SMALLEST_PIPE: Final = 4096  # bytes: a page, the least that F_SETPIPE_SZ gives
EXIT: Final = 30.0  # seconds until a process must be gone


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "streams.yaml"
    path.write_text(YAML)
    return path


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(speed=5.0, seed=3) as one:
        yield one


async def test_a_log_that_is_not_read_stops_neither_streams_nor_sigterm(file: Path, engine: Engine) -> None:
    port = free_port()
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    process = await asyncio.create_subprocess_exec(
        *(str(BIN / "stream-proxy"), "serve", "--config", str(file), "--port", str(port)),
        env={**os.environ, **engine.env},
        stderr=write,
    )
    os.close(write)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

            async def answers() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get("/healthz")).status_code == 200
                return False

            await until(answers, within=30)
            # Each stream writes a line when it ends; an end cursor's 204 needs no Hatchet.
            run = await engine.trigger("chat")
            for _ in range(60):
                text = (await client.get(f"/message/{run}")).text
                assert "stream.end" in text
            assert process.returncode is None
            os.set_blocking(read, False)
            printed = b""

            async def reports() -> bool:
                nonlocal printed
                with contextlib.suppress(BlockingIOError):
                    printed += os.read(read, 1 << 16)
                return printed.count(b"stream over") == 60

            await until(reports, within=30)
            for _ in range(60):  # and again, without a reader, until the signal
                await client.get(f"/message/{run}")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(EXIT):
            assert await process.wait() == 0
    finally:
        os.close(read)
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
async def test_a_process_that_is_started_with_closed_descriptors_serves(
    file: Path, engine: Engine, closed: str
) -> None:
    port = free_port()
    line = f"exec {BIN / 'stream-proxy'} serve --config {file} --port {port} {closed}"
    async with running(program=("sh", "-c", line), env=engine.env) as one:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

            async def answers() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get("/healthz")).status_code == 200
                return False

            await until(answers, within=30)
            run = await engine.trigger("chat")
            assert "stream.end" in (await client.get(f"/message/{run}")).text
        assert await one.stop() == 0


@pytest.mark.parametrize("command", [["check", "{file}"], ["--version"], ["test", "{file}"], ["serve"]])
def test_other_commands_work_with_closed_descriptors_too(file: Path, command: list[str]) -> None:
    words = " ".join(word.format(file=file) for word in command)
    done = subprocess.run(
        ["sh", "-c", f"{BIN / 'stream-proxy'} {words} <&- >&- 2>&-"],
        env={**os.environ, "HATCHET_CLIENT_TOKEN": HATCHET_TOKEN},
        check=False,
        timeout=50,
    )
    assert done.returncode == (2 if command == ["serve"] else 0)


PROXY: Final = """
version: 1
server: {drain: {grace: 3s, spread: 1s}}
teams:
  a: {hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}}
  b: {hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}}
"""
TEAM: Final = YAML.partition("hatchet:")[0] + "streams:" + YAML.partition("streams:")[2]


@pytest.mark.parametrize("kind", ["fifo", "a link to standard error"])
async def test_a_pipe_in_the_teams_folder_keeps_no_other_team_from_reloading_nor_the_process_from_ending(
    tmp_path: Path, engine: Engine, kind: str
) -> None:
    teams = tmp_path / "teams"
    teams.mkdir()
    (tmp_path / "proxy.yaml").write_text(PROXY)
    (teams / "a.yaml").write_text(TEAM)
    proxy = await Command(tmp_path, engine.env).start()
    if kind == "fifo":
        os.mkfifo(teams / "b.yaml")
    else:
        (teams / "b.yaml").symlink_to("/dev/stderr")
    (teams / "a.yaml").write_text(TEAM.replace("/message/", "/changed/"))
    run = await engine.trigger("chat")
    async with httpx.AsyncClient(base_url=proxy.url, timeout=30) as client:

        async def changed() -> bool:
            answer = await client.get(f"/a/changed/{run}")
            return answer.status_code == 200

        await until(changed, within=30)
        trouble = (await client.get("/readyz?team=b")).json()["teams"]["b"]["config"]
        assert "not a regular file" in trouble["problem"]
    proxy.terminate()
    async with asyncio.timeout(EXIT):
        assert await proxy.ended() == 0


# -- the environment of a pod --


async def test_the_address_that_kubernetes_sets_for_a_service_is_no_port(file: Path, engine: Engine) -> None:
    env = {**engine.env, "STREAM_PROXY_PORT": "tcp://10.96.12.5:80"}
    file.write_text(YAML.replace("server: {", "server: {port: 0, "))
    async with running("serve", "--config", file, env=env) as one:
        await one.wait_for_output(r"(http://127\.0\.0\.1:\d+)/")
        assert await one.stop() == 0


@pytest.mark.parametrize("value", ["http", "70000", "-1", "8080/tcp", "10.96.12.5:80"])
def test_a_port_in_the_environment_that_is_none_is_refused_with_the_variables_name(
    file: Path, value: str
) -> None:
    done = subprocess.run(
        [str(BIN / "stream-proxy"), "serve", "--config", str(file)],
        env={**os.environ, "HATCHET_CLIENT_TOKEN": HATCHET_TOKEN, "STREAM_PROXY_PORT": value},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 2
    assert "STREAM_PROXY_PORT" in done.stderr


def test_the_images_health_check_survives_such_an_address() -> None:
    text = (Path(__file__).resolve().parents[2] / "Containerfile").read_text()
    (found,) = re.findall(r'CMD (\["python3", "-c", .*\])', text)
    program = json.loads(found)
    done = subprocess.run(
        [sys.executable, *program[1:]],
        env={**os.environ, "STREAM_PROXY_PORT": "tcp://10.96.12.5:80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert "ValueError" not in done.stderr, "only a refused connection is possible here"


# -- a file that is broken --


@pytest.mark.parametrize("command", ["serve", "test", "watch", "explain"])
def test_a_broken_file_is_shown_as_check_shows_it(file: Path, command: str) -> None:
    file.write_text(YAML.replace("events", "evnets"))
    words = {
        "serve": ["serve", "--config", str(file)],
        "test": ["test", str(file)],
        "watch": ["watch", "8ff4f149-099e-4c16-a8d1-0535f8c79b83", "--config", str(file)],
        "explain": ["explain", str(file), "--stream", "chat", "--event", '{"type": "step_completed"}'],
    }[command]
    shown = []
    for each in (words, ["check", str(file)]):
        done = subprocess.run(
            [str(BIN / "stream-proxy"), *each],
            env={**os.environ, "HATCHET_CLIENT_TOKEN": HATCHET_TOKEN},
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
        assert done.returncode == 1
        shown.append(done.stdout + done.stderr)
    assert "^" in shown[0]
    assert shown[0] == shown[1]
