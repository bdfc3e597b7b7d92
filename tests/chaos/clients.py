"""The readers: EventSources that meet another replica each time, leave, and reconnect with their cursor.

Some read by the run's id, some by the application's own, and of these some come before the run is there;
some read slowly, over a socket that takes as little as it can. `stuck` and `vanished` are readers that read
nothing any more: one holds its connection, the other is gone without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Final, Self

import aiohttp

from tests.support.delivery import SlowSocket
from tests.support.eventsource import EventSource, Frame
from tests.support.reference import RunPicture

NARROW: Final = 2048  # bytes that a slow reader's kernel takes
TCP_REPAIR: Final = 19  # closing such a socket sends nothing, as a machine that lost its power
STUCK: Final = 12.0  # seconds until a stuck reader gives up; the proxy does so earlier
HOP_PAUSE: Final = (0.0, 0.04)  # seconds that a client takes to change the replica
SLOW_READ: Final = (0.0, 0.12)  # seconds that a slow client takes for a frame
NO_PROGRESS: Final = ("stream.gap", "stream.drain", "stream.wait")  # they repeat the cursor before them
READ_FOR: Final = (0.0, 2.0)  # seconds after which a client vanishes


@dataclass(eq=False)
class Target:
    """A run to read: `run_id` is empty until it is triggered, `message` is the application's id for it."""

    message: str
    run_id: str = ""


class RoamingEventSource(EventSource):
    """An EventSource behind a balancer without affinity: each connection may go to another replica.

    `hops`: each one does. `silence`: seconds without a byte after which the balancer ends a connection.
    """

    def __init__(
        self,
        urls: Sequence[str],
        rng: Random,
        *,
        narrow: bool = False,
        hops: bool = False,
        silence: float | None = None,
    ) -> None:
        super().__init__(rng.choice(urls), patience=0.1)
        self._urls, self._rng, self._narrow = urls, rng, narrow
        self._hops, self._silence = hops, silence

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._session is not None and (self._narrow or self._silence is not None):
            await self._session.close()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(socket_factory=_narrow if self._narrow else None),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self._silence),
                read_bufsize=NARROW if self._narrow else 2**16,
            )
        return self

    async def _connection(self) -> AsyncGenerator[Frame, None]:
        others = [url for url in self._urls if url != self.url]
        self.url = self._rng.choice(others if self._hops and others else self._urls)
        frames = super()._connection()
        try:
            async for frame in frames:
                yield frame
        finally:
            await frames.aclose()


def _narrow(address: tuple[object, ...]) -> socket.socket:
    made = socket.socket(address[0], address[1], address[2])  # type: ignore[arg-type]
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
    made.setblocking(False)
    return made


class Manner(Enum):
    """How a client uses the replicas."""

    WANDERS = "wanders"  # each connection goes to any of them; some connections are short
    HOPS = "hops"  # it goes to another one after every frame
    STAYS = "stays"  # it always comes back to the same one


@dataclass
class Client:
    """One reader of one run: its picture, and the longest time in which it received nothing.

    `noted` is told of each frame. `silence_allowed`: seconds without a byte until it connects again.
    """

    target: Target
    number: int
    rng: Random
    early: bool = False  # it comes before the run does
    manner: Manner = Manner.WANDERS
    noted: Callable[[Client, Frame], None] | None = None
    silence_allowed: float | None = None
    picture: RunPicture = field(default_factory=RunPicture)
    frames: int = 0
    connections: int = 0
    silence: float = 0.0
    ended_properly: bool = False
    waits: int = 0
    slow: bool = False
    received: list[Frame] = field(default_factory=list)

    async def read(self, urls: Sequence[str]) -> None:
        """Come at some moment, read to the verified end and the 204 behind it."""
        wait = self.rng.choice([0.0, 0.0, 0.05, self.rng.uniform(0, 3)])
        hops = self.rng.choice([0, 0, 0, 1, 3])
        self.slow = self.rng.random() < 0.15
        by_message = self.rng.random() < 0.3 or self.early or self.slow  # little is kept there
        await asyncio.sleep(0.0 if self.early else wait)
        path = f"/message/{self.target.message}" if by_message else f"/run/{self.target.run_id}"
        hopping = self.manner is Manner.HOPS
        places = [url + path for url in urls]
        if self.manner is Manner.STAYS:
            places = [self.rng.choice(places)]
        async with RoamingEventSource(
            places, self.rng, narrow=self.slow, hops=hopping, silence=self.silence_allowed
        ) as source:
            received_at = time.monotonic()
            while not self.ended_properly:
                hop_after = 1 if hopping else self.rng.randrange(1, 40) if hops else 0
                hops -= 1 if hops else 0
                frames = source.frames()
                async for frame in frames:
                    self.silence = max(self.silence, time.monotonic() - received_at)
                    received_at = time.monotonic()
                    self._take(frame)
                    if self.slow:
                        await asyncio.sleep(self.rng.uniform(*SLOW_READ))
                    if not hopping or frame.event not in NO_PROGRESS:
                        hop_after -= 1
                    if hop_after == 0:
                        break
                else:
                    self.ended_properly = True  # 204
                await frames.aclose()
                if hopping:
                    await asyncio.sleep(self.rng.uniform(*HOP_PAUSE))
            self.connections = source.connections

    def _take(self, frame: Frame) -> None:
        self.frames += 1
        self.received.append(frame)
        if self.noted is not None:
            self.noted(self, frame)
        if frame.event == "stream.wait":
            self.waits += 1
        if self.picture.ended and frame.event in ("stream.gap", "stream.wait", "stream.drain"):
            return  # it came back with the end's cursor and met trouble on the way to its 204
        self.picture.frame(frame)


async def stuck(url: str, path: str) -> None:
    """Read the beginning, then nothing, until the proxy ends the connection."""
    with contextlib.suppress(OSError, TimeoutError):
        one = SlowSocket(url, path)
        try:
            async with asyncio.timeout(STUCK):
                await one.open()
            await asyncio.sleep(STUCK)
        finally:
            one.close()


async def vanished(url: str, path: str, rng: Random) -> None:
    """Read the beginning, then vanish: without a FIN where this process may do that, else with a RST."""
    with contextlib.suppress(OSError, TimeoutError):
        one = SlowSocket(url, path)
        try:
            async with asyncio.timeout(STUCK):
                await one.open()
            await asyncio.sleep(rng.uniform(*READ_FOR))
            try:
                one.sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            except OSError:
                one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        finally:
            one.close()
