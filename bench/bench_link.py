"""The proxy's own link to Redis beside redis-py: CPU time of this process per appended event.

    python bench/bench_link.py [--events 20000] [--turn 10]

Every event is one XADD and one PUBLISH, ten events in a turn of the loop, on a Redis on this machine.
redis-py (without hiredis) is used in two ways: a pipeline for each turn, and a command for each event. Each
way runs five times, by turns.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import uvloop
from redis.asyncio import Redis
from sharing import redis
from table import Table

from proxy.log.redis.link import Link, Node
from proxy.log.redis.resp import Reply, command

BODY: Final = b"x" * 250
FIELD: Final = b"1a2b3c4d5e6f~abcdefgh.a1b2c3d4"
REPETITIONS: Final = 5
Way = Callable[[bytes, int, int], Awaitable[None]]


async def lean(link: Link, key: bytes, events: int, turn: int) -> None:
    """Append through the proxy's link."""
    for start in range(1, events, turn):
        done = asyncio.get_running_loop().create_future()
        left = turn

        def stored(reply: Reply, done: asyncio.Future[None] = done) -> None:
            nonlocal left
            assert isinstance(reply, bytes), reply
            left -= 1
            link.send(command(b"PUBLISH", key, BODY), ignored)
            if not left:
                done.set_result(None)

        for number in range(start, start + turn):
            link.send(command(b"XADD", key, b"1-%d" % number, FIELD, BODY), stored)
        await done
    await link.call(b"PING")


def ignored(reply: Reply) -> None:
    """The reply to a PUBLISH is ignored."""


async def pipelined(client: Redis, key: bytes, events: int, turn: int) -> None:
    """Append through redis-py, a pipeline for each turn."""
    for start in range(1, events, turn):
        pipe = client.pipeline(transaction=False)
        for number in range(start, start + turn):
            pipe.xadd(key, {FIELD: BODY}, id=f"1-{number}")
        await pipe.execute()
        for _ in range(turn):
            pipe.publish(key, BODY)
        await pipe.execute()


async def single(client: Redis, key: bytes, events: int, turn: int) -> None:
    """Append through redis-py, a command for each event."""
    for number in range(1, events + 1):
        await client.xadd(key, {FIELD: BODY}, id=f"1-{number}")
        await client.publish(key, BODY)


async def measure(events: int, turn: int) -> Table:
    """All ways, by turns."""
    columns = (("us_event", "µs of CPU per event", "{:.1f}"),)
    table = Table("Appending and publishing an event", columns, "")
    with tempfile.TemporaryDirectory() as place, redis(Path(place)) as server:
        client = Redis(port=server.port)
        link = await Link.connect(Node("127.0.0.1", server.port), tls=None, closed=lambda: None)
        ways: dict[str, Way] = {
            "the proxy's link": lambda key, events, turn: lean(link, key, events, turn),
            "redis-py, pipelines": lambda key, events, turn: pipelined(client, key, events, turn),
            "redis-py, commands": lambda key, events, turn: single(client, key, events, turn),
        }
        for repetition in range(REPETITIONS):
            for name, way in ways.items():
                key = f"{name} {repetition}".encode()
                began = time.process_time()
                await way(key, events, turn)
                table.add(name, {"us_event": (time.process_time() - began) / events * 1e6})
        link.close()
        await client.aclose()
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--turn", type=int, default=10)
    given = parser.parse_args()
    print(uvloop.run(measure(given.events, given.turn)).text())
