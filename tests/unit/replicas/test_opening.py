"""What a replica becomes that opens a run: its leader, a follower, or one that serves what is over."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from proxy.log.base import Life, LogAway
from proxy.log.memory import MemoryStore
from proxy.replicas.run_state import Role
from tests.support.fakes import rest
from tests.support.shared_runs import DONE, NAME, OVER, STARTED, ReplicaOfRun, chunks


async def opened(store: MemoryStore, name: str) -> ReplicaOfRun:
    replica = ReplicaOfRun(store, name)
    await replica.run.first_state()
    return replica


async def finished() -> tuple[MemoryStore, ReplicaOfRun]:
    store = MemoryStore()
    leader = await opened(store, "a")
    leader.bring(STARTED, *chunks(2), DONE, OVER)
    await rest()
    store.claims.clear()  # the time of the claim to begin the log is over
    return store, leader


async def test_who_opens_a_run_first_leads_it() -> None:
    leader = await opened(MemoryStore(), "a")
    assert leader.run.role is Role.LEADING
    leader.bring(STARTED)
    await rest()
    assert leader.served.items == [STARTED]


async def test_who_comes_later_follows_the_leader_and_asks_hatchet_for_nothing() -> None:
    store = MemoryStore()
    leader = await opened(store, "a")
    leader.bring(STARTED, *chunks(2))
    await rest()
    follower = await opened(store, "b")
    assert follower.run.role is Role.FOLLOWING
    assert follower.team.followers == []
    assert follower.served.items == [STARTED, *chunks(2)]


async def test_two_that_open_a_run_at_once_agree_on_one_leader() -> None:
    store = MemoryStore()
    one, other = ReplicaOfRun(store, "a"), ReplicaOfRun(store, "b")
    opening = asyncio.gather(one.run.first_state(), other.run.first_state())
    await one.clock.turn(1.0)
    await other.clock.turn(1.0)
    await opening
    assert {one.run.role, other.run.role} == {Role.LEADING, Role.FOLLOWING}


async def test_a_leader_that_is_gone_is_followed_by_who_opens_the_run() -> None:
    store = MemoryStore()
    leader = await opened(store, "a")
    leader.bring(STARTED, *chunks(2))
    await rest()
    leader.log.state = Life.DEAD
    other = await opened(store, "b")
    assert other.run.role is Role.LEADING
    other.bring(STARTED, *chunks(3))
    await rest()
    assert other.served.items == [STARTED, *chunks(3)]


async def test_a_leader_that_leaves_is_followed_as_soon_as_hatchet_brings_the_run() -> None:
    store = MemoryStore()
    leader = await opened(store, "a")
    await leader.log.leave()
    other = await opened(store, "b")
    await rest()
    assert leader.team.follower_now is not None, "it goes on until then"
    other.bring(STARTED)
    await rest()
    await rest()
    assert other.run.role is Role.LEADING
    assert leader.team.follower_now is None


async def test_a_run_that_is_over_is_served_from_its_log() -> None:
    store, leader = await finished()
    late = ReplicaOfRun(store, "b")
    late.team.done = True
    await late.run.first_state()
    assert late.run.role is Role.OVER
    assert late.served.items == leader.served.items
    assert late.team.followers == []


async def test_a_run_that_was_replayed_after_its_end_begins_a_new_generation() -> None:
    store, leader = await finished()
    late = ReplicaOfRun(store, "b")
    late.team.done = True
    late.served.rebuilt = [structs.replace(STARTED, step="more", step_run_id="3")]
    await late.run.first_state()
    assert late.run.role is Role.LEADING
    assert late.served.items == []
    assert late.served.fences.generation != leader.served.fences.generation


async def test_a_log_that_cannot_be_read_is_begun_anew() -> None:
    store, _ = await finished()
    store.logs[NAME] = [record for record in store.logs[NAME] if not record.summary]
    late = await opened(store, "b")
    assert late.run.role is Role.LEADING


async def test_without_the_log_a_run_is_served_from_memory() -> None:
    alone = ReplicaOfRun(MemoryStore(), "a")
    alone.log.cut()
    await alone.run.first_state()
    assert alone.run.local
    alone.bring(STARTED, *chunks(2))
    await rest()
    assert alone.served.items == [STARTED, *chunks(2)]


@pytest.mark.timeout(20)
async def test_a_log_that_refuses_to_be_opened_is_looked_at_again() -> None:
    """Redis' memory is full for a moment, and no connection is lost: nobody says that it is back."""
    store = MemoryStore()
    one = ReplicaOfRun(store, "a")

    async def refused(name: str, seconds: float) -> bool:
        raise LogAway("its memory is full")

    one.log.claim = refused  # type: ignore[method-assign]
    await one.run.first_state()
    one.bring(STARTED)
    await rest()
    assert one.run.local
    assert one.served.items == [STARTED]
    while one.run.local:  # the writer looks at the log after a second
        await asyncio.sleep(0.05)
    assert [record.position for record in store.logs[NAME]] == [0, 1]


async def test_a_run_that_is_over_is_replaced_where_its_log_was_lost_and_begun_again() -> None:
    """Else a client that changes the replica has an unknown cursor each time, and never comes to the end."""
    store, one = await finished()
    assert not await one.run.is_replaced()
    del store.logs[NAME]
    assert not await one.run.is_replaced(), "no other replica has begun another one"
    other = await opened(store, "b")
    other.bring(STARTED, DONE, OVER)
    await rest()
    assert await one.run.is_replaced()
    assert not await other.run.is_replaced()
    one.log.is_up = False
    assert not await one.run.is_replaced()
