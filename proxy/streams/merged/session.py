"""MergedSession: several runs as one stream: their items in one order, one backlog, one cursor.

    run session ──items──▶ Member ──▶ MergedSession ──▶ one channel and its dispatcher
    run session ──items──▶ Member ──▶    │
                                         └── Membership: which runs belong to it, and what its end is

A merged session listens to run sessions (`RunSession.listen`), so a run is followed once, however many
streams show it. Each merged session is of one stream, because the stream's rules decide which runs are
followed at all.

The order: what happened before the session began is sorted first (`proxy.streams.merged.order`). From then on
items are sent as they come, but an item for which the membership waits holds back what follows it of its run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from proxy.core.events import End, Event, Item, StepGap
from proxy.core.observations import CoreState
from proxy.core.tasks import Background
from proxy.hatchet.errors import HatchetAway, HatchetError, RunUnknown
from proxy.log.cursor import Cursor
from proxy.log.frames import LocalFrames
from proxy.observability.counters import TeamCounters
from proxy.streams.dispatcher import Dispatcher
from proxy.streams.merged.guards import Guards, Permits
from proxy.streams.merged.membership import Feed, Member, Membership, RunLeases, TooManyRuns, all_answered
from proxy.streams.merged.order import in_order
from proxy.streams.opening import open_dispatcher
from proxy.streams.stream import LiveStream

JOIN_PAUSE: Final = 0.5  # seconds between attempts to read the state of a run that belongs to it
JOIN_PATIENCE: Final = 2.0  # seconds for which a listed run may have no state or no name yet
SORTING: Final = 0.4
"""Seconds for which the first items of all runs are waited for: a run that finished just before a client
came sends its items within half a second."""
JOINS_AT_ONCE: Final = 16  # runs whose states are read at the same time: behind the API is one database
MOST_RUNS: Final = 1000
"""Runs of one stream, where ``limits.runs`` does not say less: each has a follower and reads its states."""


class MergedSession:
    """One stream of several runs."""

    def __init__(
        self,
        run_id: str,
        value: str,
        *,
        stream: LiveStream,
        number: int,
        secret: bytes,
        team: str,
        counts: TeamCounters,
        grew: Callable[[int], None],
        unforeseen: Callable[[Exception], None],
        runs: RunLeases,
        membership: Membership,
        ended: Callable[[MergedSession], None],
        feed: Feed | None = None,
        closed: Callable[[], None] | None = None,
    ) -> None:
        """`run_id` names the whole in cursors: that of the root, or an id made of the value in the path.

        `ended` is called when the stream is over, or has to start again: then the attribute `closed` is true.
        `feed` brings the events of its runs, None where something else does; it is needed until the call of
        `closed`.
        """
        self.run_id = run_id
        self.stream = stream
        self.status: str | None = None
        self.over = False
        self.closed = False
        self.refused: TooManyRuns | None = None
        self.members: dict[str, Member] = {}
        self.runs = runs
        self._membership = membership
        self._unforeseen = unforeseen
        self._ended = ended
        self._feed = feed
        self._no_more_needed = closed
        self._live = False
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._background = Background(unforeseen, expected=(HatchetError,))  # where the team is closed
        self._joins = asyncio.Semaphore(JOINS_AT_ONCE)
        self.guards: Final = Guards(needed=membership.guarded)
        ids = LocalFrames(
            secret,
            team=team,
            stream=stream.config.name,
            run_id=run_id,
            value=value,
            rules=stream.rules.fingerprint,
            session=number,
        )
        self._dispatcher = open_dispatcher(
            stream,
            ids,
            run_id,
            value,
            counts=counts,
            grew=grew,
            rebuild=self._rebuild,
            unforeseen=unforeseen,
            merged=True,
        )

    def start(self) -> None:
        """Find the runs and listen to them."""
        self.in_background(self._run())

    async def ready(self) -> Dispatcher:
        """The dispatcher, once the runs that exist are known. Raises HatchetError, TooManyRuns."""
        await asyncio.wait([self._ready])
        if self.refused is not None:
            raise TooManyRuns(*self.refused.args)
        self._ready.result()
        if self.closed:
            raise HatchetAway("the stream begins again")
        return self._dispatcher

    async def _run(self) -> None:
        try:
            await self._membership.first(self)
        except HatchetError as trouble:
            self._fail(trouble)
            return
        except Exception as error:
            self._unforeseen(error)
            self._fail(HatchetAway("the runs of the stream could not be found"))
            return
        if self.closed:
            return
        self._ready.set_result(None)
        self.in_background(self._membership.watch(self))
        members = list(self.members.values())
        await all_answered(members, min(SORTING, self._membership.settle_time))
        await all_answered([member for member in members if member.past], self._membership.settle_time)
        self._begin_live()

    def _fail(self, trouble: HatchetError) -> None:
        self.closed = True
        self._ready.set_exception(trouble)
        self._ready.exception()  # it is not always awaited
        self._ended(self)

    # -- which runs --

    def add(
        self,
        run_id: str,
        *,
        created_at: int = 0,
        parent: Mapping[str, Any] | None = None,
        parent_step: str | None = None,
        followed: bool = True,
        past: bool = False,
        workflow: str | None = None,
    ) -> None:
        """The run belongs to the stream from now on; the parameters are those of `Member`."""
        if run_id in self.members or self.closed or self.over:
            return
        if len(self.members) >= MOST_RUNS or (followed and not self.runs.has_room_for(run_id)):
            self.refuse()
            return
        member = self.members[run_id] = Member(
            self, run_id, created_at=created_at, parent=parent, parent_step=parent_step, followed=followed
        )
        member.past = past
        member.workflow = workflow
        if followed:
            self.in_background(self._join(member))
        else:
            member.answered.set()

    def refuse(self) -> None:
        """More runs belong to the stream than it may have: its clients get `stream.wait`."""
        if self.closed or self.over:
            return
        self.refused = TooManyRuns(
            f"too many runs belong to this stream: it shows at most {MOST_RUNS}, and no more than "
            "`limits.runs` allows. Let fewer steps start child runs, or leave out `include`"
        )
        if not self._ready.done():
            self._ready.set_result(None)
        notice = self._dispatcher.channel.wire.notice("wait", {"cause": "limit"})
        for subscriber in tuple(self._dispatcher.subscribers):
            subscriber.write_control(notice)
        self.closed = True
        self._ended(self)

    async def _join(self, member: Member) -> None:
        """Listen to a run, as soon as its state can be read."""
        async with self._joins:
            session = member.session = await self.runs.lease(member.run_id, resumes=True)
            member.leased = True
            if self._feed is not None:
                self._feed.attach(session.run)
            while True:
                try:
                    state = await session.first_state(JOIN_PATIENCE)
                    if self.stream.depends_on_workflow or self.stream.shows_workflow:
                        await session.named(JOIN_PATIENCE)
                    self.guards.check(state)
                    await session.listen(member)
                    return
                except RunUnknown:
                    member.answered.set()
                    self._run_over(member)
                    return
                except HatchetError:
                    await asyncio.sleep(JOIN_PAUSE)

    @property
    def states(self) -> list[CoreState]:
        """The first states of its runs, as far as they are known."""
        sessions = [member.session for member in self.members.values()]
        return [session.state for session in sessions if session is not None and session.state is not None]

    def is_open_to(self, permits: Permits) -> bool:
        """Whether `permits` is true of each run that must be permitted, as far as their states are known."""
        return self.guards.permit(permits, self.states)

    # -- items --

    def received(self, member: Member) -> None:
        """A run has new items."""
        if self._live and not member.held:
            self._send(member)

    def _begin_live(self) -> None:
        """Send what is from the past, in order, and what comes from now on as it comes."""
        self._live = True
        members = sorted(self.members.values(), key=lambda one: one.created_at)
        queues: list[list[Item]] = []
        for member in members:
            waiting = (at for at, item in enumerate(member.items) if self._holds(member, item))
            stop = next(waiting, len(member.items))
            queues.append(member.items[:stop])
            del member.items[:stop]
        starts = [member.created_at for member in members]
        ordered = in_order(queues, starts, sequential=self._membership.sequential)
        self._publish([(members[number], item) for number, item in ordered])
        for member in members:
            self._send(member)

    def _holds(self, member: Member, item: Item) -> bool:
        return self._membership.holds(self, member, item)

    def _send(self, member: Member) -> None:
        """Send the items of a run up to one that is held."""
        ready: list[tuple[Member, Item]] = []
        while member.items and not member.held:
            item = member.items[0]
            if self._holds(member, item):
                member.held = True
                self.in_background(self._settle(member, item))
                break
            ready.append((member, member.items.pop(0)))
        self._publish(ready)

    async def _settle(self, member: Member, item: Item) -> None:
        try:
            await self._membership.settle(self, member, item)
        except Exception as error:
            self._unforeseen(error)
        if self.closed or self.over:
            return
        member.held = False
        self._publish([(member, member.items.pop(0))])
        self._send(member)

    def _publish(self, items: list[tuple[Member, Item]]) -> None:
        sent: list[Item] = []
        last = False
        for member, item in items:
            if isinstance(item, End):
                if self._membership.ends(member):
                    last = True
                    self.status = item.status
                    sent.append(item)
                self._run_over(member)
            else:
                sent.append(member.marked(item))
        if sent and not self.closed and not self.over:
            self.over = last
            self._dispatcher.publish(sent)
            if last:
                self._finish()

    def announce(self, gap: StepGap) -> None:
        """Send a gap that concerns the stream itself."""
        if not self.closed and not self.over:
            self._dispatcher.publish([gap])

    def _run_over(self, member: Member) -> None:
        """Nothing more comes of a run: it is kept only as long as other clients need it."""
        member.over = True
        member.ended.set()
        self._release(member, at_once=False)

    def _finish(self) -> None:
        """The end was sent: nothing more is listened to."""
        self._release_all()
        self._ended(self)

    def lost(self, member: Member) -> None:
        """A run session was closed: clients that reconnect start from the beginning."""
        member.session = None
        if not self.over and not self.closed:
            self.closed = True
            self._ended(self)

    async def _rebuild(self) -> list[Event]:
        """Every lifecycle event of all runs from their current states. Raises HatchetError."""
        events: list[Event] = []
        for member in sorted(self.members.values(), key=lambda one: one.created_at):
            if member.session is not None:
                rebuilt = [member.marked(event) for event in await member.session.rebuild()]
                events += [event for event in rebuilt if isinstance(event, Event)]
        return events

    # -- for clients, as a run session --

    @property
    def state(self) -> CoreState | None:
        """The state of its oldest run, where it is known."""
        return next(iter(self.states), None)

    @property
    def caught_up(self) -> bool:
        """Whether what is from the past was sent; the end too, if the run that decides about it is over."""
        deciding = [member for member in self.members.values() if self._membership.ends(member)]
        states = [None if one.session is None else one.session.run.state for one in deciding]
        done = any(state is not None and state.done for state in states)
        return self.over or (self._live and not done)

    @property
    def traceparent(self) -> str | None:
        """The trace context of its oldest run."""
        session = next((one.session for one in self.members.values() if one.session is not None), None)
        return None if session is None else session.traceparent

    def holds(self, cursor: Cursor) -> bool:
        """Whether `cursor` was issued by this session."""
        return self._dispatcher.channel.ids.holds(cursor)

    # -- memory and the end --

    @property
    def bytes(self) -> int:
        """Bytes that its backlog holds."""
        return self._dispatcher.channel.held

    def shrink(self, to_bytes: int) -> None:
        """Evict the oldest frames until about `to_bytes` are left."""
        self._dispatcher.channel.shrink(to_bytes)

    def drop(self) -> None:
        """Close it: sessions that are still open end with `Ending.DROPPED`."""
        self.closed = True
        if not self._ready.done():
            self._fail(HatchetAway("the stream was closed"))
        self._dispatcher.close()
        self._release_all()

    def _release_all(self) -> None:
        for member in self.members.values():
            self._release(member, at_once=not self.over)
        self._background.cancel()
        no_more_needed, self._no_more_needed = self._no_more_needed, None
        if no_more_needed is not None:
            no_more_needed()

    def _release(self, member: Member, *, at_once: bool) -> None:
        session = member.session
        if session is not None and member.leased:
            member.leased = False
            session.unlisten(member)
            if self._feed is not None:
                self._feed.detach(session.run)
            self.runs.release(session, at_once=at_once)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` beside everything else, until the session is over."""
        self._background.start(work)
