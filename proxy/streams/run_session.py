"""Life: one run in this process: the `Run` that follows it, its events as kept, and its channels.

A life begins with its first client (or with the tap) and ends some time after its last one. All streams of a
team on a run share it, so a run costs one upstream. A stream that is opened later starts from the kept
events; what has fallen out of them is made again from the run's state.

A life whose run is over stays for late clients. A run that was replayed since gets a new life: numbers of
the old one are then unknown cursors, never another story's frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from proxy.core.events import End, Event, GapCause, Item, Reset, StepGap
from proxy.core.observations import CoreState, PastState
from proxy.hatchet.errors import HatchetAway, HatchetError, RunUnknown
from proxy.hatchet.upstream import Upstream
from proxy.log.cursor import Cursor, Ids
from proxy.observability.counters import TeamCounters
from proxy.runs.follower import RunFollower
from proxy.runs.rebuild import rebuild
from proxy.streams.backlog import Backlog, Frame
from proxy.streams.channel import Channel, Sights, value_of
from proxy.streams.retained import Kept, keep
from proxy.streams.stream import LiveStream

LOOK_PAUSE: Final = 0.2  # seconds between looks for a run that does not exist yet: the engine's lag is 0.1
CLOSED: Final = "the run was closed"
REPLAY_LOOK: Final = 1.0  # seconds for which "it was not replayed" is believed: bounds calls per ended run


class Life:
    """One run in this process. `over` and `status` tell its verified end."""

    def __init__(
        self,
        run_id: str,
        *,
        team: str,
        number: int,
        secret: bytes,
        upstream: Upstream,
        counts: TeamCounters,
        kept: Backlog[Kept],
        grew: Callable[[int], None],
        ended: Callable[[Life], None],
    ) -> None:
        self.run_id = run_id
        self.number = number
        self.status: str | None = None
        self.closed = False
        self._team = team
        self._secret = secret
        self._upstream = upstream
        self._counts = counts
        self._kept = kept
        self._grew = grew
        self._ended = ended
        self._channels: dict[str, Channel] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._looking: asyncio.Task[CoreState] | None = None
        self._state: CoreState | None = None
        self._replay_looked = 0.0
        self.run: RunFollower

    def begin(self, run: RunFollower) -> None:
        """Follow the run."""
        self.run = run
        run.start()

    # -- the run tells --

    def publish(self, items: Sequence[Item]) -> None:
        """What happened, in order: kept, and offered to every channel."""
        if self.closed:
            return
        kept = self._kept
        for item in items:
            kept.append(keep(item))
            if isinstance(item, End):
                self.status = item.status
                kept.seal()
        self._counts.events += len(items)
        sights = Sights() if len(self._channels) > 1 else None
        for channel in self._channels.values():
            channel.offer(items, sights)
        if self.status is not None:
            self._replay_looked = asyncio.get_running_loop().time()
            self._counts.run_ends[self.status] += 1
            self._ended(self)

    @property
    def over(self) -> bool:
        """Whether the verified end was told."""
        return self.status is not None

    @property
    def state(self) -> CoreState | None:
        """The run's first state, once it is known."""
        return self._state

    @property
    def traceparent(self) -> str | None:
        """The run's own trace, where its metadata tells."""
        told = None if self._state is None else self._state.metadata.get("traceparent")
        return told if isinstance(told, str) else None

    # -- clients ask --

    async def known(self, patience: float) -> CoreState:
        """The run's first state; waits up to `patience` seconds for a run that does not exist yet.

        Raises RunUnknown after that, and at once whatever else Hatchet answers.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            try:
                return await self._look()
            except RunUnknown:
                left = deadline - loop.time()
                if left <= 0 or self.closed:
                    raise
                await asyncio.sleep(min(LOOK_PAUSE, left))

    async def _look(self) -> CoreState:
        if self._state is None:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self.run.known())
            looking = self._looking
            try:
                self._state = await asyncio.shield(looking)
            except asyncio.CancelledError:
                asks = asyncio.current_task()
                if not looking.cancelled() or asks is None or asks.cancelling():
                    raise
                raise HatchetAway(CLOSED) from None  # the life was let go, not whoever asks
            finally:
                del looking  # its error's traceback holds this frame
        return self._state

    def opened(self, stream: LiveStream) -> Channel | None:
        """The channel of `stream`, where it is open."""
        return self._channels.get(stream.key)

    async def channel(self, stream: LiveStream) -> Channel:
        """The channel of `stream`, made from the kept events when it is first asked for.

        Raises HatchetError: the past cannot be had, or the life was let go meanwhile.
        """
        channel = self._channels.get(stream.key)
        if channel is not None:
            return channel
        async with self._opening.setdefault(stream.key, asyncio.Lock()):
            channel = self._channels.get(stream.key)
            if channel is None:
                past = await self._past()  # before the last look: nothing may come between it and the channel
                if self.closed:
                    raise HatchetAway(CLOSED)  # nothing would ever come, not even the end
                channel = self._open(stream, past)
                self._channels[stream.key] = channel
        return channel

    def holds(self, stream: LiveStream, cursor: Cursor) -> bool:
        """Whether `cursor` is one of this life's channel of `stream`."""
        channel = self._channels.get(stream.key)
        return channel is not None and channel.ids.holds(cursor)

    async def _past(self) -> list[Event]:
        """The events that have fallen out of what is kept, made again."""
        return await self.rebuild() if self._kept.forgotten(0) else []

    def _open(self, stream: LiveStream, past: list[Event]) -> Channel:
        config, kept = stream.config, self._kept
        state = self._state
        metadata = state.metadata if state is not None else {}
        channel = Channel(
            stream.rules,
            Ids(
                self._secret,
                team=self._team,
                stream=config.name,
                run_id=self.run_id,
                value=value_of(metadata, config.metadata_key),
                rules=stream.rules.fingerprint,
                life=self.number,
            ),
            Backlog[Frame](config.backlog.events, config.backlog.bytes, self._grew),
            self._counts.stream(config.name),
            heartbeat=config.heartbeat,
            restate=self.rebuild,
        )
        forgotten = kept.forgotten(0)
        again = [event for event in past if event.identity in forgotten]
        notices = [item for item in forgotten if isinstance(item, StepGap | Reset)]
        channel.offer([*again, *notices])
        if len(again) + len(notices) < len(
            forgotten
        ):  # while a run goes on, its state may not tell everything
            channel.offer([StepGap(GapCause.BACKLOG, None, None, None)])
        channel.offer(
            [StepGap(GapCause.BACKLOG, loss.step, loss.attempt, loss.missed) for loss in kept.losses(0)]
        )
        channel.offer([entry.item for _, entry in kept.aside(0)])
        channel.offer([entry.item for entry in kept.read(kept.first - 1)])
        return channel

    async def rebuild(self) -> list[Event]:
        """Every lifecycle event that the run's state can tell now. Raises HatchetError."""
        core = await self._upstream.core(self.run_id)
        return rebuild(core, await self._history())

    async def _history(self) -> PastState | None:
        if not self._upstream.has_history:
            return None
        try:
            return await self._upstream.past(self.run_id)
        except HatchetError:
            return None

    @property
    def may_be_replayed(self) -> bool:
        """Whether `replayed` would ask: what it said is believed for a while."""
        return asyncio.get_running_loop().time() - self._replay_looked >= REPLAY_LOOK

    async def replayed(self) -> bool:
        """Whether a run that was over goes on, or went on, since: then this life is not its story."""
        if not self.may_be_replayed:
            return False
        now = asyncio.get_running_loop().time()
        try:
            core = await self._upstream.core(self.run_id)
        except HatchetError:
            return False  # what was verified stays true as far as anyone can tell
        self._replay_looked = now
        if not core.done:
            return True
        told = self._told()
        return any(event.identity not in told for event in rebuild(core, await self._history()))

    def _told(self) -> set[Hashable]:
        """What every lifecycle event was that this life has told."""
        kept = [entry.identity for _, entry in self._kept.aside(0)]
        recent = [entry.identity for entry in self._kept.read(self._kept.first - 1)]
        return {*kept, *recent, *self._kept.forgotten(0)}

    # -- the hub asks --

    @property
    def bytes(self) -> int:
        """What is kept, frames and events."""
        return self._kept.bytes + sum(channel.backlog.bytes for channel in self._channels.values())

    @property
    def channels(self) -> Sequence[Channel]:
        """The channels that are open."""
        return tuple(self._channels.values())

    def shrink(self, to_bytes: int) -> None:
        """Give up the oldest, until about `to_bytes` are left."""
        share = to_bytes // (1 + len(self._channels))
        self._kept.shrink(share)
        for channel in self._channels.values():
            channel.backlog.shrink(share)

    def let_go(self) -> None:
        """Give up all that is kept; nothing is taken any more."""
        self.closed = True
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()
        self._kept.drop()
