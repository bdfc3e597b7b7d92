"""Asks about a team's Hatchet, history and issuer while no client does: trouble is known within a minute.

Each team is asked in a task of its own, so that one that does not answer delays no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from proxy.core.clock import Clock, LoopClock

EVERY: Final = 20.0
"""Seconds between two probes of a team. With the longest time-out of a call (10 s) trouble is known in half a
minute, and reported before the minute that is promised has passed."""
SPREAD: Final = 0.25  # of EVERY: how much earlier or later a probe may come, so that teams do not ask at once


class Prober:
    """Calls `probe` soon, then every `EVERY` seconds, until it is closed."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        unforeseen: Callable[[Exception], None],
        *,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        """`unforeseen` is called with exceptions of `probe`; the next probe comes all the same."""
        self._probe = probe
        self._unforeseen = unforeseen
        self._clock = clock or LoopClock()
        self._rng = rng or Random()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with the first probe."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """End it; nothing is asked after that."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            try:
                await self._probe()
            except Exception as error:
                self._unforeseen(error)
            await self._clock.sleep(EVERY * self._rng.uniform(1.0 - SPREAD, 1.0 + SPREAD))
