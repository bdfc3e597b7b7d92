"""SharedRun: one run of one team on this replica, where replicas share its log.

    OPENING ── nobody leads ──▶ LEADING     follows the run at Hatchet, appends, serves what is stored
       │                          │  ▲
       └── somebody leads ──▶ FOLLOWING     reads the log, serves what it reads
                                  └── the leader is gone, or goes ── takes over

It stands where a `RunFollower` stands without a shared log. A replica that *stands by* follows the run at
Hatchet too and holds what comes, so that nothing is missing when it takes over. While the log cannot be
reached, a leader serves from memory (*local*); so does a follower with clients, which then leads for itself.
If both of them served something, this replica stays *apart* from the log until the run is over.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from enum import Enum
from random import Random
from typing import Final, Protocol

from proxy.core.clock import Clock, LoopClock
from proxy.core.events import Item
from proxy.core.observations import CoreState, LiveEvent
from proxy.core.tasks import start_in
from proxy.hatchet.errors import HatchetAway, HatchetError
from proxy.hatchet.upstream import Upstream
from proxy.log.base import Life, LogAway, Record, SharedLog
from proxy.log.entries import ItemCodec
from proxy.log.fences import Fence, Fences, new_generation
from proxy.log.told import Continuation
from proxy.observability.counters import LogCounters
from proxy.replicas.progress import Progress, Step
from proxy.replicas.writer import Writer
from proxy.runs.follower import RunFollower
from proxy.runs.reconcile.subscription_state import Pulse
from proxy.streams.run_session import RunSession

LOCAL_AFTER: Final = 1.0
"""Seconds without the log after which a leader serves from memory: a new connection takes less."""
ALONE_AFTER: Final = 3.0
"""Seconds without the log after which a follower with clients follows the run by itself."""
READY_WITHIN: Final = 3.0
"""Seconds that a replica which stands by waits for its first item before it takes over."""
GIVEN_WITHIN: Final = 5.0
"""Seconds that a leader without clients waits for another replica to take a run over that it gives up."""
MOST_HELD: Final = 256  # items that a replica which stands by holds before it drops those that were told
CREATE_WITHIN: Final = 2.0
"""Seconds for which one replica alone may begin a log: two at once would take it from each other."""
AGAIN: Final = 1.0  # seconds after which what the log refused for no good reason is tried again
CLOSED: Final = "the run was closed"


class Role(Enum):
    """What this replica does for the run."""

    OPENING = "opening"
    FOLLOWING = "following"
    LEADING = "leading"
    OVER = "over"
    CLOSED = "closed"


class Environment(Protocol):
    """What a team gives to its shared runs."""

    def follower(self, run_id: str, publish: Callable[[Sequence[Item]], None]) -> RunFollower:
        """A follower of the run at Hatchet that has started, attached to the team's tap."""

    def detach(self, follower: RunFollower) -> None:
        """The follower gets nothing from the tap any more."""

    def is_wanted(self, run_id: str) -> bool:
        """Whether a client of this replica reads the run."""

    def discard(self, session: RunSession) -> None:
        """The session cannot go on: its clients reconnect and get another one."""

    def unforeseen(self, error: Exception) -> None:
        """An exception that should not be possible was caught."""


class SharedRun:
    """One run whose log is shared; `log_keep`: seconds that the log of a finished run stays."""

    def __init__(
        self,
        session: RunSession,
        upstream: Upstream,
        log: SharedLog,
        name: str,
        environment: Environment,
        *,
        log_keep: float,
        counters: LogCounters,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        self.run_id = session.run_id
        self.name = name
        self.role = Role.OPENING
        self.apart = False
        self.state: CoreState | None = None
        self.progress: Progress
        self._session = session
        self._upstream = upstream
        self._log = log
        self._environment = environment
        self._log_keep = log_keep
        self._counters = counters
        self._clock = clock or LoopClock()
        self._rng = rng or Random()
        self._follower: RunFollower | None = None
        self._searches: list[Callable[[RunFollower], None]] = []  # what they brought before the log was open
        self._held: list[Item] = []  # what the follower brought while this replica stands by
        self._stands_by_for_long = False
        self._workflow: str | None = None
        self._ready = asyncio.Event()  # the follower has brought its first items
        self._writer: Writer | None = None
        self._opening: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._early: list[Record] = []  # records that came while the log was being read
        self._tasks: set[asyncio.Task[None]] = set()
        self._away: asyncio.Task[None] | None = None
        self._given = asyncio.Event()  # another replica has taken the lead

    # -- as a run session knows the run that it serves --

    @property
    def over(self) -> bool:
        """Whether the verified end was served."""
        return self.role is Role.OVER or (self._opened and self.progress.over)

    @property
    def _opened(self) -> bool:
        return self.role not in (Role.OPENING, Role.CLOSED)

    @property
    def workflow(self) -> str | None:
        """The name of its workflow, where it is known."""
        if self._workflow is None and self._follower is not None:
            self._workflow = self._follower.workflow
        return self._workflow

    def name_workflow(self, name: str) -> None:
        """Its workflow is `name`: items have it from now on."""
        self._workflow = name
        if self._follower is not None:
            self._follower.name_workflow(name)

    @property
    def trouble(self) -> HatchetError | None:
        """The last error of Hatchet that this run met; None where another replica follows it there."""
        return None if self._follower is None else self._follower.trouble

    @property
    def state_only(self) -> bool:
        """Whether its events come from its states alone."""
        return self._follower is not None and self._follower.state_only

    @property
    def sources(self) -> list[str]:
        """What brings its events besides its states: the shared log, where another replica leads."""
        sources = [] if self._follower is None else self._follower.sources
        return ["log", *sources] if self.role is Role.FOLLOWING else sources

    def start(self) -> None:
        """It begins with `known`: before, it is not known whether there is such a run."""

    async def known(self) -> CoreState:
        """The first core state, once the log is open. Raises RunUnknown, HatchetAway and others."""
        if self.role is Role.CLOSED:
            raise HatchetAway(CLOSED)
        if self.state is None:
            self.state = await self._upstream.core(self.run_id)
        if self._opening is None:
            self.progress = Progress(ItemCodec(self.run_id, self.state.metadata), self._session)
            self._opening = asyncio.get_running_loop().create_task(self._open())
        await asyncio.shield(self._opening)
        return self.state

    async def reach(self, position: int) -> None:
        """Read the log if `position` may be in it and was not served yet."""
        if self.role is Role.FOLLOWING and position > self.progress.position:
            await self.catch_up()

    def feed(self, source: str, pulse: Pulse, since: float, *, at: float | None = None) -> None:
        """See `RunFollower.feed`; a replica that does not follow the run at Hatchet needs none."""
        at = self._clock.now() if at is None else at
        self._searched(lambda run: run.feed(source, pulse, since, at=at))

    def deliver(self, event: LiveEvent, source: str, *, at: float | None = None) -> None:
        """See `RunFollower.deliver`."""
        at = self._clock.now() if at is None else at
        self._searched(lambda run: run.deliver(event, source, at=at))

    def unfeed(
        self,
        source: str,
        *,
        broken: bool = True,
        hung_up: bool = False,
        ended_well: bool = False,
        at: float | None = None,
    ) -> None:
        """See `RunFollower.unfeed`."""
        at = self._clock.now() if at is None else at
        self._searched(
            lambda run: run.unfeed(source, broken=broken, hung_up=hung_up, ended_well=ended_well, at=at)
        )

    def _searched(self, tell: Callable[[RunFollower], None]) -> None:
        """Tell the follower what a search brought; before it is known whether there is one, keep it."""
        if self._follower is not None:
            tell(self._follower)
        elif self.role is Role.OPENING:
            self._searches.append(tell)

    @property
    def does_without_searches(self) -> bool:
        """Whether a search's events are of no use (any more)."""
        return self._follower.does_without_searches if self._follower is not None else self._opened

    # -- opening --

    async def _open(self) -> None:
        try:
            while not await self._open_log():
                await self._clock.sleep(AGAIN * self._rng.uniform(0.05, 0.2))
        except Exception as error:
            if not isinstance(error, LogAway):
                self._environment.unforeseen(error)
            self._begin(self._now_ms())
            self._lead(local=True)
        self._session.share(self.progress.fences, self.progress.told)

    async def _open_log(self) -> bool:
        """Read the log and take a role; False: try again."""
        self._early = []
        await self._log.follow(self.name, self)
        records = await self._log.read(self.name)
        if not records:
            return await self._create(self._now_ms())
        tail = records[-1]
        self.progress = Progress(self.progress.codec, self._session)
        if self.progress.load(records) is not Step.FINE:
            return await self._create(tail.fence + 1)
        self._session.share(self.progress.fences, self.progress.told)
        if self.progress.over:
            if await self._was_replayed():
                return await self._create(tail.fence + 1)
            self._finish(Role.OVER)
            return True
        self.role = Role.FOLLOWING
        self._searches = []
        if self._early:
            self._task(self.catch_up())
        life = await self._log.life(tail.replica) if tail.replica else Life.DEAD
        if life is Life.DEAD or tail.replica == self._log.replica:
            await self.take_over(tail.replica)
        elif life is Life.LEAVING:
            self.take_over_soon()
        return True

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def _begin(self, number: int) -> None:
        """Begin a new generation with the fence `number`."""
        self.progress = Progress(self.progress.codec, self._session)
        generation = new_generation(number, secrets.token_urlsafe(6).replace(".", "_"))
        self.progress.begin(generation, number, self._log.replica)
        self._session.begin_after(0, None)

    async def _create(self, number: int) -> bool:
        """Begin a new generation in the log; False where another replica does."""
        if not await self._log.claim(f"create:{self.name}", CREATE_WITHIN):
            return False
        if any(record.fence >= number for record in await self._log.read(self.name)):
            return False
        self._begin(number)
        if not await self._log.fence(self.name, self._fence(number, 0), create=True):
            return False
        self._lead()
        return True

    def _fence(self, number: int, position: int, replica: str | None = None) -> Record:
        progress, replica = self.progress, self._log.replica if replica is None else replica
        fences = Fences(progress.fences.generation, progress.fences)
        if number != progress.fence:
            fences.add(Fence(number, position + 1, replica))
        summary = progress.summary(progress.told, fences)
        return Record(number, position, fences.generation, replica, b"", summary)

    async def _was_replayed(self) -> bool:
        """Whether a run whose log has its end has gone on since."""
        try:
            events = await self._session.rebuild()
            core = await self._upstream.core(self.run_id)
        except HatchetError:
            return False
        return not core.done or any(not self.progress.told.tells(event) for event in events)

    # -- leading --

    def _lead(self, *, local: bool = False) -> None:
        self.role = Role.LEADING
        self._given.clear()
        self._session.share(self.progress.fences, self.progress.told)
        self._writer = Writer(
            self._log,
            self.name,
            self.progress,
            self._session,
            told=self.progress.told.copy(),
            taken=self._taken,
            apart=self._go_apart,
            finished=self._finished,
            unforeseen=self._environment.unforeseen,
        )
        if local:
            self._writer.go_local()
        self._stand_by()
        held, self._held = self._held, []
        self._writer.publish(held)

    def _from_hatchet(self, items: Sequence[Item]) -> None:
        """The follower of the run at Hatchet brought `items`."""
        if self._writer is not None:
            self._writer.publish(items)
            return
        self._held += items
        self._ready.set()
        if len(self._held) > MOST_HELD and self._opened:
            self._held = Continuation(self.progress.told.copy()).news(self._held)

    def _finished(self) -> None:
        self._log.seal(self.name, self._log_keep)
        self._finish(Role.OVER)

    def _finish(self, role: Role) -> None:
        self.role = role
        self._log.unfollow(self.name, self)
        self._stop_following_hatchet()

    def _taken(self) -> None:
        """Another replica leads."""
        self._task(self._follow_another())

    async def _follow_another(self) -> None:
        writer = self._writer
        if writer is None or self.role is not Role.LEADING:
            return
        try:
            records = await self._log.read(self.name, self.progress.last_id)
        except LogAway:
            return  # `connected` looks again
        self._counters.leads_lost += 1
        step = self.progress.apply(records)
        if step is not Step.FINE:
            self._go_apart()
            return
        writer.close()
        self._writer = None
        self.role = Role.FOLLOWING
        self._given.set()
        self._held = []
        self._stop_following_hatchet()
        self._end_if_over()

    def _go_apart(self) -> None:
        """The log tells otherwise than this replica has served: serve from memory until the run is over."""
        self.apart = True
        self._given.set()
        self._log.unfollow(self.name, self)
        if self._writer is not None and self.progress.position:
            self._writer.go_local()
        else:
            self._environment.discard(self._session)

    # -- following --

    def received(self, records: Sequence[Record]) -> None:
        """The leader has appended records."""
        if self.role is Role.LEADING:
            if records[-1].fence > self.progress.fence and self._writer is not None:
                self._writer.look()
            return
        if self.role is Role.OPENING or self._reading.locked():
            self._early += records
            return
        if self.role is not Role.FOLLOWING:
            return
        self._counters.received += len(records)
        step = self.progress.apply(records)
        if step is Step.FINE:
            self._end_if_over()
        else:
            self._task(self.catch_up())

    async def catch_up(self) -> None:
        """Read what the log has after what was read, until nothing is new."""
        async with self._reading:
            step = Step.HOLE
            while step is Step.HOLE and self.role is Role.FOLLOWING:
                try:
                    records = await self._log.read(self.name, self.progress.last_id)
                except LogAway:
                    self._early = []
                    return
                early, self._early = self._early, []
                if self.role is not Role.FOLLOWING:
                    return
                if self.progress.apply(records) is not Step.FINE:
                    step = Step.APART
                    break
                step = self.progress.apply(early)
        if step is Step.APART:
            self._environment.discard(self._session)
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self.role is Role.FOLLOWING and self.progress.over:
            self._finish(Role.OVER)

    # -- standing by, taking over --

    @property
    def stands_by(self) -> bool:
        """Whether it follows the run at Hatchet beside the leader."""
        return self.role is Role.FOLLOWING and self._follower is not None

    def stand_by(self) -> None:
        """Follow the run at Hatchet beside the leader."""
        if self.role is Role.FOLLOWING:
            self._stands_by_for_long = True
            self._stand_by()

    def _stand_by(self) -> None:
        if self._follower is None:
            self._ready.clear()
            self._follower = self._environment.follower(self.run_id, self._from_hatchet)
            if self._workflow is not None:
                self._follower.name_workflow(self._workflow)
            searches, self._searches = self._searches, []
            for tell in searches:
                tell(self._follower)

    @property
    def is_wanted(self) -> bool:
        """Whether a client of this replica reads the run."""
        return self._environment.is_wanted(self.run_id)

    async def take_over(self, leader: str) -> bool:
        """Lead in place of `leader` from now on; False where another replica does."""
        if self.role is not Role.FOLLOWING:
            return False
        try:
            await self.catch_up()
            if self.role is not Role.FOLLOWING or self.progress.leader != leader:
                return False
            number, start = self.progress.fence + 1, self.progress.position + 1
            if not await self._log.fence(self.name, self._fence(number, start - 1), create=False):
                if await self._log.tail(self.name) is None:
                    return self._lead_again()
                await self.catch_up()
                return False
        except LogAway:
            return False
        if self.role is not Role.FOLLOWING or self.progress.fence >= number:
            return False
        self._counters.take_overs += 1
        self.progress.lead(number, self._log.replica, start)
        self.progress.last_id = (number, start - 1)
        self._lead()
        return True

    def _lead_again(self) -> bool:
        """Lead a run whose log is gone: it is written again from what is kept."""
        self._counters.take_overs += 1
        progress = self.progress
        progress.lead(progress.fence + 1, self._log.replica, progress.position + 1)
        self._lead()
        if self._writer is not None:
            self._writer.look()
        return True

    def take_over_soon(self) -> None:
        """Stand by, and take over as soon as that brings the run's items: the leader goes on until then."""
        if self.role is Role.FOLLOWING:
            self._task(self._take_over_when_ready(self.progress.leader))

    async def _take_over_when_ready(self, leader: str) -> None:
        self._stand_by()
        try:
            async with asyncio.timeout(READY_WITHIN):
                await self._ready.wait()
        except TimeoutError:
            pass
        if not await self.take_over(leader) and not self._stands_by_for_long:
            self._stop_following_hatchet()

    # -- the log comes and goes --

    def connected(self) -> None:
        """The log can be reached again, or may have lost something."""
        if self._away is not None:
            self._away.cancel()
            self._away = None
        if self.apart:
            return
        if self.role is Role.LEADING and self._writer is not None:
            self._writer.look(after=LOCAL_AFTER * 2 if self._writer.local else 0.0)
        elif self.role is Role.FOLLOWING:
            self._task(self.catch_up())

    def disconnected(self) -> None:
        """The log cannot be reached."""
        if self._away is None and self.role in (Role.LEADING, Role.FOLLOWING):
            self._away = asyncio.get_running_loop().create_task(self._serve_without())

    async def _serve_without(self) -> None:
        if self.role is Role.LEADING and self._writer is not None:
            await self._clock.sleep(LOCAL_AFTER)
            if self._writer is not None:
                self._writer.go_local()
            return
        await self._clock.sleep(ALONE_AFTER)
        while not self._environment.is_wanted(self.run_id):
            await self._clock.sleep(AGAIN)
        if self.role is Role.FOLLOWING and not self._log.is_up:
            progress = self.progress
            progress.lead(progress.fence + 1, self._log.replica, progress.position + 1)
            self._lead(local=True)

    @property
    def local(self) -> bool:
        """Whether it serves without the log."""
        return self.role is Role.LEADING and self._writer is not None and self._writer.local

    # -- giving the lead away --

    async def give_away(self, seconds: float) -> bool:
        """Wait until another replica leads; False where none does within `seconds`."""
        if self.role is not Role.LEADING or self.local:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._given.wait()
            return True
        except TimeoutError:
            return self.role is not Role.LEADING

    async def close(self) -> None:
        """End everything; a run that this replica leads is given to another one, if one follows it."""
        if self.role is Role.LEADING and not self.local and not self.progress.over:
            await self._resign()
        role, self.role = self.role, Role.CLOSED
        if role is not Role.OVER:
            self._log.unfollow(self.name, self)
        if self._writer is not None:
            self._writer.close()
        tasks = [task for task in (*self._tasks, self._away, self._opening) if task is not None]
        for task in tasks:
            task.cancel()
        follower, self._follower = self._follower, None
        if follower is not None:
            self._environment.detach(follower)
            await follower.close()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _resign(self) -> None:
        try:
            if await self._log.followers(self.name) > 1:
                self._log.announce(["resign", self.name])
                if await self.give_away(GIVEN_WITHIN):
                    return
            if self._writer is not None and self._writer.idle:
                number = self.progress.fence + 1
                await self._log.fence(
                    self.name, self._fence(number, self.progress.position, ""), create=False
                )
        except LogAway:
            return  # the others see that this replica is gone

    def _stop_following_hatchet(self) -> None:
        if self.role is Role.LEADING:
            return
        self._held = []
        follower, self._follower = self._follower, None
        if follower is not None:
            self._environment.detach(follower)
            self._task(follower.close())

    def _task(self, coroutine: object) -> None:
        start_in(self._tasks, self._guarded(coroutine))

    async def _guarded(self, coroutine: object) -> None:
        try:
            await coroutine  # type: ignore[misc]
        except Exception as error:
            self._environment.unforeseen(error)
