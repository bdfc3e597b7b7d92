"""README.md, followed line by line from an empty folder to a run in the terminal."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from proxy.simulator import Engine
from tests.support.processes import serving
from tests.support.tools import ROOT, need

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
