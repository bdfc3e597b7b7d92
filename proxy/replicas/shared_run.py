"""SharedRun: one run of one team on this replica, where replicas share its log.

    OPENING ── nobody leads ──▶ LEADING     follows the run at Hatchet, appends, serves what is stored
       │                          │  ▲
       └── somebody leads ──▶ FOLLOWING     reads the log, serves what it reads
                                  └── the leader is gone, or goes ── takes over

A `SharedRun` takes the place that a `RunFollower` has without a shared log. A replica that *stands by*
follows the run at Hatchet too and holds the items, so that none is missing when it takes over. While the log
cannot be reached, a leader serves from memory (*local*); so does a follower with clients, which then leads
for itself. If both of them served something, this session stays *apart* from the log until the run is over:
it serves the clients that have its cursors, and everyone else gets a session that reads the log.

Its parts, each with a state of its own:

    RunState       the role, and how far the log was served
    Opening        reads the log for the first time and takes a role
    LogReader      OPENING, FOLLOWING: serves what the leader appends
    Leadership     LEADING: the writer; what becomes of the lead
    Standby        FOLLOWING: stands by, takes over
    HatchetSource  the follower at Hatchet, and what it brought too early
    Outage         the time without the log
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Final

from proxy.core.clock import Clock, LoopClock
from proxy.core.observations import CoreState, LiveEvent
from proxy.core.tasks import Background
from proxy.hatchet.errors import HatchetAway, HatchetError
from proxy.hatchet.upstream import Upstream
from proxy.log.base import LogAway, Record, SharedLog
from proxy.observability.counters import LogCounters
from proxy.replicas.context import Context, Environment
from proxy.replicas.hatchet_source import HatchetSource
from proxy.replicas.leadership import Leadership
from proxy.replicas.log_reader import LogReader
from proxy.replicas.opening import Opening
from proxy.replicas.outage import Outage
from proxy.replicas.progress import Progress
from proxy.replicas.run_state import Role, RunState
from proxy.replicas.standby import Standby
from proxy.runs.reconcile.subscription_state import Pulse
from proxy.streams.run_session import RunSession

CLOSED: Final = "the run was closed"


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
        self.state: CoreState | None = None
        self._clock = clock or LoopClock()
        self._context = context = Context(
            session=session,
            upstream=upstream,
            log=log,
            environment=environment,
            counters=counters,
            background=Background(environment.unforeseen),
            clock=self._clock,
            rng=rng or Random(),
            log_keep=log_keep,
        )
        session.ask_flush = self.ask_flush
        self._state = state = RunState(session.run_id, name, log.replica, session)
        self._source = source = HatchetSource(state, context)
        self._reader = reader = LogReader(state, context, self, finished=self._finish)
        self._leadership = leadership = Leadership(
            state, context, source=source, reader=reader, finished=self._finish
        )
        self._standby = standby = Standby(state, context, source=source, reader=reader, leadership=leadership)
        self._outage = Outage(state, context, reader=reader, leadership=leadership)
        self._opening = Opening(
            state,
            context,
            source=source,
            reader=reader,
            leadership=leadership,
            standby=standby,
            finished=self._finish,
        )

    # -- for its run session (`FollowedRun`) --

    @property
    def over(self) -> bool:
        """Whether the verified end was served."""
        return self._state.over

    @property
    def workflow(self) -> str | None:
        """The name of its workflow, where it is known."""
        return self._source.workflow

    def name_workflow(self, name: str) -> None:
        """Its workflow is `name`: items have it from now on."""
        self._source.name_workflow(name)

    @property
    def trouble(self) -> HatchetError | None:
        """The last error of Hatchet that this run met; None where another replica follows it there."""
        return self._source.trouble

    @property
    def state_only(self) -> bool:
        """Whether its events come from its states alone."""
        return self._source.state_only

    @property
    def sources(self) -> list[str]:
        """What brings its events besides its states: the shared log, where another replica leads."""
        sources = self._source.sources
        return ["log", *sources] if self.role is Role.FOLLOWING else sources

    def start(self) -> None:
        """Do nothing: `first_state` opens the log, once it is known that the run exists."""

    async def first_state(self) -> CoreState:
        """The first core state, once the log is open. Raises RunUnknown, HatchetAway and others."""
        if self.role is Role.CLOSED:
            raise HatchetAway(CLOSED)
        if self.state is None:
            self.state = await self._context.upstream.core(self.run_id)
        if not self._opening.has_begun:
            self._state.set_metadata(self.state.metadata)
            self._opening.begin()
        await self._opening.done()
        return self.state

    async def reach(self, position: int) -> None:
        """Read the log if `position` may be in it and was not served yet."""
        if self.role is Role.FOLLOWING and position > self.progress.position:
            await self._reader.catch_up()

    async def is_replaced(self) -> bool:
        """Whether the log has another generation than this replica has served to its end."""
        if self.role is not Role.OVER:
            return False
        try:
            tail = await self._context.log.tail(self.name)
        except LogAway:
            return False
        return tail is not None and tail.generation != self.progress.fences.generation

    def feed(self, source: str, pulse: Pulse, since: float, *, at: float | None = None) -> None:
        """See `RunFollower.feed`; a replica that does not follow the run at Hatchet needs none."""
        at = self._clock.now() if at is None else at
        self._source.searched(lambda run: run.feed(source, pulse, since, at=at))

    def deliver(self, event: LiveEvent, source: str, *, at: float | None = None) -> None:
        """See `RunFollower.deliver`."""
        at = self._clock.now() if at is None else at
        self._source.searched(lambda run: run.deliver(event, source, at=at))

    def unfeed(
        self,
        source: str,
        *,
        broken: bool = True,
        hung_up: bool = False,
        at: float | None = None,
    ) -> None:
        """See `RunFollower.unfeed`."""
        at = self._clock.now() if at is None else at
        self._source.searched(lambda run: run.unfeed(source, broken=broken, hung_up=hung_up, at=at))

    @property
    def does_without_searches(self) -> bool:
        """Whether the run needs no events of a search (any more)."""
        return self._source.does_without_searches

    def ask_flush(self, milliseconds: int) -> None:
        """Chunks wait for a rule with this `merge`: ask the leader to append a flush."""
        if self.role is Role.LEADING:
            self._leadership.ask_flush(milliseconds)
        elif self.role is Role.FOLLOWING:
            self._context.log.announce(["flush", self.name, str(milliseconds)])

    # -- for the log (`LogListener`) --

    def received(self, records: Sequence[Record]) -> None:
        """Records were appended to the log."""
        if self.role is Role.LEADING:
            self._leadership.received(records)
        else:
            self._reader.received(records)

    def connected(self) -> None:
        """The log can be reached again, or may have lost something."""
        self._outage.ends()

    def disconnected(self) -> None:
        """The log cannot be reached."""
        self._outage.begins()

    # -- for the keeper --

    async def catch_up(self) -> None:
        """Read the log's next records, where another replica leads."""
        await self._reader.catch_up()

    @property
    def role(self) -> Role:
        """What this replica does for the run."""
        return self._state.role

    @property
    def progress(self) -> Progress:
        """How far it was served; not before its state is known."""
        return self._state.progress

    @property
    def local(self) -> bool:
        """Whether it is served without the log."""
        return self._leadership.local

    @property
    def is_wanted(self) -> bool:
        """Whether a client of this replica reads the run."""
        return self._context.environment.is_wanted(self.run_id)

    @property
    def stands_by(self) -> bool:
        """Whether it follows the run at Hatchet beside the leader."""
        return self._standby.stands_by

    def stand_by(self) -> None:
        """Follow the run at Hatchet beside the leader."""
        self._standby.stand_by()

    async def take_over(self, leader: str) -> bool:
        """Lead in place of `leader` from now on; False where another replica does."""
        return await self._standby.take_over(leader)

    def take_over_soon(self) -> None:
        """Take over as soon as the run's items come from Hatchet: the leader goes on until then."""
        self._standby.take_over_soon()

    async def give_away(self, seconds: float) -> bool:
        """Wait until another replica leads; False where none does within `seconds`."""
        return await self._leadership.give_away(seconds)

    # -- the end --

    def _finish(self) -> None:
        """The verified end was served."""
        self._state.role = Role.OVER
        self._reader.end()
        self._source.stop()

    async def close(self) -> None:
        """End everything; a run that this replica leads is given to another one, if one follows it."""
        await self._leadership.resign()
        role, self._state.role = self.role, Role.CLOSED
        if role is not Role.OVER:
            self._reader.end()
        self._leadership.close()
        ending = [*self._context.background.cancel(), *self._outage.close(), *self._opening.close()]
        await self._source.close()
        if ending:
            await asyncio.gather(*ending, return_exceptions=True)
