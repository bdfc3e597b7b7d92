"""Outage: one run while the log is away: a leader serves from memory, a follower leads for itself."""

from __future__ import annotations

import asyncio
from typing import Final

from proxy.replicas.context import Context
from proxy.replicas.leadership import Leadership
from proxy.replicas.log_reader import LogReader
from proxy.replicas.run_state import Role, RunState

LOCAL_AFTER: Final = 1.0
"""Seconds without the log after which a leader serves from memory. A new connection takes less time."""
ALONE_AFTER: Final = 3.0
"""Seconds without the log after which a follower with clients follows the run by itself."""
WANTED_EVERY: Final = 1.0
"""Seconds between two looks whether a follower has clients."""


class Outage:
    """Serves one run while the log is away."""

    def __init__(
        self, state: RunState, context: Context, *, reader: LogReader, leadership: Leadership
    ) -> None:
        self._state = state
        self._log = context.log
        self._reader = reader
        self._leadership = leadership
        self._environment = context.environment
        self._background = context.background
        self._clock = context.clock
        self._waiting: asyncio.Task[None] | None = None

    def begins(self) -> None:
        """The log cannot be reached."""
        if self._waiting is None and self._state.role in (Role.LEADING, Role.FOLLOWING):
            self._waiting = asyncio.get_running_loop().create_task(self._serve_without())

    def ends(self) -> None:
        """The log can be reached again, or may have lost something."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._state.apart:
            return
        if self._state.role is Role.LEADING:
            self._leadership.look(after=LOCAL_AFTER * 2 if self._leadership.local else 0.0)
        elif self._state.role is Role.FOLLOWING:
            self._background.start(self._reader.catch_up())

    async def _serve_without(self) -> None:
        if self._state.role is Role.LEADING:
            await self._clock.sleep(LOCAL_AFTER)
            self._leadership.go_local()
            return
        await self._clock.sleep(ALONE_AFTER)
        while not self._environment.is_wanted(self._state.run_id):
            await self._clock.sleep(WANTED_EVERY)
        if self._state.role is Role.FOLLOWING and not self._log.is_up:
            self._state.lead_alone()
            self._leadership.begin(local=True)

    def close(self) -> list[asyncio.Task[None]]:
        """Wait for nothing any more; the task that is ending now, if there is one."""
        if self._waiting is None:
            return []
        self._waiting.cancel()
        return [self._waiting]
