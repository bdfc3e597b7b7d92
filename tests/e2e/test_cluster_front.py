"""nginx as configured for Kubernetes: replicas start and stop; all clients of a run reach one replica."""

from __future__ import annotations

import asyncio
import struct
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from tests.support.front import modern_nginx, nginx, nginx_folder
from tests.support.processes import free_port
from tests.support.tools import ROOT

pytestmark = pytest.mark.nginx

FIRST: Final = "127.0.0.2"
SECOND: Final = "127.0.0.3"
BETWEEN_READINGS: Final = 0.1  # seconds; two that agree are the settled state
RUNS: Final = [str(uuid.UUID(int=number * 7919, version=4)) for number in range(40)]


class NameServer(asyncio.DatagramProtocol):
    """Knows the addresses of the replicas that are ready, by the first part of their names."""

    def __init__(self) -> None:
        self.ready = {"stream-proxy-0": FIRST, "stream-proxy-1": SECOND}
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        # RFC 1035, 4.1: a header of twelve bytes, the question, then the answer, which points to the name
        question = data[12 : data.index(b"\0", 12) + 5]
        found = self.ready.get(question[1 : 1 + question[0]].decode())
        head = data[:2] + struct.pack("!HHHHH", 0x8180 if found else 0x8183, 1, 1 if found else 0, 0, 0)
        answer = (
            struct.pack("!HHHIH", 0xC00C, 1, 1, 1, 4) + bytes(map(int, found.split("."))) if found else b""
        )
        assert self._transport is not None
        self._transport.sendto(head + question + answer, address)


async def replica(host: str, port: int) -> asyncio.Server:
    """Answers each request with its own address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(host)
        writer.write(head + host.encode())
        writer.close()

    return await asyncio.start_server(answer, host, port)


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[tuple[NameServer, str]]:
    """Two replicas, a name server that knows them, and nginx with what front.yaml has; its address."""
    port, replica_port = free_port(), free_port()
    names = NameServer()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: names, local_addr=("127.0.0.1", 0))
    name_port = transport.get_extra_info("sockname")[1]
    template = yaml.safe_load((ROOT / "deploy/kubernetes/front.yaml").read_text())["data"]["upstream.conf"]
    template = template.replace("kube-dns.kube-system.svc.cluster.local", f"127.0.0.1:{name_port}")
    nginx_folder(folder, upstream=template.replace(":8080 resolve", f":{replica_port} resolve"), port=port)
    async with AsyncExitStack() as stack:
        stack.callback(transport.close)
        for host in (FIRST, SECOND):
            await stack.enter_async_context(await replica(host, replica_port))
        yield names, await stack.enter_async_context(nginx(modern_nginx(), folder, port))


async def spread(url: str) -> dict[str, str]:
    """The replica that each run is routed to."""
    async with httpx.AsyncClient(base_url=url) as client:
        return {run: (await client.get(f"/chat/{run}")).text for run in RUNS}


async def settled(url: str, replicas: set[str]) -> dict[str, str]:
    """The same, once these replicas answer and two readings agree."""
    last: dict[str, str] = {}
    async with asyncio.timeout(30):
        while (found := await spread(url)) != last or {*found.values()} != replicas:
            last = found
            await asyncio.sleep(BETWEEN_READINGS)
    return found


async def test_runs_stay_together_while_replicas_come_and_go(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (names, url):
        before = await settled(url, {FIRST, SECOND})
        assert min(Counter(before.values()).values()) > len(RUNS) / 5, "the runs are not spread"
        async with httpx.AsyncClient(base_url=url) as client:
            for run in RUNS[:5]:  # whatever stream of the run, and however often
                for path in (f"/progress/{run}", f"/payments/checkout/{run}", f"/chat/{run}?last_event_id=x"):
                    assert (await client.get(path)).text == before[run]
        del names.ready["stream-proxy-0"]
        await settled(url, {SECOND})
        names.ready["stream-proxy-0"] = FIRST
        after = await settled(url, {FIRST, SECOND})
        assert after == before, "a run that came back is not where it was"
