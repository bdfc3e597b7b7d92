"""Outbox: what a subscription has to say and its stream has not yet sent."""

from __future__ import annotations

import asyncio
from collections import deque


class Outbox:
    """A feed's listener on the loop: bytes in, and someone who waits for them."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.ended: tuple[str, str] | None = None
        self._more: asyncio.Future[None] | None = None

    def give(self, wire: bytes) -> None:
        self.waiting.append(wire)
        self._wake()

    def end(self, status: str, details: str = "") -> None:
        self.ended = (status, details)
        self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def more(self) -> None:
        """Come back when there is something to send, or the end."""
        if not self.waiting and self.ended is None:
            self._more = asyncio.get_running_loop().create_future()
            await self._more
