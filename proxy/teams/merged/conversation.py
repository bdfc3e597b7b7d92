"""Conversation: every run that carries a metadata pair and has no parent, the oldest first, without an end.

The history's list has the runs so far. A new one is noticed by its first event on the team's tap or on the
conversation's own subscription by the pair, and by the list, which is read again and again.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from config.expressions.globs import matches
from proxy.core.events import GapCause, Item, StepGap
from proxy.core.observations import PARENT_RUN, CoreState, ListedRun
from proxy.hatchet.errors import HatchetError
from proxy.hatchet.upstream import Upstream
from proxy.streams.merged.membership import Member
from proxy.streams.merged.session import MOST_RUNS, MergedSession
from proxy.teams.merged.newcomers import Newcomers

LOOK_AGAIN: Final = 1.0
"""Seconds between two reads of the list, where no subscription delivers new turns."""
LOOK_RARELY: Final = 15.0  # seconds between them, where one does
BEHIND: Final = 0.1  # seconds between two looks for a turn that is not in the list yet
LOOKS: Final = 20  # such looks
LONGEST_SORTING: Final = 5.0
"""Seconds for which old turns are waited for, so that they come before what happens now."""


class Conversation:
    """The membership of all runs with one pair."""

    settle_time: float = LONGEST_SORTING
    guarded = True
    sequential = True

    def __init__(
        self,
        key: str,
        value: str,
        workflows: tuple[str, ...] | None,
        *,
        upstream: Upstream,
        newcomers: Newcomers,
        most: int | None,
        live: bool,
    ) -> None:
        """`workflows`: globs of the stream's workflows, None for all. `most`: ``limits.runs``.

        `live`: a subscription brings the events of runs that nobody follows yet.
        """
        self._live = live
        self._pair = (key, value)
        self._workflows = workflows
        self._upstream = upstream
        self._newcomers = newcomers
        self._most = min(MOST_RUNS, most or MOST_RUNS)

    async def first(self, session: MergedSession) -> None:
        """The runs that the list has by now; of too many the newest, after a gap."""
        found = await self._listed()
        if len(found) > self._most:
            session.announce(StepGap(GapCause.BACKLOG, None, None, None))
            found = found[-self._most :]
        for run in found:
            session.add(run.run_id, created_at=run.created_at, past=run.over)

    async def watch(self, session: MergedSession) -> None:
        """Add each turn that begins."""

        def begun(state: CoreState) -> None:
            if state.metadata.get(self._pair[0]) == self._pair[1] and PARENT_RUN not in state.metadata:
                session.in_background(self._begun(session, state.run_id))

        self._newcomers.watch(begun)
        try:
            while True:
                await asyncio.sleep(LOOK_RARELY if self._live else LOOK_AGAIN)
                await self._look(session)
        finally:
            self._newcomers.unwatch(begun)

    async def _begun(self, session: MergedSession, run_id: str) -> None:
        """Add a turn at once, or as soon as the list names its workflow."""
        if self._workflows is None:
            session.add(run_id, created_at=time.time_ns())
            return
        for _ in range(LOOKS):
            await self._look(session)
            if run_id in session.members:
                return
            await asyncio.sleep(BEHIND)

    async def _look(self, session: MergedSession) -> None:
        try:
            found = await self._listed()
        except HatchetError:
            return  # the next look has it
        for run in found:
            session.add(run.run_id, created_at=run.created_at)

    async def _listed(self) -> list[ListedRun]:
        """The runs of the conversation in the list, the oldest first."""
        rows = await self._upstream.runs_with(*self._pair, self._most + 1)
        rows = [row for row in rows if not row.is_child and self._is_of_workflow(row.workflow)]
        return sorted(rows, key=lambda row: row.created_at)

    def _is_of_workflow(self, name: str | None) -> bool:
        return self._workflows is None or (name is not None and matches(self._workflows, name))

    def holds(self, session: MergedSession, member: Member, item: Item) -> bool:
        """Nothing waits for anything."""
        del session, member, item
        return False

    async def settle(self, session: MergedSession, member: Member, item: Item) -> None:
        """Nothing waits for anything."""

    def ends(self, member: Member) -> bool:
        """It has no end."""
        del member
        return False
