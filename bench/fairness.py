"""Fairness: how one team's burst changes another team's latency, on one proxy.

    python bench/fairness.py                     10,000 events/s of team noisy, 200/s of team quiet
    python bench/fairness.py --burst 5000 --seconds 20
    python bench/fairness.py --audience 10000    team noisy has one run with 10,000 clients and 2 events/s

Two engines, one `stream-proxy serve` with two teams, one client per run. Latency is measured from the
engine's time of an event until the event is read here: first the quiet team alone, then beside the burst.
The goal is a p99 at most twice as high in the same run. All processes share the cores, so on a small
machine the figure includes the CPU time of the burst's engine and clients. `--cores` keeps the proxy on one
core and all other processes on the rest, and gives the burst's processes the lowest priority there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from datetime import datetime
from pathlib import Path
from typing import Any

import uvloop
from feed import cpu
from load import PROGRAM, build

HERE = Path(__file__).resolve().parent
SERVE = Path(sys.executable).parent / "stream-proxy"
QUIET_RUNS, QUIET_RATE = 20, 10.0
NOISY_RATE = 20.0  # per run and second
YIELDING = 19  # niceness of the burst's engine and clients where they share a core with the quiet team's
AUDIENCE_RATE = 2.0  # per second, of the run with very many clients
WARM_UP = 12.0  # seconds until all clients are connected; a client that joins in mid-step may wait for 5 s
SINKS: list[asyncio.Task[None]] = []
HISTOGRAMS = {"loop_lag": "the proxy's timers were late", "collector_pause": "its collector's pauses"}
TEAM = """
version: 1
streams:
  chunks:
    path: /{workflowRunId}
    rules: [{events: step_stream, data: {at: at, text: payload}}]
"""


async def feed(runs: int, rate: float, seconds: float) -> tuple[Process, dict[str, Any]]:
    """An engine in a process of its own; also returns its environment and its runs."""
    command = [sys.executable, str(HERE / "feed.py"), "serve"]
    numbers = ["--runs", str(runs), "--rate", str(rate), "--seconds", str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, *numbers, stdin=PIPE, stdout=PIPE, limit=1 << 26)
    assert process.stdout is not None
    return process, json.loads(await process.stdout.readline())


async def proxy(folder: Path, engines: dict[str, dict[str, str]]) -> tuple[Process, int]:
    """`stream-proxy serve` with a team per engine, and its port."""
    (folder / "teams").mkdir()
    lines = ["version: 1", "teams:"]
    for team, env in engines.items():
        at = f'host_port: "{env["HATCHET_CLIENT_HOST_PORT"]}", tls: none, api: "off", tap: {{stream: "on"}}'
        lines += [f"  {team}:", f'    hatchet: {{token: "${{{team.upper()}}}", {at}}}', "    auth: none"]
        (folder / "teams" / f"{team}.yaml").write_text(TEAM)
    (folder / "proxy.yaml").write_text("\n".join(lines) + "\n")
    tokens = {team.upper(): env["HATCHET_CLIENT_TOKEN"] for team, env in engines.items()}
    process = await asyncio.create_subprocess_exec(
        *(str(SERVE), "serve", "--config", str(folder), "--port", "0"),
        env={**os.environ, **tokens},
        stderr=PIPE,
    )
    assert process.stderr is not None
    while line := await process.stderr.readline():
        entry = json.loads(line) if line.startswith(b"{") else {}
        if entry.get("event") == "listening":
            SINKS.append(asyncio.create_task(_unread(process.stderr)))
            return process, int(entry["url"].rstrip("/").rpartition(":")[2])
    raise SystemExit("the proxy ended before it listened")


async def _unread(lines: asyncio.StreamReader) -> None:
    """Read the proxy's log: ten thousand ends of streams fill a pipe, and writing to a full pipe blocks."""
    while await lines.read(1 << 16):
        pass


async def read(port: int, team: str, run: str, late: list[float]) -> None:
    """One client: appends the latency of each event to `late`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /{team}/{run} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    while line := await reader.readline():
        if line.startswith(b'data: {"at":"'):
            then = datetime.fromisoformat(line[13 : line.index(b'"', 13)].decode()).timestamp()
            late.append(time.time() - then)


async def drain(port: int, team: str, runs: list[str]) -> Process:
    """The burst's clients, in a process of their own: they count events and measure no latency."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--drain", str(port), team), stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(runs).encode() + b"\n")
    return process


async def drain_here(port: int, team: str, runs: list[str]) -> None:
    """What `drain` starts: prints once a second how many events arrived."""
    came = 0

    async def one(run: str) -> None:
        nonlocal came
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /{team}/{run} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        while data := await reader.read(1 << 16):
            came += data.count(b"data: {")

    tasks = [asyncio.create_task(one(run)) for run in runs]
    while True:
        before = came
        await asyncio.sleep(1.0)
        print(came - before, flush=True)
        assert tasks


async def audience(port: int, run: str, readers: int, seconds: float) -> Process:
    """Very many clients of one run for `seconds`; they print what they received at the end."""
    options = f"port={port} path=/noisy/{run} conns={readers} warm=0 dur={seconds} timeout=60 busy=0"
    return await asyncio.create_subprocess_exec("nice", str(PROGRAM), *options.split(), stdout=PIPE)


def at(late: list[float], share: float) -> float:
    """A percentile, in milliseconds."""
    return sorted(late)[min(len(late) - 1, int(len(late) * share))] * 1000


def queued(pid: int) -> float:
    """Seconds for which a process was ready to run but had no core, because of other processes."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9


async def histogram_of(port: int, histogram: str) -> dict[str, float]:
    """One of the proxy's histograms: upper bound in seconds to count; empty if there is none of that name."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    found = re.findall(histogram + r'_seconds_bucket\{le="([^"]+)"\} ([0-9.e+]+)', text)
    return {most: float(count) for most, count in found}


def since(before: dict[str, float], now: dict[str, float]) -> str:
    """What a histogram counted between two reads, bucket by bucket."""
    counts = {most: count - before.get(most, 0.0) for most, count in now.items()}
    below = 0.0
    shown = []
    for most, count in counts.items():
        if count > below:
            shown.append(f"{count - below:.0f} up to {most} s")
        below = count
    return ", ".join(shown) or "none"


async def phase(late: list[float], seconds: float, name: str, pids: dict[str, int], port: int) -> float:
    """Run for `seconds`, print latencies and CPU, and return the p99 in milliseconds."""
    late.clear()
    used, began = {who: cpu(pid) for who, pid in pids.items()}, time.monotonic()
    waited, before = queued(pids["proxy"]), {kind: await histogram_of(port, kind) for kind in HISTOGRAMS}
    await asyncio.sleep(seconds)
    seen, took = list(late), time.monotonic() - began
    p99 = at(seen, 0.99)
    shares = "   ".join(f"p{share:.0%}"[:-1] + f" {at(seen, share):.1f} ms" for share in (0.5, 0.9, 0.99))
    print(f"{name:<22} {len(seen) / took:8,.0f} events/s   {shares}")
    costs = (f"{who} {(cpu(pid) - used[who]) / took:.0%}" for who, pid in pids.items())
    queue = (queued(pids["proxy"]) - waited) / took
    print(f"{'':<22} of a core: {', '.join(costs)}; the proxy waited for one {queue:.0%} of the time")
    for kind, what in HISTOGRAMS.items():
        print(f"{'':<22} {what}: {since(before[kind], await histogram_of(port, kind))}")
    return p99


async def main(burst: int, listeners: int, seconds: float, cores: bool) -> None:
    runs, rate = (1, AUDIENCE_RATE) if listeners else (max(1, round(burst / NOISY_RATE)), NOISY_RATE)
    lasts = 6 * WARM_UP + 3 * seconds
    quiet, quiet_feed = await feed(QUIET_RUNS, QUIET_RATE, lasts)
    late: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        noisy, noisy_feed = await feed(runs, rate, lasts)
        served, port = await proxy(Path(folder), {"quiet": quiet_feed["env"], "noisy": noisy_feed["env"]})
        if cores and len(os.sched_getaffinity(0)) > 1:
            first, *rest = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(served.pid, {first})
            for pid in (0, quiet.pid, noisy.pid):
                os.sched_setaffinity(pid, rest)
            os.setpriority(os.PRIO_PROCESS, noisy.pid, YIELDING)
        clients = [asyncio.create_task(read(port, "quiet", run, late)) for run in quiet_feed["runs"]]
        await asyncio.sleep(WARM_UP)
        pids = {
            "proxy": served.pid,
            "quiet engine": quiet.pid,
            "noisy engine": noisy.pid,
            "here": os.getpid(),
        }
        alone = await phase(late, seconds, "quiet, alone", pids, port)
        if listeners:
            readers = await audience(port, noisy_feed["runs"][0], listeners, WARM_UP + seconds)
        else:
            readers = await drain(port, "noisy", noisy_feed["runs"])
        if cores:
            os.setpriority(os.PRIO_PROCESS, readers.pid, YIELDING)
        await asyncio.sleep(WARM_UP)
        pids["readers"] = readers.pid
        with_burst = await phase(late, seconds, "quiet, with the burst", pids, port)
        assert readers.stdout is not None
        if listeners:
            seen = json.loads(await readers.stdout.read())
            lost = seen["gaps"] + seen["dups"]
            print(f"{'the audience':<22} {seen['ev_s']:8,.0f} deliveries/s, lost or repeated {lost}")
        else:
            counts = [int(line) for line in (await readers.stdout.read(1 << 16)).split()][-int(seconds) :]
            print(f"{'the burst':<22} {sorted(counts)[len(counts) // 2]:8,} events/s")
        print(f"p99 with the burst is {with_burst / alone:.2f} times p99 alone (goal: 2)")
        for task in clients:
            task.cancel()
        for process in (readers, served, quiet, noisy):
            if process.returncode is None:
                process.terminate()
            await process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--burst", type=int, default=10_000, help="events/s of the noisy team")
    parser.add_argument("--audience", type=int, default=0, help="clients of its only run; instead of a burst")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    parser.add_argument("--cores", action="store_true", help="the proxy on one core, the rest on the others")
    parser.add_argument("--drain", nargs=2, metavar=("PORT", "TEAM"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drain:
        runs_of = json.loads(sys.stdin.readline())
        uvloop.run(drain_here(int(given.drain[0]), given.drain[1], runs_of))
    else:
        build()
        uvloop.run(main(given.burst, given.audience, given.seconds, given.cores))
