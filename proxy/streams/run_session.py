"""RunSession: one run in this process: its follower, its items so far, and a dispatcher for each stream.

A run session begins with the run's first client and ends some time after the last one has left. All streams
of a team on a run share it, so a run is followed once, however many clients and streams there are. A stream
that is opened later starts from the retained items; lifecycle events that have been evicted from them are
made again from the run's state.

The session of a run that is over is kept for late clients. If the run is replayed, it gets a new session with
a new `number`. Cursors of the old session are then unknown, so they never name frames of the replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from msgspec import structs

from proxy.core.events import End, Event, Flush, Item, LogItem, without_flushes
from proxy.core.observations import CoreState
from proxy.hatchet.errors import HatchetAway
from proxy.hatchet.upstream import Upstream
from proxy.log.contents import Contents
from proxy.log.cursor import Cursor
from proxy.log.fences import Fences
from proxy.log.shared_frames import position_of
from proxy.observability.counters import TeamCounters
from proxy.runs.followed_run import FollowedRun
from proxy.streams.backlog import Backlog
from proxy.streams.channel import Channel, DecodedEvents, value_of
from proxy.streams.dispatcher import Dispatcher
from proxy.streams.opening import RunCursors, open_dispatcher
from proxy.streams.retained import EarlierItems, RetainedItem, retain
from proxy.streams.run_queries import CLOSED, RunQueries
from proxy.streams.stream import LiveStream

T = TypeVar("T", bound=LogItem)


class RunListener(Protocol):
    """Receives the items of a run session, as a stream does."""

    def receive(self, items: Iterable[Item]) -> None:
        """Items, in order."""

    def dropped(self) -> None:
        """The session was closed, and nothing more comes."""


class RunSession:
    """One run in this process.

    `state` is the run's state when it was first read, `status` the one that it ended with; None until then.
    """

    def __init__(
        self,
        run_id: str,
        *,
        team: str,
        number: int,
        secret: bytes,
        upstream: Upstream,
        counts: TeamCounters,
        retained: Backlog[RetainedItem],
        grew: Callable[[int], None],
        ended: Callable[[RunSession], None],
        unforeseen: Callable[[Exception], None] | None = None,
    ) -> None:
        """`number` distinguishes the sessions of a run, `secret` is the key of their cursors.

        `grew` is called with every change of the bytes that are held, `ended` once the run is over,
        `unforeseen` with exceptions that should not be possible.
        """
        self.run_id = run_id
        self.number = number
        self.status: str | None = None
        self.state: CoreState | None = None
        self.closed = False
        self.ask_flush: Callable[[int], None] | None = None
        """Asks for a `Flush` of so many milliseconds; None: chunks are merged by this process's clock."""
        self._cursors = RunCursors(run_id, number, team=team, secret=secret)
        self._queries = RunQueries(run_id, upstream)
        self._counts = counts
        self._retained = retained
        self._earlier = EarlierItems(retained)
        self._grew = grew
        self._ended = ended
        self._unforeseen = unforeseen
        self._dispatchers: dict[str, Dispatcher] = {}
        self._listeners: list[RunListener] = []
        self._opening: dict[str, asyncio.Lock] = {}
        self._contents: Contents | None = None  # what the log that replicas share holds; None: there is none
        self.run: FollowedRun

    # -- where replicas share the run's log --

    def share(self, fences: Fences, contents: Contents) -> None:
        """Cursors are positions in a shared log with these fences; `contents`: what it holds."""
        self._cursors.share(fences)
        self._contents = contents

    def begin_after(self, position: int, cut: Contents | None) -> None:
        """The first item is the one after `position`; `cut`: what was sent before it, None: nothing."""
        self._retained.restart(position)
        self._earlier.restarted(cut)

    @property
    def retained_from(self) -> int:
        """The position of the first item that is kept without a hole before the newest; 0: nothing is."""
        return 0 if self.closed else self._retained.first

    def retained_after(self, position: int) -> tuple[int, list[LogItem]]:
        """The kept items after `position` without a hole before the newest, and the first one's position."""
        retained = self._retained
        first = max(position + 1, retained.last + 1 if self.closed else retained.first)
        return first, [entry.item for entry in retained.read(first - 1)]

    def reaches(self, cursor: Cursor) -> bool:
        """Whether this replica has all items up to `cursor`; False where only another one may have them."""
        return self._contents is None or position_of(cursor) <= self._retained.last

    def begin(self, run: FollowedRun) -> None:
        """Follow the run."""
        self.run = run
        run.start()

    # -- items in --

    def publish(self, items: Sequence[LogItem]) -> None:
        """Retain what happened, in order, and publish it on every stream that is open."""
        if self.closed:
            return
        if self._contents is not None and self.run.workflow is not None:
            items = tuple(self._with_workflow(items))  # the leader may have appended them without the name
        retained = self._retained
        position = None if self._contents is None else retained.last + 1
        for item in items:
            retained.append(retain(item))
            if isinstance(item, End):
                self.status = item.status
                retained.seal()
        self._counts.events += len(items) if self._contents is None else len(without_flushes(items))
        decoded = DecodedEvents() if len(self._dispatchers) > 1 else None
        for dispatcher in self._dispatchers.values():
            dispatcher.publish(items, decoded, position=position)
        for listener in tuple(self._listeners):
            listener.receive(without_flushes(items))
        if self.status is not None:
            self._queries.ended()
            self._counts.run_ends[self.status] += 1
            self._ended(self)

    def retained(self, after: int = 0) -> list[tuple[int, Item]]:
        """The retained items after number `after`, with their numbers; what was evicted is missing."""
        return self._earlier.numbered(after)

    @property
    def published(self) -> int:
        """How many items the run has had."""
        return self._retained.last

    @property
    def evicted(self) -> int:
        """How many items of the run are not retained any more."""
        return self._retained.last - len(self._retained)

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.status is not None

    @property
    def caught_up(self) -> bool:
        """Whether its first items are published; the end too, if its state says that it is over."""
        done = self.run.state is not None and self.run.state.done
        return self.over or (self._retained.last > 0 and not done)

    @property
    def traceparent(self) -> str | None:
        """The run's own trace context, where its metadata has one."""
        found = None if self.state is None else self.state.metadata.get("traceparent")
        return found if isinstance(found, str) else None

    # -- requests --

    async def first_state(self, patience: float) -> CoreState:
        """The run's first state; waits up to `patience` seconds for a run that does not exist yet.

        Raises RunUnknown after that, and any other HatchetError at once.
        """
        if self.state is None:
            self.state = await self._queries.first_state(self.run, patience)
        return self.state

    @property
    def workflow(self) -> str | None:
        """The name of the run's workflow, where it is known."""
        return self.run.workflow

    async def named(self, patience: float) -> str:
        """The name of the run's workflow; waits up to `patience` seconds until the history knows the run.

        Raises HistoryAway.
        """
        name = self.run.workflow
        return await self._queries.workflow(self.run, patience) if name is None else name

    def opened(self, stream: LiveStream) -> Dispatcher | None:
        """The dispatcher of `stream`, where the stream is open."""
        return self._dispatchers.get(stream.key)

    async def open(self, stream: LiveStream) -> Dispatcher:
        """The dispatcher of `stream`, made from the retained items when it is first asked for.

        Raises HatchetError: evicted items cannot be made again now, or the run was dropped meanwhile.
        """
        dispatcher = self._dispatchers.get(stream.key)
        if dispatcher is not None:
            return dispatcher
        async with self._opening.setdefault(stream.key, asyncio.Lock()):
            dispatcher = self._dispatchers.get(stream.key)
            if dispatcher is None:
                rebuilt = await self._rebuild_forgotten()
                if self.closed:
                    raise HatchetAway(CLOSED)  # nothing would ever be published on it, not even the end
                # nothing is awaited from here on, so no item can come between the backlog and the channel
                dispatcher = self._open(stream, rebuilt)
                self._dispatchers[stream.key] = dispatcher
        return dispatcher

    async def listen(self, listener: RunListener) -> None:
        """Give `listener` all items so far, and later ones. Raises HatchetError like `open`."""
        rebuilt = await self._rebuild_forgotten()
        if self.closed:
            raise HatchetAway(CLOSED)
        self._listeners.append(listener)  # nothing is awaited until it has all items so far
        listener.receive(self._with_workflow(self._earlier.so_far(rebuilt)))

    def unlisten(self, listener: RunListener) -> None:
        """Give `listener` nothing more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def holds(self, stream: LiveStream, cursor: Cursor) -> bool:
        """Whether `cursor` was issued by this session for `stream`."""
        dispatcher = self._dispatchers.get(stream.key)
        return dispatcher is not None and dispatcher.channel.ids.holds(cursor)

    async def _rebuild_forgotten(self) -> list[Event]:
        return await self.rebuild() if self._earlier.incomplete else []

    def _open(self, stream: LiveStream, rebuilt: list[Event]) -> Dispatcher:
        config, state = stream.config, self.state
        metadata = state.metadata if state is not None else {}
        value = value_of(metadata, config.metadata_key)
        dispatcher = open_dispatcher(
            stream,
            self._cursors.of_channel(stream, value, first=self._retained.first),
            self.run_id,
            value,
            counts=self._counts,
            grew=self._grew,
            rebuild=self.rebuild,
            unforeseen=self._unforeseen,
            ask_flush=self.ask_flush,
        )
        if self._contents is not None:
            if self._retained.first > 1:
                dispatcher.channel.begin_late()
            for position, item in self._earlier.at_positions(rebuilt):
                dispatcher.publish(self._with_workflow([item]), position=position)
            return dispatcher
        dispatcher.publish(self._with_workflow(self._earlier.so_far(rebuilt)))
        return dispatcher

    def _with_workflow(self, items: Iterable[T]) -> Iterator[T]:
        """The items with the workflow's name, also those that were retained before it was known."""
        name = self.run.workflow
        for item in items:
            if name is None or isinstance(item, End | Flush) or item.workflow is not None:
                yield item
            elif isinstance(item, Event):
                yield structs.replace(item, workflow=name)
            else:
                yield replace(item, workflow=name)

    async def rebuild(self) -> list[Event]:
        """Every lifecycle event that the run's current state implies. Raises HatchetError."""
        return await self._queries.lifecycle_events()

    # -- replays --

    @property
    def may_be_replayed(self) -> bool:
        """Whether `replayed` would ask Hatchet; it reuses a recent answer."""
        return self._queries.may_be_replayed

    async def replayed(self) -> bool:
        """Whether the run, which was over, was replayed since, or its shared log was lost and begun again.

        Then this session does not describe it, or its cursors are not those of other replicas.
        """
        if self.may_be_replayed and await self.run.is_replaced():
            return True
        return await self._queries.replayed(self._was_published)

    def _was_published(self, events: Iterable[Event]) -> bool:
        if self._contents is not None:
            return all(self._contents.holds(event) for event in events)
        identities = self._earlier.identities()
        return all(event.identity in identities for event in events)

    # -- memory and the end --

    @property
    def bytes(self) -> int:
        """Bytes that the backlogs hold: retained items and frames."""
        channels = (dispatcher.channel for dispatcher in self._dispatchers.values())
        return self._retained.bytes + sum(channel.held for channel in channels)

    @property
    def channels(self) -> Sequence[Channel]:
        """The channels that are open."""
        return tuple(dispatcher.channel for dispatcher in self._dispatchers.values())

    def shrink(self, to_bytes: int) -> None:
        """Evict the oldest entries until about `to_bytes` are left."""
        share = to_bytes // (1 + len(self._dispatchers))
        self._retained.shrink(share)
        for dispatcher in self._dispatchers.values():
            dispatcher.channel.shrink(share)

    def close_streams_except(self, names: Collection[str]) -> None:
        """End the sessions of every stream that is not among `names`, with `Ending.DROPPED`."""
        for key in list(self._dispatchers):
            name, _, _ = key.rpartition(":")  # see `LiveStream.key`
            if name not in names:
                self._dispatchers.pop(key).close()

    def drop(self) -> None:
        """Close it: sessions that are still open end with `Ending.DROPPED`, and all items are removed."""
        self.closed = True
        self._queries.close()
        for dispatcher in self._dispatchers.values():
            dispatcher.close()
        self._dispatchers.clear()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.dropped()
        self._retained.drop()
