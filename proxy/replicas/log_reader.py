"""LogReader: serves one run from the records that its leader has appended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from proxy.log.base import LogAway, LogListener, Record
from proxy.replicas.context import Context
from proxy.replicas.progress import Step
from proxy.replicas.run_state import Role, RunState


class LogReader:
    """Reads the log of one run while this replica opens or follows it."""

    def __init__(
        self, state: RunState, context: Context, listener: LogListener, *, finished: Callable[[], None]
    ) -> None:
        """`listener` receives the log's records; `finished` is called when the verified end was served."""
        self._state = state
        self._log = context.log
        self._listener = listener
        self._counters = context.counters
        self._background = context.background
        self._discard = context.discard
        self._finished = finished
        self._reading = asyncio.Lock()
        self._early: list[Record] = []  # records that came while the log was being read

    async def begin(self) -> list[Record]:
        """Follow the log, and read it from its beginning. Raises LogAway."""
        self._early = []
        await self._log.follow(self._state.name, self._listener)
        return await self._log.read(self._state.name)

    def end(self) -> None:
        """Stop reading the log."""
        self._log.unfollow(self._state.name, self._listener)

    def follow(self) -> None:
        """Read again, if records came while the log was being read."""
        if self._early:
            self._background.start(self.catch_up())

    def received(self, records: Sequence[Record]) -> None:
        """The leader has appended records."""
        state = self._state
        if state.role is Role.OPENING or self._reading.locked():
            self._early += records
            return
        if state.role is not Role.FOLLOWING:
            return
        step = self._apply(records)
        if step is Step.FINE:
            self._finish_if_over()
        else:
            self._background.start(self.catch_up())

    async def catch_up(self) -> None:
        """Read the log's next records, until there are no more."""
        state = self._state
        async with self._reading:
            step = Step.HOLE
            while step is Step.HOLE and state.role is Role.FOLLOWING:
                try:
                    records = await self._log.read(state.name, state.progress.last_id)
                except LogAway:
                    self._early = []
                    return
                early, self._early = self._early, []
                if state.role is not Role.FOLLOWING:
                    return
                if self._apply(records) is not Step.FINE:
                    step = Step.APART
                    break
                step = self._apply(early)
        if step is Step.APART:
            self._discard()
        self._finish_if_over()

    def _apply(self, records: Sequence[Record]) -> Step:
        progress = self._state.progress
        before = progress.position
        step = progress.apply(records)
        self._counters.received += progress.position - before
        return step

    def _finish_if_over(self) -> None:
        if self._state.role is Role.FOLLOWING and self._state.progress.over:
            self._finished()
