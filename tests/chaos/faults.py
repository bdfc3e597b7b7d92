"""The faults: each has a name, breaks something and mends it; a seed decides which comes when."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from proxy.simulator import Engine
from tests.chaos.replicas import Replica

PAUSE: Final = (0.1, 1.2)  # seconds between two faults
REPLAYABLE: Final = 20  # of so many runs that ended last one is replayed

Named = tuple[str, Callable[[], Awaitable[None]]]
"""A fault and its name."""

Bad = defaultdict[tuple[str, str, int], list[int]]
"""The indexes that chunks which are not UTF-8 took, by run, step and attempt."""


class Breaking:
    """Breaks one thing after the other. `counted`: how often each began, `last`: what began last."""

    def __init__(self, faults: Sequence[Named], rng: Random, pause: tuple[float, float] = PAUSE) -> None:
        self.counted: Counter[str] = Counter()
        self.last = "none"
        self.number = 0  # of the fault that began last
        self._faults, self._rng, self._pause = faults, rng, pause

    async def play(self) -> None:
        """One fault after the other, with pauses."""
        while True:
            await asyncio.sleep(self._rng.uniform(*self._pause))
            name, fault = self._rng.choice(self._faults)
            self.last, self.number = name, self.number + 1
            self.counted[name] += 1
            await fault()


@dataclass
class Faults:
    """The faults of Hatchet, of the proxies and of what is between them."""

    engine: Engine
    replicas: list[Replica]
    rng: Random
    going: Callable[[], list[str]]  # the runs that are not over
    over: Callable[[], list[str]]  # the runs that are, the last one last
    replay: Callable[[str], Awaitable[None]]
    token: Path  # the file that the proxies read it from
    bad: Bad = field(default_factory=lambda: defaultdict(list))

    @property
    def all(self) -> list[Named]:
        """Each fault with its name."""
        return [
            ("proxy killed", self._kill),
            ("proxy restarted", self._restart),
            ("engine restarted", self._engine_restarts),
            ("engine killed", self._engine_dies),
            ("engine unavailable for long", self._unavailable),
            ("streams ended with OK", self._end_streams),
            ("engine silent", self._silence),
            ("partition: packets late", self._late_packets),
            ("partition: connections lost", self._cut),
            ("token refused", self._refuse),
            ("token revoked and replaced", self._replace_token),
            ("rate limited", self._limit),
            ("history away", self._hide_history),
            ("history lagging", self._lag_history),
            ("lifecycle events off", self._no_lifecycle),
            ("clock jumps", self._jump),
            ("chunk not UTF-8", self._bad_chunk),
            ("run cancelled", self._cancel),
            ("run replayed", self._replay),
        ]

    async def _for(self, least: float, most: float) -> None:
        await asyncio.sleep(self.rng.uniform(least, most))

    # -- proxies and what is between --

    async def _kill(self) -> None:
        replica = self.rng.choice(self.replicas)
        await replica.stop(kill=True)
        await replica.start()

    async def _restart(self) -> None:
        replica = self.rng.choice(self.replicas)
        await replica.stop(kill=False)
        await replica.start()

    async def _late_packets(self) -> None:
        """One replica receives nothing from Hatchet, neither stream nor history; then TCP sends all of it."""
        wires = self.rng.choice(self.replicas).wires
        for wire in wires:
            wire.hold()
        await self._for(0.5, 6.0)
        for wire in wires:
            wire.release()

    async def _cut(self) -> None:
        """The same, for as long as keepalives take at most; then the connections are gone."""
        wires = self.rng.choice(self.replicas).wires
        for wire in wires:
            wire.hold()
        await self._for(0.5, 20.0)
        for wire in wires:
            wire.cut()

    # -- Hatchet --

    async def _engine_restarts(self) -> None:
        await self._away(0.2, 3.0, graceful=True)

    async def _engine_dies(self) -> None:
        await self._away(0.2, 3.0, graceful=False)

    async def _unavailable(self) -> None:
        await self._away(5.0, 15.0, graceful=self.rng.random() < 0.5)

    async def _away(self, least: float, most: float, *, graceful: bool) -> None:
        """The engine is down; its state survives, as Hatchet's does in its database."""
        self.engine.switch(graceful_restart=graceful)
        await self.engine.faults.stop_grpc()
        await self._for(least, most)
        await self.engine.faults.start_grpc()

    async def _end_streams(self) -> None:
        self.engine.faults.end_streams()

    async def _silence(self) -> None:
        """The engine sends nothing and answers no call; its events are lost, and so are its streams."""
        self.engine.faults.mute()
        await self._for(0.2, 2.0)
        self.engine.faults.end_streams()
        self.engine.faults.mute(False)

    async def _refuse(self) -> None:
        self.engine.faults.refuse_tokens()
        await self._for(0.2, 2.0)
        self.engine.faults.refuse_tokens(False)

    async def _replace_token(self) -> None:
        """Revoked while streams are open; the new one comes a while later, in the same file."""
        old = self.token.read_text()
        head, body, _ = old.split(".")
        new = f"{head}.{body}.{self.rng.randbytes(6).hex()}"  # another signature: another token
        tenant = self.engine.gate.withdraw(old)
        self.engine.faults.end_streams()
        await self._for(0.2, 2.0)
        self.engine.gate.admit(new, tenant)
        self.token.write_text(new)

    async def _limit(self) -> None:
        self.engine.faults.limit_calls(0)
        await self._for(0.2, 2.0)
        self.engine.faults.limit_calls()

    async def _hide_history(self) -> None:
        self.engine.faults.hide_history()
        await self._for(0.2, 3.0)
        self.engine.faults.hide_history(False)

    async def _lag_history(self) -> None:
        """The read side lags, and with it what depends on it: false ends, and early subscriptions."""
        self.engine.faults.lag_history(self.rng.uniform(0.5, 5.0))
        await self._for(0.5, 4.0)
        self.engine.faults.lag_history()

    async def _no_lifecycle(self) -> None:
        self.engine.switch(lifecycle_events=False)
        await self._for(0.5, 3.0)
        self.engine.switch(lifecycle_events=True)

    async def _jump(self) -> None:
        """The wall clock of workers and engine, forth or back, and right again."""
        self.engine.faults.jump_clock(self.rng.choice([-3600.0, -5.0, -0.5, 0.5, 5.0, 3600.0]))
        await self._for(0.2, 3.0)
        self.engine.faults.jump_clock()

    # -- runs --

    async def _bad_chunk(self) -> None:
        for run_id in self.going():
            for step in self.engine.run(run_id).steps.values():
                if step.on_worker:
                    self.bad[run_id, step.name, step.attempt].append(step.next_index)
                    self.engine.put(run_id, step.name, b"\xff\xfe\x00bad")

    async def _cancel(self) -> None:
        going = self.going()
        if going:
            await self.engine.cancel(self.rng.choice(going))

    async def _replay(self) -> None:
        over = self.over()[-REPLAYABLE:]
        if over:
            await self.replay(self.rng.choice(over))
