"""Finds the Redis that takes writes, and looks whether it can be used: redis-py knows all rare cases.

Sentinels and clusters are asked anew before each connection. redis-py is imported when it is first needed.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from config.model.shared_log import LogAddress
from proxy.log.base import LogAway, LogRefused

if TYPE_CHECKING:
    from redis.asyncio import Redis

OLDEST: Final = (6, 2)
"""The first version with ``XADD … NOMKSTREAM MINID`` and ``SET … GET``. Valkey counts on from 7.2."""
TIMEOUT: Final = 3.0  # seconds for each question
PREFIX: Final = "hsp:"
"""Every key and channel begins with it."""
MARKER: Final = f"{PREFIX}about"
MARK: Final = b"hatchet-stream-proxy log 1"
"""What the marker holds: whose keys these are, and in which format."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Redis that takes writes."""

    host: str
    port: int


class Discovery:
    """Where the Redis of one address is now."""

    def __init__(self, address: LogAddress) -> None:
        self.address = address
        self.tls: ssl.SSLContext | None = ssl.create_default_context() if address.tls else None

    async def find(self) -> Node:
        """The server that takes writes now. Raises LogAway."""
        if self.address.way != "sentinel":
            return Node(*self.address.hosts[0])
        from redis.asyncio.sentinel import Sentinel  # noqa: PLC0415 - see above
        from redis.exceptions import RedisError  # noqa: PLC0415

        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            list(self.address.hosts),
            sentinel_kwargs=self._options(for_sentinel=True),
            **self._options(),
        )
        try:
            host, port = await sentinel.discover_master(self.address.service)
        except (RedisError, OSError, TimeoutError) as error:
            raise LogAway(f"no sentinel names a Redis ({type(error).__name__})") from None
        finally:
            for client in sentinel.sentinels:
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()
        return Node(str(host), int(port))

    def _options(self, *, for_sentinel: bool = False) -> dict[str, Any]:
        address = self.address
        options: dict[str, Any] = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
        if address.tls:
            options["ssl"] = True
        if not for_sentinel:
            options |= {"username": address.user, "password": address.password, "db": address.database}
        return options

    async def inspect(self) -> list[str]:
        """Look whether the Redis can be used; warnings about it.

        Raises LogAway where it cannot be reached, LogRefused where it must not be used.
        """
        from redis.asyncio import Redis  # noqa: PLC0415 - see above
        from redis.exceptions import (  # noqa: PLC0415
            AuthenticationError,
            NoPermissionError,
            RedisError,
            ResponseError,
        )

        node = await self.find()
        client = Redis(host=node.host, port=node.port, **self._options())
        try:
            return await self._look(client)
        except AuthenticationError:
            raise LogRefused("Redis refuses the user or the password of server.log") from None
        except NoPermissionError as error:
            said = str(error).partition("'")[2].partition("'")[0]
            raise LogRefused(
                f"the user of server.log may not do what the log needs ({said or 'see ACL'})"
            ) from None
        except ResponseError as error:
            raise LogRefused(f"Redis cannot be used as server.log: {_first_words(error)}") from None
        except (RedisError, OSError, TimeoutError) as error:
            raise LogAway(f"Redis cannot be reached ({type(error).__name__})") from None
        finally:
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()

    async def _look(self, client: Redis) -> list[str]:
        info: Mapping[str, Any] = await client.info("server")
        version = str(info.get("redis_version", "0"))
        if version_of(version) < OLDEST:
            raise LogRefused(f"Redis {version} is too old for server.log: it needs 6.2 or newer, or Valkey")
        memory: Mapping[str, Any] = await client.info("memory")
        warnings = []
        policy, most = str(memory.get("maxmemory_policy", "noeviction")), int(memory.get("maxmemory", 0))
        if policy != "noeviction" and most:
            raise LogRefused(
                f"the Redis of server.log removes keys when its memory is full (maxmemory-policy {policy}), "
                "and so loses logs: set maxmemory-policy noeviction"
            )
        if policy != "noeviction":
            warnings.append(
                f"the Redis of server.log has maxmemory-policy {policy}: set noeviction before maxmemory"
            )
        if await client.type(MARKER) not in (b"none", b"string", "none", "string"):
            raise LogRefused(_foreign())
        await client.set(MARKER, MARK, nx=True)
        found = await client.get(MARKER)
        if found != MARK:
            raise LogRefused(_foreign())
        return warnings


def _foreign() -> str:
    return (
        f"the database of server.log has keys of another application, or of another version, under {PREFIX} "
        f"({MARKER} is not ours): use another database"
    )


def version_of(text: str) -> tuple[int, ...]:
    """The numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def _first_words(error: Exception) -> str:
    return str(error).split("\n")[0][:120]
