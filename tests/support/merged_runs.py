"""Runs of a merged session whose items the test gives: no Hatchet, no follower."""

from __future__ import annotations

from typing import cast

from proxy.core.events import Event, Item
from proxy.core.observations import CoreState, Status
from proxy.hatchet.errors import HatchetError
from proxy.streams.run_session import RunListener, RunSession


class PlayedSession:
    """A run session whose items the test gives."""

    def __init__(self, run_id: str, troubles: list[HatchetError]) -> None:
        """`troubles`: what `first_state` raises, one after the other, before it has an answer."""
        self.run_id = run_id
        self.troubles = troubles
        self.lifecycle: list[Event] = []
        self.state: CoreState | None = None
        self.workflow: str | None = None
        self.traceparent: str | None = None
        self.listeners: list[RunListener] = []
        self.run = self

    async def first_state(self, patience: float) -> CoreState:
        if self.troubles:
            raise self.troubles.pop(0)
        self.state = CoreState(self.run_id, Status.RUNNING, False, metadata={"user": self.run_id})
        return self.state

    async def named(self, patience: float) -> str:
        self.workflow = "w"
        return self.workflow

    async def listen(self, listener: RunListener) -> None:
        self.listeners.append(listener)

    async def rebuild(self) -> list[Event]:
        return self.lifecycle

    def unlisten(self, listener: RunListener) -> None:
        if listener in self.listeners:
            self.listeners.remove(listener)

    def say(self, *items: Item) -> None:
        for listener in tuple(self.listeners):
            listener.receive(items)


class PlayedRuns:
    """The leases that were given, and the runs that were given back."""

    def __init__(self) -> None:
        self.leased: dict[str, PlayedSession] = {}
        self.released: list[str] = []
        self.at_once: set[str] = set()  # those that need not linger
        self.room = 10_000
        self.troubles: dict[str, list[HatchetError]] = {}  # of the runs' states, by run id

    async def lease(self, run_id: str, *, resumes: bool) -> RunSession:
        played = self.leased[run_id] = PlayedSession(run_id, self.troubles.get(run_id, []))
        return cast(RunSession, played)

    def release(self, session: RunSession, *, at_once: bool = False) -> None:
        self.released.append(session.run_id)
        if at_once:
            self.at_once.add(session.run_id)

    def has_room_for(self, run_id: str) -> bool:
        return len(self.leased) < self.room
