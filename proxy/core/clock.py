"""The clock that everything with a timer is given, so that tests can advance it by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds, and a sleep on them."""

    def now(self) -> float:
        """Monotonic seconds; only differences are meaningful."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class LoopClock:
    """The real clock."""

    now = staticmethod(time.monotonic)  # no method around it: it is called for each event

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
