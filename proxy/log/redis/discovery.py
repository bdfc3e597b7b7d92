"""Finds the servers of Redis that take writes: one, the one that Sentinels name, or the masters of a cluster.

It is asked before each connection. redis-py handles the rare cases of Sentinel; it is imported when it is
first needed.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from config.model.shared_log import LogAddress
from proxy.log.base import LogAway, LogRefused
from proxy.log.redis.cluster import SLOTS_COMMAND, SlotMap, slot_map
from proxy.log.redis.link import Link, Node
from proxy.log.redis.login import Login, answer
from proxy.log.redis.resp import command

if TYPE_CHECKING:
    from redis.asyncio.sentinel import Sentinel

TIMEOUT: Final = 3.0  # seconds for each question to a Sentinel


@dataclass(frozen=True, slots=True)
class Layout:
    """The servers that take writes; `slots`: which of them has which slot of a cluster."""

    nodes: tuple[Node, ...]
    slots: SlotMap | None = None


class Discovery:
    """Where the Redis of one address is now."""

    def __init__(self, address: LogAddress) -> None:
        self.address = address
        self.login = Login(address)
        self._asked = 0  # how often; each time another server is asked first
        self._seen: tuple[Node, ...] = ()  # the masters of the cluster, when it answered the last time

    async def find(self) -> Layout:
        """The servers that take writes now. Raises LogAway, LogRefused."""
        if self.address.way == "sentinel":
            return Layout((await self._ask_sentinels(),))
        problem: LogAway | LogRefused = LogAway("not asked yet")
        nodes = list(dict.fromkeys((*(Node(*host) for host in self.address.hosts), *self._seen)))
        first, self._asked = self._asked % len(nodes), self._asked + 1
        for node in (*nodes[first:], *nodes[:first]):
            try:
                layout = await self._ask(node)
            except (LogAway, LogRefused) as error:
                problem = problem if isinstance(problem, LogRefused) else error
                continue
            self._seen = () if layout.slots is None else layout.nodes
            return layout
        raise problem

    async def _ask(self, node: Node) -> Layout:
        """The servers that `node` belongs to."""
        link = await self.login.open(node)
        try:
            info = await information(link, "cluster")
            if info.get("cluster_enabled") != "1":
                if len(self.address.hosts) > 1:
                    raise LogRefused(
                        f"server.log has several hosts, and {node} is no server of a Redis Cluster"
                    )
                return Layout((node,))
            slots = slot_map(await answer(link, SLOTS_COMMAND, "CLUSTER SLOTS"), node)
            return Layout(slots.masters, slots)
        finally:
            link.close()

    # -- Sentinel --

    async def _ask_sentinels(self) -> Node:
        """The master that the Sentinels name; those that ask for a password get the one of the Redis."""
        address = self.address
        try:
            return await self._master({})
        except _AsksForPassword:
            if address.password is None:
                raise LogRefused("the sentinels ask for a password, and server.log has none") from None
        try:
            return await self._master({"username": address.user, "password": address.password})
        except _AsksForPassword:
            raise LogRefused("the sentinels refuse the user or the password of server.log") from None

    async def _master(self, credentials: dict[str, Any]) -> Node:
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.asyncio.sentinel import MasterNotFoundError, Sentinel  # noqa: PLC0415 - see above
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import RedisError  # noqa: PLC0415

        options: dict[str, Any] = {
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            **credentials,
        }
        options["retry"] = Retry(NoBackoff(), 0)  # the next Sentinel is asked at once
        if self.address.tls:
            options["ssl"] = True
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            list(self.address.hosts), sentinel_kwargs=options
        )
        try:
            host, port = await sentinel.discover_master(self.address.service)
        except MasterNotFoundError:
            raise await self._why_unnamed(sentinel) from None
        except (RedisError, OSError) as error:
            raise LogAway(f"no sentinel names a Redis ({type(error).__name__})") from None
        finally:
            for client in sentinel.sentinels:
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()
        return Node(str(host), int(port))

    async def _why_unnamed(self, sentinel: Sentinel) -> Exception:
        """Why no Sentinel names a Redis."""
        from redis.exceptions import AuthenticationError, RedisError  # noqa: PLC0415

        problem: Exception = LogAway("no sentinel answers")
        for client in sentinel.sentinels:
            try:
                names = sorted(await client.sentinel_masters())  # type: ignore[no-untyped-call]
            except AuthenticationError:
                problem = _AsksForPassword()
                continue
            except (RedisError, OSError) as error:
                reason = str(error).split("\n")[0][:120]
                if not isinstance(problem, _AsksForPassword):
                    problem = LogAway(f"no sentinel answers ({reason})")
                continue
            if self.address.service in names:
                return LogAway(f"the sentinels see no master of {self.address.service} now")
            known = f"they know {', '.join(names)}" if names else "they know none"
            return LogRefused(f"the sentinels do not know the name {self.address.service}: {known}")
        return problem


class _AsksForPassword(Exception):
    """No Sentinel answers without a password, or with this one."""


async def information(link: Link, section: str) -> dict[str, str]:
    """One section of ``INFO``. Raises LogAway, LogRefused."""
    reply = await answer(link, command(b"INFO", section.encode()), "INFO")
    if not isinstance(reply, bytes):
        raise LogAway("Redis gives an unknown answer to INFO")
    pairs = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {name: value for name, found, value in pairs if found}
