"""The supervisor: the parent of the workers. It forks them, passes signals on, and replaces one that dies.

The parent has no event loop and no thread, so it can fork at any time. It holds the sockets: connections that
come while a worker is replaced wait in its socket. SIGTERM, SIGINT and SIGQUIT drain all workers; a second
one ends them at once. SIGHUP reloads all. If the parent is killed, each worker sees the end of a pipe and
drains.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn

CANNOT_LISTEN: Final = 3
"""The exit status of a worker that cannot listen: another one would not either."""
PAUSE: Final = 1.0
"""Seconds between the death of a worker and its replacement, if it died within `SOON` of its start."""
SOON: Final = 10.0
STOPPING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
PASSED_ON: Final = (*STOPPING, signal.SIGHUP)
WITHOUT_EFFECT: Final = (signal.SIGUSR1, signal.SIGUSR2)


class Supervisor:
    """Keeps the given number of workers running until it is stopped."""

    def __init__(
        self, workers: int, work: Callable[[int, int], int], replaced: Callable[[int, int], None]
    ) -> None:
        """`work` is a worker: it gets its index and a descriptor that ends with the parent, and returns an
        exit status. `replaced` is called in the parent with the index and the wait status of one that died.
        """
        self._workers = workers
        self._work = work
        self._replaced = replaced
        self._pids: dict[int, int] = {}  # process id -> index
        self._started: dict[int, float] = {}
        self._stopping = False
        self._alive = os.pipe()  # read by the workers; its end means that the parent is gone

    def run(self) -> int:
        """Run until every worker has ended; the exit status: the highest of theirs."""
        for number in STOPPING:
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._reload)
        for number in WITHOUT_EFFECT:
            signal.signal(number, signal.SIG_IGN)
        for index in range(self._workers):
            self._start(index)
        worst = 0
        while self._pids:
            pid, status = os.waitpid(-1, 0)
            index = self._pids.pop(pid)
            exit_status = os.waitstatus_to_exitcode(status)
            if exit_status == CANNOT_LISTEN and not self._stopping:
                self._stop(signal.SIGTERM, None)
            if self._stopping:
                worst = max(worst, _as_exit_status(exit_status))
                continue
            self._replaced(index, exit_status)
            if time.monotonic() - self._started[index] < SOON:
                time.sleep(PAUSE)
            if not self._stopping:
                self._start(index)
        return worst

    def _start(self, index: int) -> None:
        self._started[index] = time.monotonic()
        # A signal between the fork and the entry in `_pids` would miss the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        pid = os.fork()
        if pid == 0:
            self._become(index)
        self._pids[pid] = index
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)

    def _become(self, index: int) -> NoReturn:
        """Run as a worker, in a process group of its own: a terminal's Ctrl+C is for the parent alone."""
        os.setpgid(0, 0)
        os.close(self._alive[1])
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the listener handles it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        raise SystemExit(self._work(index, self._alive[0]))

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._send(signal.SIGTERM)

    def _reload(self, number: int, frame: FrameType | None) -> None:
        self._send(signal.SIGHUP)

    def _send(self, number: signal.Signals) -> None:
        for pid in tuple(self._pids):
            try:
                os.kill(pid, number)
            except ProcessLookupError:  # it has just ended
                continue


def _as_exit_status(status: int) -> int:
    """What a worker that was stopped adds to the exit status of all."""
    if status == -signal.SIGTERM:
        return 0  # it had not begun to listen yet
    return status if status >= 0 else 1
