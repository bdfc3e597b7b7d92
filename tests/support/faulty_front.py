"""A front for tests of foreign clients: one wait, one lost connection, then it passes everything."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from proxy.core.accepting import stop_accepting

PATH: Final = "/streams/live/"
LOST_IN: Final = 12  # which frame
WAIT: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    b'retry: 100\n\nevent: stream.wait\ndata: {"cause":"hatchet"}\n\n'
)


class FaultyFront:
    """Forwards requests to a port of loopback, each over a connection of its own.

    Of the requests for a stream, the first is answered with `stream.wait`, and the second loses its
    connection in frame `LOST_IN`, before the frame is complete, unless `calm` is set. `requests` has the head
    of each request for a stream, and `answered` the status of each answer that was passed on to its end.
    """

    def __init__(self, to: int, *, calm: bool = False) -> None:
        self._to = to
        self._calm = calm
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[str] = []
        self.answered: list[int] = []
        self.url = ""

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin with a connection."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if PATH.encode() in head.split(b"\r\n", 1)[0]:
                self.requests.append(head.decode("latin-1"))
                if len(self.requests) == 1 and not self._calm:
                    writer.write(WAIT)
                    return
            await self._forward(head, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client or the proxy has gone
        finally:
            writer.close()

    async def _forward(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        upstream, out = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            out.write(b"\r\n".join([lines[0], b"Connection: close", *lines[1:]]))
            left = LOST_IN if len(self.requests) == 2 and not self._calm else sys.maxsize
            status = b""
            while data := await upstream.read(65536):
                status = status or data.split(b" ", 2)[1]
                frames = data.split(b"\n\n")
                writer.write(b"\n\n".join(frames[:left]))
                await writer.drain()
                left -= len(frames) - 1
                if left <= 0:
                    return
            if PATH.encode() in lines[0]:
                self.answered.append(int(status))
        finally:
            out.close()

    async def close(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def faulty_front(to: str, *, calm: bool = False) -> AsyncIterator[FaultyFront]:
    """A front on a free port, before the proxy at the address `to`."""
    front = FaultyFront(int(to.rpartition(":")[2]), calm=calm)
    server = await asyncio.start_server(front.accept, "127.0.0.1", 0)
    front.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield front
    finally:
        await stop_accepting(server.sockets)
        server.close()
        await front.close()
        await server.wait_closed()
