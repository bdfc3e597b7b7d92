"""TLS and Sentinel: real servers on loopback, certificates that must not be accepted, and a failover."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from proxy.log.base import LogAway, LogRefused, Outcome
from proxy.log.redis.discovery import Discovery
from proxy.log.redis.inspection import inspect
from tests.support.authority import Authority
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer, redis_sentinel, redis_server
from tests.support.shared_logs import NAME, Listener, address_of, append, connected, fence, item, trouble
from tests.support.waiting import until

SERVICE: Final = "mymaster"


async def refusal_of(url: str) -> LogAway | LogRefused:
    """Why the Redis of a URL cannot be used."""
    with pytest.raises((LogAway, LogRefused)) as caught:
        await inspect(Discovery(address_of(url)))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, LogAway | LogRefused)
    return caught.value


# -- TLS --


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that the proxy trusts."""
    authority = Authority(tmp_path, "ours")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


@contextmanager
def tls_server(folder: Path, authority: Authority, name: str = "127.0.0.1", **settings: str) -> Iterator[str]:
    """The URL of a Redis that speaks TLS alone, with a certificate for `name`."""
    certificate, key = authority.issue(name)
    port = free_port()
    settings = {
        "tls_port": str(port),
        "tls_cert_file": str(certificate),
        "tls_key_file": str(key),
        "tls_ca_cert_file": str(authority.file),
        "tls_auth_clients": "no",
    } | settings
    with redis_server(folder, **settings):
        yield f"rediss://127.0.0.1:{port}/0"


async def test_a_log_is_used_over_tls(tmp_path: Path, ours: Authority) -> None:
    with tls_server(tmp_path, ours, requirepass="hunter22") as plain:
        url = plain.replace("//", "//:hunter22@")
        assert await inspect(Discovery(address_of(url))) == []
        async with connected(url) as log:
            assert await log.fence(NAME, fence(1), create=True)
            assert await append(log, item(1, 1, body=b"[" + b"x" * 100_000)) is Outcome.STORED
            assert [len(record.body) for record in await log.read(NAME)] == [0, 100_001]


async def test_a_certificate_of_another_authority_is_refused(tmp_path: Path, ours: Authority) -> None:
    assert ours
    with tls_server(tmp_path, Authority(tmp_path, "theirs")) as url:
        why = await refusal_of(url)
        assert isinstance(why, LogRefused)
        assert "is not trusted" in str(why)
        assert "SSL_CERT_FILE" in str(why)
        assert await trouble(url) == str(why)


async def test_a_certificate_of_another_name_is_refused(tmp_path: Path, ours: Authority) -> None:
    with tls_server(tmp_path, ours, "redis.test") as url:
        assert "is not trusted (IP address mismatch" in str(await refusal_of(url))


async def test_tls_to_a_plain_port_and_plain_text_to_a_tls_port_are_said(
    tmp_path: Path, ours: Authority, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server(tmp_path, ours) as url:
        assert "TLS" in str(await refusal_of(url.replace("rediss:", "redis:")))
        assert "TLS" in await trouble(url.replace("rediss:", "redis:"))
    monkeypatch.setattr("proxy.log.redis.link.CONNECT_TIMEOUT", 1.0)  # Redis waits for more of a command
    why = await refusal_of(server.url.replace("redis:", "rediss:"))
    assert str(why) == f"127.0.0.1:{server.port} does not speak TLS: write redis:// in place of rediss://"


async def test_a_server_that_wants_a_client_certificate_is_said(tmp_path: Path, ours: Authority) -> None:
    with tls_server(tmp_path, ours, tls_auth_clients="yes") as url:
        assert "client certificate" in str(await refusal_of(url))  # asked for, or only closed: that is a race


# -- Sentinel --


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as one:
        yield one


def sentinel_url(sentinel: RedisServer, service: str = SERVICE, credentials: str = "") -> str:
    """The URL of what a Sentinel names; the first of its Sentinels does not answer."""
    return f"redis+sentinel://{credentials}127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/{service}/0"


async def test_a_failover_is_followed_while_a_log_is_written_and_followed(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path, repl_diskless_sync_delay="0") as master,
        redis_server(tmp_path, replicaof=f"127.0.0.1 {master.port}") as replica,
        redis_sentinel(tmp_path, SERVICE, master) as sentinel,
    ):
        url = sentinel_url(sentinel)
        assert await inspect(Discovery(address_of(url))) == []
        async with connected(url) as leader, connected(url, "b") as follower:
            listener = Listener()
            await follower.follow(NAME, listener)
            await leader.fence(NAME, fence(1), create=True)
            await append(leader, item(1, 1))
            await until(lambda: replica.call("XLEN", f"hsp:{NAME}") == 2, "the replica has it")
            await until(lambda: "num-slaves,1," in watched(sentinel), "the sentinel knows the replica")
            master.kill()
            await until(lambda: not leader.is_up and not follower.is_up, "the loss is noticed")
            assert await append(leader, item(1, 2)) is Outcome.LOST
            await until(lambda: leader.is_up and follower.is_up, "the replica is the master")
            assert await append(leader, item(1, 2)) is Outcome.STORED
            assert [record.position for record in await follower.read(NAME)] == [0, 1, 2]
            await until(lambda: listener.records[-1] == item(1, 2), "followers are sent it")
            assert listener.news == ["disconnected", "connected"]


def watched(sentinel: RedisServer) -> str:
    """What a Sentinel says of the master."""
    return ",".join(map(str, sentinel.call("SENTINEL", "MASTER", SERVICE)))


async def test_a_name_that_the_sentinels_do_not_know_is_said(tmp_path: Path, server: RedisServer) -> None:
    with redis_sentinel(tmp_path, SERVICE, server) as sentinel:
        why = await refusal_of(sentinel_url(sentinel, "mymster"))
        assert isinstance(why, LogRefused)
        assert str(why) == "the sentinels do not know the name mymster: they know mymaster"
    assert str(await refusal_of(sentinel_url(sentinel))).startswith("no sentinel answers (")


async def test_a_sentinel_that_asks_for_a_password_gets_that_of_the_redis(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path, requirepass="hunter22") as server,
        redis_sentinel(tmp_path, SERVICE, server, requirepass="hunter22") as sentinel,
    ):
        assert "ask for a password" in str(await refusal_of(sentinel_url(sentinel)))
        wrong = await refusal_of(sentinel_url(sentinel, credentials=":hunter21@"))
        assert "refuse the user or the password" in str(wrong)
        right = sentinel_url(sentinel, credentials=":hunter22@")
        assert await inspect(Discovery(address_of(right))) == []
