"""What breaks: each fault has a name, does its harm, and undoes it; a seed decides which comes when."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from proxy.simulator import Engine
from tests.processes import Running, answers, free_port, running

PAUSE: Final = (0.1, 1.2)  # seconds between two faults


Bad = defaultdict[tuple[str, str, int], list[int]]
"""The indexes that chunks which are not UTF-8 took, by run, step and attempt."""


class Replica:
    """One proxy of several, always on the same port."""

    def __init__(self, config: Path, env: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._config, self._env = config, env
        self._stack = contextlib.AsyncExitStack()
        self.process: Running | None = None
        self.complaints: list[str] = []

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        serve = running("serve", "--config", self._config, "--port", str(self.port), env=self._env)
        self.process = await self._stack.enter_async_context(serve)
        await answers(self.url)

    async def stop(self, *, kill: bool) -> None:
        """SIGKILL, or SIGTERM and wait."""
        assert self.process is not None
        if kill:
            self.process.process.kill()
            await self.process.ended()
        else:
            status = await self.process.stop()
            if status != 0:
                self.complaints.append(f"exit status {status} after SIGTERM")
        if "Traceback" in self.process.said or "unexpected error" in self.process.said:
            self.complaints.append(self.process.said[-2000:])
        await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()


@dataclass
class Faults:
    """Breaks things until it is stopped; `counted` says how often."""

    engine: Engine
    replicas: list[Replica]
    dice: Random
    going: Callable[[], list[str]]  # the runs that are not over
    counted: Counter[str] = field(default_factory=Counter)
    bad: Bad = field(default_factory=lambda: defaultdict(list))

    async def play(self) -> None:
        """One fault after the other, with pauses."""
        faults: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("proxy killed", self._kill),
            ("proxy restarted", self._restart),
            ("engine restarted", self._engine_restarts),
            ("engine killed", self._engine_dies),
            ("streams ended with OK", self._end_streams),
            ("engine silent", self._silence),
            ("token refused", self._refuse),
            ("rate limited", self._limit),
            ("history away", self._hide_history),
            ("lifecycle events off", self._no_lifecycle),
            ("chunk not UTF-8", self._bad_chunk),
            ("run cancelled", self._cancel),
        ]
        while True:
            await asyncio.sleep(self.dice.uniform(*PAUSE))
            name, fault = self.dice.choice(faults)
            await fault()
            self.counted[name] += 1

    async def _kill(self) -> None:
        replica = self.dice.choice(self.replicas)
        await replica.stop(kill=True)
        await replica.start()

    async def _restart(self) -> None:
        replica = self.dice.choice(self.replicas)
        await replica.stop(kill=False)
        await replica.start()

    async def _engine_restarts(self) -> None:
        await self._away(graceful=True)

    async def _engine_dies(self) -> None:
        await self._away(graceful=False)

    async def _away(self, *, graceful: bool) -> None:
        """The core's state survives, as Hatchet's does in its database."""
        self.engine.switch(graceful_restart=graceful)
        await self.engine.go_away()
        await asyncio.sleep(self.dice.uniform(0.2, 3.0))
        await self.engine.come_back()

    async def _end_streams(self) -> None:
        self.engine.end_streams()

    async def _silence(self) -> None:
        """Packets that never arrive; a connection that lost some is broken, or TCP would bring them late."""
        self.engine.mute()
        await asyncio.sleep(self.dice.uniform(0.2, 2.0))
        self.engine.end_streams()
        self.engine.mute(False)

    async def _refuse(self) -> None:
        self.engine.refuse_tokens()
        await asyncio.sleep(self.dice.uniform(0.2, 2.0))
        self.engine.refuse_tokens(False)

    async def _limit(self) -> None:
        self.engine.limit_calls(0)
        await asyncio.sleep(self.dice.uniform(0.2, 2.0))
        self.engine.limit_calls()

    async def _hide_history(self) -> None:
        self.engine.hide_history()
        await asyncio.sleep(self.dice.uniform(0.2, 3.0))
        self.engine.hide_history(False)

    async def _no_lifecycle(self) -> None:
        self.engine.switch(lifecycle_events=False)
        await asyncio.sleep(self.dice.uniform(0.5, 3.0))
        self.engine.switch(lifecycle_events=True)

    async def _bad_chunk(self) -> None:
        for run_id in self.going():
            for step in self.engine.run(run_id).steps.values():
                if step.on_worker:
                    self.bad[run_id, step.name, step.attempt].append(step.next_index)
                    self.engine.put(run_id, step.name, b"\xff\xfe\x00bad")

    async def _cancel(self) -> None:
        going = self.going()
        if going:
            await self.engine.cancel(self.dice.choice(going))


@contextlib.asynccontextmanager
async def replicas(configs: Sequence[Path], env: dict[str, str]) -> AsyncIterator[list[Replica]]:
    """A proxy for each configuration, side by side."""
    made = [Replica(config, env) for config in configs]
    for one in made:
        await one.start()
    try:
        yield made
    finally:
        for one in made:
            await one.stop(kill=False)
