"""The drain: the steps, in order, with which the process ends after it was asked to stop.

It takes at most ``drain.grace``:

1. The listening sockets are closed: new connections go to other replicas.
2. Every client is sent ``stream.drain``, and every waiting request is answered.
3. Connections close when their last bytes are sent. After `ABORT_AFTER` of the grace period the rest is cut.
4. The hub is closed, which takes `CLOSE_SECONDS` at most.

uvicorn alone would wait for the connections before it sends anything to the clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterable
from typing import Final, Protocol

from uvicorn.server import ServerState

from proxy.core.accepting import stop_accepting
from proxy.teams.hub import Hub

POLL: Final = 0.05  # seconds between checks whether the last connection is closed
ABORT_AFTER: Final = 0.8  # of the grace period; then connections that do not drain are cut
CLOSE_SECONDS: Final = 2.0  # for the connections to Hatchet to close


class Closable(Protocol):
    """A listening server of the event loop."""

    def close(self) -> None:
        """Accept no more connections."""


async def drain(
    hub: Hub, state: ServerState, servers: Iterable[Closable], sockets: Iterable[socket.socket]
) -> None:
    """Drain in the order that the module's docstring gives.

    `state` has uvicorn's connections and requests, `servers` and `sockets` are what listens.
    """
    listening = tuple(sockets)
    await stop_accepting(listening)
    for server in servers:
        server.close()
    for sock in listening:
        sock.close()
    began, grace = time.monotonic(), hub.server.drain.grace
    hub.event_log.draining(clients=len(hub.sessions), grace=grace)
    hub.drain()
    giving = (
        None if hub.replication is None else asyncio.create_task(hub.replication.leave(grace * ABORT_AFTER))
    )
    for connection in tuple(state.connections):
        connection.shutdown()
    await _wait_until_empty(state, grace * ABORT_AFTER)
    left = tuple(state.connections)
    for connection in left:
        connection.transport.abort()
    await _wait_until_empty(state, grace - grace * ABORT_AFTER)
    if giving is not None:
        await giving
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await hub.close()
    hub.event_log.stopped(seconds=time.monotonic() - began, left=len(left))


async def _wait_until_empty(state: ServerState, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (state.connections or state.tasks) and loop.time() < until:  # noqa: ASYNC110 - uvicorn's own sets
        await asyncio.sleep(POLL)
