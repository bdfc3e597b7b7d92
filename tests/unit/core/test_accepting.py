"""A connection that is just being accepted when its server is closed is not leaked."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.accepting import stop_accepting

TURNS = 8  # of the loop between the client's connect and the close; asyncio's own close leaks after 3


@pytest.mark.parametrize("turns", range(TURNS))
async def test_a_server_that_closes_while_it_accepts_gives_each_connection_to_a_protocol_or_to_the_kernel(
    turns: int,
) -> None:
    made: list[asyncio.BaseTransport] = []

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    server = await asyncio.get_running_loop().create_server(Accepted, "127.0.0.1", 0)
    client = asyncio.create_task(asyncio.open_connection(*server.sockets[0].getsockname()))
    for _ in range(turns):
        await asyncio.sleep(0)
    await stop_accepting(server.sockets)
    server.close()
    for transport in made:
        transport.close()
    try:
        reader, writer = await client
    except OSError:
        return
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):  # closed or refused
        await reader.readexactly(1)
    writer.close()
