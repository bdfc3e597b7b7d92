"""A feed for benchmarks: an embedded engine in a process of its own, with many runs that stream.

    python bench/feed.py serve --runs 2000 --rate 10 --seconds 60     prints one line of JSON: env and run ids
    python bench/feed.py measure --runs 2000 --rate 10 --seconds 10   also subscribes to all of them

`serve` starts the runs at once (`POST /control/trigger` starts more) and runs until its standard input ends.
`measure` prints how many chunks arrived and how much CPU the engine's process used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import uvloop
from pydantic import SecretStr

from config.model.files import HatchetConfig
from proxy.hatchet.endpoint import endpoint
from proxy.hatchet.errors import HatchetError
from proxy.hatchet.grpc.pool import ConnectionPool
from proxy.hatchet.protobuf import SUBSCRIBE, dispatcher_pb2
from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Step, Workflow, script

TICK = b"%06d" + b"." * 194


def feed(rate: float, seconds: float) -> Workflow:
    """One task that streams `rate` chunks of 200 bytes per second, for `seconds`."""
    chunks = tuple(TICK % number for number in range(int(rate * seconds)))
    return Workflow(
        "feed", (Step("feed", takes=3.0, chunks=Chunks(chunks, 1 / rate), timeout=3600.0, output={}),)
    )


async def serve(runs: int, rate: float, seconds: float, lean: bool) -> None:
    """An engine with its runs, until standard input ends."""
    # a subscription that this machine delayed must not also be held for the engine's own 5 s
    quirks = {"rate_limit": False, "five_second_hold": False, "early_subscription_waits": False}
    quirks["flush_buffers"] = False  # thousands of subscriptions would delay all chunks
    async with Engine(script(feed(rate, seconds)), quirks=quirks, lean=lean) as engine:
        ids = []
        for number in range(runs):
            ids.append(await engine.trigger("feed", metadata={"stream": "on"}))
            if number % 20 == 19:
                await asyncio.sleep(0.01)  # spread over time, as in production
        print(json.dumps({"env": engine.env, "runs": ids}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def measure(runs: int, rate: float, seconds: float, lean: bool) -> None:
    """Serve in another process, subscribe to each run here, and count chunks."""
    command = [
        sys.executable,
        __file__,
        "serve",
        "--runs",
        str(runs),
        "--rate",
        str(rate),
        "--seconds",
        str(seconds),
    ]
    command += [] if lean else ["--grpcio"]
    engine = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 26
    )
    assert engine.stdout is not None and engine.stdin is not None
    ready = json.loads(await engine.stdout.readline())
    at = endpoint(HatchetConfig(token=SecretStr(ready["env"]["HATCHET_CLIENT_TOKEN"])), ready["env"])
    counted = 0

    def count(raw: bytes) -> None:
        nonlocal counted
        counted += len(raw) > len(TICK)

    async def listen(pool: ConnectionPool, run_id: str) -> None:
        request = dispatcher_pb2.SubscribeToWorkflowEventsRequest(workflow_run_id=run_id)
        with contextlib.suppress(HatchetError):
            await pool.server_stream(SUBSCRIBE, request.SerializeToString(), "subscribe", count)

    pool = ConnectionPool(at)
    try:
        tasks = [asyncio.create_task(listen(pool, run_id)) for run_id in ready["runs"]]
        await asyncio.sleep(4.0)
        before, used, mine, begun = counted, cpu(engine.pid), time.process_time(), time.monotonic()
        await asyncio.sleep(max(1.0, seconds - 3.0))
        took, came, cost = time.monotonic() - begun, counted - before, cpu(engine.pid) - used
        print(f"{runs} runs, {rate:g} chunks/s each: sent {runs * rate:,.0f}/s, came {came / took:,.0f}/s;")
        receiver_seconds = time.process_time() - mine
        print(f"the engine used {cost / took:.0%} of a core, {cost / max(came, 1) * 1e6:.1f} µs per chunk;")
        print(f"the receiver used {receiver_seconds / took:.0%} of another")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await pool.close()
    engine.stdin.close()
    await engine.wait()


def cpu(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("serve", "measure"))
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--grpcio", action="store_true", help="serve with grpcio, at ten times the CPU cost")
    given = parser.parse_args()
    uvloop.run(
        {"serve": serve, "measure": measure}[given.verb](
            given.runs, given.rate, given.seconds, not given.grpcio
        )
    )
