"""Opening: reads a run's log for the first time, and decides what this replica does for the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from proxy.hatchet.errors import HatchetError
from proxy.log.base import Life, LogAway
from proxy.replicas.context import Context
from proxy.replicas.hatchet_source import HatchetSource
from proxy.replicas.leadership import Leadership
from proxy.replicas.log_reader import LogReader
from proxy.replicas.progress import Step
from proxy.replicas.run_state import Role, RunState, now_ms
from proxy.replicas.standby import Standby

CREATE_WITHIN: Final = 2.0
"""Seconds for which one replica alone may begin a log: two at once would take it from each other."""
LOOK_AFTER: Final = 1.0  # seconds until a log that could not be opened is tried again
AGAIN: Final = (0.05, 0.2)
"""Seconds, at least and at most, after which a log is read again that another replica is creating."""


class Opening:
    """The opening of one run."""

    def __init__(
        self,
        state: RunState,
        context: Context,
        *,
        source: HatchetSource,
        reader: LogReader,
        leadership: Leadership,
        standby: Standby,
        finished: Callable[[], None],
    ) -> None:
        """`finished`: called when the log has the verified end, and it was served."""
        self._state = state
        self._context = context
        self._log = context.log
        self._session = context.session
        self._source = source
        self._reader = reader
        self._leadership = leadership
        self._standby = standby
        self._finished = finished
        self._task: asyncio.Task[None] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether `begin` was called."""
        return self._task is not None

    def begin(self) -> None:
        """Open the run, whose metadata is known."""
        self._task = asyncio.get_running_loop().create_task(self._open())

    async def done(self) -> None:
        """Wait until this replica has a role."""
        assert self._task is not None
        await asyncio.shield(self._task)

    def close(self) -> list[asyncio.Task[None]]:
        """Give up; the task that is ending now, if there is one."""
        if self._task is None:
            return []
        self._task.cancel()
        return [self._task]

    async def _open(self) -> None:
        try:
            while not await self._open_log():
                await self._context.clock.sleep(self._context.rng.uniform(*AGAIN))
        except Exception as error:
            if not isinstance(error, LogAway):
                self._context.environment.unforeseen(error)
            self._state.begin(now_ms())
            self._leadership.begin(local=True)
            if self._log.is_up:  # it refused a command: no `connected` will follow
                self._leadership.look(after=LOOK_AFTER)
        self._session.share(self._state.progress.fences, self._state.progress.contents)

    async def _open_log(self) -> bool:
        """Read the log and take a role; False: try again."""
        state = self._state
        records = await self._reader.begin()
        if not records:
            return await self._create(now_ms())
        tail = records[-1]
        state.forget()
        if state.progress.load(records) is not Step.FINE:
            return await self._create(tail.fence + 1)
        self._session.share(state.progress.fences, state.progress.contents)
        if state.progress.over:
            if await self._was_replayed():
                return await self._create(tail.fence + 1)
            self._finished()
            return True
        state.role = Role.FOLLOWING
        self._source.forget_searches()
        self._reader.follow()
        life = await self._log.life(tail.replica) if tail.replica else Life.DEAD
        if life is Life.DEAD or tail.replica == self._log.replica:
            await self._standby.take_over(tail.replica)
        elif life is Life.LEAVING:
            self._standby.take_over_soon()
        return True

    async def _create(self, number: int) -> bool:
        """Begin a new generation in the log; False where another replica does."""
        name = self._state.name
        if not await self._log.claim(f"create:{name}", CREATE_WITHIN):
            return False
        if any(record.fence >= number for record in await self._log.read(name)):
            return False
        self._state.begin(number)
        if not await self._log.fence(name, self._state.fence(number, 0), create=True):
            return False
        self._leadership.begin()
        return True

    async def _was_replayed(self) -> bool:
        """Whether a run whose log has its end has gone on since."""
        try:
            events = await self._session.rebuild()
            core = await self._context.upstream.core(self._state.run_id)
        except HatchetError:
            return False
        return not core.done or any(not self._state.progress.contents.holds(event) for event in events)
