"""The keeper: it notices that nobody leads a run although the log names a replica that lives."""

from __future__ import annotations

import asyncio
from typing import Final

from proxy.log.memory import MemoryStore
from proxy.observability.counters import LogCounters
from proxy.replicas.keeper import EVERY, SILENT, Keeper
from proxy.replicas.run_state import Role
from proxy.replicas.shared_run import SharedRun
from tests.support.fakes import HandClock, rest
from tests.support.shared_runs import NAME, STARTED, ReplicaOfRun, chunk, chunks, fail

LOOKS: Final = int(SILENT[0] / EVERY) + 2


class NoOpener:
    """Opens no run."""

    async def open(self, name: str, seconds: float) -> SharedRun | None:
        return None


class Process:
    """One replica with its keeper."""

    def __init__(self, store: MemoryStore, name: str) -> None:
        self.one = ReplicaOfRun(store, name)
        self.clock = HandClock()
        self.keeper = Keeper(self.one.log, NoOpener(), LogCounters(), fail, clock=self.clock)
        self.one.log.announcements = self.keeper
        self.keeper.add(self.one.run)

    async def look(self, times: int = LOOKS) -> None:
        """The keeper looks around, once a second."""
        for _ in range(times):
            await self.clock.turn(EVERY)
            await rest()


async def pair() -> tuple[MemoryStore, Process, Process]:
    store = MemoryStore()
    leader, follower = Process(store, "a"), Process(store, "b")
    await leader.one.run.first_state()
    leader.one.bring(STARTED, chunk(0))
    await rest()
    await follower.one.run.first_state()
    for process in (leader, follower):
        process.keeper.start()
    return store, leader, follower


async def test_a_leader_that_says_nothing_because_there_is_nothing_goes_on_leading() -> None:
    _, leader, follower = await pair()
    await follower.look(4 * LOOKS)
    assert leader.one.run.role is Role.LEADING
    assert follower.one.run.role is Role.FOLLOWING


async def test_a_run_that_its_leader_closed_without_saying_so_gets_another_leader() -> None:
    """The log was away when it closed the run: it could not resign, and it lives."""
    _, leader, follower = await pair()
    leader.one.log.cut()
    await leader.one.run.close()
    leader.keeper.remove(leader.one.run)
    leader.one.log.mend()
    reading = asyncio.create_task(follower.look())
    await rest()
    await reading
    await follower.one.clock.turn(5.0)
    async with asyncio.timeout(10):  # it waits for the run's first item from Hatchet
        while follower.one.run.role is not Role.LEADING:
            if follower.one.team.follower_now is not None:
                follower.one.bring(STARTED, *chunks(2))
            await asyncio.sleep(0.02)


async def test_a_record_that_was_stored_and_never_published_is_read_after_a_while() -> None:
    store, leader, follower = await pair()
    progress = leader.one.run.progress
    body = progress.codec.encode(chunk(1))
    fence = store.logs[NAME][-1]
    store.logs[NAME].append(
        type(fence)(fence.fence, fence.position + 1, fence.generation, fence.replica, body)
    )
    await follower.look()
    assert follower.one.served.items == [STARTED, *chunks(2)]


async def test_a_follower_whose_own_fence_was_stored_without_an_answer_takes_the_lead() -> None:
    store, _, follower = await pair()
    number = follower.one.run.progress.fence + 1
    record = follower.one.run._state.fence(number, follower.one.run.progress.position)
    assert await follower.one.log.fence(NAME, record, create=False)
    await follower.one.run.catch_up()
    assert follower.one.run.progress.leader == "b"
    roles = [follower.one.run.role]
    await follower.look(3)
    assert [*roles, follower.one.run.role] == [Role.FOLLOWING, Role.LEADING]
    assert store.logs[NAME][-1].replica == "b"
