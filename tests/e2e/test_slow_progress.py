"""A client that reads all the time gets a large frame, however long that takes."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from proxy.simulator import Engine
from proxy.simulator.script.model import Step, Workflow, script
from tests.support.delivery import SlowSocket
from tests.support.served import served
from tests.support.waiting import until

FRAME = 1_500_000  # bytes: more than all buffers between the two hold
PIECE = 50_000
PACE = 0.1  # seconds between two pieces: the whole takes several times the write timeout
YAML = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}
server: {write_timeout: 1s}
streams:
  live:
    path: /live/{workflowRunId}
    rules: [{events: step_completed, data: {result: payload}}]
"""


@pytest.mark.parametrize("version", ["1.1", "1.0"], ids=["fast path", "by uvicorn"])
async def test_a_slow_client_that_always_reads_gets_a_large_frame(tmp_path: Path, version: str) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text(YAML)
    large = Workflow("large", (Step("big", output={"text": "x" * FRAME}),))
    async with Engine(script(large), speed=20.0, seed=7) as engine, served(path, engine.env) as proxy:
        run = await engine.trigger("large")
        slow, idle = slow_client(proxy.url, run, version), slow_client(proxy.url, run, "1.1")
        await slow.open()
        await idle.open()
        while await slow.read(PIECE):
            await asyncio.sleep(PACE)
        assert b"event: stream.end" in slow.received
        await until(lambda: any(line.get("ending") == "stuck" for line in proxy.log))
        endings = [line["ending"] for line in proxy.log if line["event"] == "stream over"]
        assert sorted(endings) == ["end", "stuck"]
        for one in (slow, idle):
            one.sock.close()


def slow_client(url: str, run: str, version: str) -> SlowSocket:
    """A client of the fast path, or one whose request the fast path leaves to uvicorn."""
    path = f"/live/{run}"
    one = SlowSocket(url, path if version == "1.1" else f"{path} HTTP/1.1\r\nContent-Length: 0\r\nX-Rest:")
    one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return one
