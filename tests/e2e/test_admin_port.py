"""Probes and metrics on the admin port: on that port only, and also while the listener is closed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Script, Step, Workflow, script
from tests.support.processes import Running, free_port, serving
from tests.support.waiting import until

YAML: Final = """
version: 1
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}"}}
server: {{admin_port: {port}, drain: {{grace: 5s, spread: 1s}}}}
streams:
  chat: {{rules: [{{events: step_stream, data: {{text: payload}}}}]}}
"""
CHUNK: Final = b"x" * 100_000
CHUNKS: Final = 120  # more than all buffers between here and a client that does not read


def floods() -> Script:
    """A run that streams more than fits into the buffers of a client that does not read."""
    step = Step("talk", chunks=Chunks((CHUNK,) * CHUNKS, 0.005), then=60.0, timeout=120.0)
    return script(Workflow("floods", (step,)))


@asynccontextmanager
async def two_ports(folder: Path) -> AsyncIterator[tuple[Engine, Running, str, str]]:
    """The engine, the process, and its two addresses."""
    port = free_port()
    yaml = folder / "streams.yaml"
    yaml.write_text(YAML.format(port=port))
    async with Engine(floods()) as engine, serving(yaml, engine.env) as (proxy, url):
        yield engine, proxy, url, f"http://127.0.0.1:{port}"


async def test_probes_and_metrics_are_on_the_admin_port_only(tmp_path: Path) -> None:
    async with two_ports(tmp_path) as (engine, proxy, url, admin), httpx.AsyncClient() as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await client.get(admin + path)).status_code == 200
            assert (await client.get(url + path)).status_code == 404
        run = await engine.trigger("floods", {})
        assert (await client.get(f"{admin}/streams/chat/{run}")).status_code == 404
        assert json.loads(proxy.output.splitlines()[0])["admin_url"] == f"{admin}/"


async def test_readyz_says_draining_while_a_stuck_client_delays_the_drain(tmp_path: Path) -> None:
    async with two_ports(tmp_path) as (engine, proxy, url, admin), httpx.AsyncClient() as client:
        run = await engine.trigger("floods", {})
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), limit=1024)
        writer.write(f"GET /streams/chat/{run} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        sent = f'stream_proxy_forwarded_total{{rule="rules[0]",stream="chat",team="default"}} {CHUNKS}.0'

        answer = await client.get(f"{admin}/readyz")
        assert answer.status_code == 200

        async def forwarded() -> bool:
            return sent in (await client.get(f"{admin}/metrics")).text

        async def not_ready() -> bool:
            nonlocal answer
            answer = await client.get(f"{admin}/readyz")
            return answer.status_code != 200

        await until(forwarded, "every chunk is forwarded")
        stopping = asyncio.create_task(proxy.stop())
        await until(not_ready, "the drain has begun")
        assert (answer.status_code, answer.json()["status"], answer.json()["draining"]) == (
            503,
            "draining",
            True,
        )
        assert "stream_proxy_draining 1.0" in (await client.get(f"{admin}/metrics")).text
        assert (await client.get(f"{admin}/healthz")).status_code == 200
        assert await stopping == 0
        writer.close()
    assert "Traceback" not in proxy.output
