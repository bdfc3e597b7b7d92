"""A server that speaks as a Redis would in trouble: replies by command, or bytes that are sent at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from proxy.log.redis.resp import Parser, ProtocolError


def bulk(text: str) -> bytes:
    """A bulk string."""
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


@asynccontextmanager
async def fake_redis(replies: Mapping[str, bytes], greeting: bytes | None = None) -> AsyncIterator[int]:
    """Its port; a command that is not in `replies` is answered with ``+OK``. After a `greeting` it closes."""
    connections: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[asyncio.current_task()] = writer
        parser = Parser()
        writer.write(greeting or b"")
        try:
            while data := await reader.read(65536):
                if greeting is not None:
                    return
                for words in parser.feed(data):
                    assert isinstance(words, list)
                    writer.write(replies.get(words[0].decode().upper(), b"+OK\r\n"))
        except (ProtocolError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in connections.values():
            writer.close()
        await asyncio.gather(*(task for task in connections if task is not None))
