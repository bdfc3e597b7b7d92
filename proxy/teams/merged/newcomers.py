"""Newcomers: runs that a subscription brought and nobody follows yet, for the streams that look for runs.

An event has only its run's id. The core state has the run's metadata at once, long before the history
lists the run: the application's pairs, and for a child run which run and step started it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from proxy.core.observations import CoreState
from proxy.core.tasks import start_in
from proxy.hatchet.errors import HatchetError, RunUnknown
from proxy.hatchet.upstream import Upstream

Watcher = Callable[[CoreState], None]

AT_ONCE: Final = 8  # states that are read at the same time
TRIES: Final = 5  # a run can be announced before its state can be read
PAUSE: Final = 0.1  # seconds between two tries
MOST_SEEN: Final = 4096  # runs that are remembered, so that each is asked for once


class Newcomers:
    """Informs watchers of the runs that begin."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._watchers: list[Watcher] = []
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher` with the first state of each run that begins."""
        self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Call `watcher` no more."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def seen(self, run_id: str) -> None:
        """A subscription brought an event of a run that has no follower."""
        if not self._watchers or run_id in self._seen:
            return
        self._seen[run_id] = None
        if len(self._seen) > MOST_SEEN:
            self._seen.popitem(last=False)
        start_in(self._tasks, self._ask(run_id))

    async def _ask(self, run_id: str) -> None:
        async with self._slots:
            for _ in range(TRIES):
                try:
                    state = await self._upstream.core(run_id)
                    break
                except RunUnknown:
                    await asyncio.sleep(PAUSE)
                except HatchetError:
                    return  # the list of runs will have it
            else:
                return
        for watcher in tuple(self._watchers):
            watcher(state)

    async def close(self) -> None:
        """End all reads."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
