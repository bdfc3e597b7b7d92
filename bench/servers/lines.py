"""The feed of the peers in Python: lines of `<run> <JSON>` from another process, over a loopback socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Publish = Callable[[int, bytes], None]


async def listen(port: int, publish: Publish) -> asyncio.Server:
    """Accept lines on `port`; each is passed to `publish` with its run's number."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            run, _, text = line.rstrip().partition(b" ")
            publish(int(run), text)
        writer.close()

    return await asyncio.start_server(take, "127.0.0.1", port, limit=1 << 20)
