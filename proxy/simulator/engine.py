"""Engine: a small Hatchet in this process, on loopback ports of its own.

    async with Engine(script, seed=1) as engine:
        run_id = await engine.trigger("chat", {"question": "why?"})
        await engine.faults.outage(2.0)

It speaks gRPC and REST as hatchet-sdk does. What can be made to go wrong is a method of `faults` and a path
under /control.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from proxy.core.accepting import stop_accepting
from proxy.simulator.api.grpc import GrpcApi
from proxy.simulator.api.listener import HOST, GrpcListener, PortTaken
from proxy.simulator.api.rest import RestApi
from proxy.simulator.control_api import ControlApi
from proxy.simulator.faults import Faults
from proxy.simulator.gate import Gate
from proxy.simulator.quirks import Quirks
from proxy.simulator.random_source import RandomSource
from proxy.simulator.recordings.parser import Recording
from proxy.simulator.scheduler import LoopScheduler
from proxy.simulator.script.default import default
from proxy.simulator.script.loader import load_script
from proxy.simulator.script.model import Script
from proxy.simulator.state.entities import Run
from proxy.simulator.state.runs import Core
from proxy.simulator.tokens import token
from proxy.simulator.world import World


class Engine:
    """One engine.

    `quirks` go over the script's. `speed` makes its workers faster, not its own waits. `seed` makes ids,
    delays and chances the same each time. A `port` or `api_port` of 0 is any free one. `lean` serves gRPC
    without grpcio, for benchmarks. Raises `config.problems.ConfigError` for a script with a mistake.
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

    # -- start and stop --------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on both ports. Raises PortTaken."""
        scheduler, random = LoopScheduler(), RandomSource(self._seed)
        world = World(scheduler, random, self._quirks, self._speed)
        self.core = Core(self._script, world, tenants=self._tenants)
        self.core.recordings = {
            name: (recording, self._speed) for name, recording in self._recordings.items()
        }
        self.gate = Gate(scheduler)
        self.grpc = GrpcApi(self.core, self.gate)
        self.rest = RestApi(self.core, self.gate)
        self._listener = GrpcListener(self.grpc, self._port, lean=self._lean)
        self.faults = Faults(self.core, scheduler, self.gate, self.grpc, self.rest, self._listener)
        await self._listener.open(limited=self.quirks.message_limit)
        await self._listen_rest()
        self.tokens = tuple(
            token(one.id, self.host_port, self.api_url, random.uuid(), scheduler.wall())
            for one in self.core.tenants
        )
        for mine, tenant in zip(self.tokens, self.core.tenants, strict=True):
            self.gate.admit(mine, tenant)

    async def stop(self) -> None:
        """End every stream and close both ports."""
        self.core.stop()
        self.faults.stop()
        await self._listener.close(graceful=True)
        await stop_accepting((self._rest_socket,))
        await self._runner.cleanup()

    async def _listen_rest(self) -> None:
        app = web.Application()
        self.control = ControlApi(self)
        app.add_routes([*self.rest.routes(), *self.control.routes()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        try:
            self._rest_socket = socket.create_server((HOST, self._api_port))
        except OSError:
            await self._listener.close(graceful=False)
            await self._runner.cleanup()
            raise PortTaken(f"cannot listen on {HOST}:{self._api_port}: the port is taken") from None
        await web.SockSite(self._runner, self._rest_socket).start()
        self._api_port = self._rest_socket.getsockname()[1]

    # -- addresses -------------------------------------------------------------------------------

    @property
    def listening(self) -> bool:
        """Whether the gRPC port is open."""
        return self._listener.listening

    @property
    def host_port(self) -> str:
        """The address of gRPC."""
        return f"{HOST}:{self._listener.port}"

    @property
    def api_url(self) -> str:
        """The address of REST and of the control port."""
        return f"http://{HOST}:{self._api_port}"

    @property
    def token(self) -> str:
        """The first tenant's token."""
        return self.tokens[0]

    @property
    def env(self) -> dict[str, str]:
        """The environment with which hatchet-sdk connects to this engine."""
        return self.env_of(0)

    def env_of(self, tenant: int) -> dict[str, str]:
        """The environment for one of the tenants, counted from 0."""
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
        """Switch quirks from now on. Raises ValueError for an unknown name."""
        self.core.world.quirks = self.core.world.quirks.switched(**quirks)

    # -- runs ------------------------------------------------------------------------------------

    async def trigger(
        self, workflow: str, input: Any = None, metadata: Mapping[str, Any] | None = None, *, tenant: int = 0
    ) -> str:
        """Begin a run; its id. Raises UnknownWorkflow (over gRPC such a trigger is answered with an id)."""
        return self.core.trigger(self.core.tenants[tenant], workflow, input, metadata).id

    def play_recording(self, name: str) -> str:
        """Play a recorded run again, under its recorded id."""
        return self.core.play_recording(self.core.tenants[0], name).id

    async def cancel(self, run_id: str) -> None:
        """A user's cancellation. Raises KeyError."""
        self.core.cancel(self.run(run_id))

    async def replay(self, run_id: str) -> None:
        """A user's replay of a run that is over. Raises KeyError."""
        self.core.replay(self.run(run_id))

    def run(self, run_id: str) -> Run:
        """The true state of a run. Raises KeyError."""
        return self.core.run(run_id)

    def put(self, run_id: str, step: str, chunk: bytes | str, index: int | None = None) -> None:
        """A chunk out of turn, as if the step's worker had sent it; the next index by default.

        Raises KeyError.
        """
        run = self.run(run_id)
        raw = chunk.encode() if isinstance(chunk, str) else chunk
        if index is None:
            self.core.put_next_chunk(run, run.steps[step], raw)
        else:
            self.core.put_chunk(run, run.steps[step], raw, index)

    @property
    def streams(self) -> int:
        """How many subscriptions are open now."""
        return len(self.grpc.subscriptions)

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
