"""The examples of front ends as their users run them: built, and served by the examples' application."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.simulator import Engine
from proxy.simulator.script.loader import load_script
from tests.support.npm_package import node_modules, tool
from tests.support.processes import Running, answers, free_port, running, serving
from tests.support.tools import ROOT

FRONT_ENDS: Final = ROOT / "examples" / "front-ends"
AGENT: Final = FRONT_ENDS / "agent.yaml"
ANSWER: Final = "The answer is forty-two, and this agent is sure of it."
COMMAND: Final = Path(sys.executable).parent / "stream-proxy"


def installed(name: str, folder: Path, *needed: str, linked: bool = True) -> Path:
    """A copy of an example with its packages and the types of its streams; its folder."""
    made = folder / name
    shutil.copytree(FRONT_ENDS / name, made)
    node_modules(made, *needed, linked=linked)
    sources = made / ("app" if (made / "app").is_dir() else "src")
    words = (COMMAND, "types", FRONT_ENDS / "streams.yaml", "-o", sources / "streams.ts")
    subprocess.run(words, check=True, capture_output=True)
    return made


@dataclass
class Site:
    """The examples' application at `url`, and the proxy at `streams`."""

    url: str
    streams: str
    _start: Callable[[int], Awaitable[Running]]
    _proxy: Running

    async def restart_the_proxy(self) -> None:
        """Kill the proxy, and start another at its address."""
        await self._proxy.stop(signal.SIGKILL)
        self._proxy = await self._start(int(self.streams.rpartition(":")[2]))


Application = Callable[[dict[str, str]], AbstractAsyncContextManager[Running]]


def pages_of(folder: Path) -> Application:
    """The examples' application in Python, with a folder of pages."""
    program = (sys.executable, "-W", "ignore", str(FRONT_ENDS / "server.py"))
    return lambda env: running(folder, env=env, program=program)


@asynccontextmanager
async def site(application: Application, folder: Path) -> AsyncIterator[Site]:
    """An application, which listens at PORT, on an engine with the agent, with the proxy at STREAMS."""
    port, file = free_port(), folder / "streams.yaml"
    file.write_text((FRONT_ENDS / "streams.yaml").read_text().replace(":3000", f":{port}"))
    async with Engine(load_script(AGENT), seed=1) as engine, AsyncExitStack() as stack:

        async def start(at: int) -> Running:
            return (await stack.enter_async_context(serving(file, engine.env, at)))[0]

        streams = f"http://127.0.0.1:{free_port()}"
        proxy = await start(int(streams.rpartition(":")[2]))
        env = {**engine.env, "STREAMS": streams, "PORT": str(port)}
        await stack.enter_async_context(application(env))
        url = f"http://127.0.0.1:{port}"
        await answers(url, within=100)  # hatchet-sdk takes long to import
        yield Site(url, streams, start, proxy)


async def built(folder: Path, pages: Path) -> None:
    """Build an example with Vite, as a folder of its own in `pages`."""
    words = ("build", "--base", "./", "--outDir", str(pages / folder.name), "--logLevel", "error")
    await asyncio.to_thread(tool, folder, "vite", "bin/vite.js", *words)
