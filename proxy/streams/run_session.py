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
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, Protocol

from proxy.core.events import End, Event, GapCause, Item, Reset, StepGap
from proxy.core.observations import CoreState, PastState
from proxy.formats.wire import SSE
from proxy.hatchet.errors import HatchetAway, HatchetError, HistoryAway, RunUnknown
from proxy.hatchet.upstream import Upstream
from proxy.log.cursor import Cursor, CursorSource, Ids
from proxy.log.fences import Fences
from proxy.log.positions import LogIds, position_of
from proxy.log.told import Told
from proxy.observability.counters import TeamCounters
from proxy.runs.followed import FollowedRun
from proxy.runs.rebuild import rebuild
from proxy.streams.backlog import Backlog
from proxy.streams.channel import Channel, DecodedEvents, value_of
from proxy.streams.dispatcher import Dispatcher
from proxy.streams.opening import open_dispatcher
from proxy.streams.retained import RetainedItem, retain
from proxy.streams.stream import LiveStream

LOOKUP_PAUSE: Final = 0.2
"""Seconds between lookups of a run that does not exist yet: the engine shows a new run after about 0.1 s."""
NAMING_PAUSE: Final = 0.05
"""Seconds between reads of the history for a workflow's name: it learns of a new run after 0.05 to 0.1 s."""
REPLAY_CHECK: Final = 1.0
"""Seconds for which the answer "not replayed" is reused: it bounds the calls for a run that is over."""
CLOSED: Final = "the run was closed"


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
        self._team = team
        self._secret = secret
        self._upstream = upstream
        self._counts = counts
        self._retained = retained
        self._grew = grew
        self._ended = ended
        self._unforeseen = unforeseen
        self._dispatchers: dict[str, Dispatcher] = {}
        self._listeners: list[RunListener] = []
        self._opening: dict[str, asyncio.Lock] = {}
        self._channels_made = 0
        self._lookup: asyncio.Task[CoreState] | None = None
        self._naming: asyncio.Task[str] | None = None
        self._replay_checked_at = 0.0
        self._fences: Fences | None = None  # of the log that replicas share; None: there is none
        self._told: Told | None = None  # what that log has told
        self._cut: Told | None = None  # what was told before the first item that this replica ever had
        self.run: FollowedRun

    # -- where replicas share the run's log --

    def share(self, fences: Fences, told: Told) -> None:
        """Cursors are positions in a shared log with these fences, which has told this."""
        self._fences = fences
        self._told = told

    def begin_after(self, position: int, cut: Told | None) -> None:
        """The first item is the one after `position`; `cut`: what was told before it, None: nothing."""
        self._retained.restart(position)
        self._cut = cut

    @property
    def kept_from(self) -> int:
        """The position of the first item that is kept without a hole before the newest; 0: nothing is."""
        return 0 if self.closed else self._retained.first

    def kept_after(self, position: int) -> tuple[int, list[Item]]:
        """The kept items after `position` without a hole before the newest, and the first one's position."""
        retained = self._retained
        first = max(position + 1, retained.last + 1 if self.closed else retained.first)
        return first, [entry.item for entry in retained.read(first - 1)]

    def reaches(self, cursor: Cursor) -> bool:
        """Whether what `cursor` names cannot be what another replica has served and this one has not."""
        return self._fences is None or position_of(cursor) <= self._retained.last

    def begin(self, run: FollowedRun) -> None:
        """Follow the run."""
        self.run = run
        run.start()

    # -- items in --

    def publish(self, items: Sequence[Item]) -> None:
        """Retain what happened, in order, and publish it on every stream that is open."""
        if self.closed:
            return
        if self._fences is not None:  # another replica may not have known the workflow's name
            items = tuple(self._with_workflow(items))
        retained = self._retained
        position = None if self._fences is None else retained.last + 1
        for item in items:
            retained.append(retain(item))
            if isinstance(item, End):
                self.status = item.status
                retained.seal()
        self._counts.events += len(items)
        decoded = DecodedEvents() if len(self._dispatchers) > 1 else None
        for dispatcher in self._dispatchers.values():
            dispatcher.publish(items, decoded, position=position)
        for listener in tuple(self._listeners):
            listener.receive(items)
        if self.status is not None:
            self._replay_checked_at = asyncio.get_running_loop().time()
            self._counts.run_ends[self.status] += 1
            self._ended(self)

    def retained(self, after: int = 0) -> list[tuple[int, Item]]:
        """The retained items after number `after`, with their numbers; what was evicted is missing."""
        retained = self._retained
        place = max(after, retained.first - 1)
        aside = [(number, entry.item) for number, entry in retained.aside(after)]
        recent = enumerate(retained.read(place), place + 1)
        return [*aside, *((number, entry.item) for number, entry in recent)]

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

    async def known(self, patience: float) -> CoreState:
        """The run's first state; waits up to `patience` seconds for a run that does not exist yet.

        Raises RunUnknown after that, and any other HatchetError at once.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            try:
                return await self._look_up()
            except RunUnknown:
                left = deadline - loop.time()
                if left <= 0 or self.closed:
                    raise
                await asyncio.sleep(min(LOOKUP_PAUSE, left))

    async def _look_up(self) -> CoreState:
        if self.state is None:
            if self._lookup is None or self._lookup.done():
                self._lookup = asyncio.create_task(self.run.known())
            lookup = self._lookup
            try:
                self.state = await asyncio.shield(lookup)
            except asyncio.CancelledError:
                caller = asyncio.current_task()
                if not lookup.cancelled() or caller is None or caller.cancelling():
                    raise
                raise HatchetAway(CLOSED) from None  # the run was dropped; the caller was not cancelled
            finally:
                del lookup  # the traceback of its error holds this frame: a reference cycle
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
        if name is not None:
            return name
        if self._naming is None or self._naming.done():
            self._naming = asyncio.create_task(self._name(patience))
        naming = self._naming
        try:
            return await asyncio.shield(naming)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if not naming.cancelled() or caller is None or caller.cancelling():
                raise
            raise HatchetAway(CLOSED) from None
        finally:
            del naming  # the traceback of its error holds this frame: a reference cycle

    async def _name(self, patience: float) -> str:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            if self.run.workflow is None:
                past = await self._upstream.past(self.run_id)
                if past is not None and past.workflow is not None:
                    self.run.name_workflow(past.workflow)
            if self.run.workflow is not None:
                return self.run.workflow
            if loop.time() >= deadline or self.closed:
                raise HistoryAway("the history does not know the run's workflow yet")
            await asyncio.sleep(NAMING_PAUSE)

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
        listener.receive(self._with_workflow(self._so_far(rebuilt)))

    def unlisten(self, listener: RunListener) -> None:
        """Give `listener` nothing more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def holds(self, stream: LiveStream, cursor: Cursor) -> bool:
        """Whether `cursor` was issued by this session for `stream`."""
        dispatcher = self._dispatchers.get(stream.key)
        return dispatcher is not None and dispatcher.channel.ids.holds(cursor)

    async def _rebuild_forgotten(self) -> list[Event]:
        return await self.rebuild() if self._retained.forgotten(0) or self._cut is not None else []

    def _open(self, stream: LiveStream, rebuilt: list[Event]) -> Dispatcher:
        config, state = stream.config, self.state
        metadata = state.metadata if state is not None else {}
        value = value_of(metadata, config.metadata_key)
        dispatcher = open_dispatcher(
            stream,
            self._ids(stream, value),
            self.run_id,
            value,
            counts=self._counts,
            grew=self._grew,
            rebuild=self.rebuild,
            unforeseen=self._unforeseen,
        )
        if self._fences is not None:
            for position, item in self._kept_at(rebuilt):
                dispatcher.publish(self._with_workflow([item]), position=position)
            return dispatcher
        dispatcher.publish(self._with_workflow(self._so_far(rebuilt)))
        return dispatcher

    def _so_far(self, rebuilt: list[Event]) -> Iterator[Item]:
        """All items until now: retained ones, forgotten ones from `rebuilt`, and gaps for what is lost."""
        retained = self._retained
        forgotten = retained.forgotten(0)
        events = [event for event in rebuilt if event.identity in forgotten]
        notices = [item for item in forgotten if isinstance(item, StepGap | Reset)]
        yield from events
        yield from notices
        if len(events) + len(notices) < len(forgotten):  # the state may be incomplete while the run goes on
            yield StepGap(GapCause.BACKLOG, None, None, None)
        for loss in retained.losses(0):
            yield StepGap(GapCause.BACKLOG, loss.step, loss.attempt, loss.missed)
        yield from [entry.item for _, entry in retained.aside(0)]
        yield from [entry.item for entry in retained.read(retained.first - 1)]

    def _with_workflow(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items with the workflow's name, also those that were retained before it was known."""
        name = self.run.workflow
        for item in items:
            if name is None or isinstance(item, End) or item.workflow is not None:
                yield item
            else:
                yield replace(item, workflow=name)

    def _ids(self, stream: LiveStream, value: str) -> CursorSource:
        """The cursors of a channel; `value` is what the metadata path has for this run."""
        self._channels_made += 1
        # Merged frames depend on when chunks came: another channel with the same rules numbers other frames.
        made = f" {self._channels_made}" if stream.rules.merges else ""
        name, rules = stream.config.name, stream.rules.fingerprint + made
        if self._fences is None:
            return Ids(
                self._secret,
                team=self._team,
                stream=name,
                run_id=self.run_id,
                value=value,
                rules=rules,
                session=self.number,
            )
        # frames that depend on items which this replica never had are not those of other replicas
        depends = stream.config.format != SSE or stream.rules.repairs_texts
        variant = f"from {self._retained.first}" if depends and self._retained.first > 1 else ""
        if stream.rules.merges:
            variant += self._secret.hex()
        return LogIds(
            self._fences,
            team=self._team,
            stream=name,
            run_id=self.run_id,
            value=value,
            rules=rules,
            variant=variant,
        )

    def _kept_at(self, rebuilt: list[Event]) -> Iterator[tuple[int, Item]]:
        """All items until now with their positions in the shared log, for a new channel.

        What is not kept any more is announced before the first item that is, where no cursor can miss it.
        """
        retained, cut = self._retained, self._cut
        forgotten = retained.forgotten(0)
        known = {event.identity: event for event in rebuilt}
        before = max(0, retained.first - 2)
        found: list[tuple[int, Item]] = [(number, entry.item) for number, entry in retained.aside(0)]
        gaps: list[Item] = []
        for one, number in forgotten.items():
            if isinstance(one, StepGap | Reset):
                found.append((number, one))
            elif one in known:
                found.append((number, known[one]))
            elif not gaps:  # the state may be incomplete while the run goes on
                gaps.append(StepGap(GapCause.BACKLOG, None, None, None))
        if cut is not None:
            told = [event for event in rebuilt if event.identity not in forgotten and cut.tells(event)]
            found += [(before, event) for event in told]
            gaps += [StepGap(GapCause.BACKLOG, step.name, step.attempt, None) for step in cut.chunky]
        gaps += [StepGap(GapCause.BACKLOG, loss.step, loss.attempt, None) for loss in retained.losses(0)]
        found += [(before, gap) for gap in gaps]
        yield from sorted(found, key=lambda numbered: numbered[0])
        yield from enumerate(
            (entry.item for entry in retained.read(retained.first - 1)), start=retained.first
        )

    async def rebuild(self) -> list[Event]:
        """Every lifecycle event that the run's current state implies. Raises HatchetError."""
        core = await self._upstream.core(self.run_id)
        return rebuild(core, await self._history())

    async def _history(self) -> PastState | None:
        if not self._upstream.has_history:
            return None
        try:
            return await self._upstream.past(self.run_id)
        except HatchetError:
            return None

    # -- replays --

    @property
    def may_be_replayed(self) -> bool:
        """Whether `replayed` would ask Hatchet; its last answer is reused for `REPLAY_CHECK` seconds."""
        return asyncio.get_running_loop().time() - self._replay_checked_at >= REPLAY_CHECK

    async def replayed(self) -> bool:
        """Whether the run, which was over, was replayed since: then this session does not describe it."""
        if not self.may_be_replayed:
            return False
        now = asyncio.get_running_loop().time()
        try:
            core = await self._upstream.core(self.run_id)
        except HatchetError:
            return False  # nothing contradicts the verified end
        self._replay_checked_at = now
        if not core.done:
            return True
        if self._told is not None:
            return any(not self._told.tells(event) for event in rebuild(core, await self._history()))
        published = self._published_identities()
        return any(event.identity not in published for event in rebuild(core, await self._history()))

    def _published_identities(self) -> set[Hashable]:
        """The identities of all lifecycle events that were published."""
        retained = self._retained
        aside = [entry.identity for _, entry in retained.aside(0)]
        recent = [entry.identity for entry in retained.read(retained.first - 1)]
        return {*aside, *recent, *retained.forgotten(0)}

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
        if self._lookup is not None:
            self._lookup.cancel()
            self._lookup = None
        if self._naming is not None:
            self._naming.cancel()
            self._naming = None
        for dispatcher in self._dispatchers.values():
            dispatcher.close()
        self._dispatchers.clear()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.dropped()
        self._retained.drop()
