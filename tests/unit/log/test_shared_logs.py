"""The verbs of a shared log: what every implementation does, in one process and on a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import pytest
from msgspec import structs

from proxy.log.base import Announcements, Life, LogAway, Outcome, SharedLog
from proxy.log.cipher import Cipher
from proxy.log.memory import MemoryLog, MemoryStore
from proxy.log.redis.store import FORGOTTEN_AFTER
from tests.support.redis_cluster import RedisCluster, redis_cluster
from tests.support.redis_server import RedisServer, redis_server
from tests.support.shared_logs import NAME, Listener, append, connected, fence, item
from tests.support.waiting import until


class Connect(Protocol):
    """Connects a replica to the log of a test."""

    async def __call__(self, replica: str) -> SharedLog: ...


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as one:
        yield one


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as three:
        yield three


@pytest.fixture(params=["memory", "redis", "redis, encrypted", "cluster"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    if request.param == "memory":
        store = MemoryStore()
        soon = asyncio.get_running_loop().call_soon

        async def in_memory(replica: str) -> SharedLog:
            return MemoryLog(store, replica, soon)

        yield in_memory
        return
    fixture = "cluster" if request.param == "cluster" else "server"
    server: RedisServer | RedisCluster = request.getfixturevalue(fixture)
    server.call("FLUSHALL")
    cipher = Cipher("a secret") if "encrypted" in request.param else None
    async with contextlib.AsyncExitStack() as stack:

        async def on_redis(replica: str) -> SharedLog:
            log = await stack.enter_async_context(connected(server.url, replica, cipher))
            assert log.is_up, log.trouble
            return log

        yield on_redis


async def begun(connect: Connect, replica: str = "a") -> SharedLog:
    """A replica that leads a new log, with the fence 1."""
    log = await connect(replica)
    assert await log.fence(NAME, fence(1, replica=replica), create=True)
    return log


async def test_what_is_appended_is_read_in_order(connect: Connect) -> None:
    log = await begun(connect)
    records = [item(1, position, body=bytes([0x5B, *range(256)])) for position in range(1, 4)]
    assert await append(log, *records) is Outcome.STORED
    assert await log.read(NAME) == [fence(1), *records]
    assert await log.read(NAME, (1, 2)) == records[2:]
    assert await log.tail(NAME) == records[-1]


async def test_a_log_that_nobody_began_is_empty_and_takes_nothing(connect: Connect) -> None:
    log = await connect("a")
    assert await log.read(NAME) == []
    assert await log.tail(NAME) is None
    assert await append(log, item(1, 1)) is Outcome.MISSING
    assert not await log.fence(NAME, fence(2), create=False)
    assert await log.tail(NAME) is None


async def test_an_append_that_is_repeated_stores_nothing_twice(connect: Connect) -> None:
    log = await begun(connect)
    await append(log, item(1, 1), item(1, 2))
    assert await append(log, item(1, 1)) is not Outcome.MISSING
    assert [record.position for record in await log.read(NAME)] == [0, 1, 2]


async def test_appends_of_an_older_fence_are_refused(connect: Connect) -> None:
    old = await begun(connect)
    new = await connect("b")
    await append(old, item(1, 1))
    assert await new.fence(NAME, fence(2, 1, "b"), create=False)
    assert await append(old, item(1, 2)) is Outcome.FENCED
    assert await append(new, item(2, 2, "b")) is Outcome.STORED
    assert [record.replica for record in await old.read(NAME)] == ["a", "a", "b", "b"]


async def test_of_two_replicas_that_take_the_lead_at_once_one_gets_it(connect: Connect) -> None:
    await begun(connect)
    others = [await connect(name) for name in "bcd"]
    taken = await asyncio.gather(*(log.fence(NAME, fence(2, 0, log.replica), create=False) for log in others))
    assert sorted(taken) == [False, False, True]


async def test_followers_receive_what_was_stored_and_by_whom(connect: Connect) -> None:
    leader = await begun(connect)
    follower, listener = await connect("b"), Listener()
    await follower.follow(NAME, listener)
    records = [item(1, 1), item(1, 2)]
    await append(leader, *records)
    await append(leader, item(1, 3))
    await until(lambda: len(listener.records) >= 3, "both appends arrived")
    assert listener.records == [*records, item(1, 3)]
    assert await leader.followers(NAME) == 1
    await follower.fence(NAME, fence(2, 3, "b"), create=False)
    follower.unfollow(NAME, listener)
    await append(follower, item(2, 4, "b"))
    assert len(listener.records) == 3


async def test_a_follower_receives_a_fence_with_its_summary(connect: Connect) -> None:
    leader, listener = await begun(connect), Listener()
    await leader.follow(NAME, listener)
    other = await connect("b")
    await other.fence(NAME, fence(2, 0, "b"), create=False)
    await until(lambda: listener.records, "the fence arrived")
    assert listener.records == [fence(2, 0, "b")]


async def test_a_leader_is_not_sent_its_own_records(connect: Connect) -> None:
    leader, listener = await begun(connect), Listener()
    await leader.follow(NAME, listener)
    await append(leader, item(1, 1))
    other = await connect("b")
    await other.fence(NAME, fence(2, 1, "b"), create=False)
    await until(lambda: listener.records, "the other's fence is received, which was published later")
    assert listener.records == [fence(2, 1, "b")]


async def test_old_records_may_go_and_newer_ones_stay(connect: Connect) -> None:
    log = await begun(connect)
    for start in range(1, 1001, 100):
        batch = [item(1, position) for position in range(start, start + 100)]
        assert await append(log, *batch, keep_from=(1, max(0, start - 100))) is Outcome.STORED
    left = [record.position for record in await log.read(NAME)]
    assert left[-1] == 1000
    assert left == list(range(left[0], 1001))
    assert 300 < left[0] <= 801, "trimmed, and nothing that had to stay"


async def test_a_log_that_is_dropped_is_gone(connect: Connect) -> None:
    log = await begun(connect)
    log.drop(NAME)
    assert await log.tail(NAME) is None


async def test_a_replica_lives_leaves_and_is_gone(connect: Connect) -> None:
    one, other = await connect("a"), await connect("b")
    assert await other.life("a") is Life.ALIVE
    assert await other.replicas() == 2
    await one.leave()
    assert await other.life("a") is Life.LEAVING
    assert await other.life("nobody") is Life.DEAD


async def test_one_replica_alone_has_a_claim(connect: Connect) -> None:
    one, other = await connect("a"), await connect("b")
    assert await one.claim("x", 5.0)
    assert not await other.claim("x", 5.0)
    assert await one.claim("x", 5.0)
    assert await other.claim("y", 5.0)


async def test_announcements_reach_all_other_replicas(connect: Connect) -> None:
    received: list[Any] = []

    class Ear:
        def __init__(self, name: str) -> None:
            self.name = name

        def announced(self, replica: str, words: Sequence[str]) -> None:
            received.append((self.name, replica, *words))

    logs = [await connect(name) for name in "abc"]
    for log in logs:
        ear: Announcements = Ear(log.replica)
        log.announcements = ear
    logs[0].announce(["leaving", "x", "y"])
    await until(lambda: len(received) >= 2, "both others received it")
    assert sorted(received) == [("b", "a", "leaving", "x", "y"), ("c", "a", "leaving", "x", "y")]


# -- on Redis alone --


async def test_listeners_hear_of_a_redis_that_goes_and_comes(tmp_path: Any) -> None:
    with redis_server(tmp_path) as server:
        listener = Listener()
        async with connected(server.url) as log:
            await log.follow(NAME, listener)
            server.kill()
            await until(lambda: "disconnected" in listener.news, "the loss is reported")
            assert not log.is_up
            assert log.trouble
            assert await append(log, item(1, 1)) is Outcome.LOST
            with pytest.raises(LogAway):
                await log.tail(NAME)
            server.start()
            await until(lambda: "connected" in listener.news, "the return is reported")
            assert await log.tail(NAME) is None


async def test_a_flush_is_reported_like_a_new_connection(server: RedisServer) -> None:
    listener = Listener()
    async with connected(server.url) as log:
        await log.follow(NAME, listener)
        server.call("FLUSHALL")
        await until(lambda: listener.news == ["connected"], "the flush is noticed at a beat", within=10.0)


async def test_a_finished_log_stays_for_a_while_and_a_new_fence_keeps_it(server: RedisServer) -> None:
    server.call("FLUSHALL")
    async with connected(server.url, "a") as log:
        await log.fence(NAME, fence(1), create=True)
        await log.tail(NAME)  # an answer comes after those to everything before it
        forgotten = server.call("PTTL", f"hsp:{NAME}")
        assert 0 < forgotten <= FORGOTTEN_AFTER * 1000, "a log whose leader is gone is removed some time"
        log.seal(NAME, 60.0)
        await log.tail(NAME)
        assert 0 < server.call("PTTL", f"hsp:{NAME}") <= 60_000
        log.keep(NAME)
        await log.tail(NAME)
        assert server.call("PTTL", f"hsp:{NAME}") > 60_000
        log.seal(NAME, 60.0)
        await log.fence(NAME, fence(2), create=False)
        await log.tail(NAME)
        assert server.call("PTTL", f"hsp:{NAME}") > 60_000, "the run goes on: it was replayed"


async def test_when_memory_is_full_the_oldest_finished_logs_go(tmp_path: Any) -> None:
    large = structs.replace(fence(1), summary=b"{%b}" % (b" " * 100_000))
    with redis_server(tmp_path, maxmemory="6mb", maxmemory_policy="noeviction") as server:
        async with connected(server.url, "a") as log:
            await log.fence(NAME, fence(1), create=True)
            finished: list[str] = []
            with contextlib.suppress(LogAway):  # the memory is full
                while True:
                    name = f"team:log:finished {len(finished)}"
                    await log.fence(name, large, create=True)
                    log.seal(name, 600.0)
                    finished.append(name)
            position = 0

            async def is_stored() -> bool:
                nonlocal position
                position += 1
                return await append(log, item(1, position)) is Outcome.STORED

            await until(is_stored, "there is room again")
            left = [name for name in finished if server.call("EXISTS", f"hsp:{name}")]
            assert 0 < len(left) < len(finished)
            assert left == finished[-len(left) :], "the oldest ones went"
            assert server.call("EXISTS", f"hsp:{NAME}"), "a run that goes on keeps its log"


async def test_a_log_of_another_key_cannot_be_read(server: RedisServer) -> None:
    server.call("FLUSHALL")
    async with (
        connected(server.url, cipher=Cipher("one")) as written,
        connected(server.url, "b", Cipher("two")) as other,
        connected(server.url, "c") as plain,
    ):
        await written.fence(NAME, fence(1), create=True)
        assert b"number" not in str(server.call("XRANGE", f"hsp:{NAME}", "-", "+")).encode()
        for log in (other, plain):
            with pytest.raises(LogAway, match="cannot be read"):
                await log.read(NAME)


MOVES: Final[dict[str, Callable[[RedisServer], object]]] = {
    "its client is killed": lambda server: server.call("CLIENT", "KILL", "TYPE", "normal"),
    "its subscription is killed": lambda server: server.call("CLIENT", "KILL", "TYPE", "pubsub"),
    "it becomes a replica": lambda server: server.call("REPLICAOF", "127.0.0.1", "1"),
}


@pytest.mark.parametrize("move", MOVES)
async def test_both_links_are_left_together(tmp_path: Any, move: str) -> None:
    with redis_server(tmp_path) as server:
        listener = Listener()
        async with connected(server.url) as log:
            await log.follow(NAME, listener)
            MOVES[move](server)
            await until(lambda: "disconnected" in listener.news, "the loss is reported", within=10.0)
            server.call("REPLICAOF", "NO", "ONE")
            await until(lambda: "connected" in listener.news, "it connects again", within=10.0)
            await log.fence(NAME, fence(1, replica="other"), create=True)
