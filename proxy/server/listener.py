"""The listener: uvicorn with its own handling of signals and its own drain.

SIGTERM, SIGINT or SIGQUIT begins the drain (`proxy.server.drain`); a second signal ends the process at once,
with exit status 1. SIGHUP reloads the configuration. SIGUSR1 and SIGUSR2 do nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import uvicorn

from proxy.core.accepting import stop_accepting
from proxy.core.tasks import start_in
from proxy.server.drain import drain
from proxy.server.http.app import StreamApp
from proxy.server.http.fast_path import KEEP_ALIVE, ConnectionFactory
from proxy.server.http.request_limits import ADMIN_BODY_BYTES, LimitedProtocol
from proxy.server.http.sockets import limit_unacknowledged
from proxy.server.workers.mesh import Mesh
from proxy.teams.hub import Hub

LISTEN_BACKLOG: Final = 2048  # connections that wait to be accepted: all clients reconnect after a restart


class StreamServer(uvicorn.Server):
    """The server of the streams; it belongs to the running event loop."""

    def __init__(
        self,
        app: StreamApp,
        *,
        reload: Callable[[], None] | None = None,
        listening: Callable[[], None] | None = None,
    ) -> None:
        """`reload` is called for SIGHUP, `listening` once requests and signals are handled."""
        self._connections = ConnectionFactory(app.hub, ceiling=app.hub.max_connections)
        super().__init__(
            uvicorn.Config(
                app,
                http=self._connections.accepted,  # type: ignore[arg-type]
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
        self.hub: Hub = app.hub
        self._reload = reload
        self._listening = listening or _nothing
        self._connecting: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals in the loop. uvicorn would raise them again at the end; this process returns."""
        loop = asyncio.get_running_loop()
        handled = []
        for number, handler in (
            (signal.SIGTERM, self.stop),
            (signal.SIGINT, self.stop),
            (signal.SIGQUIT, self.stop),
            (signal.SIGHUP, self._reload or _nothing),
            (signal.SIGUSR1, _nothing),
            (signal.SIGUSR2, _nothing),
        ):
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                loop.add_signal_handler(number, handler)
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

    def join(self, mesh: Mesh, answer: Callable[[bytes], bytes]) -> None:
        """Serve as one of several workers; `answer` answers the questions of the others."""
        self._connections.mesh = mesh
        mesh.open(self._take, answer)

    def _take(self, sock: socket.socket, received: bytes) -> None:
        """A connection that another worker accepted, and what it read of it."""
        self._connections.serve_as(self.config, self.server_state, self.lifespan.state)
        start_in(self._connecting, _serve(sock, lambda: self._connections.passed_on(received)))

    def stop(self) -> None:
        """Begin the drain; a second call ends the process at once."""
        if self.should_exit:
            self.hub.event_log.flush()
            os._exit(1)
        self.should_exit = True

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Drain (`proxy.server.drain`)."""
        await drain(self.hub, self.server_state, self.servers, sockets or ())


class AdminServer(uvicorn.Server):
    """Probes and metrics on a port of their own, which answers during the drain too, for `/readyz`."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(LimitedProtocol, body_bytes=ADMIN_BODY_BYTES),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `StreamServer`."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await stop_accepting(sockets or ())
        await super().shutdown(sockets)

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
    """Run a coroutine function, on uvloop if it is installed."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.run(main())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def _nothing() -> None:
    """Do nothing."""


async def _serve(sock: socket.socket, connection: Callable[[], asyncio.Protocol]) -> None:
    """Wait until the connection is served; close it where that fails."""
    try:
        await asyncio.get_running_loop().connect_accepted_socket(connection, sock)
    except OSError:
        sock.close()
