"""The proxy, assembled from its parts: once, for ``serve``, for the demo and for the tests.

files ── Reloader ── Hub ── teams
                      │
socket ── StreamServer ── Front ── streams
                            └── probes, metrics, tickets (or whatever wraps them)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson
from msgspec import Struct

from config.model.files import Config, HatchetConfig
from config.watch import Fingerprint, watch
from proxy import __version__
from proxy.core.tasks import start_in
from proxy.hatchet.grpc.grouped_reads import GroupedReads
from proxy.hatchet.upstream import Upstream
from proxy.observability.counters import Counters
from proxy.observability.event_log import EventLog
from proxy.observability.otel.telemetry import open_telemetry
from proxy.server.daemon_threads import DaemonThreads
from proxy.server.gc_policy import GcPolicy
from proxy.server.http.app import App, StreamApp
from proxy.server.http.endpoints import admin_app, endpoints_app
from proxy.server.listener import AdminServer, StreamServer
from proxy.server.recheck import Rechecker
from proxy.server.reloader import Reloader
from proxy.server.workers.mesh import Mesh
from proxy.server.workers.vitals import VITALS, AllVitals, OwnVitals
from proxy.teams.hub import Connect, Hub


class Worker(Struct, frozen=True):
    """The place of a process among several; `parent` is a descriptor that ends with the parent."""

    mesh: Mesh
    parent: int


class Assembly:
    """One proxy: `start` it with a configuration, then `serve` on a socket until it is stopped."""

    def __init__(
        self,
        path: Path,
        env: Mapping[str, str],
        event_log: EventLog,
        *,
        connect: Connect | None = None,
        on_loopback: bool = True,
        admin: socket.socket | None = None,
        wrap: Callable[[App], App] | None = None,
        served: Fingerprint | None = None,
        worker: Worker | None = None,
    ) -> None:
        """`path` has the YAML, `env` its variables and ``OTEL_*``. It belongs to the running loop.

        `connect` makes the client of a team's Hatchet; the default speaks to the configured address.
        `on_loopback`: the listener is on loopback, so teams need no authentication.
        `admin`: a bound socket for probes and metrics, which are then not on the main one.
        `wrap` adds routes around everything that is no stream.
        `served`: the fingerprint of the files, from before they were read.
        `worker`: the place among the workers that serve this address; None: it serves alone.
        """
        counters = Counters()
        self._telemetry = open_telemetry(env, counters, event_log)
        tracer = None if self._telemetry is None else self._telemetry.tracer
        self.hub = Hub(connect or _connector(env), counters, event_log, tracer=tracer)
        self.reloader = Reloader(
            path,
            env,
            self.hub,
            event_log,
            on_loopback=on_loopback,
            workers=1 if worker is None else worker.mesh.workers,
        )
        self._gc_policy = GcPolicy(self.hub.counters.collector_pauses, self.hub.held)
        self._event_log = event_log
        self._path = path
        self._served = served
        self._admin = admin
        self._urls: list[str] = []  # for the log line `listening`: the streams', the probes'
        self._reloads: set[asyncio.Task[None]] = set()
        self._rechecker = Rechecker(self.hub)
        self.hub.rights_changed = self._rechecker.soon
        self._worker = worker
        self._own_vitals = OwnVitals(self.hub, os.getpid())
        self._vitals = self._own_vitals if worker is None else AllVitals(self._own_vitals, worker.mesh)
        other = endpoints_app(self.hub, self._vitals, probes_too=admin is None)
        app = StreamApp(self.hub, other if wrap is None else wrap(other))
        self.server = StreamServer(app, reload=self._reload_soon, listening=self._listening)

    async def start(self, config: Config) -> None:
        """Serve the teams of `config`; nothing listens yet. Raises LogRefused."""
        await self.hub.share(config.server)
        await self.reloader.start(config)
        self.hub.start()

    async def serve(self, sock: socket.socket) -> None:
        """Listen on `sock` until SIGTERM, SIGINT or `server.should_exit`, then drain. Raises OSError."""
        rechecking = asyncio.create_task(self._rechecker.run())
        if self._worker is not None:
            self.server.join(self._worker.mesh, self._answer)
            asyncio.get_running_loop().add_reader(self._worker.parent, self._parent_ended)
        if self._telemetry is not None:
            self._telemetry.start(self.hub.health)
        try:
            if self._admin is None:
                await self.server.serve(sockets=[sock])
            else:
                await self._serve_with_admin(sock, self._admin)
        finally:
            rechecking.cancel()
            if self._worker is not None:
                self._worker.mesh.close()
            if self._telemetry is not None:
                await self._telemetry.close(self.hub.health)

    def _parent_ended(self) -> None:
        assert self._worker is not None
        asyncio.get_running_loop().remove_reader(self._worker.parent)
        self.server.stop()

    def _answer(self, question: bytes) -> bytes:
        """What another worker asks."""
        if question == VITALS:
            return self._own_vitals.encode()
        from proxy.console.answers import answer, to_json  # noqa: PLC0415 - only where the console is open

        return to_json(answer(self.hub, orjson.loads(question)))

    async def _serve_with_admin(self, sock: socket.socket, admin: socket.socket) -> None:
        from proxy.console.routes import Console  # noqa: PLC0415 - most processes have no port for it

        console = Console(self.hub, self.reloader, None if self._worker is None else self._worker.mesh)
        counting = asyncio.create_task(console.run())
        try:
            async with AdminServer(admin_app(self.hub, self._vitals, console)).beside(admin):
                await self.server.serve(sockets=[sock])
        finally:
            counting.cancel()

    async def run(self, sock: socket.socket, *, host: str | None = None) -> None:
        """`serve` as a process of its own: watch the files, take over the garbage collector and the threads.

        `host`: the address for the log line `listening`; None: no such line. Raises OSError.
        """
        if host is not None:
            self._urls = [_url(host, each) for each in (sock, self._admin) if each is not None]
        asyncio.get_running_loop().set_default_executor(DaemonThreads())
        watching = asyncio.create_task(watch(self._path, self.reloader.reload, known=self._served))
        with contextlib.ExitStack() as stack:
            stack.callback(watching.cancel)
            stack.enter_context(self._gc_policy.applied())
            await self.serve(sock)

    def _reload_soon(self) -> None:
        start_in(self._reloads, self.reloader.reload())

    def _listening(self) -> None:
        if not self._urls:
            return
        url, *admin_url = self._urls
        teams = self.hub.teams.values()
        self._event_log.listening(
            url=url,
            admin_url=admin_url[0] if admin_url else None,
            teams=len(teams),
            streams=sum(len(team.streams) for team in teams),
            version=__version__,
            workers=1 if self._worker is None else self._worker.mesh.workers,
        )


def _connector(env: Mapping[str, str]) -> Connect:
    reads = GroupedReads()  # of all teams

    def connect(config: HatchetConfig) -> Upstream:
        from proxy.hatchet.client import HatchetClient  # noqa: PLC0415 - gRPC, only where there is a team

        return HatchetClient(config, env, reads)

    return connect


def _url(host: str, sock: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}/"
