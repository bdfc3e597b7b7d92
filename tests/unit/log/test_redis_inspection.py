"""What makes a Redis unusable is said in one sentence, at start and while the proxy connects again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from proxy.log.base import LogAway, LogRefused, Outcome
from proxy.log.redis.discovery import Discovery
from proxy.log.redis.inspection import inspect, version_of
from tests.support.fake_redis import bulk, fake_redis
from tests.support.processes import free_port
from tests.support.redis_cluster import RedisCluster, redis_cluster
from tests.support.redis_server import RedisServer, redis_server
from tests.support.shared_logs import NAME, address_of, append, connected, fence, item, trouble
from tests.support.tools import ROOT
from tests.support.waiting import until

GUIDE: Final = (ROOT / "docs/shared-log.md").read_text(encoding="utf-8")
ACL: Final = next(line for line in GUIDE.splitlines() if line.startswith("ACL SETUSER")).split(" ")
RIGHTS: Final = [word[1:] for word in ACL if word.startswith("+")]
CLUSTER_RIGHTS: Final = ["cluster|slots", "asking"]
ONE_SENTENCE: Final = re.compile(r"[^\n]{10,240}[^\n.]")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as one:
        yield one


@pytest.fixture
def clean(server: RedisServer) -> Iterator[RedisServer]:
    """A Redis as it was at its start."""
    server.call("FLUSHALL")
    yield server
    server.call("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")
    server.call("REPLICAOF", "NO", "ONE")
    server.call("FLUSHALL")


async def refusal_of(url: str) -> LogAway | LogRefused:
    """Why the Redis of a URL cannot be used: one sentence, without its password."""
    with pytest.raises((LogAway, LogRefused)) as caught:
        await inspect(Discovery(address_of(url)))
    assert ONE_SENTENCE.fullmatch(str(caught.value)), caught.value
    assert "hunter" not in str(caught.value)
    assert isinstance(caught.value, LogAway | LogRefused)
    return caught.value


# -- servers that answer otherwise than a Redis that can be used --

VERSIONS: Final = {
    "redis_version:5.0.7": "Redis 5.0.7 is too old for server.log: it needs 6.2 or newer",
    "redis_version:6.0.16": "Redis 6.0.16 is too old",
    "memcached:1.6": "does not say its version",
}
ERRORS: Final[dict[tuple[str, str], tuple[type[Exception], str]]] = {
    ("PING", "LOADING Redis is loading the dataset in memory"): (LogAway, "Redis is loading its data"),
    ("PING", "BUSY Redis is busy running a script."): (LogAway, "a script"),
    ("PING", "WHAT is this"): (LogAway, "answers PING with an error (WHAT is this)"),
    ("INFO", "ERR unknown command `INFO`, with args: "): (LogRefused, "does not know INFO"),
    ("AUTH", "ERR wrong number of arguments for 'auth' command"): (LogRefused, "older than 6.2"),
    ("AUTH", "ERR invalid password"): (LogRefused, "user or the password"),
    ("SET", "MISCONF Redis is configured to save RDB snapshots"): (LogAway, "its snapshot"),
    ("SET", "NOREPLICAS Not enough good replicas to write."): (LogAway, "min-replicas-to-write"),
    ("SET", "MASTERDOWN Link with MASTER is down"): (LogAway, "has lost its master"),
    ("SET", "CLUSTERDOWN The cluster is down"): (LogAway, "the cluster does not serve"),
}
USABLE: Final = {"INFO": bulk("redis_version:7.0.0\r\n"), "TYPE": b"+none\r\n"}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_version_that_is_too_old_is_said(version: str) -> None:
    async with fake_redis(USABLE | {"INFO": bulk(version)}) as port:
        why = await refusal_of(f"redis://127.0.0.1:{port}/0")
    assert isinstance(why, LogRefused)
    assert VERSIONS[version] in str(why)


@pytest.mark.parametrize("case", ERRORS)
async def test_an_error_is_said_in_words(case: tuple[str, str]) -> None:
    kind, words = ERRORS[case]
    async with fake_redis(USABLE | {case[0]: f"-{case[1]}\r\n".encode()}) as port:
        why = await refusal_of(f"redis://user:hunter@127.0.0.1:{port}/0")
    assert isinstance(why, kind)
    assert words in str(why)


GREETINGS: Final[dict[bytes, tuple[type[Exception], str]]] = {
    b"-DENIED Redis is running in protected mode because\r\n": (LogRefused, "protected mode"),
    b"-ERR max number of clients reached\r\n": (LogAway, "max number of clients"),
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n": (LogRefused, "speaks HTTP and is no Redis"),
    b"SSH-2.0-OpenSSH_9.2\r\n": (LogRefused, "is no Redis"),
    b"\x15\x03\x01\x00\x02\x02\x46": (LogRefused, "speaks TLS: write rediss:// in place of redis://"),
}


@pytest.mark.parametrize("greeting", GREETINGS)
async def test_what_a_server_says_first_is_said(greeting: bytes) -> None:
    kind, words = GREETINGS[greeting]
    async with fake_redis({}, greeting) as port:
        url = f"redis://127.0.0.1:{port}/0"
        why = await refusal_of(url)
        assert words in await trouble(url)
    assert isinstance(why, kind)
    assert words in str(why)


async def test_a_server_that_closes_at_once_may_want_tls() -> None:
    async with fake_redis({}, b"") as port:
        assert "does it speak TLS?" in str(await refusal_of(f"redis://127.0.0.1:{port}"))


async def test_where_nothing_listens_the_address_is_said() -> None:
    port = free_port()
    assert str(await refusal_of(f"redis://127.0.0.1:{port}")) == f"nothing listens at 127.0.0.1:{port}"
    assert "no-redis.invalid" in str(await refusal_of("redis://no-redis.invalid"))


def test_versions_are_compared_by_number() -> None:
    assert version_of("6.2.0") == (6, 2, 0) < version_of("6.10") < version_of("7.2.4-rc1")


# -- a real Redis --


async def test_a_redis_that_can_be_used_is_not_refused(clean: RedisServer) -> None:
    assert await inspect(Discovery(address_of(clean.url))) == []
    assert clean.call("KEYS", "*") == ["hsp:about"]


async def test_passwords_are_looked_at(tmp_path: Path, server: RedisServer) -> None:
    with redis_server(tmp_path, requirepass="hunter22") as guarded:
        port = guarded.port
        for credentials in (":hunter21@", "nobody:hunter22@"):
            url = f"redis://{credentials}127.0.0.1:{port}"
            assert "refuses the user or the password" in str(await refusal_of(url))
            assert "refuses the user or the password" in await trouble(url)
        assert "asks for a password, and server.log has none" in str(await refusal_of(guarded.url))
        assert await inspect(Discovery(address_of(f"redis://:hunter22@127.0.0.1:{port}"))) == []
    assert "Redis has no password" in str(await refusal_of(f"redis://:hunter22@127.0.0.1:{server.port}"))


async def test_a_database_that_is_not_there_is_said(clean: RedisServer) -> None:
    assert "no database 99" in str(await refusal_of(f"redis://127.0.0.1:{clean.port}/99"))


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random"])
async def test_a_policy_that_loses_logs_is_refused(clean: RedisServer, policy: str) -> None:
    clean.call("CONFIG", "SET", "maxmemory-policy", policy)
    assert await inspect(Discovery(address_of(clean.url))) == [
        f"the Redis of server.log has maxmemory-policy {policy}: set noeviction before maxmemory"
    ]
    clean.call("CONFIG", "SET", "maxmemory", "100mb")
    assert f"maxmemory-policy {policy}" in str(await refusal_of(clean.url))


@pytest.mark.parametrize("key", [("SET", "hsp:about", "a cache"), ("RPUSH", "hsp:about", "a queue")])
async def test_keys_of_another_application_are_not_touched(clean: RedisServer, key: tuple[str, ...]) -> None:
    clean.call(*key)
    why = await refusal_of(clean.url)
    assert isinstance(why, LogRefused)
    assert "keys of another application" in str(why)
    assert clean.call("KEYS", "*") == ["hsp:about"]


async def test_a_replica_is_refused(clean: RedisServer) -> None:
    clean.call("REPLICAOF", "127.0.0.1", str(free_port()))
    why = await refusal_of(clean.url)
    assert isinstance(why, LogRefused)
    assert "is a replica and takes no writes" in str(why)
    assert "is a replica and takes no writes" in await trouble(clean.url)


async def test_several_hosts_are_a_cluster_or_a_mistake(clean: RedisServer) -> None:
    why = await refusal_of(f"redis://127.0.0.1:{clean.port},127.0.0.1:{free_port()}")
    assert "several hosts" in str(why)


async def test_full_memory_is_said_at_start_and_while_running(clean: RedisServer) -> None:
    async with connected(clean.url) as log:
        assert await log.fence(NAME, fence(1), create=True)
        clean.call("CONFIG", "SET", "maxmemory", "1")
        assert await append(log, item(1, 1)) is Outcome.LOST
        assert log.counts.unusable == 1
        await until(lambda: log.trouble == "the memory of Redis is full (maxmemory)", "a beat says it")
        assert "memory of Redis is full" in str(await refusal_of(clean.url))
        clean.call("CONFIG", "SET", "maxmemory", "0")
        await until(lambda: log.is_up, "it goes on")
        assert await append(log, item(1, 1)) is Outcome.STORED


# -- rights --


def user(server: RedisServer, name: str, rights: list[str], *others: str) -> str:
    """The URL of a user with the documented keys and channels, and some rights."""
    words = [word for word in ACL[3:] if not word.startswith((">", "+"))]
    server.call(
        "ACL", "SETUSER", name, "reset", ">hunter22", *words, *(f"+{right}" for right in rights), *others
    )
    return f"redis://{name}:hunter22@127.0.0.1:{server.port}"


async def test_the_documented_rights_are_enough(clean: RedisServer) -> None:
    url = user(clean, "proxy", RIGHTS)
    assert await inspect(Discovery(address_of(url))) == []
    async with connected(url) as log, connected(url, "b") as other:
        assert await log.fence(NAME, fence(1), create=True)
        assert await append(log, item(1, 1), keep_from=(1, 0)) is Outcome.STORED
        assert [record.position for record in await other.read(NAME)] == [0, 1]
        assert await other.claim("x", 1.0)
        assert await log.replicas() == 2
        log.seal(NAME, 1.0)
        log.drop(NAME)
        assert await other.tail(NAME) is None
        await log.leave()
        assert log.counts.errors == {}


@pytest.mark.parametrize("right", RIGHTS)
async def test_one_right_less_is_said(clean: RedisServer, right: str) -> None:
    why = await refusal_of(user(clean, "less", [one for one in RIGHTS if one != right]))
    assert isinstance(why, LogRefused)
    assert str(why) == f"the user of server.log lacks the right +{right} (ACL SETUSER)"


async def test_a_database_needs_a_right_more(clean: RedisServer) -> None:
    url = user(clean, "selects", RIGHTS)
    assert "lacks the right +select" in str(await refusal_of(f"{url}/1"))
    url = user(clean, "selects", [*RIGHTS, "select"])
    assert await inspect(Discovery(address_of(f"{url}/1"))) == []


@pytest.mark.parametrize(("words", "right"), [("resetkeys", "~hsp:*"), ("resetchannels", "&hsp:*")])
async def test_keys_and_channels_that_a_user_may_not_touch_are_said(
    clean: RedisServer, words: str, right: str
) -> None:
    why = await refusal_of(user(clean, "narrow", RIGHTS, words))
    assert f"lacks the right {right}" in str(why)


async def test_a_cluster_needs_two_rights_more_on_every_server(tmp_path: Path) -> None:
    with redis_cluster(tmp_path) as cluster:
        assert await _refusals(cluster) == {right: right for right in CLUSTER_RIGHTS}


async def _refusals(cluster: RedisCluster) -> dict[str, str]:
    """The refusal of a cluster whose last server withholds a right."""
    found = {}
    for missing in CLUSTER_RIGHTS:
        for server in cluster.masters:
            rights = [*RIGHTS, *CLUSTER_RIGHTS]
            if server is cluster.masters[2] or missing == "cluster|slots":
                rights.remove(missing)
            url = user(server, "some", rights)
        found[missing] = str(await refusal_of(url)).partition("right +")[2].removesuffix(" (ACL SETUSER)")
    for server in cluster.masters:
        url = user(server, "some", [*RIGHTS, *CLUSTER_RIGHTS])
    assert await inspect(Discovery(address_of(url))) == []
    return found
