"""Connections of busy teams are read together; a team that is not busy never waits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from proxy.hatchet.grpc import frames
from proxy.hatchet.grpc.connection import Connection
from proxy.hatchet.grpc.grouped_reads import BUSY_BURST, BUSY_RATE, GroupedReads, LeakyBucket
from proxy.hatchet.grpc.read_scheduler import ReadScheduler
from tests.support import waiting

EVENT = frames.frame(frames.DATA, 0, 1, b"an event")
PING = frames.frame(frames.PING, 0, 0, b"are you?")


async def until(holds: Callable[[], object]) -> None:
    """Wait until `holds` is true, and look in each turn of the loop: some of it holds for a pause only."""
    await waiting.until(holds, every=0)


class Peer:
    """A connection of a team to a socket that the test writes to, and its transport."""

    def __init__(self, connection: Connection, transport: asyncio.Transport, end: socket.socket) -> None:
        self.connection = connection
        self.transport = transport
        self.end = end

    @property
    def frames(self) -> int:
        """How many DATA frames it has received."""
        return self.connection._http2.data_frames_received


@contextlib.asynccontextmanager
async def peer(scheduler: ReadScheduler) -> AsyncIterator[Peer]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, connection = await asyncio.get_running_loop().create_connection(
        lambda: Connection(1 << 20, lambda connection: None, scheduler=scheduler), sock=ours
    )
    theirs.send(frames.frame(frames.SETTINGS, 0, 0, b""))
    await connection.ready
    try:
        yield Peer(connection, transport, theirs)
    finally:
        theirs.close()
        connection.abort("the test is over")
        await connection.closed


class Recorder:
    """A reader that notes its ticks."""

    def __init__(self) -> None:
        self.ticks: list[bool] = []  # whether there was something to read

    def read_now(self) -> None:
        self.ticks.append(True)

    def nothing_came(self) -> None:
        self.ticks.append(False)


async def test_what_a_busy_connection_receives_is_read_at_the_next_tick() -> None:
    async with peer(ReadScheduler()) as busy:
        busy.end.send(EVENT * BUSY_BURST)
        await until(lambda: not busy.transport.is_reading())
        busy.end.send(EVENT * 3 * BUSY_BURST)
        await until(lambda: busy.frames == 4 * BUSY_BURST)
        assert not busy.transport.is_reading()
        busy.end.send(EVENT * 3 * BUSY_BURST)
        await until(lambda: busy.frames == 7 * BUSY_BURST)


async def test_a_connection_that_is_not_busy_any_more_is_read_at_once_again() -> None:
    async with peer(ReadScheduler()) as busy:
        busy.end.send(EVENT * BUSY_BURST)
        await until(lambda: not busy.transport.is_reading())
        await until(busy.transport.is_reading)
        busy.end.send(EVENT)
        await until(lambda: busy.frames == BUSY_BURST + 1)


@pytest.mark.parametrize("rest", [b"", EVENT * 3])
async def test_a_connection_that_ends_while_it_is_read_with_others_is_closed(rest: bytes) -> None:
    async with peer(ReadScheduler()) as busy:
        busy.end.send(EVENT * BUSY_BURST)
        await until(lambda: not busy.transport.is_reading())
        if rest:
            busy.end.send(rest)
        busy.end.close()
        await busy.connection.closed
        assert busy.frames == BUSY_BURST + len(rest) // len(EVENT)


async def test_a_read_that_is_larger_than_a_slice_is_parsed_before_the_next_one() -> None:
    async with peer(ReadScheduler()) as busy:
        busy.end.send(EVENT * BUSY_BURST)
        await until(lambda: not busy.transport.is_reading())
        count = 32 * 1024 // len(EVENT)
        busy.end.send(EVENT * count)
        await until(lambda: busy.frames == BUSY_BURST + count)
        busy.end.send(EVENT)
        await until(lambda: busy.frames == BUSY_BURST + count + 1)


async def test_one_busy_team_makes_no_other_one_wait() -> None:
    reads = GroupedReads()
    loud, quiet = ReadScheduler(reads=reads), ReadScheduler(reads=reads)
    assert loud.is_busy(1000 * BUSY_BURST)
    assert not quiet.is_busy(1)


async def test_many_teams_that_are_busy_only_together_make_no_one_wait() -> None:
    reads = GroupedReads()
    teams = [ReadScheduler(reads=reads) for _ in range(2 * BUSY_BURST)]
    assert not any(team.is_busy(BUSY_BURST - 1) for team in teams)


def test_a_bucket_forgets_with_time() -> None:
    bucket = LeakyBucket()
    assert bucket.is_full(BUSY_BURST, 1.0)
    assert not bucket.is_full(0, 1.0 + 1 / BUSY_RATE)
    assert bucket.is_full(10 * BUSY_BURST, 2.0)
    assert not bucket.is_full(0, 2.0 + 2 * BUSY_BURST / BUSY_RATE)


async def test_a_reader_is_told_what_it_can_read_until_it_is_removed() -> None:
    reads, reader = GroupedReads(), Recorder()
    one, other = socket.socketpair()
    with one, other:
        reads.add(one.fileno(), reader)
        await until(lambda: reader.ticks == [False])
        other.send(b"x")
        await until(lambda: True in reader.ticks)
        reads.remove(one.fileno(), Recorder())  # of another reader
        told = len(reader.ticks)
        await until(lambda: len(reader.ticks) > told)
        reads.remove(one.fileno(), reader)
        told = len(reader.ticks)
        await until(lambda: reads._selector is None)
        assert len(reader.ticks) == told
        reads.add(one.fileno(), reader)
        await until(lambda: len(reader.ticks) > told)


async def test_a_number_that_a_new_socket_has_got_belongs_to_its_reader() -> None:
    reads, before, now = GroupedReads(), Recorder(), Recorder()
    one, other = socket.socketpair()
    with other:
        number = one.fileno()
        reads.add(number, before)
        one.close()
        new, newer = socket.socketpair()
        with new, newer:
            assert new.fileno() == number
            reads.add(number, now)
            reads.remove(number, before)
            newer.send(b"x")
            await until(lambda: True in now.ticks)
            reads.remove(number, now)
    assert not before.ticks
