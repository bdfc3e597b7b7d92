"""Faults: everything that can be made to go wrong with an engine, on command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.core.tasks import start_in
from proxy.simulator.api.grpc import GrpcApi
from proxy.simulator.api.listener import GrpcListener
from proxy.simulator.api.rest import RestApi
from proxy.simulator.gate import RATE, Gate
from proxy.simulator.scheduler import LoopScheduler
from proxy.simulator.state.runs import Core

NOT_UTF8 = b"\xff\xfe\x00bad"


class Faults:
    """What an engine can be made to do wrong. Each fault lasts until it is taken back."""

    def __init__(  # noqa: PLR0917 - the parts of an engine
        self,
        core: Core,
        scheduler: LoopScheduler,
        gate: Gate,
        grpc: GrpcApi,
        rest: RestApi,
        listener: GrpcListener,
    ) -> None:
        self._core, self._scheduler, self._gate = core, scheduler, gate
        self._grpc, self._rest, self._listener = grpc, rest, listener
        self._tasks: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Nothing that was planned happens; callers that wait get their answers."""
        for task in tuple(self._tasks):
            task.cancel()
        self._gate.unmute()

    def end_streams(self) -> None:
        """End every subscription with OK and without hangup; the engine stays."""
        self._grpc.end_streams()

    async def stop_grpc(self) -> None:
        """Close the gRPC port: streams end (with OK, if graceful), then connections are refused."""
        await self._listener.close(graceful=self._core.quirks.graceful_restart)

    async def start_grpc(self) -> None:
        """Open the gRPC port again."""
        await self._listener.open(limited=self._core.quirks.message_limit)

    async def outage(self, seconds: float) -> None:
        """Close the gRPC port and open it again after `seconds`; returns as soon as it is closed."""
        await self.stop_grpc()
        self._spawn_later(seconds, self.start_grpc)

    def refuse_tokens(self, refusing: bool = True) -> None:
        """Accept no token; open streams stay open."""
        self._gate.refusing = refusing

    def limit_calls(self, per_second: float = RATE) -> None:
        """Allow so many calls per second and token (0: none)."""
        self._gate.limit(per_second)

    def hide_history(self, away: bool = True) -> None:
        """Answer 503 on the REST API."""
        self._rest.away = away

    def lag_history(self, seconds: float = 0.0) -> None:
        """The read side learns of everything so much later than it otherwise would."""
        self._core.world.history_lag = seconds

    def lag_chunks(self, seconds: float = 0.0) -> None:
        """Chunks come so much later, lifecycle events do not: a tenant that is flooded with chunks."""
        self._core.world.chunk_lag = seconds

    def jump_clock(self, seconds: float = 0.0) -> None:
        """The wall clock of the engine and its workers is wrong by so much."""
        self._scheduler.jumped = seconds

    def mute(self, muted: bool = True) -> None:
        """Drop everything that is published, and answer no call: packets that never arrive."""
        for tenant in self._core.tenants:
            tenant.bus.muted = muted
        if muted:
            self._gate.mute()
        else:
            self._gate.unmute()

    def bad_chunk(self, run_id: str | None = None) -> int:
        """A chunk that is not UTF-8 from each step that is running; how many there were. Raises KeyError."""
        sent = 0
        for run in [self._core.run(run_id)] if run_id is not None else list(self._core.running()):
            for step in run.steps.values():
                if step.on_worker:
                    self._core.put_next_chunk(run, step, NOT_UTF8)
                    sent += 1
        return sent

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something after `seconds`, unless the engine stops before."""
        self._scheduler.after(seconds, call)

    def _spawn_later(self, seconds: float, what: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            await what()

        start_in(self._tasks, wait())
