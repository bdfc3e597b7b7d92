"""Engine: a Hatchet in miniature, in this process, on loopback ports of its own.

    async with Engine(script, seed=1) as engine:
        run_id = await engine.trigger("chat", {"question": "why?"})

It speaks gRPC and REST as hatchet-sdk does; what can be broken on purpose is a method here and a path under
/control.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
from aiohttp import web

from proxy.simulator.api.grpc import GrpcApi
from proxy.simulator.api.grpc_lean import LeanServer
from proxy.simulator.api.rest import RestApi
from proxy.simulator.control_api import ControlApi
from proxy.simulator.faults import Mischief
from proxy.simulator.gate import Gate
from proxy.simulator.quirks import Quirks
from proxy.simulator.random_source import RandomSource
from proxy.simulator.recordings.parser import Recording
from proxy.simulator.scheduler import LoopScheduler
from proxy.simulator.script.default import default
from proxy.simulator.script.loader import load_script
from proxy.simulator.script.model import Script
from proxy.simulator.state.runs import Core
from proxy.simulator.tokens import token
from proxy.simulator.world import World

HOST = "127.0.0.1"
OPTIONS = (
    ("grpc.so_reuseport", 0),  # a taken port is an error, not a shared one
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),  # the SDK pings every 10 s
    ("grpc.http2.max_ping_strikes", 0),
)
MESSAGE_LIMIT = 4 * 1024 * 1024


class PortTaken(OSError):
    """The engine cannot listen where it was told to."""


class Engine(Mischief):
    """One engine; `quirks` are laid over the script's, `speed` makes its workers (not its waits) faster.

    `lean` serves gRPC without grpcio, for benchmarks. A script's file that is wrong raises
    `config.problems.ConfigError`.
    """

    def __init__(
        self,
        script: Script | Path | None = None,
        *,
        quirks: Mapping[str, bool] | Quirks | None = None,
        tenants: int = 1,
        seed: int | None = None,
        speed: float = 1.0,
        port: int = 0,
        api_port: int = 0,
        recordings: Mapping[str, Recording] | None = None,
        lean: bool = False,
    ) -> None:
        self._script = _script(script)
        self._quirks = _quirks(self._script, quirks)
        self._tenants, self._seed, self._speed = tenants, seed, speed
        self._port, self._api_port = port, api_port
        self._recordings = dict(recordings or {})
        self._lean = lean
        self._server: grpc.aio.Server | LeanServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. Raises PortTaken."""
        scheduler = LoopScheduler()
        random = RandomSource(self._seed)
        self.core = Core(
            self._script, World(scheduler, random, self._quirks, self._speed), tenants=self._tenants
        )
        self.core.recordings = {
            name: (recording, self._speed) for name, recording in self._recordings.items()
        }
        self.gate = Gate(scheduler)
        self.wire = GrpcApi(self.core, self.gate)
        self.rest = RestApi(self.core, self.gate)
        await self._listen()
        await self._listen_rest()
        self.tokens = tuple(
            token(one.id, self.host_port, self.api_url, random.uuid(), scheduler.wall())
            for one in self.core.tenants
        )
        for mine, tenant in zip(self.tokens, self.core.tenants, strict=True):
            self.gate.admit(mine, tenant)

    async def stop(self) -> None:
        """End every stream and both listeners."""
        for task in tuple(self._tasks):
            task.cancel()
        self.core.stop()
        self.gate.unmute()
        await self._hush(graceful=True)
        await self._runner.cleanup()

    async def _listen(self) -> None:
        if self._lean:
            await self._listen_lean()
            return
        limit = MESSAGE_LIMIT if self.quirks.message_limit else -1
        options = (*OPTIONS, ("grpc.max_receive_message_length", limit))
        server = grpc.aio.server(handlers=(self.wire,), options=options)
        try:
            with socket.create_server((HOST, self._port)):
                pass  # asked first: gRPC writes lines of its own about a port that is taken
            self._port = server.add_insecure_port(f"{HOST}:{self._port}")
        except (OSError, RuntimeError):
            raise PortTaken(f"cannot listen on {HOST}:{self._port}: the port is taken") from None
        await server.start()
        self._server = server

    async def _listen_lean(self) -> None:
        server = LeanServer(self.wire)
        try:
            self._port = await server.listen(HOST, self._port)
        except OSError:
            raise PortTaken(f"cannot listen on {HOST}:{self._port}: the port is taken") from None
        self._server = server

    async def _listen_rest(self) -> None:
        app = web.Application()
        self.control = ControlApi(self)
        app.add_routes([*self.rest.routes(), *self.control.routes()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self._api_port)
        try:
            await site.start()
        except OSError:
            await self._hush(graceful=False)
            await self._runner.cleanup()
            raise PortTaken(f"cannot listen on {HOST}:{self._api_port}: the port is taken") from None
        self._api_port = self._runner.addresses[0][1]

    async def _hush(self, graceful: bool) -> None:
        if self._server is None:
            return
        server, self._server = self._server, None
        if graceful:
            self.wire.end_streams()
        await server.stop(0.2 if graceful else None)

    @property
    def listening(self) -> bool:
        """Whether the gRPC side is there."""
        return self._server is not None

    # -- where it is -------------------------------------------------------------------------------

    @property
    def host_port(self) -> str:
        """Where it speaks gRPC."""
        return f"{HOST}:{self._port}"

    @property
    def api_url(self) -> str:
        """Where it speaks REST, and is controlled."""
        return f"http://{HOST}:{self._api_port}"

    @property
    def token(self) -> str:
        """The first tenant's token."""
        return self.tokens[0]

    @property
    def env(self) -> dict[str, str]:
        """What hatchet-sdk reads from its environment to come here."""
        return self.env_of(0)

    def env_of(self, tenant: int) -> dict[str, str]:
        """The environment for one of the tenants."""
        return {
            "HATCHET_CLIENT_TOKEN": self.tokens[tenant],
            "HATCHET_CLIENT_TLS_STRATEGY": "none",
            "HATCHET_CLIENT_HOST_PORT": self.host_port,
            "HATCHET_CLIENT_SERVER_URL": self.api_url,
        }

    @property
    def quirks(self) -> Quirks:
        """The quirks as they are switched now."""
        return self.core.quirks

    def switch(self, **quirks: bool) -> None:
        """Switch quirks from now on. Raises ValueError for a name that is none."""
        self.core.world.quirks = self.core.world.quirks.switched(**quirks)

    # -- what a test does with runs ------------------------------------------------------------------

    async def trigger(
        self, workflow: str, input: Any = None, metadata: Mapping[str, Any] | None = None, *, tenant: int = 0
    ) -> str:
        """Begin a run. Raises UnknownWorkflow (over gRPC the engine does not tell)."""
        return self.core.trigger(self.core.tenants[tenant], workflow, input, metadata).id

    def play_recording(self, name: str) -> str:
        """Begin a telling of a recorded run, under its recorded id."""
        return self.core.play_recording(self.core.tenants[0], name).id

    async def cancel(self, run_id: str) -> None:
        """A user's cancellation."""
        self.core.cancel(self.run(run_id))

    async def replay(self, run_id: str) -> None:
        """A user's replay of a run that is over."""
        self.core.replay(self.run(run_id))

    @property
    def streams(self) -> int:
        """How many subscriptions are open now."""
        return len(self.wire.subscriptions)

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each method was called."""
        return self.gate.calls


def _script(given: Script | Path | None) -> Script:
    if given is None:
        return default()
    return load_script(given) if isinstance(given, Path) else given


def _quirks(script: Script, over: Mapping[str, bool] | Quirks | None) -> Quirks:
    if isinstance(over, Quirks):
        return over
    return Quirks().switched(**dict(script.quirks)).switched(**dict(over or {}))
