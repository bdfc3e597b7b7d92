"""The lower bound of a connect in Python: the least that a proxy in Python must do.

It reads the request as the proxy does, finds the run in a dictionary, counts the client, and writes a head
with headers and `retry:`. It has no limits, origins, credentials, cursors or log.

python bench/servers/lower_bound.py PORT FEED_PORT
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import uvloop
from lines import listen

from proxy.server.http.request_parser import Progress, RequestParser

PORT, FEED = int(sys.argv[1]), int(sys.argv[2])
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache, no-transform\r\nx-accel-buffering: no\r\n"
    b"transfer-encoding: chunked\r\n\r\nd\r\nretry: 1000\n\r\n"
)


class Client(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.run = ""

    def data_received(self, data: bytes) -> None:
        request = RequestParser()
        if request.feed(data) is not Progress.COMPLETE:
            self.transport.abort()
            return
        self.run = request.path.rpartition("/")[2]
        clients.setdefault(self.run, set()).add(self)
        self.transport.write(HEAD)

    def connection_lost(self, error: Exception | None) -> None:
        clients.get(self.run, set()).discard(self)


clients: dict[str, set[Client]] = {}


async def main() -> None:
    feed = await listen(FEED, lambda run, text: None)
    server = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", PORT, backlog=4096)
    await asyncio.gather(server.serve_forever(), feed.serve_forever())


uvloop.run(main())
