"""The proxy as its users run it: in this process (`served`), or as a command of its own (`Command`)."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from config.load import load
from proxy.observability.event_log import EventLog
from proxy.observability.log_writer import LogWriter
from proxy.server.assembly import Assembly
from proxy.server.http.sockets import bound
from proxy.server.listener import StreamServer
from proxy.server.reloader import Reloader
from proxy.teams.hub import Connect, Hub
from tests.support.waiting import until

BIN = Path(sys.executable).parent


@dataclass
class Served:
    """A proxy that listens. `log` is what it wrote so far."""

    url: str
    proxy: Assembly
    written: io.StringIO
    serving: asyncio.Task[None]
    admin_url: str = ""  # of the admin port, where there is one

    @property
    def hub(self) -> Hub:
        return self.proxy.hub

    @property
    def reloader(self) -> Reloader:
        return self.proxy.reloader

    @property
    def server(self) -> StreamServer:
        return self.proxy.server

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written.getvalue().splitlines()]

    async def stop(self) -> None:
        """What SIGTERM does."""
        self.proxy.server.should_exit = True
        await self.serving


@contextlib.asynccontextmanager
async def served(
    path: Path, env: Mapping[str, str], connect: Connect | None = None, *, with_admin: bool = False
) -> AsyncIterator[Served]:
    """The whole proxy on a free port of loopback, in this process; `with_admin`: and the admin port."""
    written = io.StringIO()
    admin = bound("127.0.0.1", 0) if with_admin else None
    event_log = EventLog(LogWriter(written, human=False).write)
    proxy = Assembly(path, env, event_log, connect=connect, admin=admin)
    sock = bound("127.0.0.1", 0)
    await proxy.start(load(path, env))
    task = asyncio.create_task(proxy.serve(sock))
    url, admin_url = (f"http://127.0.0.1:{each.getsockname()[1]}" if each else "" for each in (sock, admin))
    one = Served(url, proxy, written, task, admin_url)
    try:
        await until(lambda: proxy.server.started or task.done(), every=0.005)
        yield one
    finally:
        await one.stop()


@dataclass
class Command:
    """``stream-proxy serve`` as a process of its own."""

    config: Path
    env: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    wrapper: tuple[str, ...] = ()
    url: str = ""
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    lines: list[str] = field(default_factory=list)

    async def start(self, port: int = 0) -> Command:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(
            [
                *self.wrapper,
                str(BIN / "stream-proxy"),
                "serve",
                "--config",
                str(self.config),
                "--port",
                str(port),
                *self.arguments,
            ],
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        while not self.url:
            line = await asyncio.to_thread(self._stderr.readline)
            assert line, f"it ended before it listened: {self.lines}"
            self.lines.append(line.decode())
            line_data = json.loads(line) if line.startswith(b"{") else {}
            if line_data.get("event") == "listening":
                self.url = line_data["url"].rstrip("/")
                self.port = httpx.URL(self.url).port or 0
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def _stderr(self) -> io.BufferedReader:
        assert isinstance(self.process.stderr, io.BufferedReader)
        return self.process.stderr

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    async def ended(self) -> int:
        """Its exit status; what it wrote to standard error is in `lines`."""
        rest = await asyncio.to_thread(self._stderr.read)
        self.lines += rest.decode().splitlines()
        status = await asyncio.to_thread(self.process.wait)
        self._stderr.close()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status
