"""A Redis Cluster: keys on several servers, slots that move, and a master that fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from proxy.log.base import LogAway, LogRefused, Outcome, Record
from proxy.log.redis.cluster import redirect_of, slot_map, slot_of
from proxy.log.redis.discovery import Discovery
from proxy.log.redis.inspection import inspect
from proxy.log.redis.link import Node
from proxy.log.redis.resp import ErrorReply
from proxy.log.redis.store import RedisLog
from tests.support.fake_redis import bulk, fake_redis
from tests.support.redis_cluster import RedisCluster, node_id, redis_cluster
from tests.support.redis_server import RedisServer
from tests.support.shared_logs import NAME, Listener, address_of, append, connected, fence, item
from tests.support.waiting import until

NAMES = [f"team:log:run-{number}" for number in range(12)]  # their slots are on all three servers


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as three:
        yield three


# -- slots --


@given(st.binary(max_size=40) | st.text("a{}:", max_size=12).map(str.encode))
def test_a_key_has_the_slot_that_redis_gives_it(key: bytes) -> None:
    assert slot_of(key) == key_slot(key)


def test_a_slot_map_says_which_server_has_a_key() -> None:
    reply = [
        [10923, 16383, [b"c", 3, b"id", []], [b"replica", 9, b"id"]],
        [0, 5460, [b"", 1, b"id"]],
        [5461, 10922, [b"::1", 2, b"id"]],
    ]
    found = slot_map(reply, Node("asked", 1))
    assert found.masters == (Node("asked", 1), Node("::1", 2), Node("c", 3))
    for key in (b"foo", b"bar", b"hello", b"x{foo}y"):
        assert found.master_of(key) == found.masters[min(2, key_slot(key) // 5461)]


@pytest.mark.parametrize(
    "reply",
    [
        [],
        None,
        b"x",
        [[0, 16383]],
        [[0, 16000, [b"a", 1]]],
        [[0, 16383, [b"a", b"port"]]],
        [[0, 99999, [b"a", 1]]],
    ],
)
def test_slots_that_nobody_has_are_no_map(reply: Any) -> None:
    with pytest.raises(LogAway, match="cluster"):
        slot_map(reply, Node("asked", 1))


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("MOVED 3999 10.0.0.1:6381", Node("10.0.0.1", 6381)),
        ("ASK 1 ::1:7000", Node("::1", 7000)),
        ("MOVED 1 :7000", Node("asked", 7000)),
        ("MOVED 1", None),
        ("ASK 1 host:port", None),
    ],
)
def test_a_redirection_names_a_server(text: str, node: Node | None) -> None:
    assert redirect_of(ErrorReply(text), Node("asked", 1)) == node


# -- logs on all servers --


async def test_logs_are_on_all_servers_and_found_from_any_of_them(cluster: RedisCluster) -> None:
    cluster.call("FLUSHALL")
    listeners = {name: Listener() for name in NAMES}
    seeds = cluster.url_of(cluster.masters[0]), cluster.url_of(cluster.masters[2])
    async with connected(seeds[0]) as leader, connected(seeds[1], "b") as follower:
        for name, listener in listeners.items():
            await follower.follow(name, listener)
            assert await leader.fence(name, fence(1), create=True)
            assert await append(leader, item(1, 1), item(1, 2), name=name) is Outcome.STORED
            assert await leader.followers(name) == 1
        await until(
            lambda: all(len(listener.records) == 3 for listener in listeners.values()), "all was sent"
        )
        assert min(len(keys) for keys in cluster.call("KEYS", "hsp:team:*")) > 0
        assert [record.position for record in await follower.read(NAMES[0])] == [0, 1, 2]


async def test_a_cluster_that_can_be_used_is_not_refused(cluster: RedisCluster) -> None:
    assert await inspect(Discovery(address_of(cluster.url))) == []


async def test_a_cluster_has_database_0_alone(cluster: RedisCluster) -> None:
    url = f"{cluster.url_of(cluster.masters[0])}/3"
    with pytest.raises(LogRefused, match=r"database 0 alone, and server.log names 3"):
        await inspect(Discovery(address_of(url)))


async def test_the_settings_of_every_server_are_looked_at(cluster: RedisCluster) -> None:
    last = cluster.masters[2]
    last.call("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(LogRefused, match="maxmemory-policy allkeys-lru"):
            await inspect(Discovery(address_of(cluster.url)))
    finally:
        last.call("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")


async def test_a_server_that_the_others_have_left_is_not_the_only_one_that_is_asked(
    cluster: RedisCluster,
) -> None:
    gone = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$4\r\ngone\r\n:1\r\n"
    async with fake_redis({"INFO": bulk("cluster_enabled:1"), "CLUSTER": gone}) as port:
        url = cluster.url.replace("//", f"//127.0.0.1:{port},")
        discovery = Discovery(address_of(url))
        assert (await discovery.find()).nodes == (Node("gone", 1),)
        assert len((await discovery.find()).nodes) == 3


# -- slots that move --


class Appender:
    """Appends items of one log one after another, and repeats those whose outcome is not known."""

    def __init__(self, log: RedisLog) -> None:
        self.log = log
        self.position = 0
        self.outcomes: list[Outcome] = []
        self._ended = False
        self._task = asyncio.create_task(self._go_on())

    async def _go_on(self) -> None:
        while not self._ended:
            records = [item(1, self.position + 1), item(1, self.position + 2)]
            outcome = await append(self.log, *records)
            self.outcomes.append(outcome)
            if outcome is Outcome.STORED:
                self.position += 2
                await asyncio.sleep(0)
            else:
                await until(self._look, "the log's end was read")

    async def _look(self) -> bool:
        with contextlib.suppress(LogAway):
            tail = await self.log.tail(NAME)
            self.position = 0 if tail is None else tail.position
            return True
        return False

    async def wait(self, count: int = 20) -> None:
        """Wait for some more that are stored."""
        target = self.position + count
        await until(lambda: self.position >= target, "it goes on")

    async def end(self) -> None:
        """Append nothing more."""
        self._ended = True
        await self._task


class Follower(Listener):
    """Reads the log when it is told of another connection: what was sent just before may be missing."""

    def __init__(self, log: RedisLog) -> None:
        super().__init__()
        self.reading: asyncio.Task[list[Record]]
        self._log = log

    def connected(self) -> None:
        super().connected()
        self.reading = asyncio.create_task(self._log.read(NAME))


def move_slot(cluster: RedisCluster, key: str, source: RedisServer, target: RedisServer) -> Iterator[str]:
    """Move the slot of one key, step by step, as ``redis-cli --cluster reshard`` does."""
    slot = str(source.call("CLUSTER", "KEYSLOT", key))
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
    yield "the slot moves, the key is at the source"
    source.call("MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000")
    yield "the slot moves, the key is at the target"
    for server in (target, source, *cluster.masters):
        server.call("CLUSTER", "SETSLOT", slot, "NODE", node_id(target))
    yield "the slot has moved"


async def test_a_slot_that_moves_while_events_are_appended_loses_none(cluster: RedisCluster) -> None:
    cluster.call("FLUSHALL")
    key = f"hsp:{NAME}"
    source = cluster.owner(key)
    target = next(server for server in cluster.masters if server is not source)
    async with connected(cluster.url) as leader, connected(cluster.url, "b") as follower:
        leads, follows = Listener(), Follower(follower)
        await leader.follow(NAME, leads)
        await follower.follow(NAME, follows)
        await leader.fence(NAME, fence(1), create=True)
        appender = Appender(leader)
        await appender.wait()
        for _ in move_slot(cluster, key, source, target):
            await appender.wait()
            assert (await follower.tail(NAME) or fence(1)).position > 0
        await until(
            lambda: "connected" in leads.news, "the leader looks at the log's end: its server is another"
        )
        await until(lambda: "connected" in follows.news, "and so does the follower")
        await appender.wait()
        await appender.end()
        assert {*appender.outcomes} <= {Outcome.STORED, Outcome.LOST}
        assert "disconnected" not in leads.news + follows.news
        read = await follower.read(NAME)
        assert [record.position for record in read] == list(range(len(read)))
        await until(lambda: follows.records[-1] == read[-1], "the newest one was sent")
        known = {*_positions(follows.records), *_positions(await follows.reading)}
        unsent = set(range(len(read))) - known
        assert len(unsent) <= 2 * appender.outcomes.count(Outcome.LOST), (
            "only these were perhaps not published"
        )
        assert target.call("EXISTS", key) == 1


# -- a master that fails --


async def test_a_replica_takes_the_place_of_a_master_that_fails(tmp_path: Path) -> None:
    with redis_cluster(tmp_path, replicas=1) as cluster:
        master, replica = cluster.masters[0], cluster.replicas[0]
        name = next(name for name in NAMES if cluster.owner(f"hsp:{name}") is master)
        async with connected(cluster.url_of(master)) as leader, connected(cluster.url, "b") as follower:
            listener = Listener()
            await follower.follow(name, listener)
            await leader.fence(name, fence(1), create=True)
            await append(leader, item(1, 1), name=name)
            await until(lambda: replica.call("ROLE")[4] == master.call("ROLE")[1], "the replica has it")
            master.kill()
            await until(lambda: not leader.is_up and not follower.is_up, "the loss is noticed")
            assert await append(leader, item(1, 2), name=name) is Outcome.LOST
            await until(lambda: leader.is_up and follower.is_up, "the replica leads")
            assert await append(leader, item(1, 2), name=name) is Outcome.STORED
            await until(lambda: _positions(listener.records) == [0, 1, 2], "the follower is sent it")
            assert listener.news == ["disconnected", "connected"]
            assert await leader.replicas() == 2


def _positions(records: list[Record]) -> list[int]:
    return [record.position for record in records]
