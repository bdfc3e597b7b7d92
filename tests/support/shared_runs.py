"""One run on several replicas in one process, on a log in memory: a replica's parts, and what a run says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, cast

from proxy.core.events import STEP_COMPLETED, STEP_STARTED, STEP_STREAM, End, Event, Item, LogItem
from proxy.core.observations import CoreState, Status
from proxy.core.tasks import Background
from proxy.log.contents import Contents
from proxy.log.fences import Fences
from proxy.log.memory import MemoryLog, MemoryStore
from proxy.observability.counters import LogCounters
from proxy.replicas.context import Context
from proxy.replicas.shared_run import SharedRun
from tests.support.fakes import HandClock, rest

RUN: Final = "11111111-1111-4111-8111-111111111111"
STEP: Final = "22222222-2222-4222-8222-222222222222"
NAME: Final = f"team:log:{RUN}"
STARTED: Final = Event(STEP_STARTED, RUN, "answer", STEP, attempt=1)
DONE: Final = Event(STEP_COMPLETED, RUN, "answer", STEP, payload={"x": 1}, attempt=1)
OVER: Final = End("completed")


def chunk(index: int) -> Event:
    return Event(STEP_STREAM, RUN, "answer", STEP, f"text {index}", 1, index)


def chunks(count: int, start: int = 0) -> list[Item]:
    return [chunk(index) for index in range(start, start + count)]


def fail(error: Exception) -> None:
    raise error


class Served:
    """Remembers what a replica has served, as a run session does."""

    def __init__(self, keeps: int = 10_000) -> None:
        self.run_id = RUN
        self.items: list[LogItem] = []
        self.first = 1
        self.keeps = keeps
        self.rebuilt: list[Event] = []  # what the run's state implies

    def publish(self, items: Sequence[LogItem]) -> None:
        self.items += items

    def begin_after(self, position: int, cut: Contents | None) -> None:
        self.items = []
        self.first = position + 1

    def share(self, fences: Fences, contents: Contents) -> None:
        self.fences = fences

    async def rebuild(self) -> list[Event]:
        return self.rebuilt

    @property
    def last(self) -> int:
        return self.first + len(self.items) - 1

    @property
    def retained_from(self) -> int:
        return max(self.first, self.last - self.keeps + 1)

    def retained_after(self, position: int) -> tuple[int, list[LogItem]]:
        start = max(position + 1, self.retained_from)
        return start, self.items[start - self.first :]


class FakeFollower:
    """A follower at Hatchet: the test says what it brings."""

    def __init__(self, publish: Callable[[Sequence[Item]], None]) -> None:
        self.publish = publish
        self.workflow: str | None = None
        self.trouble = None
        self.state_only = False
        self.sources = ["tap"]
        self.does_without_searches = False
        self.brought: list[str] = []  # by searches
        self.closed = False

    def bring(self, *items: Item) -> None:
        self.publish(items)

    def deliver(self, event: str, source: str, *, at: float) -> None:
        self.brought.append(f"{event} from {source} at {at:g}")

    def name_workflow(self, name: str) -> None:
        self.workflow = name

    async def close(self) -> None:
        self.closed = True


class Team:
    """What a team gives to its runs, and Hatchet as far as they ask it."""

    def __init__(self) -> None:
        self.followers: list[FakeFollower] = []
        self.wanted = True
        self.merge_times: list[int] = []
        self.discarded = 0
        self.set_apart_times = 0
        self.done = False

    @property
    def follower_now(self) -> FakeFollower | None:
        """The follower that follows the run now."""
        return next((one for one in self.followers if not one.closed), None)

    def follower(self, run_id: str, publish: Callable[[Sequence[Item]], None]) -> Any:
        assert self.follower_now is None, "the run is followed twice"
        self.followers.append(FakeFollower(publish))
        return self.followers[-1]

    def detach(self, follower: object) -> None: ...

    def is_wanted(self, run_id: str) -> bool:
        return self.wanted

    def discard(self, session: object) -> None:
        self.discarded += 1

    def set_apart(self, session: object) -> None:
        self.set_apart_times += 1

    def unforeseen(self, error: Exception) -> None:
        raise error

    async def core(self, run_id: str) -> CoreState:
        status = Status.COMPLETED if self.done else Status.RUNNING
        return CoreState(run_id, status, self.done)


class ReplicaOfRun:
    """One replica of the run."""

    def __init__(self, store: MemoryStore, name: str) -> None:
        self.log = MemoryLog(store, name, asyncio.get_running_loop().call_soon)
        self.served = Served()
        self.team = Team()
        self.clock = HandClock()
        self.counters = LogCounters()
        self.run = SharedRun(
            cast(Any, self.served),
            cast(Any, self.team),
            self.log,
            NAME,
            self.team,
            log_keep=60.0,
            counters=self.counters,
            clock=self.clock,
            rng=Random(1),
        )

    @property
    def context(self) -> Context:
        """The surroundings of one of its parts, for a test of that part alone."""
        return Context(
            session=cast(Any, self.served),
            upstream=cast(Any, self.team),
            log=self.log,
            environment=self.team,
            counters=self.counters,
            background=Background(fail),
            clock=self.clock,
            rng=Random(1),
            log_keep=60.0,
        )

    def bring(self, *items: Item) -> None:
        """Hatchet sends `items` to this replica."""
        follower = self.team.follower_now
        assert follower is not None, "this replica does not follow the run at Hatchet"
        follower.bring(*items)


async def leader_and_follower() -> tuple[MemoryStore, ReplicaOfRun, ReplicaOfRun]:
    """A run whose first chunk is in the log: the replica that leads it, and one that follows the log."""
    store = MemoryStore()
    leader, follower = ReplicaOfRun(store, "a"), ReplicaOfRun(store, "b")
    await leader.run.first_state()
    leader.bring(STARTED, chunk(0))
    await rest()
    await follower.run.first_state()
    return store, leader, follower
