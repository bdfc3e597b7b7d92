"""A merged session whose runs, items and membership the test gives: no Hatchet, no follower."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from config.model.files import RuleConfig, StreamConfig
from proxy.core.events import Event, Item
from proxy.core.observations import CoreState, Status
from proxy.hatchet.errors import HatchetError
from proxy.observability.counters import TeamCounters
from proxy.rules.ruleset import Rules
from proxy.runs.followed_run import FollowedRun
from proxy.streams.merged.membership import Member
from proxy.streams.merged.session import MergedSession
from proxy.streams.run_session import RunListener, RunSession
from proxy.streams.stream import LiveStream
from tests.support.waiting import until

FIRST, SECOND, THIRD = (f"00000000-0000-4000-8000-{number:012d}" for number in range(3))


class ScriptedSession:
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


class ScriptedRuns:
    """The leases that were given, and the runs that were given back."""

    def __init__(self) -> None:
        self.leased: dict[str, ScriptedSession] = {}
        self.released: list[str] = []
        self.at_once: set[str] = set()  # those that need not linger
        self.room = 10_000
        self.troubles: dict[str, list[HatchetError]] = {}  # of the runs' states, by run id

    async def lease(self, run_id: str, *, resumes: bool) -> RunSession:
        session = self.leased[run_id] = ScriptedSession(run_id, self.troubles.get(run_id, []))
        return cast(RunSession, session)

    def release(self, session: RunSession, *, at_once: bool = False) -> None:
        self.released.append(session.run_id)
        if at_once:
            self.at_once.add(session.run_id)

    def has_room_for(self, run_id: str) -> bool:
        return len(self.leased) < self.room


def stream(data: str = "run_id") -> LiveStream:
    rules = (RuleConfig(name="r", events=("*", "step_stream"), data=data),)
    config = StreamConfig(name="s", path="/{workflowRunId}", rules=rules, include=("children",))
    return LiveStream(config, Rules(config), None, cast(Any, None))


def happened(run: str, type_: str = "step_queued", at: int = 1) -> Event:
    return Event(type_, run, "work", run, at=f"1970-01-01T00:00:{at:02d}Z")


class Listed:
    """A membership that the test decides about."""

    settle_time = 0.01
    guarded = True
    sequential = False

    def __init__(self, *runs: str) -> None:
        self.runs = runs
        self.past: set[str] = set()
        self.decides: str | None = None  # the run whose end is the stream's
        self.held: list[Item] = []  # items that wait for `settled`
        self.settled = asyncio.Event()
        self.trouble: Exception | None = None  # what `first` raises
        self.settling: Exception | None = None  # what `settle` raises
        self.watching: list[str] = []

    async def first(self, session: MergedSession) -> None:
        if self.trouble is not None:
            raise self.trouble
        for at, run in enumerate(self.runs):
            session.add(run, created_at=at, past=run in self.past)

    async def watch(self, session: MergedSession) -> None:
        self.watching.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            self.watching.append("ended")

    def holds(self, session: MergedSession, member: Member, item: Item) -> bool:
        return item in self.held

    async def settle(self, session: MergedSession, member: Member, item: Item) -> None:
        await self.settled.wait()
        self.held.remove(item)
        if self.settling is not None:
            raise self.settling

    def ends(self, member: Member) -> bool:
        return member.run_id == self.decides


class ScriptedFeed:
    """The runs whose events it brings."""

    def __init__(self) -> None:
        self.attached: list[ScriptedSession] = []

    def attach(self, run: FollowedRun) -> None:
        self.attached.append(cast(ScriptedSession, run))

    def detach(self, run: FollowedRun) -> None:
        self.attached.remove(cast(ScriptedSession, run))


class MergedSetup:
    """A merged session, and what it was lent."""

    def __init__(self, membership: Listed, shown: LiveStream | None = None) -> None:
        self.runs = ScriptedRuns()
        self.feed = ScriptedFeed()
        self.calls: list[str] = []
        self.errors: list[Exception] = []
        self.membership = membership
        self.session = MergedSession(
            FIRST,
            "",
            stream=shown or stream(),
            number=1,
            secret=b"secret",
            team="t",
            counts=TeamCounters(),
            grew=lambda delta: None,
            unforeseen=self.errors.append,
            runs=self.runs,
            membership=membership,
            ended=lambda session: self.calls.append("ended"),
            feed=self.feed,
            closed=lambda: self.calls.append("not needed"),
        )

    async def begin(self, *listening: str) -> None:
        """Start it, and wait until it listens to these runs and sends what comes."""
        self.session.start()
        await self.session.ready()
        await self.listens(*listening)
        await until(lambda: self.session._live)

    async def listens(self, *runs: str) -> None:
        await until(lambda: all(run in self.runs.leased and self.runs.leased[run].listeners for run in runs))

    def say(self, run: str, *items: Item) -> None:
        self.runs.leased[run].say(*items)

    @property
    def sent(self) -> list[str]:
        """The data of the frames so far; the type of a control frame."""
        frames = [frame.body.decode() for frame in self.session._dispatcher.channel.backlog.read(0)]
        return [
            next(line for line in frame.split("\n") if line.startswith("data: "))[6:].strip('"')
            for frame in frames
        ]


Make = Callable[..., MergedSetup]
"""Makes a merged session of a membership, and maybe of a stream."""
