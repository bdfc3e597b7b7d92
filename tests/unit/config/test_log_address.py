"""``server.log``: URLs that can be used, and what is said of those that cannot, without their passwords."""

from __future__ import annotations

from typing import Any, Final

import pytest
from pydantic_core import PydanticCustomError

from config.model.shared_log import LogAddress, log_address, log_text
from config.model.wording import Resolved

ONE: Final = (("redis", 6379),)
USED: Final[dict[str, LogAddress | None]] = {
    "memory": None,
    "redis://redis": LogAddress(ONE),
    "redis://redis:6379/0/": LogAddress(ONE),
    "valkey://redis/15": LogAddress(ONE, database=15),
    "rediss://redis": LogAddress(ONE, tls=True),
    "valkeys://redis": LogAddress(ONE, tls=True),
    "redis://[::1]:6380": LogAddress((("::1", 6380),)),
    "redis://redis-0.redis.svc.:6379": LogAddress((("redis-0.redis.svc.", 6379),)),
    "redis://:hunter22@redis": LogAddress(ONE, password="hunter22"),
    "redis://proxy:hun@ter/22?#@redis": LogAddress(ONE, user="proxy", password="hun@ter/22?#"),
    "redis://proxy:hunter%4022@redis": LogAddress(ONE, user="proxy", password="hunter@22"),
    "redis://a,b:2,[::1]": LogAddress((("a", 6379), ("b", 2), ("::1", 6379))),
    "redis+sentinel://a,b:2/main": LogAddress((("a", 26379), ("b", 2)), "sentinel", service="main"),
    "rediss+sentinel://a/my%20main/3": LogAddress((("a", 26379),), "sentinel", True, "my main", 3),
}


@pytest.mark.parametrize("url", USED)
def test_a_url_is_read(url: str) -> None:
    assert log_address(url) == USED[url]


@pytest.mark.parametrize("url", USED)
def test_an_address_is_shown_without_its_password_and_can_be_read_again(url: str) -> None:
    address = USED[url]
    text = log_text(address)
    assert "hun" not in text
    again = log_address(text)
    assert log_text(again) == text


NO_URL: Final = "must be `memory` or the URL of a Redis, but this is"
SCHEME: Final = "must be `memory` or the URL of a Redis, but its scheme is another one"
HOST: Final = "this URL has no host, or one that cannot be a host and a port"
DATABASE: Final = "the end of this URL must be the number of a database"
PARAMETERS: Final = "this URL has parameters, which have no effect"
PASSWORD: Final = "this URL has an `@` and no password before it"
CLUSTER: Final = "a Redis Cluster has no scheme of its own"
SOCKET: Final = "a Redis on a Unix socket cannot be used"
NAME: Final = "this URL lacks the name of the master that the sentinels watch"
SEVERAL: Final = "several hosts are a Redis Cluster, which has database 0 alone"
TEXT: Final = "must be text, but this is"
REFUSED: Final[dict[str, tuple[Any, ...]]] = {
    NO_URL: (
        "redis", "redis:", "redis:/host", "redis//host", "redis:6379", "localhost:6379", "//redis:6379",
        "Memory", "none", "off", "redis:\\\\host", "proxy:hunter22@redis:6379", ":hunter22@redis",
        Resolved("hunter22"),
    ),
    SCHEME: (
        "http://redis:6379", "https://redis", "tcp://redis:6379", "reddis://redis", "Redis://redis", " redis://redis",
        "jdbc:redis://redis", "memcached://redis", "sentinel://a/main", "redis-sentinel://a/main", "postgres://h/db",
        "rediss+sentinels://a/main", "hunter22://redis",
    ),
    HOST: (
        "redis://", "redis:///0", "redis://:6379", "redis://host:port", "redis://host:99999", "redis://host:0",
        "redis://host:6379:6379", "redis://ho st:6379", "redis://host:6379,", "redis://a,,b", "redis://a, b",
        "redis://::1:6379", "redis://[::1", "redis://[zz]:1", "redis://[1.2]", "redis://host:\uff16", "redis://h\xf6st",
        "redis://host\\0", "redis://..", "redis://-host", "redis://host-", "redis://" + "a" * 64, "redis://a:hunter22@",
        "redis+sentinel:///main",
    ),
    DATABASE: (
        "redis://host/0/1", "redis://host/db0", "redis://host/-1", "redis://host/16384", "redis://host/\u0663",
        "redis:///host:6379/0", "redis://redis://host", "redis://host/0 redis://other", "redis+sentinel://a/main/x",
    ),
    PARAMETERS: ("redis://host?db=1", "redis://host/0?ssl=true", "redis://host#x", "redis://host/0#x"),
    PASSWORD: ("redis://proxy@host", "redis://proxy:@host", "redis://:@host", "redis://@host", "redis://hunter22@host"),
    CLUSTER: ("redis+cluster://a", "rediss+cluster://a,b", "redis-cluster://a", "valkey+cluster://a:1"),
    SOCKET: ("unix:///tmp/redis.sock", "redis+unix:///tmp/redis.sock", "redis+socket:///tmp/redis.sock"),
    NAME: ("redis+sentinel://a", "redis+sentinel://a/", "redis+sentinel://a:26379/0"),
    SEVERAL: ("redis://a,b/1", "rediss://a:1,b:2/15"),
    TEXT: (True, 6379, 1.5, [], {}, ["redis://a", "redis://b"], {"url": "redis://a"}),
    "must not be empty": ("", " "),
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "value"), [(words, one) for words, all_of in REFUSED.items() for one in all_of]
)
def test_what_cannot_be_used_is_said_without_a_password(words: str, value: Any) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        log_address(value)
    message = caught.value.message()
    assert message.startswith(words)
    assert "hunter22" not in message + str(caught.value.context)
    assert "\n" not in message
