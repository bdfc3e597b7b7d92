"""Some proxies side by side, each a process of its own, with a network of its own between it and Hatchet."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import aiohttp

from tests.support.processes import Running, answers, free_port, running
from tests.support.relay import Relay, relay

LEADING: Final = re.compile(r"^stream_proxy_shared_log_runs_leading (\S+)$", re.MULTILINE)
PATIENCE: Final = 180.0  # seconds for a process to start or to end: the machine may be busy with other things
STARTS: Final = 3  # attempts to start a process
START_PAUSE: Final = 0.5  # seconds between two of them
ASKED_WITHIN: Final = 2.0  # seconds


class Replica:
    """One proxy of several, always on the same port."""

    def __init__(self, config: Path, env: Mapping[str, str], wires: Sequence[Relay] = ()) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.wires = wires
        self._config, self._env = config, env
        self._stack = contextlib.AsyncExitStack()
        self.process: Running | None = None
        self._ending: str | None = None  # how the process was asked to end, until it has
        self.complaints: list[str] = []
        self.output = ""  # by the processes that have ended

    async def start(self) -> None:
        """Start it, and wait until it listens; one that ends by itself is a complaint, and started again."""
        for _ in range(STARTS):
            words = ("serve", "--config", self._config, "--port", str(self.port))
            serve = running(*words, env=self._env, shown=False)
            process = self.process = await self._stack.enter_async_context(serve)
            listening = asyncio.ensure_future(answers(self.url, PATIENCE))
            ending = asyncio.ensure_future(process.process.wait())
            try:
                await asyncio.wait((listening, ending), return_when=asyncio.FIRST_COMPLETED)
                if not ending.done():
                    return listening.result()
            finally:
                listening.cancel()
                ending.cancel()
            self.complaints.append(f"exit status {ending.result()} at its start: {process.output[-500:]}")
            await asyncio.sleep(START_PAUSE)
        raise AssertionError(self.complaints[-1])

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self.process is not None and self.process.process.returncode is None

    def pause(self) -> None:
        """SIGSTOP: it stands still."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT: it goes on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.is_running:
            self.process.process.send_signal(number)

    async def leads(self) -> bool:
        """Whether it leads a run of a shared log."""
        timeout = aiohttp.ClientTimeout(total=ASKED_WITHIN)
        with contextlib.suppress(aiohttp.ClientError, OSError, asyncio.TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=timeout) as http,
                http.get(f"{self.url}/metrics") as answer,
            ):
                found = LEADING.search(await answer.text())
                return found is not None and float(found[1]) > 0
        return False

    async def stop(self, *, kill: bool) -> None:
        """SIGKILL, or SIGTERM and wait."""
        assert self.process is not None
        self._ending = "killed" if kill else "stopped"
        self._signal(signal.SIGKILL if kill else signal.SIGTERM)
        await self._end()

    async def _end(self) -> None:
        """Wait until the process has ended, as it was asked to."""
        assert self.process is not None
        status = await self.process.ended(PATIENCE)
        if self._ending == "stopped" and status != 0:
            self.complaints.append(f"exit status {status} after SIGTERM")
        self.output += f"{self.process.output}---- {self._ending}\n"
        if "Traceback" in self.process.output or "unexpected error" in self.process.output:
            self.complaints.append(self.process.output[-2000:])
        await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()
        self._ending = None

    async def recover(self) -> None:
        """Have it listen, whatever a fault has left that was cut short: also one that was draining it."""
        if self._ending is not None:
            await self._end()
        if not self.is_running:
            await self.start()
        await answers(self.url, PATIENCE)  # a SIGTERM before it listens drains nothing


@contextlib.asynccontextmanager
async def replicas(
    configs: Sequence[Path], env: Mapping[str, str], *, wired: bool = False
) -> AsyncIterator[list[Replica]]:
    """A proxy for each configuration, side by side; `wired`: each reaches Hatchet over relays of its own."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for config in configs:
            wires: list[Relay] = []
            mine = dict(env)
            if wired:
                address = mine["HATCHET_CLIENT_HOST_PORT"], mine["HATCHET_CLIENT_SERVER_URL"]
                wires = [await stack.enter_async_context(relay(int(at.rpartition(":")[2]))) for at in address]
                mine["HATCHET_CLIENT_HOST_PORT"] = f"127.0.0.1:{wires[0].port}"
                mine["HATCHET_CLIENT_SERVER_URL"] = f"http://127.0.0.1:{wires[1].port}"
            made.append(Replica(config, mine, wires))
        for one in made:
            await one.start()
        try:
            yield made
        finally:
            for one in made:
                await one.stop(kill=False)
