"""Leases, lingering and eviction of run sessions, on sessions whose items the test gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from proxy.hatchet.errors import HatchetAway
from proxy.observability.counters import TeamCounters
from proxy.streams.run_session import RunSession
from proxy.teams.run_registry import RetentionPolicy, RunRegistry


class ScriptedRun:
    """What a registry asks of a run: whether its state was read."""

    def __init__(self) -> None:
        self.state: object | None = "read"


class ScriptedSession:
    """A run session whose facts the test sets."""

    def __init__(self, run_id: str, number: int, ended: Callable[[RunSession], None]) -> None:
        self.run_id = run_id
        self.number = number
        self.over = False
        self.bytes = 100
        self.run = ScriptedRun()
        self.is_replayed = False
        self.may_be_replayed = True
        self.dropped = 0
        self.shrunk_to: int | None = None
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self._ended = ended
        self.answer.set()

    async def replayed(self) -> bool:
        self.asked.set()
        await self.answer.wait()
        return self.is_replayed

    def end(self) -> None:
        self.over = True
        self._ended(cast(RunSession, self))

    def shrink(self, to_bytes: int) -> None:
        self.shrunk_to = self.bytes = to_bytes

    def drop(self) -> None:
        self.dropped += 1


class ScriptedLauncher:
    """Makes sessions; `log` has what was asked, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.stopping = asyncio.Event()
        self.stopping.set()

    def create(self, run_id: str, number: int, ended: Callable[[RunSession], None]) -> RunSession:
        self.log.append(f"create {run_id} {number}")
        return cast(RunSession, ScriptedSession(run_id, number, ended))

    def start(self, session: RunSession) -> None:
        self.log.append(f"start {session.run_id}")

    def stop(self, session: RunSession) -> Coroutine[Any, Any, None]:
        self.log.append(f"stop {session.run_id}")
        return self._stopped()

    async def _stopped(self) -> None:
        await self.stopping.wait()


class Timers:
    """`call_at` of the loop, by hand; its time moves when `fire` is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._ahead = 0.0
        self._time = self._loop.time
        self.waiting: list[tuple[float, Callable[[], None], asyncio.TimerHandle]] = []
        monkeypatch.setattr(self._loop, "call_at", self._call_at, raising=False)
        monkeypatch.setattr(self._loop, "time", lambda: self._time() + self._ahead, raising=False)

    def _call_at(self, when: float, call: Callable[..., None], *args: object) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, call, args, self._loop)
        self.waiting.append((when - self._loop.time(), lambda: call(*args), handle))
        return handle

    @property
    def seconds(self) -> list[float]:
        return [round(seconds, 2) + 0.0 for seconds, _, handle in self.waiting if not handle.cancelled()]

    def fire(self) -> None:
        """Let so much time pass that every timer is due, and call each."""
        due, self.waiting = self.waiting, []
        self._ahead += max([0.0, *(seconds for seconds, _, _ in due)])
        for _, call, handle in due:
            if not handle.cancelled():
                call()


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    return Timers(monkeypatch)


@pytest.fixture
async def launcher() -> ScriptedLauncher:
    return ScriptedLauncher()


@pytest.fixture
def counters() -> TeamCounters:
    return TeamCounters()


@pytest.fixture
async def runs(launcher: ScriptedLauncher, counters: TeamCounters, timers: Timers) -> RunRegistry:
    return RunRegistry(launcher, counters, RetentionPolicy(linger=15.0, keep_after_end=60.0, most_runs=None))


async def lease(runs: RunRegistry, run_id: str = "run", *, resumes: bool = False) -> ScriptedSession:
    return cast(ScriptedSession, await runs.lease(run_id, resumes=resumes))


def release(runs: RunRegistry, session: ScriptedSession) -> None:
    runs.release(cast(RunSession, session))


async def test_clients_of_a_run_share_a_session_that_is_in_the_registry_when_it_starts(
    runs: RunRegistry, launcher: ScriptedLauncher, counters: TeamCounters
) -> None:
    first, second = await lease(runs), await lease(runs)
    assert first is second
    assert runs.get("run") is cast(RunSession, first)
    assert runs.leases("run") == 2
    assert launcher.log == ["create run 1", "start run"]
    assert counters.runs == len(runs) == 1


async def test_a_running_run_lingers_after_its_last_client(
    runs: RunRegistry, launcher: ScriptedLauncher, timers: Timers, counters: TeamCounters
) -> None:
    session = await lease(runs)
    await lease(runs)
    release(runs, session)
    assert timers.seconds == []
    release(runs, session)
    assert timers.seconds == [15.0]
    timers.fire()
    assert (session.dropped, len(runs), counters.runs) == (1, 0, 0)
    assert launcher.log[-1] == "stop run"


async def test_a_client_that_comes_back_in_time_finds_the_session(runs: RunRegistry, timers: Timers) -> None:
    session = await lease(runs)
    release(runs, session)
    assert await lease(runs) is session
    timers.fire()
    assert session.dropped == 0


async def test_a_run_that_is_over_stays_for_late_clients(runs: RunRegistry, timers: Timers) -> None:
    session = await lease(runs)
    session.end()
    assert timers.seconds == [], "its client still reads"
    release(runs, session)
    assert timers.seconds == [60.0]


async def test_a_run_that_ends_while_it_lingers_stays_for_late_clients_from_its_end_on(
    runs: RunRegistry, timers: Timers
) -> None:
    session = await lease(runs)
    release(runs, session)
    session.end()
    timers.fire()
    assert session.dropped == 0
    assert timers.seconds == [45.0]
    timers.fire()
    assert session.dropped == 1


async def test_a_run_whose_state_was_never_read_does_not_linger(runs: RunRegistry, timers: Timers) -> None:
    session = await lease(runs)
    session.run.state = None
    release(runs, session)
    assert timers.seconds == [0.0]


async def test_a_replayed_run_gets_a_new_session_with_another_number(
    runs: RunRegistry, launcher: ScriptedLauncher
) -> None:
    old = await lease(runs)
    old.end()
    old.is_replayed = True
    new = await lease(runs)
    assert new is not old
    assert (old.number, new.number, old.dropped) == (1, 2, 1)
    release(runs, old)
    assert runs.leases("run") == 1, "a lease of the old session is none of the new one"


async def test_a_client_with_a_cursor_of_the_session_is_not_asked_for_a_replay(runs: RunRegistry) -> None:
    old = await lease(runs)
    old.end()
    old.is_replayed = True
    assert await lease(runs, resumes=True) is old
    assert not old.asked.is_set()


async def test_a_client_that_leaves_while_hatchet_is_asked_leaves_no_lease(runs: RunRegistry) -> None:
    session = await lease(runs)
    session.end()
    release(runs, session)
    session.answer.clear()
    asking = asyncio.create_task(lease(runs))
    await session.asked.wait()
    assert runs.leases("run") == 1
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert runs.leases("run") == 0


async def test_hatchet_is_not_asked_again_while_its_last_answer_is_believed(runs: RunRegistry) -> None:
    session = await lease(runs)
    session.end()
    session.may_be_replayed = False
    assert await lease(runs) is session
    assert not session.asked.is_set()
    assert runs.leases("run") == 2


async def test_beyond_the_limit_the_least_recently_leased_run_without_a_client_gives_way(
    runs: RunRegistry,
) -> None:
    runs.configure(RetentionPolicy(15.0, 60.0, most_runs=3))
    sessions = {name: await lease(runs, name) for name in "abc"}
    for name in "ab":
        release(runs, sessions[name])
    release(runs, await lease(runs, "a"))  # now b is the one that was leased longest ago
    await lease(runs, "d")
    assert [session.run_id for session in runs] == ["c", "a", "d"]


async def test_runs_with_clients_and_runs_that_are_over_do_not_give_way(runs: RunRegistry) -> None:
    runs.configure(RetentionPolicy(15.0, 60.0, most_runs=1))
    await lease(runs, "a")
    over = await lease(runs, "b")
    over.end()
    release(runs, over)
    await lease(runs, "c")
    assert [session.run_id for session in runs] == ["a", "b", "c"]


async def test_a_session_apart_from_the_shared_log_serves_those_alone_that_have_its_cursors(
    runs: RunRegistry, timers: Timers
) -> None:
    apart = await runs.lease("one", resumes=False)
    runs.set_apart(apart)
    other = await runs.lease("one", resumes=False)
    assert other is not apart
    assert runs.get("one") is other
    assert runs.lease_apart("one", lambda session: session is other) is None
    assert runs.lease_apart("two", lambda session: True) is None
    assert runs.lease_apart("one", lambda session: True) is apart
    assert list(runs) == [other, apart]
    for _ in range(2):
        runs.release(apart)
    timers.fire()
    assert cast(ScriptedSession, apart).dropped == 1
    assert list(runs) == [other]


async def test_a_session_that_goes_apart_without_a_client_is_closed(runs: RunRegistry) -> None:
    session = await runs.lease("one", resumes=False)
    runs.release(session)
    runs.set_apart(session)
    assert cast(ScriptedSession, session).dropped == 1
    assert len(runs) == 0


async def test_memory_is_given_up_by_runs_without_clients_first(runs: RunRegistry) -> None:
    idle = await lease(runs, "idle")
    release(runs, idle)
    used = await lease(runs, "used")
    runs.shrink(150)
    assert (idle.dropped, used.shrunk_to) == (1, None)


async def test_memory_is_given_up_by_the_largest_runs_next(runs: RunRegistry) -> None:
    small, large = await lease(runs, "small"), await lease(runs, "large")
    large.bytes = 1000
    runs.shrink(700)
    assert (small.shrunk_to, large.shrunk_to) == (None, 600)
    assert runs.bytes == 700


async def test_a_closed_registry_waits_for_what_it_stops_and_leases_nothing(
    runs: RunRegistry, launcher: ScriptedLauncher
) -> None:
    session = await lease(runs)
    launcher.stopping.clear()
    closing = asyncio.create_task(runs.close())
    await asyncio.sleep(0)
    assert session.dropped == 1
    assert not closing.done()
    assert not runs.idle
    launcher.stopping.set()
    await closing
    assert runs.idle
    with pytest.raises(HatchetAway):
        await runs.lease("run", resumes=False)
    release(runs, session)  # of a client that leaves later
