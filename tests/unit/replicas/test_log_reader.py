"""A follower serves what the leader appends, in order and once, however records reach it."""

from __future__ import annotations

from msgspec import structs

from proxy.log.memory import MemoryStore
from proxy.replicas.run_state import Role
from tests.support.fakes import rest
from tests.support.shared_runs import (
    DONE,
    NAME,
    OVER,
    STARTED,
    ReplicaOfRun,
    chunk,
    chunks,
    leader_and_follower,
)


async def test_what_is_appended_is_served_and_counted() -> None:
    _, leader, follower = await leader_and_follower()
    leader.bring(*chunks(2, 1))
    await rest()
    assert follower.served.items == [STARTED, *chunks(3)]
    assert follower.counters.received == 2


async def test_records_that_were_not_heard_are_read() -> None:
    store, leader, follower = await leader_and_follower()
    follower.log.is_up = False  # what is published now does not reach it
    leader.bring(chunk(1))
    await rest()
    follower.log.is_up = True
    leader.bring(chunk(2))
    await rest()
    assert follower.served.items == [STARTED, *chunks(3)]
    assert follower.run.progress.position == store.logs[NAME][-1].position
    assert follower.counters.received == 2


async def test_a_cursor_that_another_replica_sent_makes_it_read_at_once() -> None:
    _, leader, follower = await leader_and_follower()
    follower.log.is_up = False
    leader.bring(chunk(1))
    await rest()
    follower.log.is_up = True
    await follower.run.reach(3)
    assert follower.served.items == [STARTED, *chunks(2)]


async def test_records_that_are_told_twice_are_served_once() -> None:
    store, _, follower = await leader_and_follower()
    follower.run.received(store.logs[NAME])
    assert follower.served.items == [STARTED, chunk(0)]
    assert follower.counters.received == 0, "what it had already"


async def test_the_verified_end_ends_the_following() -> None:
    _, leader, follower = await leader_and_follower()
    leader.bring(DONE, OVER)
    await rest()
    assert follower.run.role is Role.OVER
    assert follower.run.over
    assert await leader.log.followers(NAME) == 0


async def test_a_log_that_tells_otherwise_ends_the_session() -> None:
    store, _, follower = await leader_and_follower()
    foreign = MemoryStore()
    other = ReplicaOfRun(foreign, "c")
    await other.run.first_state()
    other.bring(STARTED)
    await rest()
    store.logs[NAME] = [structs.replace(record, fence=record.fence + 10**6) for record in foreign.logs[NAME]]
    follower.run.received(store.logs[NAME])
    await rest()
    assert follower.team.discarded == 1
