"""``stream-proxy engine`` and ``record`` as an operator uses them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.commands.engine import command as engine_command
from proxy.cli.commands.record import command as record_command
from proxy.simulator import Engine
from proxy.simulator.recordings.client import Client
from tests.support.contract import NOBODY, place

TESTS = Path(__file__).parent.parent
RUN = [sys.executable, "-c", "from proxy.cli.main import start; start()", "engine"]
FREE = ["--port", "0", "--api-port", "0"]


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[tuple[dict[str, str], list[str]]]:
    """The command in a process of its own: its export lines and its other lines."""
    child = await asyncio.create_subprocess_exec(
        *RUN, *FREE, *arguments, stdout=asyncio.subprocess.PIPE, cwd=TESTS.parent
    )
    assert child.stdout is not None
    env: dict[str, str] = {}
    others: list[str] = []
    while len(env) < 4 or not any("workflows:" in line for line in others):
        line = (await child.stdout.readline()).decode().strip()
        assert line, "the engine ended at once"
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            env[name] = value
        else:
            others.append(line)
    try:
        yield env, others
    finally:
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0


async def test_the_printed_environment_is_enough_to_connect(tmp_path: Path) -> None:
    file = tmp_path / "token"
    async with running("--token-file", str(file), "--tenants", "2") as (env, others):
        async with Client(place(env)) as client:
            run_id = await client.trigger("chat")
            assert (await client.details(run_id)).task_runs
        assert file.read_text(encoding="utf-8").strip() == env["HATCHET_CLIENT_TOKEN"]
        assert any(line.startswith("# tenant 1: HATCHET_CLIENT_TOKEN=") for line in others)


async def test_the_env_file_is_read_by_a_shell_and_kept_from_others(tmp_path: Path) -> None:
    file = tmp_path / "engine.env"
    async with running("--env-file", str(file)) as (env, _):
        lines = file.read_text(encoding="utf-8").splitlines()
        assert dict(line.split("=", 1) for line in lines) == env
        assert file.stat().st_mode & 0o077 == 0


async def test_detached_it_returns_exports_that_a_shell_can_evaluate(tmp_path: Path) -> None:
    pid_file = tmp_path / "engine.pid"
    arguments = [*FREE, "--detach", "--pid-file", str(pid_file), "--quirk", "traceparent=off"]
    shell = 'eval "$("$@")" && env'
    child = await asyncio.create_subprocess_exec(
        "sh", "-c", shell, "sh", *RUN, *arguments, stdout=asyncio.subprocess.PIPE, cwd=TESTS.parent
    )
    out, _ = await child.communicate()
    env = dict(line.split("=", 1) for line in out.decode().splitlines() if "=" in line)
    pid = int(env["STREAM_PROXY_ENGINE_PID"])
    try:
        assert pid_file.read_text(encoding="utf-8") == f"{pid}\n"
        async with Client(place(env)) as client:
            run_id = await client.trigger("chat")
            assert b"traceparent" not in (await client.details(run_id)).additional_metadata
    finally:
        os.kill(pid, signal.SIGTERM)


async def test_detached_it_returns_the_status_and_the_message_of_a_failed_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        child = await asyncio.create_subprocess_exec(
            *RUN,
            "--detach",
            "--port",
            port,
            "--api-port",
            "0",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=TESTS.parent,
        )
        out, complaint = await child.communicate()
        assert (child.returncode, out) == (3, b"")
        assert f"cannot listen on 127.0.0.1:{port}: the port is taken" in complaint.decode()


async def test_it_serves_a_script_and_a_recording() -> None:
    recording = TESTS / "recordings" / "rabbitmq" / "fast_task.jsonl"
    script = str(TESTS.parent / "examples" / "agent.yaml")
    async with running(script, "--recording", str(recording), "--quirk", "traceparent=off") as (env, others):
        playing = next(line for line in others if line.startswith("# playing fast_task as run "))
        async with Client(place(env)) as client:
            assert (await client.details(playing.rpartition(" ")[2])).task_runs
            agent = await client.trigger("agent")
            assert b"traceparent" not in (await client.details(agent)).additional_metadata


def test_a_script_with_mistakes_ends_the_command_with_all_of_them(tmp_path: Path) -> None:
    script = tmp_path / "x.yaml"
    script.write_text("version: 1\nworkflows: {a: {steps: {one: {parents: two, retires: 1, takes: 5}}}}\n")
    result = CliRunner().invoke(engine_command, [str(script), *FREE])
    assert result.exit_code == 1
    assert "unknown key `retires`" in result.output
    assert "must be a duration" in result.output


def test_a_path_that_cannot_be_read_is_a_usage_error() -> None:
    assert CliRunner().invoke(engine_command, ["nowhere.yaml", *FREE]).exit_code == 2
    assert CliRunner().invoke(engine_command, ["--recording", "nowhere.jsonl", *FREE]).exit_code == 2


def test_a_taken_port_is_status_three() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(engine_command, ["--port", port, "--api-port", "0"])
        assert result.exit_code == 3
        assert f"cannot listen on 127.0.0.1:{port}: the port is taken" in result.output


@pytest.mark.parametrize("quirk", ["five-second-hold", "five-second-hold=maybe", "nonsense=on"])
def test_an_unknown_quirk_is_a_usage_error(quirk: str) -> None:
    assert CliRunner().invoke(engine_command, ["--quirk", quirk, *FREE]).exit_code == 2


async def record(env: dict[str, str], *arguments: str) -> tuple[int, str]:
    child = await asyncio.create_subprocess_exec(
        *RUN[:-1],
        "record",
        *arguments,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=TESTS.parent,
    )
    out, _ = await child.communicate()
    return child.returncode or 0, out.decode()


async def test_a_run_is_recorded_into_a_file(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    async with Engine(speed=10) as engine:
        run_id = await engine.trigger("chat")
        status, errors = await record(engine.env, run_id, "--out", str(out))
    assert (status, errors) == (0, "")
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"t": lines[0]["t"], "source": "trigger", "workflow_run_id": run_id}
    assert {line["source"] for line in lines} == {"trigger", "live", "GetRunDetails", "REST workflow-runs"}
    assert [line for line in lines if line["source"] == "GetRunDetails"][-1]["answer"]["done"]


async def test_an_unknown_run_is_reported() -> None:
    async with Engine() as engine:
        assert await record(engine.env, NOBODY) == (1, "Hatchet answered NOT_FOUND: workflow run not found\n")


def test_without_a_token_nothing_can_be_recorded() -> None:
    result = CliRunner(env={"HATCHET_CLIENT_TOKEN": ""}).invoke(record_command, [NOBODY])
    assert result.exit_code == 2
    assert "HATCHET_CLIENT_TOKEN is not set" in result.output
