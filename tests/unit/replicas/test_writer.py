"""A leader and its followers on one log: what is served is the same everywhere, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from proxy.core.events import Item
from proxy.log.base import Done, Life, Outcome, Record
from proxy.log.entries import ItemCodec
from proxy.log.fences import new_generation
from proxy.log.memory import MemoryLog, MemoryStore
from proxy.replicas.progress import Progress, Step
from proxy.replicas.writer import SUMMARY_EVERY, Writer
from tests.support.shared_runs import DONE, NAME, OVER, RUN, STARTED, Served, chunk, chunks, fail

GENERATION: Final = new_generation(1, "abc")


class Replica:
    """One replica of a run."""

    def __init__(self, store: MemoryStore, name: str, keeps: int = 10_000) -> None:
        self.log = MemoryLog(store, name, asyncio.get_running_loop().call_soon)
        self.served = Served(keeps)
        self.progress = Progress(ItemCodec(RUN, {}), self.served)
        self.writer: Writer | None = None
        self.news: list[str] = []

    async def begin(self) -> None:
        self.progress.begin(GENERATION, 1, self.log.replica)
        await self.log.fence(NAME, self._fence(1), create=True)
        self.lead()

    def _fence(self, number: int) -> Record:
        summary = self.progress.summary(self.progress.contents)
        return Record(number, self.progress.position, GENERATION, self.log.replica, b"", summary)

    def lead(self) -> None:
        def note(what: str) -> Callable[[], None]:
            return lambda: self.news.append(what)

        self.writer = Writer(
            self.log,
            NAME,
            self.progress,
            self.served,
            contents=self.progress.contents.copy(),
            taken=note("taken"),
            apart=note("apart"),
            finished=note("finished"),
            unforeseen=fail,
        )

    async def take_over(self) -> None:
        start = self.progress.position + 1
        self.progress.lead(self.progress.fence + 1, self.log.replica, start)
        assert await self.log.fence(NAME, self._fence(self.progress.fence), create=False)
        self.lead()

    def publish(self, *items: Item) -> None:
        assert self.writer is not None
        self.writer.publish(items)

    def look(self) -> None:
        assert self.writer is not None
        self.writer.look()

    async def read(self) -> Step:
        """Serve what the log has."""
        records = await self.log.read(NAME, self.progress.last_id)
        return self.progress.apply(records) if self.progress.fence else self.progress.load(records)


async def settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def pair(keeps: int = 10_000) -> tuple[MemoryStore, Replica, Replica]:
    store = MemoryStore()
    one, other = Replica(store, "a", keeps), Replica(store, "b")
    await one.begin()
    return store, one, other


async def test_what_the_leader_serves_is_in_the_log_already() -> None:
    store, leader, _ = await pair()
    leader.publish(STARTED, *chunks(3))
    assert leader.served.items == []
    await settled()
    assert leader.served.items == [STARTED, *chunks(3)]
    assert [record.position for record in store.logs[NAME]] == [0, 1, 2, 3, 4]


async def test_a_follower_serves_the_same_at_the_same_positions() -> None:
    _, leader, follower = await pair()
    leader.publish(STARTED, *chunks(3), DONE, OVER)
    await settled()
    assert await follower.read() is Step.FINE
    assert follower.served.items == leader.served.items
    assert follower.progress.position == leader.progress.position == 6
    assert follower.progress.over
    assert leader.news == ["finished"]


async def test_a_replica_that_takes_over_repeats_nothing() -> None:
    _, leader, follower = await pair()
    leader.publish(STARTED, *chunks(3))
    await settled()
    await follower.read()
    await follower.take_over()
    follower.publish(STARTED, *chunks(5), DONE, OVER)
    leader.publish(chunk(3))
    await settled()
    assert follower.served.items == [STARTED, *chunks(5), DONE, OVER]
    assert leader.news == ["taken"]
    assert leader.served.items == [STARTED, *chunks(3)], "what was refused was not served"
    assert await leader.read() is Step.FINE
    assert leader.served.items == follower.served.items


async def test_what_a_failover_lost_is_appended_again_under_the_same_ids() -> None:
    store, leader, follower = await pair()
    leader.publish(STARTED, *chunks(5))
    await settled()
    before = list(store.logs[NAME])
    await follower.read()
    del store.logs[NAME][3:]
    leader.look()
    await settled()
    assert [record.position for record in store.logs[NAME]] == [0, 1, 2, 3, 4, 5, 6]
    assert [record.body for record in store.logs[NAME]] == [record.body for record in before]
    leader.publish(chunk(5))
    await settled()
    assert await follower.read() is Step.FINE
    assert follower.served.items == [STARTED, *chunks(6)]


async def test_a_fence_that_a_failover_lost_is_written_again() -> None:
    store, leader, follower = await pair()
    leader.publish(STARTED, *chunks(2))
    await settled()
    await follower.read()
    await follower.take_over()
    follower.publish(STARTED, *chunks(4))
    await settled()
    leader.log.state = Life.DEAD
    del store.logs[NAME][3:]
    follower.look()
    await settled()
    assert follower.news == []
    late = Replica(store, "c")
    assert await late.read() is Step.FINE
    assert late.served.items == follower.served.items == [STARTED, *chunks(4)]


async def test_a_log_that_is_gone_is_written_again_at_the_same_positions() -> None:
    store, leader, follower = await pair()
    leader.publish(STARTED, *chunks(3))
    await settled()
    await follower.read()
    store.logs.clear()
    leader.publish(chunk(3))
    await settled()
    assert leader.served.items == [STARTED, *chunks(4)]
    assert await follower.read() is Step.FINE
    assert follower.served.items == leader.served.items
    late = Replica(store, "c")
    assert await late.read() is Step.FINE
    assert late.served.items == leader.served.items
    assert [late.progress.fences.at(position) for position in range(1, 6)] == [
        leader.progress.fences.at(position) for position in range(1, 6)
    ]


async def test_a_log_that_is_gone_is_written_again_from_what_is_kept() -> None:
    store, leader, _ = await pair(keeps=3)
    leader.publish(STARTED, *chunks(10))
    await settled()
    store.logs.clear()
    leader.look()
    await settled()
    late = Replica(store, "c")
    assert await late.read() is Step.FINE
    assert (late.served.first, late.served.items) == (9, chunks(3, 7))
    await late.take_over()
    late.publish(STARTED, *chunks(12))
    await settled()
    assert late.served.items == chunks(5, 7), "what was sent before is known from the summary"


async def test_without_the_log_the_leader_serves_from_memory_and_continues_it_later() -> None:
    _, leader, follower = await pair()
    leader.publish(STARTED, chunk(0))
    await settled()
    await follower.read()
    leader.log.cut()
    leader.publish(chunk(1))
    await settled()
    assert leader.served.items == [STARTED, chunk(0)], "it waits for a moment"
    assert leader.writer is not None
    leader.writer.go_local()
    leader.publish(chunk(2))
    await settled()
    assert leader.served.items == [STARTED, *chunks(3)]
    leader.log.mend()
    leader.look()
    await settled()
    leader.publish(chunk(3), DONE, OVER)
    await settled()
    assert leader.news == ["finished"]
    assert await follower.read() is Step.FINE
    assert follower.served.items == leader.served.items == [STARTED, *chunks(4), DONE, OVER]


async def test_a_replica_that_served_other_items_without_the_log_stays_apart_from_it() -> None:
    store, leader, follower = await pair()
    leader.publish(STARTED, chunk(0))
    await settled()
    await follower.read()
    leader.log.cut()
    assert leader.writer is not None
    leader.writer.go_local()
    leader.publish(chunk(1))
    await follower.take_over()
    follower.publish(STARTED, *chunks(3))
    await settled()
    leader.log.mend()
    leader.look()
    await settled()
    assert leader.news == ["taken"]
    assert await leader.read() is Step.APART
    assert [record.replica for record in store.logs[NAME]][-1] == "b"


async def test_records_of_an_older_fence_that_come_late_are_not_served() -> None:
    store, leader, follower = await pair()
    leader.publish(STARTED, chunk(0))
    await settled()
    await follower.read()
    third = Replica(store, "c")
    await third.read()
    await third.take_over()
    await follower.read()
    stale = Record(1, 3, GENERATION, "a", follower.progress.codec.encode(chunk(9)))
    assert follower.progress.apply([stale]) is Step.FINE
    assert follower.served.items == [STARTED, chunk(0)]


async def test_a_hole_in_the_served_positions_is_noticed() -> None:
    _, leader, follower = await pair()
    leader.publish(STARTED, *chunks(3))
    await settled()
    await follower.read()
    leader.publish(chunk(3), chunk(4))
    await settled()
    records = await leader.log.read(NAME)
    assert follower.progress.apply(records[-1:]) is Step.HOLE
    assert await follower.read() is Step.FINE
    assert follower.served.items == leader.served.items


async def test_a_log_whose_beginning_was_removed_can_be_read() -> None:
    store, leader, _ = await pair(keeps=SUMMARY_EVERY)
    leader.publish(STARTED)
    for index in range(4 * SUMMARY_EVERY):
        leader.publish(chunk(index))
        await asyncio.sleep(0)
    await settled()
    assert store.logs[NAME][0].position > SUMMARY_EVERY
    late = Replica(store, "c")
    assert await late.read() is Step.FINE
    assert late.served.items == leader.served.items[late.served.first - 1 :]
    assert len(late.served.items) >= SUMMARY_EVERY
    await late.take_over()
    late.publish(STARTED, *chunks(4 * SUMMARY_EVERY + 1))
    await settled()
    assert late.served.items[-1] == chunk(4 * SUMMARY_EVERY)
    assert late.progress.position == leader.progress.position + 1


async def test_a_redis_that_stores_nothing_does_not_stop_the_clients() -> None:
    _, leader, _ = await pair()
    leader.publish(STARTED)
    await settled()

    def full(name: str, records: Sequence[Record], keep_from: tuple[int, int], done: Done) -> None:
        asyncio.get_running_loop().call_soon(done, Outcome.LOST)

    leader.log.append = full  # type: ignore[method-assign]
    leader.publish(chunk(0))
    await settled()
    leader.publish(chunk(1))
    await settled()
    assert leader.served.items == [STARTED, *chunks(2)]


async def test_a_fence_that_was_never_stored_gives_way_to_another_replicas_of_the_same_number() -> None:
    store, leader, follower = await pair()
    leader.publish(STARTED, chunk(0))
    await settled()
    await follower.read()
    follower.progress.lead(2, "b", 3)  # it goes on without Redis, and has served nothing yet
    other = Replica(store, "c")
    await other.read()
    await other.take_over()
    other.publish(chunk(1))
    await settled()
    records = await other.log.read(NAME)
    assert follower.progress.apply(records[-1:]) is Step.HOLE
    assert await follower.read() is Step.FINE
    assert (follower.progress.fence, follower.progress.leader) == (2, "c")
    assert follower.served.items == [STARTED, *chunks(2)]
