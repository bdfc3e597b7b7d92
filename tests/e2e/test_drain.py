"""A drain with five thousand clients: each gets stream.drain with a reconnect time, and the process ends."""

from __future__ import annotations

import asyncio
import re
import resource
import time
from pathlib import Path
from typing import Final

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Script, Step, Workflow, script
from proxy.teams.hub import DRAIN_PAUSE as PAUSE
from tests.support.processes import serving
from tests.support.tools import missing

CLIENTS: Final = 5_000
AT_ONCE: Final = 500  # connects under way at the same time
GRACE: Final = 30.0  # seconds: the process must end within it, whatever else the machine does
SPREAD: Final = 10.0
KEPT: Final = 600  # bytes of a client's last frames

YAML: Final = f"""
version: 1
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}"}}
server: {{drain: {{grace: {GRACE:.0f}s, spread: {SPREAD:.0f}s}}}}
streams:
  chat: {{rules: [{{events: step_stream, data: {{text: payload}}}}]}}
"""


class Client:
    """A plain socket that reads a stream to its end."""

    def __init__(self) -> None:
        self.received = b""
        self.closed_at = 0.0
        self.opened = asyncio.Event()

    async def run(self, port: int, path: str, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
            self.received = await reader.readuntil(b"retry: ")
        self.opened.set()
        while piece := await reader.read(65536):
            self.received = (self.received + piece)[-KEPT:]
        self.closed_at = time.monotonic()
        writer.close()


def enough_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CLIENTS + 1000:
        missing(f"{CLIENTS + 1000} file descriptors (ulimit -Hn says {hard})")
    if soft < CLIENTS + 1000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def endless() -> Script:
    """A run that streams a word every second, for longer than any test."""
    step = Step("talk", chunks=Chunks(tuple(b"word" for _ in range(600)), 1.0), timeout=900.0)
    return script(Workflow("endless", (step,)))


def retry_hint(received: bytes) -> float:
    """The last reconnect time that was sent, in seconds."""
    return int(re.findall(rb"retry: (\d+)", received)[-1]) / 1000


async def test_five_thousand_clients_get_stream_drain_and_the_process_ends_in_time(tmp_path: Path) -> None:
    enough_files()
    yaml = tmp_path / "streams.yaml"
    yaml.write_text(YAML)
    async with Engine(endless()) as engine, serving(yaml, engine.env) as (proxy, url):
        path = f"/streams/chat/{await engine.trigger('endless', {})}"
        clients = [Client() for _ in range(CLIENTS)]
        opened = asyncio.Semaphore(AT_ONCE)
        port = int(url.rpartition(":")[2])
        reading = [asyncio.create_task(client.run(port, path, opened)) for client in clients]
        await asyncio.gather(*(client.opened.wait() for client in clients))
        began = time.monotonic()
        assert await proxy.stop() == 0
        took = time.monotonic() - began
        await asyncio.gather(*reading)
    assert "Traceback" not in proxy.output
    assert took < GRACE
    assert max(client.closed_at for client in clients) - began < GRACE / 2
    assert sum(b"event: stream.drain" in client.received for client in clients) == CLIENTS
    hints = sorted(retry_hint(client.received) for client in clients)
    assert hints[0] >= PAUSE
    assert hints[-1] <= PAUSE + SPREAD
    for tenth in range(10):  # spread evenly: no second of them is empty or crowded
        share = sum(PAUSE + tenth <= hint < PAUSE + tenth + 1 for hint in hints) / CLIENTS
        assert 0.07 < share < 0.13, (tenth, share)
