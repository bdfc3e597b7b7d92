"""Clock: the time and the timers that the shell uses, so that tests can turn them by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds, and a sleep on them."""

    def now(self) -> float:
        """Monotonic seconds; only differences mean something."""

    async def sleep(self, seconds: float) -> None:
        """Come back after `seconds`."""


class LoopClock:
    """The real clock."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
