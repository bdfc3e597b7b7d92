"""Delivery: brings items to a collector in a thread of its own; never waits for it, never grows.

The event loop's only part is an append to a queue. While the collector is away or slow, the thread waits for
it, the queue fills, and an item that finds it full is counted and dropped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from proxy.observability.counters import Undelivered

T = TypeVar("T")


class Delivery(Generic[T]):
    """A queue of items and the thread that sends them, which ends with the process (a daemon)."""

    def __init__(
        self,
        send: Callable[[Sequence[T]], bool],
        undelivered: Undelivered,
        *,
        name: str,
        capacity: int,
        batch: int,
        pause: float,
    ) -> None:
        """`send` sends a batch and returns whether the collector took it; it may block and raise.

        `capacity`: how many items may wait. `batch`: how many are sent at once. `pause`: seconds between
        sends while there are fewer.
        """
        self._send = send
        self._undelivered = undelivered
        self._capacity = capacity
        self._batch = min(batch, capacity)
        self._pause = pause
        self._queue: deque[T] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread: Final = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: T) -> None:
        """Take an item, or drop it if too many wait. Call it from one thread only."""
        if len(self._queue) >= self._capacity or self._closing:
            self._undelivered.no_room += 1
            return
        self._queue.append(item)
        if len(self._queue) >= self._batch:
            self._wake.set()

    def close(self, seconds: float) -> None:
        """Send what waits, for at most `seconds`; the rest is dropped."""
        self._closing = True
        self._wake.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._undelivered.no_room += len(self._queue)
            self._queue.clear()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._pause)
            self._wake.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while self._queue:
            items: list[T] = []
            while self._queue and len(items) < self._batch:
                items.append(self._queue.popleft())
            try:
                taken = self._send(items)
            except Exception:  # an exporter's defect must not end the thread; the items are counted as lost
                taken = False
            if not taken:
                self._undelivered.refused += len(items)
