"""README.md, followed line by line from an empty folder to a run in the terminal."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.cli.demo.page import METADATA, example
from proxy.cli.demo.workflows import demo_script
from proxy.simulator import Engine
from tests.support.demo_run import LOSSLESS
from tests.support.eventsource import EventSource
from tests.support.processes import serving
from tests.support.tools import ROOT, need
from tests.support.waiting import until

COMMAND: Final = Path(sys.executable).parent / "stream-proxy"
RUN: Final = "RUN_ID"


def steps() -> list[str]:
    """The commands under "On your own Hatchet", without their remarks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## On your own Hatchet\n\n```sh\n(.*?)```", text, re.DOTALL)
    assert block is not None
    return [line.split("  #")[0].strip() for line in block[1].splitlines()]


def try_(line: str, folder: Path, env: dict[str, str]) -> str:
    """The output of a command of ours in `folder`."""
    done = subprocess.run(
        [COMMAND, *line.split()[1:]], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    return done.stdout


async def test_a_newcomer_gets_from_an_empty_folder_to_a_stream(tmp_path: Path) -> None:
    install, token, *ours, serve, curl = steps()
    assert install.startswith("pipx install")
    assert token.startswith("export HATCHET_CLIENT_TOKEN=")
    assert serve == "stream-proxy serve --config streams.yaml"
    async with Engine(speed=5, seed=1) as engine:
        for line in ours:
            await asyncio.to_thread(try_, line, tmp_path, dict(engine.env))
        async with serving(tmp_path / "streams.yaml", engine.env) as (_, url):
            shown = curl.split()[-1].replace("http://127.0.0.1:8080", url)
            path = shown.replace(RUN, await engine.trigger("chat", {}))
            output = await asyncio.to_thread(subprocess.check_output, [need("curl"), "-sN", "-m", "20", path])
    assert b'event: stream.end\ndata: {"status":"completed"}' in output


@pytest.mark.parametrize("path", ["/message/", "/streams/live/"])
async def test_clients_that_join_up_to_two_tenths_of_a_second_after_the_trigger_see_no_gap(path: str) -> None:
    """The README's own example: of the steps that stream nothing none has a gap, and no chunk is lost."""

    async def gaps(url: str, engine: Engine, delay: float) -> list[object]:
        run_id = await engine.trigger("chat", {}, METADATA)
        await asyncio.sleep(delay)  # the case itself: a client that is so much later than the trigger
        async with EventSource(f"{url}{path}{run_id}") as source:
            found = []
            async for frame in source.frames():
                if frame.event == "stream.gap":
                    found.append(frame.value)
                if frame.event == "stream.end":
                    break
            return found

    async with (
        Engine(demo_script(), speed=2, seed=1, quirks=LOSSLESS) as engine,
        serving(example(), engine.env) as (_, url),
    ):
        await until(lambda: engine.streams, "the tap is open")
        results = await asyncio.gather(*(gaps(url, engine, delay) for delay in (0, 0.05, 0.1, 0.2)))
    assert results == [[]] * 4


def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def test_the_installation_section_names_each_way_with_the_projects_own_address_and_version() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Installation\n")[1].split("\n## ")[0]
    for way in ("git clone", "pipx install", "uvx --from", "docker build", "compose.yaml", "Kubernetes"):
        assert way in section
    address = project()["urls"]["Repository"]
    assert set(re.findall(r"https://\S+?\.git", section)) == {address}
    tags = set(re.findall(r"hatchet-stream-proxy:([\d.]+\d)", section))
    assert tags == {project()["version"]}
    manifests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "deploy").rglob("*.yaml"))
    assert set(re.findall(r"image: hatchet-stream-proxy:(\S+)", manifests)) == tags


def test_each_address_of_the_project_belongs_to_one_place() -> None:
    urls = project()["urls"]
    assert {"Repository", "Documentation", "Changelog", "Issues"} <= urls.keys()
    assert {url.removesuffix(".git").split("/hatchet-stream-proxy")[0] for url in urls.values()} == {
        urls["Repository"].split("/hatchet-stream-proxy")[0]
    }
