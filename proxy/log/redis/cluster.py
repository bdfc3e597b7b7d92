"""A Redis Cluster: which server has a key, and where a command goes that a server redirects.

Each command of the log has one key, and a log's channel is subscribed to where its key is. So no command
needs two servers. While a slot moves, commands go on to its old server, which redirects them one by one: a
server answers in order, so they reach the new one in order. Only a new connection has a new map of the
slots.

    command ──▶ old server ── ASK (this key has gone already) ──▶ new server, after ASKING
                           ── MOVED (the slot has gone)       ──▶ new server

Source: the Redis Cluster specification (slots, hash tags, redirections) and ``CLUSTER SLOTS``.
"""

from __future__ import annotations

from array import array
from binascii import crc_hqx
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from proxy.log.base import LogAway
from proxy.log.redis.link import LOST, Link, Node, OnReply
from proxy.log.redis.resp import ErrorReply, Parser, Reply, command

SLOTS: Final = 16384
NOBODY: Final = 0xFFFF  # the index of a slot that no server has
MOST_REDIRECTS: Final = 5  # of one command: more would be a loop
REDIRECTS: Final = frozenset({"MOVED", "ASK"})
ASKING: Final = command(b"ASKING")
SLOTS_COMMAND: Final = command(b"CLUSTER", b"SLOTS")


def slot_of(key: bytes) -> int:
    """The slot of a key or a channel: CRC16 of it, or of its hash tag, the part in braces."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Which master has which slot: `owners` has the index in `masters` for each slot."""

    masters: tuple[Node, ...]
    owners: array[int]

    def master_of(self, key: bytes) -> Node:
        """The server that has a key."""
        return self.masters[self.owners[slot_of(key)]]


def slot_map(reply: Reply, asked: Node) -> SlotMap:
    """The map in a reply of `asked` to ``CLUSTER SLOTS``. Raises LogAway where slots are missing."""
    owners = array("H", [NOBODY]) * SLOTS
    masters: dict[Node, int] = {}
    try:
        assert isinstance(reply, list)
        for first, last, (host, port, *_), *_replicas in sorted(reply, key=lambda part: part[0]):
            name = host.decode() if host else ""
            node = Node(asked.host if name in ("", "?") else name, int(port))
            owner = masters.setdefault(node, len(masters))
            owners[first : last + 1] = array("H", [owner]) * (last + 1 - first)
    except (AssertionError, ValueError, TypeError, IndexError, AttributeError):
        raise LogAway("the cluster of server.log gives an unknown answer to CLUSTER SLOTS") from None
    if NOBODY in owners or len(owners) != SLOTS:
        raise LogAway("some slots of the cluster belong to no server")
    return SlotMap(tuple(masters), owners)


class KeySender:
    """Sends the commands of one key.

    `find` gives the open link to a server; `moved` is called if a redirect names a server without one.
    """

    __slots__ = ("_find", "_link", "_moved", "_node")

    def __init__(
        self,
        node: Node,
        link: Link,
        find: Callable[[Node], Link | None],
        moved: Callable[[], None],
    ) -> None:
        self._node = node
        self._link = link
        self._find = find
        self._moved = moved

    def send(self, commands: bytes, on_reply: OnReply, number: int = 1) -> None:
        """See `proxy.log.redis.link.Sender`."""
        if number == 1:
            self._send(self._link, commands, on_reply, MOST_REDIRECTS)
            return
        place = count()

        def answered(reply: Reply) -> None:
            at = next(place)
            if isinstance(reply, ErrorReply) and reply.code in REDIRECTS:
                self._redirected(reply, _one_of(commands, at), on_reply, MOST_REDIRECTS)
            else:
                on_reply(reply)

        self._link.send(commands, answered, number)

    def close(self) -> None:
        """Close the link to the key's server."""
        self._link.close()

    def _send(self, link: Link, commands: bytes, on_reply: OnReply, left: int) -> None:
        def answered(reply: Reply) -> None:
            if isinstance(reply, ErrorReply) and reply.code in REDIRECTS:
                self._redirected(reply, commands, on_reply, left)
            else:
                on_reply(reply)

        link.send(commands, answered)

    def _redirected(self, reply: ErrorReply, commands: bytes, on_reply: OnReply, left: int) -> None:
        node = redirect_of(reply, self._node)
        link = self._find(node) if node is not None and left else None
        if link is None:
            self._moved()
            on_reply(LOST)
            return
        if reply.code == "ASK":
            link.send(ASKING, _ignore)
        self._send(link, commands, on_reply, left - 1)


def redirect_of(reply: ErrorReply, asked: Node) -> Node | None:
    """Where ``MOVED SLOT HOST:PORT`` or ``ASK …`` leads; None where that cannot be read."""
    words = reply.text.split(" ")
    host, _, port = words[-1].rpartition(":")
    if len(words) != 3 or not port.isdecimal():
        return None
    return Node(host or asked.host, int(port))


def _one_of(commands: bytes, place: int) -> bytes:
    """One of several commands; a command has the form of a reply that is an array."""
    words = Parser().feed(commands)[place]
    assert isinstance(words, list)
    return command(*words)


def _ignore(reply: Reply) -> None:
    """The reply to ASKING is ignored: the one to the command matters."""
