"""Standby: this replica as the next leader of one run, which takes the run over.

A replica that stands by follows the run at Hatchet beside the leader, so that nothing is missing when it
takes over.
"""

from __future__ import annotations

from typing import Final

from proxy.log.base import LogAway
from proxy.replicas.context import Context
from proxy.replicas.hatchet_source import HatchetSource
from proxy.replicas.leadership import Leadership
from proxy.replicas.log_reader import LogReader
from proxy.replicas.run_state import Role, RunState

READY_WITHIN: Final = 3.0
"""Seconds that a replica which stands by waits for its first item before it takes over."""


class Standby:
    """This replica as the next leader of one run."""

    def __init__(
        self,
        state: RunState,
        context: Context,
        *,
        source: HatchetSource,
        reader: LogReader,
        leadership: Leadership,
    ) -> None:
        self._state = state
        self._log = context.log
        self._source = source
        self._reader = reader
        self._leadership = leadership
        self._counters = context.counters
        self._background = context.background
        self._for_long = False  # it was asked to stand by, not to take over

    @property
    def stands_by(self) -> bool:
        """Whether it follows the run at Hatchet beside the leader."""
        return self._state.role is Role.FOLLOWING and self._source.is_followed

    def stand_by(self) -> None:
        """Follow the run at Hatchet beside the leader."""
        if self._state.role is Role.FOLLOWING:
            self._for_long = True
            self._source.start()

    def take_over_soon(self) -> None:
        """Stand by, and take over as soon as that brings the run's items: the leader goes on until then."""
        if self._state.role is Role.FOLLOWING:
            self._background.start(self._take_over_when_ready(self._state.progress.leader))

    async def _take_over_when_ready(self, leader: str) -> None:
        self._source.start()
        await self._source.brought(READY_WITHIN)
        if not await self.take_over(leader) and not self._for_long:
            self._source.stop()

    async def take_over(self, leader: str) -> bool:
        """Lead in place of `leader` from now on; False where another replica does."""
        state = self._state
        if state.role is not Role.FOLLOWING:
            return False
        try:
            await self._reader.catch_up()
            if state.role is not Role.FOLLOWING or state.progress.leader != leader:
                return False
            number, start = state.progress.fence + 1, state.progress.position + 1
            if not await self._log.fence(state.name, state.fence(number, start - 1), create=False):
                if await self._log.tail(state.name) is None:
                    return self._lead_again()
                await self._reader.catch_up()
                return False
        except LogAway:
            return False
        if state.role is not Role.FOLLOWING or state.progress.fence >= number:
            return False
        self._counters.take_overs += 1
        state.progress.lead(number, state.replica, start)
        state.progress.last_id = (number, start - 1)
        self._leadership.begin()
        return True

    def _lead_again(self) -> bool:
        """Lead a run whose log is gone: write it again from the retained items."""
        self._counters.take_overs += 1
        self._state.lead_next()
        self._leadership.begin()
        self._leadership.look()
        return True
