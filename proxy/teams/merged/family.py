"""Family: a run and everything that its steps started, at any depth. Its end is the root's.

The engine puts the ids of the parent run and the parent step into each child's metadata, so one read of a
child's core state names its parent, 50 to 100 ms before the history lists it. Which runs begin is known
from the first event that a subscription brings (`proxy.teams.merged.newcomers`), and from the history's list
by the parent's id. The list is read when a client comes, again and again while runs go on, and once more at
the root's end, when the history has that end too: then it has every child that the run started.

A step's end waits for the ends of the children that it started, as far as these are over: so what happened
before is also sent before.
"""

from __future__ import annotations

import asyncio
from typing import Final

from config.expressions.globs import matches
from proxy.core.events import RUN_EVENTS, STEP_ENDS, Event, GapCause, Item, StepGap
from proxy.core.observations import OVER, PARENT_RUN, PARENT_STEP, CoreState, ListedRun
from proxy.hatchet.errors import HatchetError
from proxy.hatchet.upstream import Upstream
from proxy.streams.merged.membership import Member
from proxy.streams.merged.session import MOST_RUNS, MergedSession
from proxy.streams.stream import LiveStream
from proxy.teams.merged.newcomers import Newcomers

SORTING: Final = 2.0  # seconds for which children that are over are waited for, to sort what happened
LOOK_AGAIN: Final = 1.0  # seconds between two reads of the lists, where no subscription delivers new runs
LOOK_RARELY: Final = 5.0  # seconds between them, where one does
LOOKS_AT_ONCE: Final = 8  # lists that are read at the same time
END_OF_CHILD: Final = 2.0  # seconds for which the end of a child is waited for that is over
ASKED: Final = 5  # reads of a child's core state until it is taken for one that goes on
ASK_PAUSE: Final = 0.1  # seconds between them
NAMING: Final = 2.0  # seconds for which the history is asked for the workflow of a child
PAUSE: Final = 0.05  # seconds between two reads of the history, which is 50 to 100 ms behind
LAST_LOOK: Final = 5.0  # seconds for which the history is asked for the last children


class Family:
    """The membership of one run and its children."""

    settle_time: float = SORTING
    guarded = False  # a client that may read a run may read the runs that it started
    sequential = False

    def __init__(
        self, root: str, stream: LiveStream, *, upstream: Upstream, newcomers: Newcomers, live: bool
    ) -> None:
        """`live`: a subscription brings the events of children that nobody follows yet."""
        self._root = root
        self._stream = stream
        self._upstream = upstream
        self._newcomers = newcomers
        self._live = live
        self._settled: set[tuple[str, str | None, str]] = set()  # items that need not wait again
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)

    # -- which runs --

    async def first(self, session: MergedSession) -> None:
        """The root, and every child that is listed."""
        session.add(self._root, created_at=1)
        await self._look(session, [self._root])

    async def watch(self, session: MergedSession) -> None:
        """Add each child that begins."""

        def begun(state: CoreState) -> None:
            if state.metadata.get(PARENT_RUN) in session.members:
                session.in_background(self._add(session, ListedRun(state.run_id, None, 0, state.metadata)))

        self._newcomers.watch(begun)
        try:
            while True:
                await asyncio.sleep(LOOK_RARELY if self._live else LOOK_AGAIN)
                going_on = [member.run_id for member in session.members.values() if not member.over]
                try:
                    await self._look(session, going_on)
                except HatchetError:
                    continue  # the next look has it
        finally:
            self._newcomers.unwatch(begun)

    async def _look(self, session: MergedSession, runs: list[str]) -> None:
        """Add the children of `runs` that are listed, and theirs. Raises HistoryAway."""
        while runs and not session.closed:
            known = set(session.members)
            await asyncio.gather(*(self._children_of(session, run) for run in runs))
            runs = [run for run in session.members if run not in known]

    async def _children_of(self, session: MergedSession, run_id: str) -> None:
        async with self._looks:
            if session.closed:
                return
            listed = await self._upstream.runs_with(PARENT_RUN, run_id, MOST_RUNS + 1)
        rows = [row for row in listed if row.run_id not in session.members]
        room = MOST_RUNS + 1 - len(session.members)
        if len(rows) >= room:  # none of them is followed: reading so many states is what must not happen
            session.refuse()
            return
        for row in sorted(rows, key=lambda one: one.created_at):
            await self._add(session, row)

    async def _add(self, session: MergedSession, run: ListedRun) -> None:
        """Add a child, with what it was started by, and whether a rule may forward its events."""
        parent = session.members.get(str(run.metadata.get(PARENT_RUN)))
        if parent is None or run.run_id in session.members:
            return
        workflow = run.workflow
        if workflow is None and self._stream.depends_on_workflow:
            workflow = await self._workflow_of(run.run_id)
        step_run_id = str(run.metadata.get(PARENT_STEP))
        session.add(
            run.run_id,
            created_at=run.created_at,
            past=run.over,
            workflow=workflow,
            parent={
                "run_id": parent.run_id,
                "step": await self._step(parent, step_run_id),
                "workflow": await self._parent_workflow(parent),
            },
            parent_step=step_run_id,
            followed=self._is_forwarded(workflow),
        )

    def _is_forwarded(self, workflow: str | None) -> bool:
        """Whether a rule may take events of runs of this workflow."""
        wanted = [rule.workflows for rule in self._stream.config.rules]
        return any(globs is None or (workflow is not None and matches(globs, workflow)) for globs in wanted)

    async def _workflow_of(self, run_id: str) -> str | None:
        """The name of a run's workflow, as soon as the history knows it."""
        try:
            async with asyncio.timeout(NAMING):
                while True:
                    past = await self._upstream.past(run_id)
                    if past is not None and past.workflow is not None:
                        return past.workflow
                    await asyncio.sleep(PAUSE)
        except (HatchetError, TimeoutError):
            return None

    async def _parent_workflow(self, parent: Member) -> str | None:
        if parent.workflow is not None:
            return parent.workflow
        if parent.session is not None and parent.session.workflow is not None:
            return parent.session.workflow
        if not self._stream.shows_workflow:
            return None
        return await self._workflow_of(parent.run_id)

    async def _step(self, parent: Member, step_run_id: str) -> str | None:
        """The name of the step that started a child."""
        state = None if parent.session is None else parent.session.run.state
        name = None if state is None else _name_of(state, step_run_id)
        if name is not None:
            return name
        try:
            return _name_of(await self._upstream.core(parent.run_id), step_run_id)
        except HatchetError:
            return None

    # -- the order --

    def holds(self, session: MergedSession, member: Member, item: Item) -> bool:
        """A step's end waits for its children, the root's end for all of them."""
        if not isinstance(item, Event) or (item.type not in RUN_EVENTS and item.type not in STEP_ENDS):
            return False
        if (item.run_id, item.step_run_id, item.type) in self._settled:
            return False
        if item.type in RUN_EVENTS:
            return member.run_id == self._root
        return any(
            child.followed and child.parent_step == item.step_run_id and not _has_ended(child)
            for child in session.members.values()
        )

    async def settle(self, session: MergedSession, member: Member, item: Item) -> None:
        """Wait for the children that are over; at the root's end also for those that are not known yet."""
        assert isinstance(item, Event)
        self._settled.add((item.run_id, item.step_run_id, item.type))
        if item.type in RUN_EVENTS:
            await self._last_look(session)
            children = [child for child in session.members.values() if child is not member]
        else:
            children = [child for child in session.members.values() if child.parent_step == item.step_run_id]
        await asyncio.gather(*(self._end_of(child) for child in children))

    async def _last_look(self, session: MergedSession) -> None:
        """Look once more when the history knows the root's end: then it has every child that was started."""
        try:
            async with asyncio.timeout(LAST_LOOK):
                while True:
                    past = await self._upstream.past(self._root)
                    if past is not None and past.status.value in OVER:
                        break
                    await asyncio.sleep(PAUSE)
                await self._look(session, list(session.members))
        except (HatchetError, TimeoutError):
            session.announce(StepGap(GapCause.UPSTREAM, None, None, None))

    async def _end_of(self, child: Member) -> None:
        """Wait until the items of a child that is over have come; one that goes on is not waited for.

        The core says `done` some 0.2 s after a parent has the child's result, and the proof of the end takes
        its time too. So a child whose steps have all ended is waited for longer.
        """
        if not child.followed:
            return
        asked = 0
        try:
            async with asyncio.timeout(END_OF_CHILD):
                while not child.over and (asked < ASKED or child.seems_over):
                    asked += 1
                    if (await self._upstream.core(child.run_id)).done:
                        await child.ended.wait()
                    else:
                        await asyncio.sleep(ASK_PAUSE)
        except (HatchetError, TimeoutError):
            return

    def ends(self, member: Member) -> bool:
        """The end of the stream is that of the root."""
        return member.run_id == self._root


def _has_ended(child: Member) -> bool:
    return child.over or (child.finished and not child.held)


def _name_of(state: CoreState, step_run_id: str) -> str | None:
    return next((step.name for step in state.steps if step.step_run_id == step_run_id), None)
