"""Mischief: everything that can go wrong with an engine, on command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.simulator.api.grpc import GrpcApi
from proxy.simulator.api.rest import RestApi
from proxy.simulator.gate import RATE, Gate
from proxy.simulator.scheduler import LoopScheduler
from proxy.simulator.state.entities import Run
from proxy.simulator.state.runs import Core


class Mischief:
    """What an engine can be made to do wrong; `Engine` says how it listens."""

    core: Core
    gate: Gate
    wire: GrpcApi
    rest: RestApi
    _tasks: set[asyncio.Task[None]]

    async def _listen(self) -> None:
        raise NotImplementedError

    async def _hush(self, graceful: bool) -> None:
        raise NotImplementedError

    @property
    def listening(self) -> bool:
        """Whether the gRPC side is there."""
        raise NotImplementedError

    def run(self, run_id: str) -> Run:
        """The truth of a run. Raises KeyError."""
        for tenant in self.core.tenants:
            if run_id in tenant.runs:
                return tenant.runs[run_id]
        raise KeyError(run_id)

    def put(self, run_id: str, step: str, chunk: bytes | str, index: int | None = None) -> None:
        """A chunk out of turn, as if the step's worker had sent it."""
        run = self.run(run_id)
        one = run.steps[step]
        raw = chunk.encode() if isinstance(chunk, str) else chunk
        if index is None:
            index, one.next_index = one.next_index, one.next_index + 1
        self.core.put_chunk(run, one, raw, index)

    def end_streams(self) -> None:
        """Every subscription ends with OK and without hangup; the engine stays."""
        self.wire.end_streams()

    async def go_away(self) -> None:
        """Shut the gRPC side down: streams end (with OK, if graceful), then connections are refused."""
        await self._hush(graceful=self.core.quirks.graceful_restart)

    async def come_back(self) -> None:
        """Listen again, on the same port."""
        if not self.listening:
            await self._listen()

    async def outage(self, seconds: float) -> None:
        """Away for so long, then back; returns as soon as it is away."""
        await self.go_away()
        self._spawn_later(seconds, self.come_back())

    def refuse_tokens(self, refusing: bool = True) -> None:
        """Take no token until told otherwise; streams that are open stay."""
        self.gate.refusing = refusing

    def limit_calls(self, per_second: float = RATE) -> None:
        """Allow so many calls per second and token (0: none)."""
        self.gate.limit(per_second)

    def hide_history(self, away: bool = True) -> None:
        """The REST API answers 503."""
        self.rest.away = away

    def lag_history(self, seconds: float = 0.0) -> None:
        """The read side learns of everything so much later than it otherwise would."""
        self.core.world.behind = seconds

    def jump_clock(self, seconds: float = 0.0) -> None:
        """The wall clock is wrong by so much: what workers and engine write is."""
        scheduler = self.core.scheduler
        assert isinstance(scheduler, LoopScheduler)
        scheduler.jumped = seconds

    def mute(self, muted: bool = True) -> None:
        """Drop everything that would be told, answer nothing: packets that never arrive."""
        for tenant in self.core.tenants:
            tenant.bus.muted = muted
        if muted:
            self.gate.mute()
        else:
            self.gate.unmute()

    def bad_chunk(self, run_id: str | None = None) -> int:
        """A chunk that is not UTF-8 from each step that is running; how many there were."""
        sent = 0
        for run in self._running(run_id):
            for step in run.steps.values():
                if step.on_worker:
                    self.put(run.id, step.name, b"\xff\xfe\x00bad")
                    sent += 1
        return sent

    def _running(self, run_id: str | None) -> list[Run]:
        if run_id is not None:
            return [self.run(run_id)]
        return list(self.core.running())

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something after so long, unless the engine stops before."""
        self.core.scheduler.after(seconds, call)

    def _spawn_later(self, seconds: float, what: Coroutine[Any, Any, None]) -> None:
        async def wait() -> None:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                what.close()
                raise
            await what

        task = asyncio.create_task(wait())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
