"""Dispatcher: writes the new frames of one channel to its subscribers, some of them in each turn of the loop.

No task wakes per client and event. What was published in one turn of the loop is written in the next one,
in a *round*:

    turn 1   publish(a), publish(b)      frames 1 and 2 are appended, a round is scheduled
    turn 2   round, part 1               the first `SUBSCRIBERS_PER_TURN` subscribers get frames 1 and 2
    turn 3   publish(c); part 2          the others get frames 1, 2 and 3
    turn 4   next round                  the first part gets frame 3

So a run with many thousand clients never holds up the loop for longer than one part, and what is published
meanwhile is merged into one write. Subscribers at the same place that can be written to (nearly all of them)
get the same bytes, as one ready HTTP chunk. All others are pumped one by one (`Subscriber.pump`), which also
announces what they have missed.

If the next frame could evict frames that the round has not written yet, the round is finished first, within
one turn. A subscriber that keeps up therefore loses nothing, however large a frame is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from proxy.core.events import End, LogItem
from proxy.core.next_turn import next_turn
from proxy.formats.chunked import chunk
from proxy.rules.merging import Ready
from proxy.streams.backlog import OVERHEAD, Frame
from proxy.streams.channel import Channel, DecodedEvents
from proxy.streams.subscriber import Ending, Subscriber

SUBSCRIBERS_PER_TURN: Final = 250
"""Subscribers that are written to in one turn of the loop: some milliseconds, then other work has a turn."""
MANY: Final = 1_000
"""Subscribers of one channel beyond which a part is smaller, and two turns pass between two of its parts: an
event takes many turns then, and another run's event would wait for a part in each of its own three."""
PER_TURN_OF_MANY: Final = 80
"""The size of such a part: a millisecond. Smaller parts would cost more turns than they save."""
TIMER_TOLERANCE: Final = 0.01
"""Seconds that a heartbeat may come early: loops round their timers, and one more timer costs a wake-up."""


MERGE_TOLERANCE: Final = 0.002
"""Seconds that merged chunks may be sent early: loops round their timers to a millisecond."""
ASK_AFTER: Final = 0.5
"""Seconds after which a missing flush is asked for: the leader may not know this stream."""


class _Round:
    """Frames that are being written to the subscribers, and the subscribers that do not have them yet."""

    __slots__ = ("bytes", "frames", "place", "published_at", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Subscriber] = []
        self.place = 0  # of the subscribers that keep up
        self.published_at = 0.0  # time.monotonic() of its oldest frame
        self.frames = 0
        self.bytes = 0


class Dispatcher:
    """Writes the frames of one channel to its subscribers."""

    def __init__(
        self, channel: Channel, *, heartbeat: float, ask_flush: Callable[[int], None] | None = None
    ) -> None:
        """`heartbeat`: seconds of silence after which every subscriber is written a comment.

        `ask_flush`: chunks that rules merge are sent when a `Flush` comes, and it asks for one of so many
        milliseconds; None: they are sent when their time is over.
        """
        self.channel = channel
        self.subscribers: set[Subscriber] = set()
        self._heartbeat = heartbeat
        self._ask_flush = ask_flush
        self._loop = asyncio.get_running_loop()
        self._next_turn = next_turn()
        self._scheduled = False
        self._round = _Round()
        self._dispatched = 0  # number of the last frame that belongs to a round
        self._pending_bytes = 0  # bytes of the frames after it
        self._pending_since = 0.0  # time.monotonic() of the first frame after it
        self._timer: asyncio.TimerHandle | None = None
        self._merge_timer: asyncio.TimerHandle | None = None
        self._written_at = self._loop.time()

    def publish(
        self, items: Iterable[LogItem], decoded: DecodedEvents | None = None, *, position: int | None = None
    ) -> None:
        """Append the frames of `items`, in order, and schedule a round for them.

        `decoded` is shared with the other channels of the run, so that each event is decoded once.
        `position`: that of the first item in the log that replicas share; None where there is none.
        """
        before = self.channel.backlog.last
        if self.channel.merges:
            now = self._loop.time()
            for item in items:
                if position is not None:
                    position = self._begin(position)
                self._append_ready(self.channel.ready(item, decoded, now))
            self._await_merge()
        else:
            for item in items:
                if position is not None:
                    position = self._begin(position)
                self._append_item(item, decoded)
        if not self._scheduled:
            self._schedule(before)

    def _begin(self, position: int) -> int:
        """The next frames are made of the item at `position` of a shared log; the position after it."""
        self.channel.ids.begin(position, self.channel.backlog.last)
        return position + 1

    def _append_item(self, item: LogItem, decoded: DecodedEvents | None) -> None:
        channel = self.channel
        for frame in channel.frames(item, decoded):
            self._append(frame)
        if isinstance(item, End):
            channel.backlog.seal()

    def _append_ready(self, items: Iterable[Ready]) -> None:
        for ready in items:
            known = None if ready.decoded is None else DecodedEvents.only(ready.decoded)
            self._append_item(ready.item, known)

    def _schedule(self, before: int) -> None:
        """Schedule a round where frames were appended after the frame numbered `before`."""
        if self.channel.backlog.last != before and self.subscribers:
            self._scheduled = True
            self._next_turn.call(self._run_part)

    # -- chunks that wait to become one frame (`merge`) --

    def _await_merge(self) -> None:
        due, timer = self.channel.due, self._merge_timer
        if due is not None and self._ask_flush is not None:
            due += ASK_AFTER
        if due is not None and (timer is None or due < timer.when()):
            if timer is not None:
                timer.cancel()
            self._merge_timer = self._loop.call_at(due, self._flush)

    def _flush(self) -> None:
        self._merge_timer = None
        if self._ask_flush is not None:
            self._ask(self._ask_flush)
            return
        before = self.channel.backlog.last
        self._append_ready(self.channel.flushed(self._loop.time() + MERGE_TOLERANCE))
        self._await_merge()
        if not self._scheduled:
            self._schedule(before)

    def _ask(self, ask_flush: Callable[[int], None]) -> None:
        """Ask for the flushes that have not come in time, and look again later."""
        now = self._loop.time()
        for milliseconds in self.channel.overdue(now - ASK_AFTER + MERGE_TOLERANCE):
            ask_flush(milliseconds)
        due = self.channel.due
        if due is not None:
            self._merge_timer = self._loop.call_at(max(due, now) + ASK_AFTER, self._flush)

    def _append(self, frame: Frame) -> None:
        """Append a frame; first finish the round if the backlog could evict frames that are not written yet.

        Lasting frames may take half of the backlog's bounds, so chunks have half of them for certain.
        """
        backlog, under_way = self.channel.backlog, self._round
        size = len(frame.body) + OVERHEAD  # `Frame.size` without its call
        pending = backlog.last - self._dispatched
        unwritten = pending + under_way.frames
        if unwritten and (
            self._pending_bytes + under_way.bytes + size > backlog.max_bytes // 2
            or unwritten >= backlog.max_events // 2
        ):
            while self._write_part():
                pass
            pending = 0
        if not pending:
            self._pending_since = monotonic()
        backlog.append(frame, size)
        self._pending_bytes += size

    # -- rounds --

    def _run_part(self) -> None:
        self._scheduled = self._write_part()
        if not self._scheduled:
            return
        call_soon = self._loop.call_soon
        if len(self.subscribers) <= MANY:
            call_soon(self._run_part)
        else:  # two turns without a part: in one an event of another run is read, in one it is written
            call_soon(call_soon, call_soon, self._run_part)

    def _write_part(self) -> bool:
        """Write to the next part of the subscribers; whether there is more to write after that."""
        last, under_way = self.channel.backlog.last, self._round
        if not under_way.waiting:
            place, since = self._dispatched, self._pending_since
            if last == place:
                return False
            subscribers, pending_bytes = list(self.subscribers), self._pending_bytes
            self._dispatched, self._pending_bytes = last, 0
            if len(subscribers) <= SUBSCRIBERS_PER_TURN:  # nearly always: one part is the whole round
                self._write(subscribers, place, since)
                return self._dispatched != self.channel.backlog.last
            under_way.waiting, under_way.place, under_way.published_at = subscribers, place, since
            under_way.frames, under_way.bytes = last - place, pending_bytes
        size = self._part_size
        part = under_way.waiting[-size:]
        del under_way.waiting[-size:]
        self._write(part, under_way.place, under_way.published_at)
        if under_way.waiting:
            return True
        under_way.frames = under_way.bytes = 0
        return last != self._dispatched

    @property
    def _part_size(self) -> int:
        """How many subscribers are written to in one turn of the loop."""
        return SUBSCRIBERS_PER_TURN if len(self.subscribers) <= MANY else PER_TURN_OF_MANY

    def _write(self, subscribers: list[Subscriber], place: int, since: float) -> None:
        """Write what is new to `subscribers`; those at `place` share one HTTP chunk.

        `since`: when the oldest of it was published, on the clock `time.monotonic`.
        """
        channel = self.channel
        backlog, counts = channel.backlog, channel.counts
        written, body, shared = 0, b"", b""
        if backlog.reaches(place) and place != backlog.last and not backlog.sealed:
            body, to = channel.batch(place)
            shared = chunk(body) if body and to == backlog.last else b""
        last = backlog.last
        for subscriber in subscribers:
            if not subscriber.writable:
                continue
            try:
                if shared and subscriber.place == place:
                    subscriber.take(last, body, shared)
                    written += 1
                else:
                    subscriber.pump()
            except Exception as error:  # the other subscribers must get their frames, in this round and later
                subscriber.fail(error)
        counts.frames += written * (last - place)
        counts.bytes += written * len(body)
        self._written_at = self._loop.time()
        # not the loop's time: uvloop's stands still within a turn, and all of this happens within one
        counts.latency.observe(monotonic() - since, len(subscribers))

    # -- subscribers --

    def add(self, subscriber: Subscriber) -> None:
        """Write to `subscriber` from now on."""
        self.subscribers.add(subscriber)
        if self._timer is None:
            self._written_at = self._loop.time()
            self._timer = self._loop.call_later(self._heartbeat, self._check_heartbeat)

    def remove(self, subscriber: Subscriber) -> None:
        """Write to `subscriber` no more."""
        self.subscribers.discard(subscriber)

    def close(self) -> None:
        """End every subscriber with `Ending.DROPPED` and release the frames."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._merge_timer is not None:
            self._merge_timer.cancel()
            self._merge_timer = None
        for subscriber in tuple(self.subscribers):
            subscriber.finish(Ending.DROPPED)
        self.channel.drop()

    # -- heartbeats --

    def _check_heartbeat(self) -> None:
        if not self.subscribers:
            self._timer = None
            return
        now = self._loop.time()
        due = self._written_at + self._heartbeat
        if now + TIMER_TOLERANCE >= due:
            self._written_at = now
            self._beat(list(self.subscribers))
        else:
            self._timer = self._loop.call_at(due, self._check_heartbeat)

    def _beat(self, waiting: list[Subscriber]) -> None:
        """Write heartbeats to some subscribers now, and to the others in the next turns of the loop."""
        size = self._part_size
        for subscriber in waiting[-size:]:
            try:
                subscriber.beat(self.channel.wire.heartbeat)
            except Exception as error:
                subscriber.fail(error)
        del waiting[-size:]
        if waiting:
            self._timer = self._loop.call_later(0, self._beat, waiting)
        else:
            self._timer = self._loop.call_at(self._written_at + self._heartbeat, self._check_heartbeat)
