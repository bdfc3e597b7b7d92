"""HatchetSource: one run as this replica follows it at Hatchet: while it leads, or stands by.

While another replica leads, items are held, so that none is missing when this replica takes over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from proxy.core.events import Item
from proxy.core.tasks import start_in
from proxy.hatchet.errors import HatchetError
from proxy.log.contents import Continuation
from proxy.replicas.context import Context
from proxy.replicas.run_state import Role, RunState
from proxy.runs.follower import RunFollower

MOST_HELD: Final = 256  # items that are held before those that the log holds are dropped

Sink = Callable[[Sequence[Item]], None]


class HatchetSource:
    """Follows one run at Hatchet, while that is needed."""

    def __init__(self, state: RunState, context: Context) -> None:
        self._state = state
        self._environment = context.environment
        self._closing: set[asyncio.Task[None]] = set()
        self._follower: RunFollower | None = None
        self._searches: list[Callable[[RunFollower], None]] = []  # before the role was decided
        self._workflow: str | None = None
        self._sink: Sink | None = None  # None: items are held
        self._held: list[Item] = []
        self._brought = asyncio.Event()  # its first items

    # -- what is known of the run --

    @property
    def is_followed(self) -> bool:
        """Whether the run is followed at Hatchet."""
        return self._follower is not None

    @property
    def workflow(self) -> str | None:
        """The name of its workflow, where it is known."""
        if self._workflow is None and self._follower is not None:
            self._workflow = self._follower.workflow
        return self._workflow

    def name_workflow(self, name: str) -> None:
        """Its workflow is `name`: items have it from now on."""
        self._workflow = name
        if self._follower is not None:
            self._follower.name_workflow(name)

    @property
    def trouble(self) -> HatchetError | None:
        """The last error of Hatchet that this run met."""
        return None if self._follower is None else self._follower.trouble

    @property
    def state_only(self) -> bool:
        """Whether its events come from its states alone."""
        return self._follower is not None and self._follower.state_only

    @property
    def sources(self) -> list[str]:
        """What brings its events besides its states."""
        return [] if self._follower is None else self._follower.sources

    # -- searches --

    @property
    def does_without_searches(self) -> bool:
        """Whether the run needs no events of a search (any more)."""
        return self._follower.does_without_searches if self._follower is not None else self._state.opened

    def searched(self, deliver: Callable[[RunFollower], None]) -> None:
        """Deliver a search's events to the follower; while the role is not decided, keep them."""
        if self._follower is not None:
            deliver(self._follower)
        elif self._state.role is Role.OPENING:
            self._searches.append(deliver)

    def forget_searches(self) -> None:
        """Another replica leads: the events of searches are in its log."""
        self._searches = []

    # -- following --

    def start(self) -> None:
        """Follow the run; items are held, unless there is a sink for them."""
        if self._follower is not None:
            return
        self._brought.clear()
        self._follower = self._environment.follower(self._state.run_id, self._published)
        if self._workflow is not None:
            self._follower.name_workflow(self._workflow)
        searches, self._searches = self._searches, []
        for deliver in searches:
            deliver(self._follower)

    def feed(self, sink: Sink) -> None:
        """Follow the run, and give the items that were held and the next ones to `sink`."""
        self._sink = sink
        self.start()
        held, self._held = self._held, []
        sink(held)

    def _published(self, items: Sequence[Item]) -> None:
        if self._sink is not None:
            self._sink(items)
            return
        self._held += items
        self._brought.set()
        if len(self._held) > MOST_HELD and self._state.opened:
            self._held = Continuation(self._state.progress.contents.copy()).news(self._held)

    async def brought(self, seconds: float) -> None:
        """Wait until its first items have come, or for `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._brought.wait()
        except TimeoutError:
            return

    def hold(self) -> None:
        """Items are held again: there is no sink for them any more."""
        self._sink = None
        self._held = []

    def stop(self) -> None:
        """Stop following the run, unless this replica leads it."""
        if self._state.role is Role.LEADING:
            return
        self._held = []
        follower = self._take()
        if follower is not None:
            start_in(self._closing, follower.close())

    async def close(self) -> None:
        """Stop following the run; returns when every task has ended."""
        follower = self._take()
        if follower is not None:
            await follower.close()
        if self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    def _take(self) -> RunFollower | None:
        follower, self._follower = self._follower, None
        if follower is not None:
            self._environment.detach(follower)
        return follower
