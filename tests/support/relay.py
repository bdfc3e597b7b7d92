"""A TCP relay for tests: it forwards, drops everything, or holds everything, as a network partition does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.core.accepting import stop_accepting


class Relay:
    """Forwards bytes between its clients and a port; `silent` keeps connections and forwards nothing.

    While it `holds`, bytes wait as in a network that drops packets: after `release` they come late, in order,
    as TCP sends them again; after `cut` their connections are lost.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.silent = False
        self.port = 0
        self._flows = asyncio.Event()
        self._flows.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, forth}
        for source, target in ((reader, forth), (back, writer)):
            task = asyncio.create_task(self._pump(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flows.wait()
                if not self.silent:
                    target.write(data)
                    await target.drain()
        except OSError:
            pass
        finally:
            if not self.silent:
                target.close()
                self._writers.discard(target)

    def hold(self) -> None:
        """Forward nothing from now on."""
        self._flows.clear()

    def release(self) -> None:
        """Forward what was held, and go on forwarding."""
        self._flows.set()

    def cut(self) -> None:
        """Close every connection; new ones are forwarded."""
        for writer in self._writers:
            writer.transport.abort()
        self._flows.set()

    async def close(self) -> None:
        """End everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


@asynccontextmanager
async def relay(to: int) -> AsyncIterator[Relay]:
    """A relay on a free port of loopback."""
    made = Relay(to)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        await stop_accepting(server.sockets)
        server.close()
        await made.close()
        await server.wait_closed()
