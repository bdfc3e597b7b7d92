"""GroupedReads: reads the sockets of busy teams together, once in a READ_PAUSE, past the loop's own polling.

A transport that is only paused stays registered with the kernel: the next byte wakes the loop up, libuv
takes the socket out then, and ``resume_reading`` puts it in again (libuv's `uv__io_stop` and `uv__io_poll`).
For a process that slept, each of these wake-ups costs as much as some events do. So the sockets of busy
connections wait in a selector of their own, which is looked at once in a READ_PAUSE:

    loop's selector    accept, clients, quiet teams
    own selector       busy teams        ──every READ_PAUSE──▶ read everything that has come

Only plain sockets can be read past their transport. A connection with TLS is paused instead.
"""

from __future__ import annotations

import asyncio
import os
import selectors
from typing import Final, Protocol

READ_PAUSE: Final = 0.005  # seconds: too short to be seen in a browser
BUSY_RATE: Final = 1000  # frames a second: with fewer, a pause saves little
BUSY_BURST: Final = 5  # frames beyond BUSY_RATE from which a team is busy; at most twice as many are counted
IDLE_TICKS: Final = 10  # pauses after which silent connections are asked whether they are busy still
READ_BYTES: Final = 64 * 1024  # bytes of one read; glibc maps larger blocks anew each time


class Reader(Protocol):
    """A connection whose transport is paused."""

    def read_now(self) -> None:
        """A READ_PAUSE is over, and the socket has data, its end or an error."""

    def nothing_came(self) -> None:
        """The socket has nothing to read. It is said once in IDLE_TICKS pauses."""


class LeakyBucket:
    """Counts frames, and forgets BUSY_RATE of them a second."""

    __slots__ = ("_counted_at", "_held")

    def __init__(self) -> None:
        self._held = self._counted_at = 0.0

    def is_full(self, frames: int, now: float) -> bool:
        """Count `frames` that came at `now` (seconds); whether it holds BUSY_BURST frames or more."""
        held = max(0.0, self._held - BUSY_RATE * (now - self._counted_at)) + frames
        self._held, self._counted_at = min(held, 2.0 * BUSY_BURST), now
        return held >= BUSY_BURST


class GroupedReads:
    """Shared by the teams of a process, all on one loop."""

    def __init__(self) -> None:
        self._selector: selectors.BaseSelector | None = None  # open while there are readers
        self._readers: dict[int, Reader] = {}
        self._ticks = 0

    def add(self, fd: int, reader: Reader) -> None:
        """Tell `reader` after each READ_PAUSE when `fd` can be read, until it is removed."""
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
            asyncio.get_running_loop().call_later(READ_PAUSE, self._tick)
        if fd in self._readers:  # of a socket that was closed without its reader's knowledge
            self._selector.unregister(fd)
        self._selector.register(fd, selectors.EVENT_READ)
        self._readers[fd] = reader

    def remove(self, fd: int, reader: Reader) -> None:
        """Tell `reader` nothing more."""
        if self._readers.get(fd) is reader and self._selector is not None:
            del self._readers[fd]
            self._selector.unregister(fd)

    def _tick(self) -> None:
        selector = self._selector
        if selector is None:
            return
        if not self._readers:
            selector.close()
            self._selector = None
            return
        asyncio.get_running_loop().call_later(READ_PAUSE, self._tick)
        readable = {key.fd: self._readers[key.fd] for key, _ in selector.select(0)}
        for fd, reader in readable.items():
            if self._readers.get(fd) is reader:
                reader.read_now()
        self._ticks += 1
        if self._ticks % IDLE_TICKS == 0:
            for fd, reader in tuple(self._readers.items()):
                if fd not in readable:
                    reader.nothing_came()


def read(fd: int) -> bytes:
    """What a socket holds, up to READ_BYTES; empty at its end and after an error."""
    try:
        return os.read(fd, READ_BYTES)
    except OSError:
        return b""
