"""Reader: one client's stream: a place in a channel's backlog, and the sink it is written to.

A reader owns nothing but its place. What is written lies in the sink's buffer at most (`Sink.paused` turns
true when that is full); the rest stays in the backlog, and what falls out of it meanwhile is told as a gap.
Every ending has a name (`Ending`), and a reader ends once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from proxy.core.events import GapCause, StepGap
from proxy.hatchet.errors import HatchetError
from proxy.streams.channel import Channel

RECOVERY_PAUSE: Final = 1.0  # seconds between tries to make forgotten frames again while Hatchet is away
RECOVERY_TRIES: Final = 30  # then the gap says that something is missing, and the stream goes on


class Ending(StrEnum):
    """How a client's stream ended."""

    END = "end"  # the verified end was written
    LEFT = "left"  # the client closed the connection
    STUCK = "stuck"  # it took nothing for `write_timeout`
    EXPIRED = "expired"  # its credentials' time was over
    DRAIN = "drain"  # this replica is going away
    DROPPED = "dropped"  # the stream was withdrawn


class Sink(Protocol):
    """Where a reader's bytes go."""

    def write(self, body: bytes) -> None:
        """Take bytes; never waits."""

    def write_shared(self, body: bytes, chunk: bytes) -> None:
        """The same for what many are written; `chunk` is `body` as `chunked.chunk` has it."""


class Reader:
    """One client on one channel, from a place on. `over` hears its `Ending`, once."""

    __slots__ = (
        "_cause", "_first_gap", "_over", "_recovery", "_sink",
        "busy", "channel", "ending", "frames", "paused", "paused_since", "place",
    )  # fmt: skip

    def __init__(
        self,
        channel: Channel,
        sink: Sink,
        place: int,
        *,
        over: Callable[[Ending], None],
        gap: GapCause | None = None,
    ) -> None:
        self.channel = channel
        self.place = place
        self.paused = False
        self.paused_since: float | None = None
        self.busy = False  # lost frames are being made again
        self.ending: Ending | None = None
        self.frames = 0
        self._sink = sink
        self._over = over
        self._first_gap = gap
        self._cause = GapCause.BACKLOG
        self._recovery: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Join the channel and write what it holds."""
        self.channel.join(self)
        if self._first_gap is not None:
            self._write(self.channel.gap(StepGap(self._first_gap, None, None, None), self.place))
        self.pump()
        self._cause = GapCause.SLOW_CLIENT

    def take(self, frames: int, body: bytes, chunk: bytes) -> None:
        """The fast path: the next so many frames, in the same bytes as others; the channel counts them."""
        self.place += frames
        self.frames += frames
        self._sink.write_shared(body, chunk)

    def pump(self) -> None:
        """Write all that is there, until the sink is full."""
        channel = self.channel
        while self.place != channel.backlog.last and not (self.paused or self.busy or self.ending):
            if not channel.backlog.reaches(self.place):
                self._cross()
                continue
            body, to = channel.batch(self.place)
            if to == self.place:
                break
            self._count(to - self.place)
            self.place = to
            self._write(body)
        if channel.backlog.sealed and self.place == channel.backlog.last:
            self.finish(Ending.END)

    def _cross(self) -> None:
        """Step over what fell out of the backlog: say so, give what lasts, stand at what is kept."""
        channel, place = self.channel, self.place
        for notice in channel.missed(place, self._cause):
            self._write(notice)
        to = channel.backlog.first - 1  # what falls out while we ask is crossed by the next pump, from there
        if channel.backlog.forgotten(place):
            self.busy = True
            self._recovery = asyncio.get_running_loop().create_task(self._recover(place, to))
            return
        for _, frame in channel.backlog.aside(place):
            self._count(1)
            self._write(frame.body)
        self.place = to

    async def _recover(self, place: int, to: int) -> None:
        channel = self.channel
        frames, whole = None, False
        for _ in range(RECOVERY_TRIES):
            try:
                frames, whole = await channel.recover(place)
                break
            except HatchetError:
                await asyncio.sleep(RECOVERY_PAUSE)
        if frames is None:
            frames = channel.backlog.aside(place)
        if not whole:
            self._write(channel.gap(StepGap(GapCause.BACKLOG, None, None, None), place))
        for number, frame in frames:
            if number <= to:
                self._count(1)
                self._write(frame.body)
        self.place = max(place, to)
        self.busy = False
        self.pump()

    def beat(self, body: bytes) -> None:
        """Write a heartbeat, also while lost frames are asked for; who does not keep up needs none."""
        if not (self.paused or self.ending):
            self._sink.write(body)

    def say(self, body: bytes) -> None:
        """Write a control frame of the connection's own."""
        if self.ending is None:
            self._sink.write(body)

    # -- the sink tells --

    def pause(self, now: float) -> None:
        """The sink is full."""
        self.paused = True
        self.paused_since = now

    def resume(self) -> None:
        """The sink has room again."""
        self.paused = False
        self.paused_since = None
        self.pump()

    # -- the ending --

    def finish(self, ending: Ending) -> None:
        """End once, by the first name given."""
        if self.ending is not None:
            return
        self.ending = ending
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None
        self.channel.leave(self)
        over, self._over = self._over, _told  # who hears it holds this reader: the two would keep each other
        over(ending)

    def _write(self, body: bytes) -> None:
        self.channel.counts.bytes += len(body)
        self._sink.write(body)

    def _count(self, frames: int) -> None:
        self.frames += frames
        self.channel.counts.frames += frames


def _told(ending: Ending) -> None:
    """It has been heard."""
