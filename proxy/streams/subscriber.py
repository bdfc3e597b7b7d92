"""Subscriber: one client's place in a channel, and the sink that its frames are written to.

A subscriber buffers nothing itself. Frames that the client has not taken yet wait in the channel's backlog;
the sink holds a bounded number of bytes and then pauses the subscriber. When the backlog evicts frames that
a subscriber has not got, the client is sent a ``stream.gap`` in their place. A subscriber ends once, with a
named `Ending`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from proxy.core.events import GapCause, StepGap
from proxy.hatchet.errors import HatchetError
from proxy.observability.tracing import Notice
from proxy.streams.backlog import Frame, Loss
from proxy.streams.channel import Channel
from proxy.streams.message_writer import Start

RECOVERY_PAUSE: Final = 1.0
"""Seconds between attempts to make forgotten frames again while Hatchet is unreachable."""
RECOVERY_ATTEMPTS: Final = 30
"""Attempts, about half a minute; then the client is sent a gap and the stream goes on."""


class Ending(StrEnum):
    """How a client's stream ended."""

    END = "end"  # the client got the run's end
    LEFT = "left"  # the client closed the connection
    ANSWERED = "answered"  # the client asked for a document, and got it
    STUCK = "stuck"  # the client took nothing for `write_timeout`
    EXPIRED = "expired"  # the client's credentials expired
    DRAIN = "drain"  # this replica is shutting down
    DROPPED = "dropped"  # the stream's team or definition was removed
    FAILED = (
        "failed"  # an unforeseen error of the proxy: the connection is closed, so that the client reconnects
    )


# Names of their own for each connect's way: Python 3.11 takes 50 ns to look a member up in its class.
_AT_START: Final = GapCause.BACKLOG
_LATER: Final = GapCause.SLOW_CLIENT


class Sink(Protocol):
    """Where a subscriber's bytes are written."""

    def write(self, body: bytes) -> None:
        """Take bytes, never empty; never waits."""

    def write_shared(self, body: bytes, chunk: bytes) -> None:
        """Take bytes that are written to many subscribers; `chunk` is `body` as an HTTP chunk."""


class SubscriberOwner(Protocol):
    """Is notified of a subscriber's end."""

    def subscriber_ended(self, ending: Ending) -> None:
        """Nothing more is written."""


class Subscriber:
    """One client on one channel, from a place on.

    `place` is the number of the last frame that was written, `writable` whether frames may be written now,
    `paused_since` the loop's time since when the sink is full (None: it is not).
    """

    __slots__ = (
        "_cause", "_first_gap", "_first_place", "_not_written", "_opening", "_own_notices", "_owner",
        "_recovery", "channel", "ending", "paused_since", "place", "recovering", "sink", "writable",
    )  # fmt: skip

    def __init__(
        self,
        channel: Channel,
        sink: Sink,
        start: Start,
        owner: SubscriberOwner,
    ) -> None:
        """`start` says where the client's frames begin (`Channel.start`); `owner` hears of the end once."""
        self.channel = channel
        self.place = place = start.place
        self.writable = True
        self.paused_since: float | None = None
        self.recovering = False  # forgotten frames are being made again
        self.ending: Ending | None = None
        self._first_place = self._not_written = place
        self._own_notices: list[Notice] | None = None  # of gaps that were sent to this client alone
        self.sink = sink
        self._owner: SubscriberOwner | None = owner  # no bound method: there are thousands of subscribers
        self._first_gap = start.gap
        self._opening = start.opening
        self._cause = _AT_START  # of gaps for evicted frames
        self._recovery: asyncio.Task[None] | None = None

    @property
    def frames(self) -> int:
        """How many frames were written, or are being written.

        It follows from the place, so that a delivery counts nothing: of the numbers up to there, some were
        not written as frames.
        """
        return self.place - self._not_written

    @property
    def cursor(self) -> str:
        """The cursor of everything that was written."""
        backlog, ids = self.channel.backlog, self.channel.ids
        return (ids.end if backlog.sealed and self.place == backlog.last else ids.at(self.place)).decode()

    def start(self) -> None:
        """Write what the channel holds."""
        if self._first_gap is not None:
            self._note_gaps(self._first_gap, 1)
            self._write(self.channel.gap(StepGap(self._first_gap, None, None, None), self.place))
        if self._opening:
            self._write(self._opening)
            self._opening = b""
        self._pump_or_fail()
        self._cause = _LATER

    def take(self, to: int, body: bytes, chunk: bytes) -> None:
        """Write the frames up to number `to`, as bytes that are shared; the dispatcher counts them."""
        self.place = to
        self.sink.write_shared(body, chunk)

    def pump(self) -> None:
        """Write everything that is new, until the sink is full."""
        channel = self.channel
        backlog = channel.backlog
        while self.writable and self.place != backlog.last:
            if not backlog.reaches(self.place):
                self._skip_evicted()
                continue
            body, to = channel.batch(self.place)
            channel.counts.frames += to - self.place
            self.place = to
            self._write(body)
        if backlog.sealed and self.place == backlog.last:
            self.finish(Ending.END)

    def beat(self, body: bytes) -> None:
        """Write a heartbeat, also during a recovery; a client whose sink is full needs none."""
        if body and self.paused_since is None and self.ending is None:
            self.sink.write(body)

    def write_control(self, body: bytes) -> None:
        """Write a control frame that does not belong to the channel."""
        if body and self.ending is None:
            self.sink.write(body)

    # -- evicted frames --

    def _skip_evicted(self) -> None:
        """Announce evicted chunks, write evicted lasting frames, and move on to what the backlog holds."""
        channel, place = self.channel, self.place
        caught_up = channel.catch_up(place)
        if caught_up is not None:
            channel.counts.frames += channel.backlog.last - place
            self.place = channel.backlog.last
            self._write(caught_up)
            return
        losses = channel.backlog.losses(place)
        to = channel.backlog.first - 1  # what is evicted during a recovery is skipped by the next `pump`
        if channel.backlog.forgotten(place):
            self.recovering = True
            self._update_writable()
            recovery = self._recover(place, to, losses, self._cause)
            self._recovery = asyncio.get_running_loop().create_task(recovery)
            return
        self._write_skipped(place, channel.backlog.aside(place), losses, self._cause)
        self._move_on(to)

    def _write_skipped(
        self, place: int, lasting: list[tuple[int, Frame]], losses: list[Loss], cause: GapCause
    ) -> None:
        """Write frames that were evicted, with the gaps for chunks that were lost, before `_move_on`."""
        self._note_gaps(cause, len(losses))
        self._not_written -= len(lasting)
        self.channel.counts.frames += len(lasting)
        for body in self.channel.skipped(place, lasting, losses, cause):
            self._write(body)

    async def _recover(self, place: int, to: int, losses: list[Loss], cause: GapCause) -> None:
        try:
            await self._write_forgotten(place, to, losses, cause)
        except Exception as error:
            self.fail(error)

    async def _write_forgotten(self, place: int, to: int, losses: list[Loss], cause: GapCause) -> None:
        channel = self.channel
        frames, complete = None, False
        for _ in range(RECOVERY_ATTEMPTS):
            try:
                frames, complete = await channel.recover(place)
                break
            except HatchetError:
                await asyncio.sleep(RECOVERY_PAUSE)
        if frames is None:
            frames = channel.backlog.aside(place)
        if not complete:
            self._note_gaps(GapCause.BACKLOG, 1)
            self._write(channel.gap(StepGap(GapCause.BACKLOG, None, None, None), place))
        lasting = [(number, frame) for number, frame in frames if number <= to]
        self._write_skipped(place, lasting, losses, cause)
        self._move_on(max(place, to))
        self.recovering = False
        self._update_writable()
        self.pump()

    def _note_gaps(self, cause: GapCause, count: int) -> None:
        if count:
            self._own_notices = self._own_notices or []
            self._own_notices.append(Notice(time.time_ns(), cause.value, count))

    @property
    def notices(self) -> list[Notice]:
        """The gaps and resets that the client was sent."""
        shared = self.channel.notices.between(self._first_place, self.place)
        return shared + self._own_notices if self._own_notices else shared

    @property
    def gaps(self) -> dict[str, int]:
        """How many gaps the client was sent, by cause."""
        found: dict[str, int] = {}
        for notice in self.notices:
            if notice.cause is not None:
                found[notice.cause] = found.get(notice.cause, 0) + notice.count
        return found

    def when_first_frame(self, call: Callable[[], None]) -> None:
        """Call `call` when the first frame is written; it costs nothing from then on."""
        self.sink = _FirstFrame(self, self.sink, call)

    # -- flow control --

    def pause(self, now: float) -> None:
        """The sink is full; `now` is the loop's time."""
        self.paused_since = now
        self._update_writable()

    def resume(self) -> None:
        """The sink has room again."""
        self.paused_since = None
        self._update_writable()
        self._pump_or_fail()

    def _pump_or_fail(self) -> None:
        try:
            self.pump()
        except Exception as error:
            self.fail(error)

    def _update_writable(self) -> None:
        self.writable = self.paused_since is None and not self.recovering and self.ending is None

    # -- the end --

    def finish(self, ending: Ending) -> None:
        """End with `ending`; later calls change nothing."""
        if self.ending is not None:
            return
        self.ending = ending
        self.writable = False
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None
        owner, self._owner = self._owner, None  # breaks the reference cycle with its owner
        if owner is not None:
            owner.subscriber_ended(ending)

    def fail(self, error: Exception) -> None:
        """End because of an exception that should not be possible; the client reconnects."""
        self.channel.unforeseen(error)
        self.finish(Ending.FAILED)

    def _write(self, body: bytes) -> None:
        if not body:
            return
        self.channel.counts.bytes += len(body)
        self.sink.write(body)

    def _move_on(self, to: int) -> None:
        """Go to the place `to`; what lies before it was written, or is lost."""
        self._not_written += to - self.place
        self.place = to


class _FirstFrame:
    """A sink that is replaced by `sink` once a subscriber's first frame is written."""

    __slots__ = ("_call", "_sink", "_subscriber")

    def __init__(self, subscriber: Subscriber, sink: Sink, call: Callable[[], None]) -> None:
        self._subscriber = subscriber
        self._sink = sink
        self._call = call

    def write(self, body: bytes) -> None:
        self._look()
        self._sink.write(body)

    def write_shared(self, body: bytes, chunk: bytes) -> None:
        self._look()
        self._sink.write_shared(body, chunk)

    def _look(self) -> None:
        # frames are counted before they are written; what is no frame (a heartbeat) is not counted
        if self._subscriber.frames:
            self._subscriber.sink = self._sink
            self._call()
