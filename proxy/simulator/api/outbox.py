"""Outbox: what a subscription has sent and its gRPC stream has not yet written."""

from __future__ import annotations

import asyncio
from collections import deque


class Outbox:
    """A subscription's listener: a queue of messages, and the task that waits for them."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.ended: tuple[str, str] | None = None
        self._more: asyncio.Future[None] | None = None

    def send(self, wire: bytes) -> None:
        self.waiting.append(wire)
        self._wake()

    def end(self, status: str, details: str = "") -> None:
        self.ended = (status, details)
        self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def more(self) -> None:
        """Wait until there is a message, or the end."""
        if not self.waiting and self.ended is None:
            self._more = asyncio.get_running_loop().create_future()
            await self._more
