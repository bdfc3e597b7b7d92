"""The connection of one replica to Redis: two links to each server that takes writes.

A link that was demoted or cut off may go on for a while without an error. So each beat writes a key. A Redis
that takes no writes any more, or does not answer, is left at once, and the address is looked up again. All
servers of a cluster are one connection: it is open while all of them answer. Where slots have moved, the
next connection is opened before the last one is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from random import Random
from typing import Any, Final, TypeVar

from proxy.log.base import GONE_AFTER, Life, LogAway, LogRefused
from proxy.log.redis.cluster import SLOTS_COMMAND, KeySender, slot_map
from proxy.log.redis.discovery import Discovery, Layout
from proxy.log.redis.keys import MARK, MARKER, up_key
from proxy.log.redis.link import CLOSED, Link, Node, Sender, ask
from proxy.log.redis.login import refusal
from proxy.log.redis.resp import ErrorReply, Reply, command
from proxy.log.redis.server import Server

BEAT: Final = 2.0  # seconds between two beats
RETRY: Final = (0.1, 2.0)  # seconds between two attempts to connect: the first pause, the longest one
LEFT: Final = frozenset({"READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN", "MOVED", "NOAUTH", "NOPERM"})
"""Errors of a Redis that must be left: it is no master, or not ready."""

PING: Final = command(b"PING")
T = TypeVar("T")


class Connection:
    """The links of one replica; it connects again until it is closed.

    `opened` is called when all links are open, and again when others have taken their place; `closed` when
    they are not open any more, `received` with each message on a channel, `flushed` when Redis has lost this
    replica's key since the last beat, `lag` at each beat with the seconds by which messages are late.
    """

    def __init__(
        self,
        discovery: Discovery,
        replica: str,
        *,
        opened: Callable[[], None],
        closed: Callable[[str], None],
        received: Callable[[bytes, bytes], None],
        flushed: Callable[[], None],
        lag: Callable[[float], None],
        channels: Iterable[bytes] = (),
        rng: Random | None = None,
    ) -> None:
        self.life = Life.ALIVE
        self.trouble: str | None = "not connected yet"
        self._discovery = discovery
        self._up_key = up_key(replica)
        self._opened = opened
        self._closed = closed
        self._received = received
        self._flushed = flushed
        self._lag = lag
        self._rng = rng or Random()
        self._task: asyncio.Task[None] | None = None
        self._servers: dict[Node, Server] = {}
        self._layout: Layout | None = None  # of the servers that are open
        self._only: Link | None = None  # for commands, where there is one server
        self._ended = asyncio.Event()
        self._channels: set[bytes] = set(channels)
        self._subscribing: dict[bytes, list[asyncio.Future[None]]] = {}
        self._beaten = False  # a beat of this connection was answered
        self._beats = 0

    @property
    def is_open(self) -> bool:
        """Whether all links are open."""
        return self._layout is not None

    def sender(self, key: bytes) -> Sender:
        """The sender of commands to the server that has `key`. Raises LogAway."""
        if self._only is not None:
            return self._only
        if self._layout is None or self._layout.slots is None:
            raise LogAway(self.trouble or "Redis cannot be reached")
        node = self._layout.slots.master_of(key)
        return KeySender(node, self._servers[node].commands, self._link_to, self._moved)

    def start(self) -> None:
        """Connect, and stay connected."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep_connected())

    async def close(self) -> None:
        """Close all links for good, after announcing to the other replicas that this one is gone."""
        if self.is_open:
            with contextlib.suppress(LogAway):
                await ask(self.sender(self._up_key), command(b"DEL", self._up_key), timeout=1.0)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._drop("closed")

    # -- channels --

    def subscribe(self, channel: bytes) -> asyncio.Future[None]:
        """Receive the messages of a channel. The returned future is done when none can be missed any more.

        It is done at once where Redis cannot be reached: the next connection subscribes to everything.
        """
        self._channels.add(channel)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._layout is None:
            done.set_result(None)
        else:
            self._subscribing.setdefault(channel, []).append(done)
            self._servers[_node_of(self._layout, channel)].subscribe(channel)
        return done

    def unsubscribe(self, channel: bytes) -> None:
        """Stop receiving them."""
        if channel in self._channels:
            self._channels.discard(channel)
            if self._layout is not None:
                self._servers[_node_of(self._layout, channel)].unsubscribe(channel)

    # -- connecting --

    async def _keep_connected(self) -> None:
        pause = RETRY[0]
        while True:
            try:
                await self._connect()
                pause = RETRY[0]
                if await self._beat_until_it_ends():
                    continue
            except (LogAway, LogRefused, OSError) as error:
                self._drop(str(error))
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(RETRY[1], pause * 2)

    async def _connect(self) -> None:
        """Open links to all servers, and then close those that were open before."""
        layout = await self._discovery.find()
        servers = {node: self._server(node) for node in layout.nodes}
        before = self._servers
        try:
            await _together(server.open(self._discovery.login) for server in servers.values())
            await servers[_node_of(layout, MARKER)].ask(command(b"SET", MARKER, MARK, b"NX"), "SET")
            await self._beat(servers[_node_of(layout, self._up_key)], beaten=False)
            await self._subscribe_all(layout, servers)
            if not all(server.is_open for server in servers.values()):
                raise LogAway(CLOSED)
        except BaseException:
            for server in servers.values():
                server.close()
            raise
        self._ended.clear()
        self._servers, self._layout = servers, layout
        self._only = servers[layout.nodes[0]].commands if layout.slots is None else None
        self.trouble = None
        for channel in self._subscribing:  # the server that was asked for it is left now
            servers[_node_of(layout, channel)].subscribe(channel)
        self._opened()
        for server in before.values():
            server.finish()

    def _server(self, node: Node) -> Server:
        return Server(
            node,
            received=self._received,
            subscribed=self._subscribed,
            failed=self._subscription_failed,
            closed=self._server_closed,
            lag=self._lag,
        )

    async def _subscribe_all(self, layout: Layout, servers: dict[Node, Server]) -> None:
        """Subscribe to every channel, also to those that are added meanwhile."""
        while True:
            missing: dict[Node, list[bytes]] = {}
            for channel in self._channels:
                node = _node_of(layout, channel)
                if channel not in servers[node].channels:
                    missing.setdefault(node, []).append(channel)
            if not missing:
                return
            await _together(servers[node].subscribe_all(channels) for node, channels in missing.items())

    # -- beats --

    async def _beat_until_it_ends(self) -> bool:
        """Beat; True where the cluster's slots have moved, and the connection is still open."""
        while True:
            try:
                async with asyncio.timeout(BEAT):
                    await self._ended.wait()
                return False
            except TimeoutError:
                pass
            layout, servers = self._layout, self._servers
            if layout is None:
                return False
            for server in servers.values():
                server.look()
            await self._beat(servers[_node_of(layout, self._up_key)], beaten=self._beaten)
            if layout.slots is not None and await self._have_slots_moved(layout, servers):
                return True

    async def _have_slots_moved(self, layout: Layout, servers: dict[Node, Server]) -> bool:
        """Check that all servers of a cluster answer; one of them, in turn, is asked for the map of slots."""
        self._beats += 1
        asked = layout.nodes[self._beats % len(layout.nodes)]
        questions = (
            server.ask(SLOTS_COMMAND, "CLUSTER SLOTS") if node == asked else server.ask(PING, "PING")
            for node, server in servers.items()
        )
        replies = dict(zip(servers, await _together(questions), strict=True))
        return slot_map(replies[asked], asked) != layout.slots

    async def _beat(self, server: Server, *, beaten: bool) -> None:
        words = (self.life.value.encode(), b"PX", b"%d" % int(GONE_AFTER * 1000), b"GET")
        before = await server.ask(command(b"SET", self._up_key, *words), "SET")
        if before is None and beaten:
            self._flushed()
        self._beaten = True

    async def announce_life(self, life: Life) -> None:
        """Announce `life` as this replica's, from now on. Raises LogAway."""
        self.life = life
        layout = self._layout
        if layout is None:
            raise LogAway(self.trouble or "Redis cannot be reached")
        with contextlib.suppress(LogRefused):
            await self._beat(self._servers[_node_of(layout, self._up_key)], beaten=self._beaten)

    def check(self, reply: Reply) -> None:
        """Close the connection where a reply shows that this Redis cannot be used any more."""
        if isinstance(reply, ErrorReply) and reply.code in LEFT:
            self._drop(str(refusal(reply, "a command")))

    # -- the end of a link --

    def _link_to(self, node: Node) -> Link | None:
        server = self._servers.get(node)
        return None if server is None else server.commands

    def _moved(self) -> None:
        """A command was redirected to a server that is not known."""
        self._drop("the cluster has moved its slots")

    def _subscribed(self, channel: bytes) -> None:
        for done in self._subscribing.pop(channel, ()):
            if not done.done():
                done.set_result(None)

    def _subscription_failed(self, reply: ErrorReply) -> None:
        self._drop(str(refusal(reply, "SUBSCRIBE")))

    def _server_closed(self, server: Server) -> None:
        if self._servers.get(server.node) is server:
            self._drop(CLOSED)

    def _drop(self, trouble: str) -> None:
        servers, self._servers = self._servers, {}
        was_open = self._layout is not None
        self._layout = self._only = None
        self.trouble = trouble
        for server in servers.values():
            server.close()
        self._ended.set()
        for channel in list(self._subscribing):
            self._subscribed(channel)
        if was_open:
            self._closed(trouble)


def _node_of(layout: Layout, key: bytes) -> Node:
    """The server that has `key`."""
    return layout.nodes[0] if layout.slots is None else layout.slots.master_of(key)


async def _together(questions: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The answers to all questions; the first error, when all of them have ended."""
    answers = await asyncio.gather(*questions, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]
