"""The leader's side of a run's log: appends items, and serves them when they are stored.

Each item has its position before it is appended, and its id is its fence and its position. So an append whose
outcome is not known is repeated under the same ids, and nothing is stored twice. After each lost connection
the end of the log is looked at first: a failover may have lost records that were acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final, Protocol

from msgspec import structs

from proxy.core import json_codec
from proxy.core.events import Event, Flush, Item, LogItem
from proxy.core.next_turn import next_turn
from proxy.log.base import Life, LogAway, Outcome, Record, SharedLog
from proxy.log.contents import Contents, Continuation
from proxy.log.fences import Fence, Fences
from proxy.replicas.progress import Progress

SUMMARY_EVERY: Final = 256  # items between two summaries: fewer than the smallest log keeps
SUMMARY_BYTES: Final = 128 * 1024  # bytes of items between two summaries, for the same reason
TRIM_EVERY: Final = 64  # items between two appends that let the log remove its oldest records
NOTHING: Final = (0, 0)  # may be removed
RETRY: Final = 1.0  # seconds until an append that could not be stored is tried again
MOST_AT_ONCE: Final = 500  # records of one append


class RetainedItems(Protocol):
    """The items that the run session keeps."""

    @property
    def retained_from(self) -> int:
        """The position of the first item that is kept; 0: nothing is."""

    def retained_after(self, position: int) -> tuple[int, list[LogItem]]:
        """The kept items after `position` without a hole before the newest, and the first one's position."""


class Lead(Enum):
    """This replica's lead, as the end of the log shows it."""

    MINE = auto()
    TAKEN = auto()  # another replica leads
    APART = auto()  # this replica has served other items than the log holds
    UNKNOWN = auto()  # the log could not be reached


class Writer:
    """Appends the items of one run that this replica leads.

    While the log cannot be reached, items wait; `go_local` serves them without it.
    """

    def __init__(
        self,
        log: SharedLog,
        name: str,
        progress: Progress,
        retained: RetainedItems,
        *,
        contents: Contents,
        taken: Callable[[], None],
        apart: Callable[[], None],
        finished: Callable[[], None],
        unforeseen: Callable[[Exception], None],
    ) -> None:
        """`contents`: what the log holds; the writer's own copy.

        `taken` is called once if another replica leads, `apart` if the log holds other items than this
        replica has served, `finished` when the verified end is stored.
        """
        self.local = False
        self._log = log
        self._name = name
        self._progress = progress
        self._retained = retained
        self._news = Continuation(contents)
        self._taken = taken
        self._apart = apart
        self._finished = finished
        self._unforeseen = unforeseen
        self._loop = asyncio.get_running_loop()
        self._next_turn = next_turn()
        self._pending: list[LogItem] = []  # not served yet: positions from progress.position + 1 on
        self._sent = 0  # of them are on their way
        self._epoch = 0  # answers to appends of earlier epochs are ignored
        self._scheduled = False
        self._syncing: asyncio.Task[None] | None = None
        self._settled = True  # the end of the log is known: nothing is in doubt
        self._since_trim = 0  # items
        self._since_summary = self._bytes_since_summary = 0
        self._summaries = [(progress.fence, progress.position)]  # their ids, the oldest first
        self._closed = False

    # -- items in --

    def publish(self, items: Sequence[Item]) -> None:
        """Append items of the run's follower."""
        if self._closed:
            return
        self._pending += self._news.news(items)
        self._schedule()

    def flush(self, milliseconds: int) -> None:
        """Chunks that wait for a ``merge`` of so many milliseconds become frames now, on all replicas."""
        if not self._closed and self._news.contents.status is None:  # nothing comes after the end
            self._pending.append(Flush(milliseconds))
            self._schedule()

    def _schedule(self) -> None:
        if self._pending and not self._scheduled:
            self._scheduled = True
            self._next_turn.call(self._send_or_serve)

    @property
    def idle(self) -> bool:
        """Whether everything is stored and served."""
        return not self._pending

    def _send_or_serve(self) -> None:
        self._scheduled = False
        if self._closed or not self._pending:
            return
        if self.local:
            self._serve(len(self._pending))
        elif self._settled:
            self._send()

    def _send(self) -> None:
        while self._sent < len(self._pending):
            items = self._pending[self._sent : self._sent + MOST_AT_ONCE]
            whole = self._sent + len(items) == len(self._pending)
            records = self._records(items, self._progress.position + self._sent + 1, whole)
            self._sent += len(items)
            self._append(records)

    def _append(self, records: Sequence[Record], done: Callable[[Outcome], None] | None = None) -> None:
        epoch, count = self._epoch, len(records)
        self._since_trim += count
        keep_from = self._keep_from() if self._since_trim >= TRIM_EVERY else NOTHING

        def answered(outcome: Outcome) -> None:
            if epoch == self._epoch and not self._closed:
                self._answered(outcome, count)

        self._log.append(self._name, records, keep_from, done or answered)

    def _keep_from(self) -> tuple[int, int]:
        """The id of the last summary before the retained items: readers of the log begin with a summary."""
        self._since_trim = 0
        first, summaries = self._retained.retained_from, self._summaries
        while len(summaries) > 1 and summaries[1][1] < first:
            del summaries[0]
        return summaries[0] if summaries[0][1] < first else NOTHING

    def _records(self, items: Sequence[LogItem], first: int, whole: bool) -> list[Record]:
        """The records of `items`; `whole`: they are the last known ones, so a summary may be added."""
        progress = self._progress
        generation, fence, me = progress.fences.generation, progress.fence, self._log.replica
        records = []
        for position, item in enumerate(items, first):
            body = self._body(item)
            self._bytes_since_summary += len(body)
            records.append(Record(fence, position, generation, me, body))
        self._since_summary += len(items)
        due = self._since_summary >= SUMMARY_EVERY or self._bytes_since_summary >= SUMMARY_BYTES
        if whole and due:
            last = records[-1]
            records[-1] = structs.replace(last, summary=progress.summary(self._news.contents))
            self._summaries.append((fence, last.position))
            self._since_summary = self._bytes_since_summary = 0
        return records

    def _body(self, item: LogItem) -> bytes:
        try:
            return self._progress.codec.encode(item)
        except json_codec.NotJson as error:
            self._unforeseen(error)
            assert isinstance(item, Event)
            return self._progress.codec.encode(structs.replace(item, payload=None))

    # -- answers --

    def _answered(self, outcome: Outcome, count: int) -> None:
        if outcome is Outcome.STORED:
            self._sent -= count
            self._progress.last_id = (self._progress.fence, self._progress.position + count)
            self._serve(count)
        elif outcome is Outcome.FENCED:
            self._stop_sending()
            self._taken()
        elif outcome is Outcome.MISSING:
            self.look()
        else:
            self._stop_sending()
            if self._log.is_up:  # Redis answers, and stores nothing: its memory is full
                self.go_local()
                self.look(after=RETRY)

    def _serve(self, count: int) -> None:
        items, self._pending = self._pending[:count], self._pending[count:]
        self._progress.serve(items)
        if self._progress.over and not self.local:
            self._finished()

    def _stop_sending(self) -> None:
        self._epoch += 1
        self._sent = 0
        self._settled = False

    # -- outages of the log --

    def go_local(self) -> None:
        """Serve without the log, until `look` finds that it holds what was served."""
        self._stop_sending()
        self.local = True
        self._serve(len(self._pending))

    def look(self, *, after: float = 0.0) -> None:
        """Look at the end of the log soon, and append what is missing there."""
        if self._closed:
            return
        self._stop_sending()
        if self._syncing is None or self._syncing.done():
            self._syncing = self._loop.create_task(self._look(after))

    async def _look(self, after: float) -> None:
        try:
            await asyncio.sleep(after)
            while True:
                epoch = self._epoch
                lead = await self._compare()
                if self._closed:
                    return
                if lead is Lead.TAKEN:
                    self._taken()
                elif lead is Lead.APART:
                    self._apart()
                elif lead is Lead.UNKNOWN:
                    if self._log.is_up:
                        await asyncio.sleep(RETRY)
                        continue
                elif epoch != self._epoch:
                    continue  # the connection was lost again meanwhile
                else:
                    self._settled = True
                    self.local = False
                    self._send()
                    if self._progress.over:
                        self._finished()
                return
        except Exception as error:
            self._unforeseen(error)

    async def _compare(self) -> Lead:
        """Compare the end of the log with what was served, and append what is missing of it."""
        progress, me = self._progress, self._log.replica
        try:
            tail = await self._log.tail(self._name)
            if tail is None:
                return await self._create_again()
            if tail.generation != progress.fences.generation:
                return Lead.APART if progress.position else Lead.TAKEN
            if tail.fence > progress.fence or (tail.fence == progress.fence and tail.replica != me):
                return Lead.TAKEN
            if tail.fence < progress.fence:
                return await self._fence_again(tail)
            self._log.nudge(self._name, tail)  # it was stored, and perhaps not published any more
            return await self._fill(tail.position)
        except LogAway:
            return Lead.UNKNOWN

    async def _fill(self, stored: int) -> Lead:
        """The log has this replica's records up to the position `stored`."""
        progress = self._progress
        if stored > progress.position:  # stored, and the acknowledgement was lost
            self._serve(stored - progress.position)
            return Lead.MINE
        first, items = self._retained.retained_after(stored)
        if not items:
            return Lead.MINE
        if first != stored + 1:  # the log has lost items that are not retained
            return await self._create_again()
        for start in range(0, len(items), MOST_AT_ONCE):
            part = items[start : start + MOST_AT_ONCE]
            whole = start + len(part) == len(items) and not self._pending
            outcome = await self._append_and_wait(self._records(part, first + start, whole))
            if outcome is not Outcome.STORED:
                return Lead.TAKEN if outcome is Outcome.FENCED else Lead.UNKNOWN
        return Lead.MINE

    async def _append_and_wait(self, records: Sequence[Record]) -> Outcome:
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._append(records, lambda outcome: None if future.done() else future.set_result(outcome))
        return await future

    async def _fence_again(self, tail: Record) -> Lead:
        """The log has lost this replica's fence, or has never had it: it was taken while Redis was away."""
        progress = self._progress
        if tail.position >= progress.fences.last.start or tail.position > progress.position:
            return Lead.APART  # another replica has written other items at these positions
        if tail.replica and await self._log.life(tail.replica) is Life.ALIVE:  # it goes on
            return Lead.TAKEN if tail.position == progress.position else Lead.APART
        record = self._fence_at(tail.position, progress.fences)
        if not await self._log.fence(self._name, record, create=False):
            return Lead.UNKNOWN
        return await self._fill(tail.position)

    async def _create_again(self) -> Lead:
        """The log is gone: write the retained items again, under a new fence and the same positions."""
        progress = self._progress
        first, items = self._retained.retained_after(0)
        fences = Fences(progress.fences.generation, progress.fences)
        fence = progress.fence + 1
        fences.add(Fence(fence, progress.position + 1, self._log.replica))
        contents = progress.contents.before(items)
        record = Record(
            fence, first - 1, fences.generation, self._log.replica, b"", progress.summary(contents, fences)
        )
        if not await self._log.fence(self._name, record, create=True):
            return Lead.UNKNOWN  # another replica was faster: the next look shows it
        progress.fences.replace(fences)
        progress.fence = fence
        self._summaries = [(fence, first - 1)]
        return await self._fill(first - 1)

    def _fence_at(self, position: int, fences: Fences) -> Record:
        progress = self._progress
        return Record(
            progress.fence,
            position,
            fences.generation,
            self._log.replica,
            b"",
            progress.summary(progress.contents.before(self._retained.retained_after(position)[1]), fences),
        )

    # -- the end --

    def close(self) -> None:
        """Append nothing more; items that are not stored yet are dropped."""
        self._closed = True
        self._epoch += 1
        self._pending = []
        if self._syncing is not None and self._syncing is not asyncio.current_task():
            self._syncing.cancel()
