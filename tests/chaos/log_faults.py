"""The faults of a shared log: of the replicas that lead its runs, of Redis, and of what lies between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from redis.exceptions import RedisError

from tests.chaos.faults import Named
from tests.chaos.replicas import Replica
from tests.support.redis_group import ANSWER, RedisGroup
from tests.support.redis_server import RedisServer

MINUTE: Final = 60.0  # seconds for which Redis is away at most
WHOLE: Final = 600.0  # seconds of a piece whose longest faults take their whole time; shorter in shorter ones
LEAST_SCALE: Final = 0.05
PROMOTED: Final = 60.0  # seconds until the Sentinels must have named another master
LOOK: Final = 0.1  # seconds between two questions for it
FULL: Final = "1mb"  # less than Redis itself needs: it refuses every write


@dataclass
class LogFaults:
    """Breaks the shared log and those who use it; `seconds`: how long the piece takes."""

    redis: RedisGroup
    replicas: list[Replica]
    rng: Random
    going: Callable[[], list[str]]  # the runs that are not over
    seconds: float

    @property
    def all(self) -> list[Named]:
        """Each fault with its name."""
        return [
            ("leader killed", self._kill_leader),
            ("leader killed and away", self._kill_leader_for_long),
            ("leader stands still", self._pause_leader),
            ("leader stopped", self._stop_leader),
            ("rollout", self._roll),
            ("Redis master killed", self._kill_master),
            ("Redis master stands still", self._pause_master),
            ("failover to a lagging replica, master killed", self._lag_and_kill),
            ("failover to a lagging replica, master alive", self._lag_and_switch),
            ("Redis flushed", self._flush),
            ("log of a run removed", self._remove),
            ("Redis away", self._away),
            ("Redis restarted empty", self._restart),
            ("pub/sub connections dropped", self._drop_messages),
            ("all connections to Redis dropped", self._drop_all),
            ("Redis full", self._fill),
        ]

    async def heal(self) -> None:
        """A fault may have been stopped half-way."""
        for replica in self.replicas:
            replica.wake()
        await asyncio.to_thread(self.redis.repair)

    async def _for(self, least: float, most: float) -> None:
        scale = min(1.0, max(LEAST_SCALE, self.seconds / WHOLE)) if most > 10.0 else 1.0
        await asyncio.sleep(self.rng.uniform(least, most) * scale)

    # -- replicas --

    async def _leader(self) -> Replica:
        leading = [replica for replica in self.replicas if await replica.leads()]
        return self.rng.choice(leading or self.replicas)

    async def _kill_leader(self) -> None:
        leader = await self._leader()
        await leader.stop(kill=True)
        await leader.start()

    async def _kill_leader_for_long(self) -> None:
        leader = await self._leader()
        await leader.stop(kill=True)
        await self._for(4.0, 10.0)
        await leader.start()

    async def _pause_leader(self) -> None:
        leader = await self._leader()
        leader.pause()
        await self._for(0.5, 10.0)
        leader.wake()

    async def _stop_leader(self) -> None:
        leader = await self._leader()
        await leader.stop(kill=False)
        await self._for(0.0, 3.0)
        await leader.start()

    async def _roll(self) -> None:
        for replica in self.replicas:
            await replica.stop(kill=False)
            await replica.start()

    # -- Redis --

    async def _call(self, *words: str) -> Any:
        """One command to the master; it may have died of the fault before."""

        def call() -> Any:
            with contextlib.suppress(RedisError, OSError):
                return self.redis.master.call(*words, socket_timeout=ANSWER)

        return await asyncio.to_thread(call)

    async def _master(self) -> RedisServer:
        return await asyncio.to_thread(lambda: self.redis.master)

    async def _failed_over(self, fault: Callable[[], None]) -> None:
        before = await self._master()
        await asyncio.to_thread(fault)
        with contextlib.suppress(TimeoutError):  # the Sentinels may not agree
            async with asyncio.timeout(PROMOTED):
                while await self._master() is before:
                    await asyncio.sleep(LOOK)
        await self._for(0.0, 2.0)
        await asyncio.to_thread(self.redis.repair)

    async def _kill_master(self) -> None:
        await self._failed_over(lambda: self.redis.kill(self.redis.master))

    async def _pause_master(self) -> None:
        await self._failed_over(self.redis.pause_master)

    async def _lag_and_kill(self) -> None:
        await asyncio.to_thread(self.redis.lag)
        await self._for(0.2, 3.0)
        await self._kill_master()

    async def _lag_and_switch(self) -> None:
        """The Sentinels promote the replica while the old master still takes writes."""
        await asyncio.to_thread(self.redis.lag)
        await self._for(0.2, 3.0)
        await self._failed_over(self.redis.fail_over)

    async def _flush(self) -> None:
        await self._call("FLUSHALL")

    async def _remove(self) -> None:
        for run_id in self.going():
            if self.rng.random() < 0.5:
                await self._call("UNLINK", f"hsp:default:log:{run_id}")

    async def _away(self) -> None:
        """Redis answers nothing, and has everything when it is back."""
        for node in self.redis.nodes:
            node.pause()
        await self._for(MINUTE / 2, MINUTE)
        await asyncio.to_thread(self.redis.repair)

    async def _restart(self) -> None:
        for node in self.redis.nodes:
            await asyncio.to_thread(self.redis.kill, node)
        await self._for(0.5, MINUTE / 2)
        await asyncio.to_thread(self.redis.repair)

    async def _drop_messages(self) -> None:
        await self._call("CLIENT", "KILL", "TYPE", "pubsub")

    async def _drop_all(self) -> None:
        await self._call("CLIENT", "KILL", "TYPE", "pubsub")
        await self._call("CLIENT", "KILL", "TYPE", "normal")

    async def _fill(self) -> None:
        await self._call("CONFIG", "SET", "maxmemory", FULL)
        await self._for(0.2, 3.0)
        await self._call("CONFIG", "SET", "maxmemory", "0")
