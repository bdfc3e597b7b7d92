"""A log that nobody reads: lines wait within a bound, are dropped beyond it, counted and reported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.observability.event_log import EventLog
from proxy.observability.log_pipe import LogPipe
from tests.support.waiting import until

LINE = "x" * 999 + "\n"


@pytest.fixture
def ends() -> Iterator[list[int]]:
    """A pipe of the system: where it is read, where it is written."""
    both = list(os.pipe())
    yield both
    for end in both:
        os.close(end)


def read_all(descriptor: int, pipe: LogPipe) -> bytes:
    os.set_blocking(descriptor, False)
    read = b""
    written = False
    while True:
        try:
            read += os.read(descriptor, 1 << 20)
        except BlockingIOError:
            if written:
                return read
            written = pipe.drain(0.01)  # and what was written meanwhile is read once more


def test_lines_are_written_in_order(ends: list[int]) -> None:
    pipe = LogPipe(ends[1])
    for number in range(100):
        pipe.write(f"line {number}\n")
    assert pipe.drain(30)
    assert os.read(ends[0], 1 << 16).decode().splitlines() == [f"line {number}" for number in range(100)]
    assert pipe.dropped == 0


def fill(descriptor: int) -> None:
    """Fill a pipe, as lines do that nobody reads: a further write to it waits."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"-" * 4096)
    os.set_blocking(descriptor, True)


def test_a_pipe_that_is_not_read_stops_nobody_and_the_dropped_lines_are_counted(ends: list[int]) -> None:
    fill(ends[1])
    pipe = LogPipe(ends[1], most_bytes=50_000)
    for _ in range(1000):
        pipe.write(LINE)
    assert pipe.dropped == 950
    assert pipe.take_dropped() == 0, "there is no room for a report yet"
    assert not pipe.drain(0.01)
    assert read_all(ends[0], pipe).count(b"\n") == 50
    assert (pipe.take_dropped(), pipe.take_dropped()) == (950, 0)


def test_the_event_log_reports_dropped_lines_once_there_is_room(ends: list[int]) -> None:
    fill(ends[1])
    pipe = LogPipe(ends[1], most_bytes=50_000)
    lines: list[tuple[str, str, Any]] = []
    event_log = EventLog(lambda *line: lines.append(line), now=lambda: 0.0, dropped=pipe)
    for _ in range(1000):
        pipe.write(LINE)
    event_log.tick()
    assert lines == []
    read_all(ends[0], pipe)
    event_log.tick()
    event_log.tick()
    assert lines == [("warning", "log lines dropped", {"times": 950})]
    assert event_log.dropped == 950


async def test_a_line_that_is_larger_than_the_bound_is_written_where_nothing_waits(ends: list[int]) -> None:
    pipe = LogPipe(ends[1], most_bytes=10)
    pipe.write(LINE)
    await until(lambda: pipe.drain(0))
    assert os.read(ends[0], 1 << 16) == LINE.encode()


def test_a_reader_that_is_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    pipe = LogPipe(write)
    for _ in range(3):
        pipe.write(LINE)
    assert pipe.drain(30)
    os.close(write)


def test_half_a_surrogate_pair_is_written_as_an_escape(ends: list[int]) -> None:
    pipe = LogPipe(ends[1])
    pipe.write("\ud800\n")
    assert pipe.drain(30)
    assert os.read(ends[0], 100) == b"\\ud800\n"
