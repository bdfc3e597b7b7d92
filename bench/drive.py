"""Publishes events while the load generator listens, paced by how many have arrived (or by a rate).

    python bench/drive.py engine --shm FILE --runs 1 --clients 1000             an engine, for the proxy
    python bench/drive.py brief --shm FILE --runs 200 --rate 50                 an engine; runs that are read
    python bench/drive.py lines --port PORT --shm FILE --runs 1 --clients 1000  lines on a socket, for a peer

It prints one line of JSON when it is ready (for `engine`: the environment and the runs).

`brief` then reads the proxy's port from standard input, and begins `--runs` runs, `--rate` a second, that
take BRIEF seconds each; a client reads each from its beginning to its end. It prints how many got their end.

The load generator writes numbers into the shared file: [0] events that have arrived, [1] not 0 when the load
is over, [3] not 0 once all clients are connected.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import mmap
import os
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

Publish = Callable[[int, bytes], None]
TICK = 0.001  # seconds between two checks: short beside the time for which a window is in flight
BRIEF = 1.0  # seconds that a run of `brief` takes
MOST = 512  # events published at once if the publisher has fallen behind its rate


class Shared:
    """The numbers that the load generator writes into the shared file."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(fd, 4096)
        self._memory = mmap.mmap(fd, 4096)
        os.close(fd)

    def __getitem__(self, at: int) -> int:
        return int(struct.unpack_from("=Q", self._memory, at * 8)[0])

    def __setitem__(self, at: int, value: int) -> None:
        struct.pack_into("=Q", self._memory, at * 8, value)


class Pace:
    """How many events may be in flight: a fixed rate, or a window that moves with arrivals."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.rate, self.burst, self.window = given.rate, given.burst, given.window
        self.per_event = given.clients / given.runs  # deliveries
        self.published = 0
        self.began = time.monotonic_ns()

    def due(self, arrived: int) -> int:
        """How many events to publish now."""
        if not self.window:
            return 0
        if self.rate:
            should = int((time.monotonic_ns() - self.began) / 1e9 * self.rate)
            return min(MOST, should - self.published)
        room = int(arrived / self.per_event) + self.window - self.published
        return max(0, room // self.burst * self.burst)

    def stamp(self) -> int:
        """When the next event should have been published, in nanoseconds."""
        if self.rate:
            return self.began + int((self.published + 1) / self.rate * 1e9)
        return time.monotonic_ns()


async def drive(given: argparse.Namespace, publish: Publish) -> None:
    """Publish until the load is over."""
    shared = Shared(Path(given.shm))
    text = given.text or json.dumps({"text": "x" * given.payload})
    rest = text[1:].encode()
    while True:
        while not shared[3]:
            await asyncio.sleep(0.01)
        pace = Pace(given)
        while not shared[1] and shared[3]:
            for _ in range(pace.due(shared[0])):
                number, run = divmod(pace.published, given.runs)
                publish(run, b'{"n":%d,"t":%d,%b' % (number + 1, pace.stamp(), rest))
                pace.published += 1
            await asyncio.sleep(TICK)
        shared[3] = 0


async def engine(given: argparse.Namespace) -> None:
    """An embedded engine with its runs."""
    from proxy.simulator import Engine  # noqa: PLC0415 - the other way needs nothing of the project
    from proxy.simulator.script.model import Step, Workflow, script  # noqa: PLC0415

    work = Workflow("feed", (Step("feed", takes=1e6, timeout=1e6, output={}),))
    quirks = {"rate_limit": False, "metadata_disorder": False, "five_second_hold": False}
    quirks["flush_buffers"] = False  # a benchmark of the proxy: the engine adds no time of its own
    async with Engine(script(work), quirks=quirks, lean=True, tenants=given.tenants) as hatchet:
        metadata = {"stream": "on"} if given.tapped else None
        ids = [
            await hatchet.trigger("feed", metadata=metadata, tenant=number % given.tenants)
            for number in range(given.runs)
        ]
        await asyncio.sleep(0.1)  # until the engine's read side knows the runs
        core = hatchet.core
        steps = [
            (run, run.steps["feed"])
            for number, one in enumerate(ids)
            if (run := core.tenants[number % given.tenants].runs[one])
        ]
        indexes = [0] * given.runs

        def publish(number: int, text: bytes) -> None:
            core.put_chunk(*steps[number], text, indexes[number])
            indexes[number] += 1

        ready = {"env": hatchet.env, "runs": ids, "tokens": list(hatchet.tokens)}
        print(json.dumps(ready), flush=True)
        await drive(given, publish)


async def brief(given: argparse.Namespace) -> None:
    """An embedded engine whose runs begin and end, each read by a client."""
    from proxy.simulator import Engine  # noqa: PLC0415
    from proxy.simulator.script.model import Step, Workflow, script  # noqa: PLC0415

    work = Workflow("feed", (Step("feed", takes=BRIEF, output={"ok": True}),))
    quirks = {"rate_limit": False}
    async with Engine(script(work), quirks=quirks, lean=True) as hatchet:
        print(json.dumps({"env": hatchet.env, "runs": [], "tokens": list(hatchet.tokens)}), flush=True)
        port = int(await asyncio.to_thread(sys.stdin.readline))

        async def run(number: int) -> bool:
            await asyncio.sleep(number / given.rate)
            path = f"/runs/{await hatchet.trigger('feed')}"
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode())
            received = b""
            while b"\nevent: stream.end\n" not in received and (more := await reader.read(65536)):
                received += more
            writer.close()
            return b"\nevent: stream.end\n" in received

        ended = await asyncio.gather(*(run(number) for number in range(given.runs)))
        print(json.dumps({"ended": sum(ended)}), flush=True)


async def lines(given: argparse.Namespace) -> None:
    """Lines on a socket of a peer."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", given.port)
            break
        await asyncio.sleep(0.1)
    print("{}", flush=True)
    await drive(given, lambda run, text: writer.write(b"%d %b\n" % (run, text)))


Way = Callable[[argparse.Namespace], Awaitable[None]]
WAYS: dict[str, Way] = {
    "engine": engine,
    "brief": brief,
    "lines": lines,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--shm", required=True)
    parser.add_argument("--port", type=int, help="the port on which a peer accepts lines")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--tenants", type=int, default=1)
    parser.add_argument("--tapped", action="store_true", help="trigger runs with the pair `stream: on`")
    parser.add_argument("--clients", type=int, default=1000, help="clients that have not stopped reading")
    parser.add_argument("--rate", type=float, default=0.0, help="events per second; 0: as the window allows")
    parser.add_argument("--window", type=int, default=8, help="events in flight; 0: nothing is published")
    parser.add_argument("--burst", type=int, default=1, help="events published at once")
    parser.add_argument("--payload", type=int, default=130, help="bytes of text in an event")
    parser.add_argument("--text", default="", help="an event as a JSON object, instead of --payload")
    asked = parser.parse_args()
    uvloop.run(WAYS[asked.way](asked))
