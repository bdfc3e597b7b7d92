"""A connection parses a burst in slices, and pauses reading while a team is busy."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from proxy.hatchet.grpc import frames
from proxy.hatchet.grpc.connection import LARGE_READ, SLICE, Connection
from proxy.hatchet.grpc.grouped_reads import BUSY_BURST, BUSY_RATE, READ_PAUSE
from proxy.hatchet.grpc.read_scheduler import SLICE_TIME, ReadScheduler

EVENT = frames.frame(frames.DATA, 0, 1, b"an event")
PING = frames.frame(frames.PING, 0, 0, b"are you?")


class MemoryTransport(asyncio.Transport):
    """A transport that stores what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    @property
    def answered(self) -> int:
        return self.written.count(b"are you?")


def slow() -> ReadScheduler:
    """A scheduler in which each slice takes as long as a turn allows."""
    return ReadScheduler(clock=itertools.count(0.0, SLICE_TIME).__next__)


def connected(scheduler: ReadScheduler | None = None) -> tuple[Connection, MemoryTransport]:
    connection, transport = (
        Connection(1 << 20, lambda connection: None, scheduler=scheduler or slow()),
        MemoryTransport(),
    )
    connection.connection_made(transport)
    connection.data_received(frames.frame(frames.SETTINGS, 0, 0, b""))
    return connection, transport


class HandLoop:
    """The loop of a `ReadScheduler`: its turns are real, its time passes when `turn` is called."""

    def __init__(self, scheduler: ReadScheduler, monkeypatch: pytest.MonkeyPatch) -> None:
        self.call_soon = asyncio.get_running_loop().call_soon
        self._now = asyncio.get_running_loop().time()
        self._timers: list[tuple[float, Callable[[], None]]] = []
        monkeypatch.setattr(scheduler, "_loop", self)

    def time(self) -> float:
        return self._now

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append((self._now + seconds, call))

    def turn(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._now += seconds
        due = [timer for timer in self._timers if timer[0] <= self._now]
        for timer in due:
            self._timers.remove(timer)
            timer[1]()


async def test_a_burst_is_parsed_one_slice_a_turn_and_nothing_is_read_meanwhile() -> None:
    connection, transport = connected()
    count = 4 * SLICE // len(PING)
    connection.data_received(PING * count)
    assert transport.answered == SLICE // len(PING)
    assert not transport.reading
    turns = 0
    while transport.answered < count:
        turns += 1
        await asyncio.sleep(0)
    assert turns == 3
    assert transport.reading
    connection.connection_lost(None)


async def test_fast_slices_share_one_turn() -> None:
    connection, transport = connected(ReadScheduler(clock=lambda: 0.0))
    connection.data_received(PING * SLICE)
    assert transport.answered == SLICE
    connection.connection_lost(None)


async def test_while_a_team_is_busy_the_next_read_waits_for_a_read_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler = slow()
    loop = HandLoop(scheduler, monkeypatch)
    connection, transport = connected(scheduler)
    for data in (EVENT * BUSY_BURST, EVENT * (2 * SLICE // len(EVENT))):  # also one that takes several turns
        connection.data_received(data)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not transport.reading
        loop.turn(READ_PAUSE * 0.9)
        assert not transport.reading
        loop.turn(READ_PAUSE * 0.2)
        assert transport.reading
    loop.turn(2 * BUSY_BURST / BUSY_RATE)  # until the fullest bucket is empty
    connection.data_received(EVENT * (BUSY_BURST - 1))
    assert transport.reading
    connection.connection_lost(None)


async def test_connections_of_a_team_are_counted_together_and_read_on_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler = slow()
    loop = HandLoop(scheduler, monkeypatch)
    connections = [connected(scheduler) for _ in range(10 * BUSY_BURST)]
    for connection, _ in connections:
        connection.data_received(EVENT)
    (_, first), (_, last) = connections[0], connections[-1]
    assert first.reading
    assert not last.reading
    loop.turn(READ_PAUSE)
    assert all(transport.reading for _, transport in connections)
    for connection, _ in connections:
        connection.connection_lost(None)


async def test_a_large_read_is_followed_by_no_read_pause() -> None:
    connection, transport = connected(ReadScheduler(clock=lambda: 0.0))
    connection.data_received(EVENT * LARGE_READ)
    assert transport.reading
    connection.connection_lost(None)


async def test_a_connection_that_is_lost_within_a_burst_ends() -> None:
    connection, transport = connected()
    connection.data_received(PING * SLICE)
    connection.connection_lost(None)
    answered = transport.answered
    for _ in range(5):
        await asyncio.sleep(0)
    assert connection.closed.done()
    assert transport.answered == answered, "nothing is written any more"


async def test_connections_of_one_team_share_its_slices() -> None:
    scheduler = slow()
    (one, transport), (other, other_transport) = connected(scheduler), connected(scheduler)
    count, slice_ = 3 * SLICE // len(PING), SLICE // len(PING)
    one.data_received(PING * count)
    other.data_received(PING * count)
    seen = [(transport.answered, other_transport.answered)]
    while transport.answered + other_transport.answered < 2 * count:
        await asyncio.sleep(0)
        seen.append((transport.answered, other_transport.answered))
    taken = [sum(after) - sum(before) for before, after in itertools.pairwise(seen)]
    assert max(taken) <= slice_ + 1  # a slice may end within a frame
    assert all(abs(a - b) <= 2 * (slice_ + 1) for a, b in seen)
    assert transport.reading
    assert other_transport.reading
    for connection in (one, other):
        connection.connection_lost(None)


async def test_a_team_does_not_wait_for_another_teams_burst() -> None:
    quiet, transport = connected()
    loud, _ = connected()
    loud.data_received(PING * (4 * SLICE // len(PING)))
    quiet.data_received(PING)
    assert transport.answered == 1
    quiet.connection_lost(None)
    loud.connection_lost(None)
