"""The proxy as users run it: `stream-proxy …` in a process of its own, on free ports, ended by a signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import SystemRandom
from typing import Final

from tests.support.waiting import until

START: Final = 30.0  # seconds until a process must have said what is waited for
STOP: Final = 15.0  # ... until it must be gone after a signal
SHOWN: Final = 4000  # characters of its output that a failed test shows
PORTS: Final = (15_000, 30_000)  # ports that no connection is given by the system
PROGRAM: Final = (sys.executable, "-c", "from proxy.cli.main import start; start()")


class Running:
    """A process and what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while chunk := await self.process.stdout.read(65536):
            self.output += chunk.decode("utf-8", "replace")
            self._news.set()
        self._news.set()

    async def wait_for_output(self, pattern: str, within: float = START) -> re.Match[str]:
        """Wait until the output matches."""
        async with asyncio.timeout(within):
            while True:
                found = re.search(pattern, self.output)
                if found:
                    return found
                assert not self._reading.done(), f"ended without printing {pattern}:\n{self.output}"
                self._news.clear()
                await self._news.wait()

    async def ended(self, within: float = STOP) -> int:
        """Wait for the end; the exit status."""
        async with asyncio.timeout(within):
            status = await self.process.wait()
            await self._reading
        return status

    async def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end; the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(sign)
        return await self.ended()


@asynccontextmanager
async def running(
    *words: str | Path,
    env: Mapping[str, str] | None = None,
    program: tuple[str, ...] = PROGRAM,
    shown: bool = True,
) -> AsyncIterator[Running]:
    """Run ``stream-proxy WORDS`` (or another program); whatever is left at the end is killed.

    `shown`: the end of its output is printed, so that a test that fails shows it.
    """
    process = await asyncio.create_subprocess_exec(
        *program,
        *(str(word) for word in words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", **(env or {})},
    )
    one = Running(process)
    try:
        yield one
    finally:
        if process.returncode is None:
            process.kill()
        await one.ended()
        if shown:
            print(one.output[-SHOWN:])


@asynccontextmanager
async def demo(*words: str) -> AsyncIterator[tuple[Running, str]]:
    """The demo on a free port, and its address."""
    async with running("demo", "--port", "0", *words) as one:
        url = (await one.wait_for_output(r"Open (http://\S+)/ "))[1]
        await answers(url)
        yield one, url


@asynccontextmanager
async def serving(
    config: Path, env: Mapping[str, str], port: int = 0, *words: str
) -> AsyncIterator[tuple[Running, str]]:
    """`stream-proxy serve` on a free port, and its address."""
    async with running("serve", "--config", config, "--port", str(port), *words, env=env) as one:
        url = (await one.wait_for_output(r"(http://127\.0\.0\.1:\d+)/"))[1]
        await answers(url)
        yield one, url


async def answers(url: str, within: float = START) -> None:
    """Wait until something listens there."""
    host, _, port = url.removeprefix("http://").rpartition(":")

    async def accepts() -> bool:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    await until(accepts, f"something listens at {url}", within=within, every=0.05)


def free_port() -> int:
    """A port that nothing listens on, and that no connection and no other listener is given meanwhile.

    Systems take the ports of connections from 32768 on (Linux) or 49152 on (IANA).
    """
    while True:
        port = SystemRandom().randrange(*PORTS)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port
