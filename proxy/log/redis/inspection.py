"""Checks whether a Redis can be used for the log: its version, eviction, keys, and the user's rights."""

from __future__ import annotations

import re
import secrets
from typing import Final

from proxy.log.base import LogAway, LogRefused
from proxy.log.redis.cluster import ASKING, REDIRECTS
from proxy.log.redis.discovery import Discovery, information
from proxy.log.redis.keys import MARK, MARKER, PREFIX
from proxy.log.redis.link import Link, ask
from proxy.log.redis.login import refusal
from proxy.log.redis.resp import ErrorReply, Reply, command

OLDEST: Final = (6, 2)
"""The first version with ``XADD … NOMKSTREAM MINID`` and ``SET … GET``. Valkey counts on from 7.2."""
NOEVICTION: Final = "noeviction"
PROBES: Final = (
    "TYPE", "GET", "SET  XX GET", "XADD NOMKSTREAM 1-1 x x", "XRANGE - +", "XREVRANGE + -", "PEXPIRE 1",
    "DEL", "UNLINK", "PUBLISH ",
)  # fmt: skip
"""Commands that the log needs, without their key: on a key that does not exist they change nothing."""
FOREIGN: Final = (
    f"the database of server.log has keys of another application, or of another version, under {PREFIX} "
    f"({MARKER.decode()} is not ours): use another database"
)


async def inspect(discovery: Discovery, *, mark: bool = True) -> list[str]:
    """Check whether the Redis can be used; returns warnings. `mark`: write our marker where there is none.

    Raises LogAway where it cannot be reached, LogRefused where it must not be used.
    """
    layout = await discovery.find()
    warnings: list[str] = []
    for node in layout.nodes:
        link = await discovery.login.open(node)
        try:
            warnings += await _inspect_server(link)
            role = await _may(link, command(b"ROLE"), "ROLE")
            if discovery.address.way and isinstance(role, list) and role[0] != b"master":
                raise LogAway("the sentinels name a Redis that takes no writes: a failover is going on")
            slots = layout.slots
            if slots is None or slots.master_of(MARKER) == node:
                await _inspect_marker(link, mark)
            if slots is not None:
                await _may(link, ASKING, "ASKING")
            await _inspect_rights(link)
        finally:
            link.close()
    return list(dict.fromkeys(warnings))


async def _inspect_server(link: Link) -> list[str]:
    version = (await information(link, "server")).get("redis_version", "")
    if not version_of(version):
        raise LogRefused("the Redis of server.log does not say its version: it is another kind of server")
    if version_of(version) < OLDEST:
        raise LogRefused(f"Redis {version} is too old for server.log: it needs 6.2 or newer, or Valkey")
    memory = await information(link, "memory")
    policy = memory.get("maxmemory_policy", NOEVICTION)
    if policy == NOEVICTION:
        return []
    if memory.get("maxmemory", "0") != "0":
        raise LogRefused(
            f"the Redis of server.log removes keys when its memory is full (maxmemory-policy {policy}), "
            "and so loses logs: set maxmemory-policy noeviction"
        )
    return [f"the Redis of server.log has maxmemory-policy {policy}: set noeviction before maxmemory"]


async def _inspect_rights(link: Link) -> None:
    """Try each command that the log needs; a server of a cluster looks at rights before it redirects."""
    probe = f"{PREFIX}probe:{secrets.token_hex(8)}".encode()
    for probed in PROBES:
        name, *words = probed.split(" ")
        await _may(link, command(name.encode(), probe, *(word.encode() for word in words)), name)
    await _may(link, command(b"PUBSUB", b"NUMSUB", probe), "PUBSUB")
    for name in ("SUBSCRIBE", "UNSUBSCRIBE"):  # the last ones: a link that subscribes can do nothing else
        await _may(link, command(name.encode(), probe), name)


async def _may(link: Link, commands: bytes, name: str) -> Reply:
    """The reply to a command. Raises LogAway, LogRefused where it is an error, and no redirection."""
    reply = await ask(link, commands)
    if isinstance(reply, ErrorReply) and reply.code not in REDIRECTS:
        raise refusal(reply, name)
    return reply


async def _inspect_marker(link: Link, mark: bool) -> None:
    kind = await _may(link, command(b"TYPE", MARKER), "TYPE")
    if kind == b"none" and not mark:
        return
    if kind == b"none":
        await _may(link, command(b"SET", MARKER, MARK, b"NX"), "SET")
    elif kind != b"string":
        raise LogRefused(FOREIGN)
    if await _may(link, command(b"GET", MARKER), "GET") != MARK:
        raise LogRefused(FOREIGN)


def version_of(text: str) -> tuple[int, ...]:
    """The numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
