"""Leadership: one run while this replica leads it, from the fence to the handover, also without the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from proxy.log.base import LogAway, Record
from proxy.replicas.context import Context
from proxy.replicas.flushes import Flushes
from proxy.replicas.hatchet_source import HatchetSource
from proxy.replicas.log_reader import LogReader
from proxy.replicas.progress import Step
from proxy.replicas.run_state import Role, RunState
from proxy.replicas.writer import Writer

GIVEN_WITHIN: Final = 5.0
"""Seconds that a leader without clients waits for another replica to take a run over that it gives up."""


class Leadership:
    """The lead of one run; `local`: it is served without the log."""

    def __init__(
        self,
        state: RunState,
        context: Context,
        *,
        source: HatchetSource,
        reader: LogReader,
        finished: Callable[[], None],
    ) -> None:
        """`finished` is called when the verified end is stored, and was served."""
        self._state = state
        self._context = context
        self._log = context.log
        self._source = source
        self._reader = reader
        self._finished = finished
        self._writer: Writer | None = None
        self._flushes: Flushes | None = None
        self._given = asyncio.Event()  # another replica has taken the lead

    @property
    def local(self) -> bool:
        """Whether the run is served without the log."""
        return self._state.role is Role.LEADING and self._writer is not None and self._writer.local

    def begin(self, *, local: bool = False) -> None:
        """Lead, from the next position on."""
        state = self._state
        state.role = Role.LEADING
        self._given.clear()
        self._context.session.share(state.progress.fences, state.progress.contents)
        self._writer = Writer(
            self._log,
            state.name,
            state.progress,
            self._context.session,
            contents=state.progress.contents.copy(),
            taken=self._taken,
            apart=self._go_apart,
            finished=self._stored,
            unforeseen=self._context.environment.unforeseen,
        )
        if local:
            self._writer.go_local()
        self._flushes = Flushes(self._writer, self._context.environment.merge_times)
        if state.progress.position:  # chunks that another leader has appended may wait
            self._flushes.ask_all()
        self._source.feed(self._flushes.publish)

    def received(self, records: Sequence[Record]) -> None:
        """Records were appended to the log: another replica's, if their fence is higher."""
        if records[-1].fence > self._state.progress.fence and self._writer is not None:
            self._writer.look()

    def look(self, *, after: float = 0.0) -> None:
        """Compare the end of the log with what was served, in `after` seconds."""
        if self._writer is not None:
            self._writer.look(after=after)

    def go_local(self) -> None:
        """Serve without the log, until the log can be used again."""
        if self._writer is not None:
            self._writer.go_local()

    def ask_flush(self, milliseconds: int) -> None:
        """Chunks wait for a rule with this `merge`: append a flush in time."""
        if self._flushes is not None:
            self._flushes.ask(milliseconds)

    def _stored(self) -> None:
        self._close_flushes()
        self._log.seal(self._state.name, self._context.log_keep)
        self._finished()

    # -- another replica leads --

    def _taken(self) -> None:
        self._context.background.start(self._follow_another())

    async def _follow_another(self) -> None:
        state, writer = self._state, self._writer
        if writer is None or state.role is not Role.LEADING:
            return
        try:
            records = await self._log.read(state.name, state.progress.last_id)
        except LogAway:
            return  # it is looked at again when the log can be reached
        self._context.counters.leads_lost += 1
        if state.progress.apply(records) is not Step.FINE:
            self._go_apart()
            return
        writer.close()
        self._close_flushes()
        self._writer = None
        state.role = Role.FOLLOWING
        self._given.set()
        self._source.hold()
        self._source.stop()
        if state.progress.over:
            self._finished()

    def _go_apart(self) -> None:
        """The log holds other items than were served here: serve from memory until the run is over."""
        self._state.apart = True
        self._given.set()
        self._reader.end()
        if self._writer is not None and self._state.progress.position:
            self._writer.go_local()
            self._context.set_apart()
        else:
            self._context.discard()

    # -- giving it away --

    async def give_away(self, seconds: float) -> bool:
        """Wait until another replica leads; False where none does within `seconds`."""
        if self._state.role is not Role.LEADING or self.local:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._given.wait()
            return True
        except TimeoutError:
            return self._state.role is not Role.LEADING

    async def resign(self) -> None:
        """Let a replica that follows the run lead it; where there is none, write that nobody leads."""
        state = self._state
        if state.role is not Role.LEADING or self.local or state.progress.over:
            return
        try:
            if await self._log.followers(state.name) > 1:
                self._log.announce(["resign", state.name])
                if await self.give_away(GIVEN_WITHIN):
                    return
            if self._writer is not None and self._writer.idle:
                number, position = state.progress.fence + 1, state.progress.position
                await self._log.fence(state.name, state.fence(number, position, ""), create=False)
        except LogAway:
            return  # the others notice that this replica is gone

    def close(self) -> None:
        """Append nothing more."""
        self._close_flushes()
        if self._writer is not None:
            self._writer.close()

    def _close_flushes(self) -> None:
        if self._flushes is not None:
            self._flushes.close()
            self._flushes = None
