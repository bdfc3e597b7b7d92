"""Server: the assembled process: configuration, hub, front door, listener, signals, farewell.

The order of a farewell (SIGTERM, SIGINT) is the law: close the listener, tell every reader (`stream.drain`),
let their last bytes go out, close the hub, all within ``drain.grace``. uvicorn alone would wait for
connections before anyone told the readers. A second signal ends the process at once.

Exit statuses are the contract's: 0 after a drain, 1 problems in the YAML, 2 usage, 3 cannot listen.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

import uvicorn

from proxy.server.http.app import StreamApp
from proxy.server.http.fast_path import KEEP_ALIVE, ConnectionFactory
from proxy.server.http.request_limits import LimitedProtocol
from proxy.server.http.sockets import limit_unacknowledged
from proxy.teams.hub import Hub

LISTEN_BACKLOG: Final = 2048  # connections that may wait to be accepted: a page full of users after a restart
POLL: Final = 0.05  # seconds between looks whether the last connection is closed
ABORT_AFTER: Final = 0.8  # of the grace period: then connections that do not drain are cut
LAST_WORDS: Final = 2.0  # seconds for Hatchet's connections to close


class Server(uvicorn.Server):
    """uvicorn, with our farewell and our signals."""

    def __init__(
        self,
        front: StreamApp,
        *,
        reload: Callable[[], None] | None = None,
        listening: Callable[[], None] | None = None,
    ) -> None:
        """`reload` answers SIGHUP; `listening` is called once requests and signals are answered."""
        self._connections = ConnectionFactory(front.hub, ceiling=front.hub.max_connections)
        super().__init__(
            uvicorn.Config(
                front,
                http=self._connections,  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                backlog=LISTEN_BACKLOG,
            )
        )
        self.front = front
        self.hub: Hub = front.hub
        self._reload = reload
        self._listening = listening or _nothing

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals go through the loop; the process ends by returning, not by raising them again."""
        loop = asyncio.get_running_loop()
        handled = []
        for number, answer in (
            (signal.SIGTERM, self.stop),
            (signal.SIGINT, self.stop),
            (signal.SIGHUP, self._reload or _nothing),
        ):
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                loop.add_signal_handler(number, answer)
                handled.append(number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        write_timeout = self.hub.server.write_timeout
        for sock in sockets or ():
            limit_unacknowledged(sock, write_timeout)
        self._connections.write_timeout = write_timeout if sockets else None
        await super().startup(sockets)
        self._listening()

    def stop(self) -> None:
        """Begin the farewell; asked twice, end at once."""
        if self.should_exit:
            self.hub.event_log.flush()
            os._exit(1)
        self.should_exit = True

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Say farewell to every reader, then close."""
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        began, grace = time.monotonic(), self.hub.server.drain.grace
        self.hub.event_log.draining(clients=len(self.hub.sessions), grace=grace)
        self.hub.drain()
        for connection in tuple(self.server_state.connections):
            connection.shutdown()
        await self._emptied(grace * ABORT_AFTER)
        left = tuple(self.server_state.connections)
        for connection in left:
            connection.transport.abort()
        await self._emptied(grace - grace * ABORT_AFTER)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self.hub.close()
        self.hub.event_log.stopped(seconds=time.monotonic() - began, left=len(left))

    async def _emptied(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (self.server_state.connections or self.server_state.tasks) and loop.time() < until:  # noqa: ASYNC110 - uvicorn's own sets
            await asyncio.sleep(POLL)


class AdminServer(uvicorn.Server):
    """Probes and metrics on a port of their own; outlives the farewell, so that it can say "draining"."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=LimitedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the other server's."""
        yield

    @contextlib.asynccontextmanager
    async def beside(self, sock: socket.socket) -> AsyncIterator[None]:
        """Answer on `sock` while the body runs."""
        task = asyncio.create_task(self.serve(sockets=[sock]))
        try:
            yield
        finally:
            self.should_exit = True
            await task


def run(main: Callable[[], Any]) -> Any:
    """Run a coroutine function on uvloop where it is there."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.run(main())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def _nothing() -> None:
    """Nobody asked."""
