"""The leader says in the log when merged chunks become frames."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.events import Flush, LogItem
from proxy.log.base import Life
from proxy.log.memory import MemoryStore
from tests.support.fakes import rest
from tests.support.shared_runs import DONE, OVER, STARTED, ReplicaOfRun, chunk, chunks
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(20)


async def leader_with(*times: int, store: MemoryStore | None = None, name: str = "a") -> ReplicaOfRun:
    replica = ReplicaOfRun(store or MemoryStore(), name)
    replica.team.merge_times = list(times)
    await replica.run.first_state()
    return replica


def flushes(replica: ReplicaOfRun) -> list[LogItem]:
    return [item for item in replica.served.items if isinstance(item, Flush)]


async def test_chunks_are_flushed_once_for_each_time_that_rules_have() -> None:
    leader = await leader_with(5, 15)
    leader.bring(STARTED, *chunks(3))
    await until(lambda: len(flushes(leader)) == 2)
    assert leader.served.items == [STARTED, *chunks(3), Flush(5), Flush(15)]
    leader.bring(chunk(3))
    await until(lambda: len(flushes(leader)) == 4)


async def test_followers_have_the_flushes_at_the_same_positions() -> None:
    store = MemoryStore()
    leader = await leader_with(5, store=store)
    follower = await leader_with(5, store=store, name="b")
    leader.bring(STARTED, chunk(0))
    await until(lambda: flushes(follower))
    leader.bring(chunk(1))
    await until(lambda: len(flushes(follower)) == 2)
    assert follower.served.items == leader.served.items
    assert follower.served.items == [STARTED, chunk(0), Flush(5), chunk(1), Flush(5)]


async def test_events_that_are_no_chunks_need_no_flush() -> None:
    leader = await leader_with(1)
    leader.bring(STARTED, DONE)
    await asyncio.sleep(0.02)
    assert leader.served.items == [STARTED, DONE]


async def test_nothing_comes_after_the_end() -> None:
    store = MemoryStore()
    leader = await leader_with(1, store=store)
    leader.bring(STARTED, chunk(0), DONE, OVER)
    await asyncio.sleep(0.02)
    assert leader.served.items == [STARTED, chunk(0), DONE, OVER]


async def test_who_takes_over_flushes_what_may_wait_since_then() -> None:
    store = MemoryStore()
    leader = await leader_with(10_000, store=store)
    follower = await leader_with(5, store=store, name="b")
    leader.bring(STARTED, chunk(0))
    await rest()
    leader.log.state = Life.DEAD
    assert await follower.run.take_over("a")
    await until(lambda: flushes(follower) == [Flush(5)])


async def test_a_leader_does_what_a_follower_asks_for_that_has_other_rules() -> None:
    store = MemoryStore()
    leader = await leader_with(store=store)
    follower = await leader_with(7, store=store, name="b")
    asked: list[tuple[str, ...]] = []

    class RecordingListener:
        def announced(self, replica: str, words: list[str]) -> None:
            asked.append(tuple(words))

    leader.log.announcements = RecordingListener()  # type: ignore[assignment]
    follower.run.ask_flush(7)
    assert asked == [("flush", follower.run.name, "7")]
    leader.run.ask_flush(7)
    await until(lambda: flushes(follower) == [Flush(7)])
    leader.bring(STARTED, chunk(0))
    await until(lambda: flushes(follower) == [Flush(7), Flush(7)])


async def test_a_replica_that_leads_no_more_flushes_nothing() -> None:
    store = MemoryStore()
    leader = await leader_with(5, store=store)
    other = await leader_with(store=store, name="b")
    leader.bring(STARTED, chunk(0))
    await rest()
    await other.run.take_over("a")
    await rest()
    await rest()
    await asyncio.sleep(0.02)
    assert flushes(other) == flushes(leader) == []
