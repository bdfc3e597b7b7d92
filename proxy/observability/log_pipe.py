"""Hands log lines to a thread that writes them, so that a reader that stops reading never stops the process.

A pipe whose reader is stuck is full after 64 KB, and a write to it blocks; a terminal behaves so too after
Ctrl-S. Lines wait here up to `MOST_BYTES`. Beyond that they are dropped and counted.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from typing import Final

MOST_BYTES: Final = 1 << 20  # of lines that wait: some three thousand


class LogPipe:
    """Lines on their way to the file descriptor `descriptor`; `dropped` counts those that found no room."""

    def __init__(self, descriptor: int, *, most_bytes: int = MOST_BYTES) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._most_bytes = most_bytes
        self._waiting: deque[bytes] = deque()
        self._bytes = 0  # that wait or are being written
        self._reported = 0  # of `dropped`
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Take whole lines; never waits, never raises."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._bytes and self._bytes + len(data) > self._most_bytes:
                self.dropped += text.count("\n")
                return
            self._waiting.append(data)
            self._bytes += len(data)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Do nothing: the thread writes at once."""

    def take_dropped(self) -> int:
        """How many lines were dropped and not reported yet; 0 as long as there is no room for a report."""
        with self._changed:
            if self._bytes > self._most_bytes // 2:
                return 0
            new, self._reported = self.dropped - self._reported, self.dropped
            return new

    def drain(self, seconds: float) -> bool:
        """Wait until everything is written, at most so long; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._bytes == 0, seconds)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                data = b"".join(self._waiting)
                self._waiting.clear()
            # Not through `sys.stderr`: its lock would be held while the write blocks, also at the exit.
            with contextlib.suppress(OSError):  # the pipe was closed, the disk is full
                left = memoryview(data)
                while left:
                    left = left[os.write(self._descriptor, left) :]
            with self._changed:
                self._bytes -= len(data)
                self._changed.notify_all()
