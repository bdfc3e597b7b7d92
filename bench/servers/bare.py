"""The limit: a uvloop protocol that only writes to its clients, once per turn of the loop.

python bench/servers/bare.py PORT FEED_PORT
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from typing import cast

import uvloop
from lines import listen

PORT, FEED = int(sys.argv[1]), int(sys.argv[2])
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Client(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.run = -1

    def data_received(self, data: bytes) -> None:
        self.run = int(data.split(b" ", 2)[1].rpartition(b"/")[2])
        self.transport.write(HEAD)
        clients[self.run].add(self)

    def connection_lost(self, error: Exception | None) -> None:
        clients[self.run].discard(self)


clients: dict[int, set[Client]] = defaultdict(set)
pending: dict[int, list[bytes]] = {}


def publish(run: int, text: bytes) -> None:
    if not pending:
        asyncio.get_running_loop().call_soon(flush)
    pending.setdefault(run, []).append(b"data: %b\n\n" % text)


def flush() -> None:
    for run, frames in pending.items():
        body = b"".join(frames)
        chunk = b"%x\r\n%b\r\n" % (len(body), body)
        for client in tuple(clients[run]):
            client.transport.write(chunk)
    pending.clear()


async def main() -> None:
    feed = await listen(FEED, publish)
    server = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", PORT, backlog=4096)
    await asyncio.gather(server.serve_forever(), feed.serve_forever())


uvloop.run(main())
