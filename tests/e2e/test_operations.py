"""docs/operations.md is true: its commands run against a proxy with an engine, its facts are the code's."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Final

from proxy.cli.demo.page import example
from proxy.simulator import Engine
from proxy.streams.subscriber import Ending
from tests.support.processes import serving
from tests.support.tools import ROOT, need
from tests.support.waiting import until

TEXT: Final = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
COMMANDS: Final = [
    line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()
]
RUN: Final = "8ff4f149-099e-4c16-a8d1-0535f8c79b83"


async def shell(line: str, env: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "bash", "-o", "pipefail", "-c", line,
        env={**os.environ, **env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_every_command_that_is_shown_does_what_it_says() -> None:
    for tool in ("curl", "promtool"):
        need(tool)
    async with Engine(speed=5, seed=1) as engine, serving(example(), engine.env) as (_, url):
        run = await engine.trigger("chat", {})
        for command in COMMANDS:
            line = command.replace("http://127.0.0.1:8080", url).replace(RUN, run)
            status, output = await shell(line.replace("/etc/stream-proxy", str(example())), dict(engine.env))
            assert status == 0, f"{command}\n{output}"
            assert output or "promtool" in command, command
    assert len(COMMANDS) > 10


async def test_a_team_in_trouble_is_reported_as_documented(tmp_path: Path) -> None:
    yaml = tmp_path / "streams.yaml"
    yaml.write_text(example().read_text())
    async with Engine(seed=1) as engine:
        await engine.faults.stop_grpc()
        async with serving(yaml, engine.env) as (_, url):

            async def not_ready() -> bool:
                return (await shell(f"curl -fsS '{url}/readyz?strict'", {}))[0] != 0

            await until(not_ready, "the team is in trouble", within=45)
            assert '"state": "away"' in (await shell(f"curl -sS '{url}/readyz?team=default'", {}))[1]
            assert (await shell(f"curl -fsS {url}/readyz", {}))[0] == 0
            assert (await shell(f"curl -fsS '{url}/readyz?team=nobody'", {}))[0] != 0
            metrics = (await shell(f"curl -fsS {url}/metrics", {}))[1]
            assert 'stream_proxy_upstream_up{team="default"} 0.0' in metrics


def test_every_ending_and_every_line_of_the_log_is_explained() -> None:
    for ending in Ending:
        assert f"`{ending.value}`" in TEXT, ending
    source = (ROOT / "proxy/observability/event_log.py").read_text()
    lines = {*re.findall(r'"(?:info|warning|error)"(?: if left else "info")?,\s*"([a-zA-Z ]+)"', source)}
    assert len(lines) >= 10
    for line in lines:
        assert f"`{line}`" in TEXT, line


def test_every_metric_that_is_named_exists() -> None:
    tables = ("metrics", "health_metrics")
    metrics = "".join((ROOT / f"proxy/observability/{name}.py").read_text() for name in tables)
    named = re.findall(r"stream_proxy_(\w+?)(?:_total)?[`{]", TEXT)
    assert len(named) >= 10
    for name in named:
        assert f'"{name}"' in metrics, name


def test_its_memory_figures_are_those_that_were_measured() -> None:
    measured = (ROOT / "docs/performance.md").read_text()
    for here, there in (
        (r"(\d+) MB idle", r"(\d+) MB idle"),
        (r"some (\d+) MB each for", r"some (\d+) MB each\)"),
        (r"(\d+) KB for each client", r"linear: (\d+) KB per client"),
        (r"(\d+) KB for each run with its client", r"(\d+) KB per run with its client"),
        (r"(\d+) KB for each team", r"(\d+) KB per team"),
    ):
        (figure, *others), known = re.findall(here, TEXT), re.search(there, measured)
        assert known is not None, there
        assert {figure, *others} == {known[1]}, here
