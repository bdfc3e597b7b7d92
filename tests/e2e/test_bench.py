"""The parts of the benchmark: the feed keeps its window, and ratios are taken within a repetition."""

from __future__ import annotations

import asyncio
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parent.parent.parent / "bench"


@pytest.fixture
def drive() -> dict[str, Any]:
    return runpy.run_path(str(BENCH / "drive.py"))


@pytest.fixture
def table() -> Any:
    return runpy.run_path(str(BENCH / "table.py"))["Table"]


async def test_the_feed_keeps_to_its_window_and_ends_with_the_load(
    drive: dict[str, Any], tmp_path: Path
) -> None:
    came: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            came.put_nowait(line)
        came.put_nowait(b"")
        writer.close()

    shared = drive["Shared"](tmp_path / "shm")
    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    numbers = ["--shm", str(tmp_path / "shm"), "--runs", "2", "--clients", "4", "--window", "6"]
    command = [sys.executable, str(BENCH / "drive.py"), "lines", "--port", str(port), *numbers]
    feed = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert feed.stdout is not None
    await feed.stdout.readline()
    shared[3] = 1  # everybody listens
    first = [await came.get() for _ in range(6)]
    assert came.empty(), "more was put than the window allows"
    shared[0] = 8  # two clients of each run: four events have arrived
    more = [await came.get() for _ in range(4)]
    events = [json.loads(line.split(b" ", 1)[1]) for line in first + more]
    assert [event["n"] for event in events] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5], "numbered run by run"
    shared[1] = 1  # the load is over
    feed.terminate()
    await feed.wait()
    server.close()
    await server.wait_closed()


def test_a_ratio_is_the_median_of_those_within_a_repetition(table: Any) -> None:
    results = table("W", (("rate", "events/s", "{:.0f}"),), "ours")
    for ours, theirs in (
        (100, 50),
        (200, 50),
        (900, 300),
    ):  # the machine drifts; within a repetition it does not
        results.add("ours", {"rate": ours})
        results.add("theirs", {"rate": theirs})
    assert results.ratio("theirs", "rate") == (3.0, 2.0, 4.0)
    assert "| theirs | 50 (50\N{EN DASH}300) | 3.00 (2.00\N{EN DASH}4.00) |" in results.text()


def test_a_flame_graph_draws_the_loop_alone_and_no_place_of_the_machine() -> None:
    flame = runpy.run_path(str(BENCH / "flame.py"))
    loop = "main (stream-proxy:8);Runner.run (asyncio/runners.py:118)"
    drawn = flame["svg"](
        flame["folded"](
            [
                f"{loop};Link._take (proxy/hatchet/grpc/connection.py:101);"
                "decode (proxy/core/json_codec.py:29) 3",
                f"{loop};Link._take (proxy/hatchet/grpc/connection.py:99) 1",
                "Thread._bootstrap (threading.py:995);_worker (concurrent/futures/thread.py:81) 9",
            ]
        ),
        "W6",
    )
    assert "Link._take (proxy/hatchet/grpc/connection.py): 100.0%" in drawn, "one box for all its lines"
    assert "decode (proxy/core/json_codec.py): 75.0%" in drawn
    assert "threading" not in drawn and "stream-proxy" not in drawn
    assert drawn.count("<rect") == 3
