"""W8: what a log that replicas share costs, and how long a take-over takes.

Cost: one engine, one Redis, and three proxies that follow the same runs at the same time: one keeps its
events in memory, one leads all runs, one follows them. As in W6 nothing is delivered (`lingering.py`): one
client of each run has come and gone. So a proxy's CPU time is spent on events alone, and all three are
measured over the same seconds.

Take-over: two proxies, one run that streams a token every 20 ms, and one client at the replica that follows.
The leader is ended, and the longest pause between two tokens is measured.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from drive import Shared
from lingering import visit
from machine import (
    LOAD_CORE,
    SERVE,
    SERVER_CORE,
    NotReady,
    connectable,
    first_line,
    free_port,
    listening,
    process,
)
from peers import SUBSCRIPTIONS, Need, feed_command
from table import Table

SHARED_LOG: Final = "stream_proxy_shared_log"  # how the metrics begin
SETTLE: Final = 2.0  # seconds until every subscription is open
WARM: Final = 1.5
SECONDS: Final = 6.0
PATIENCE: Final = 30.0  # seconds for an answer, and for the runs to be followed
QUIET: Final = 0.5  # seconds without an event after which everything is worked off
SAMPLED: Final = 50  # logs whose memory is asked for
RULES: Final = """    rules:
      - {events: step_started, data: step}
      - events: step_stream
        payload: json
        data: {n: payload.n, t: payload.t, type: type, text: payload.text}
"""
CONFIG: Final = """version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}", subscriptions: %d%s}
server: {linger: 10m, drain: {grace: 8s, spread: 0s}, log: "%s"%s}
streams:
  chunks:
    path: /runs/{workflowRunId}
    retry: 100ms
"""


@dataclass(frozen=True)
class Server:
    """A process that listens."""

    pid: int
    port: int
    child: subprocess.Popen[str]

    @property
    def cpu(self) -> float:
        """Microseconds of CPU that it has used, to the nanosecond: /proc/PID/stat counts in 10 ms."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1e3

    def counted(self, name: str) -> float:
        """The sum of one of the proxy's metrics."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            lines: list[str] = answer.read().decode().splitlines()
        values = [line.rpartition(" ")[2] for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(value) for value in values)


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[Server]:
    """A Redis that keeps nothing on disk. Raises NotReady."""
    program = shutil.which("redis-server")
    if program is None:
        raise NotReady("redis-server is missing (Debian: redis-server)")
    port, log = free_port(), folder / "redis.log"
    command: list[str | Path] = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    with process([*command, "--save", "", "--appendonly", "no"], LOAD_CORE, log=log) as child:
        connectable(port, child, log)
        yield Server(child.pid, port, child)


@contextlib.contextmanager
def proxy(
    folder: Path, name: str, env: Mapping[str, str], log: str, *, tap: str = "", more: str = ""
) -> Iterator[Server]:
    """A proxy with that `server.log`. Raises NotReady."""
    (folder / name).mkdir()
    config, written = folder / name / "streams.yaml", folder / f"{name}.log"
    config.write_text(CONFIG % (SUBSCRIPTIONS, tap, log, more) + RULES)
    command = [SERVE, "serve", "--config", config, "--port", "0"]
    with process(command, SERVER_CORE, env=env, log=written) as child:
        url: str = listening(child, written)["url"]
        yield Server(child.pid, int(url.rstrip("/").rpartition(":")[2]), child)


def ask(server: Server, *words: str) -> Any:
    """Redis' answer."""
    from redis import Redis  # noqa: PLC0415 - the proxy's own dependency; the other works need none

    with Redis(port=server.port) as client:
        return client.execute_command(*words)


# -- cost --

MEMORY, LEADING, FOLLOWING, STORE = "in memory", "leading", "following", "Redis"


def costs(need: Need, seconds: float) -> dict[str, dict[str, float]]:
    """The figures of each row. Raises NotReady."""
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder = Path(place)
        shm, written = folder / "shm", folder / "feed.log"
        store = stack.enter_context(redis(folder))
        feeding = process(feed_command("engine", need, shm), LOAD_CORE, log=written, pipes=True)
        ready = first_line(stack.enter_context(feeding), written)
        url = f"redis://127.0.0.1:{store.port}/0"
        servers = {
            name: stack.enter_context(proxy(folder, name, ready["env"], log))
            for name, log in ((MEMORY, "memory"), (LEADING, url), (FOLLOWING, url))
        }
        for name in (MEMORY, LEADING, FOLLOWING):
            for run in ready["runs"]:
                visit(servers[name].port, f"/runs/{run}", PATIENCE)
        time.sleep(SETTLE + need.runs / 400)
        for name in (LEADING, FOLLOWING):
            runs = servers[name].counted(f"{SHARED_LOG}_runs_{name}")
            if runs != need.runs:
                raise NotReady(f"of {need.runs} runs {runs:.0f} are {name}")
        shared = Shared(shm)
        shared[3] = 1
        return _measured(servers, store, shared, seconds)


COUNTERS: Final = {
    MEMORY: "stream_proxy_events_total",
    LEADING: f"{SHARED_LOG}_appended_total",
    FOLLOWING: f"{SHARED_LOG}_received_total",
}


def _measured(
    servers: Mapping[str, Server], store: Server, shared: Shared, seconds: float
) -> dict[str, dict[str, float]]:
    def used() -> dict[str, float]:
        return {name: server.cpu for name, server in {**servers, STORE: store}.items()}

    _feed(servers, shared, WARM)
    spent = used()
    number = _feed(servers, shared, seconds)
    spent = {name: after - spent[name] for name, after in used().items()}
    shared[1] = 1
    if min(number.values()) < max(number.values()):
        raise NotReady(f"the proxies have not had the same events: {number}")
    each = {name: spent[name] / number[LEADING] for name in spent}
    names = ask(store, "KEYS", "hsp:*:log:*")[:SAMPLED]
    size = sum(int(ask(store, "MEMORY", "USAGE", name, "SAMPLES", "0")) for name in names)
    entries = sum(int(ask(store, "XLEN", name)) for name in names)
    return {
        name: {
            "us_event": each[name],
            "more": 0.0 if name == STORE else each[name] - each[MEMORY],
            "bytes": size / entries if name == STORE else 0.0,
        }
        for name in each
    }


def _feed(servers: Mapping[str, Server], shared: Shared, seconds: float) -> dict[str, float]:
    """Feed for so long; the events of each proxy, once all of them have worked them off."""

    def counts() -> dict[str, float]:
        return {name: server.counted(COUNTERS[name]) for name, server in servers.items()}

    before = counts()
    shared[3] = 1
    time.sleep(seconds)
    shared[3] = 0
    after, last = counts(), before
    while after != last:
        time.sleep(QUIET)
        after, last = counts(), after
    return {name: after[name] - before[name] for name in servers}


def w8(repeat: int) -> Table:
    """The shared log: CPU per event of a leading and a following replica and of Redis, beside memory."""
    columns = (
        ("us_event", "µs of CPU per event", "{:.1f}"),
        ("more", "more than in memory", "{:+.1f}"),
        ("bytes", "bytes in Redis per event", "{:.0f}"),
    )
    table = Table("W8: the shared log, 2,000 events/s", columns, "")
    for _ in range(repeat):
        for runs in (10, 200, 5000):
            try:
                rows = costs(Need(clients=runs, runs=runs, rate=2000.0), SECONDS)
            except NotReady as error:
                print(f"w8: {runs} runs could not: {str(error)[:300]}", flush=True)
                continue
            for name, figures in rows.items():
                table.add(f"{runs:,} runs, {name}", figures)
    return table


# -- take-over --

TOKENS: Final = Need(clients=1, runs=1, rate=50.0)
BEFORE, AFTER = 2.0, 3.0  # seconds of tokens before the leader ends, and after the other one leads
NUMBER: Final = re.compile(rb'"n":([0-9]+)')
TAP: Final = ', tap: {stream: "on"}'
WAYS: Final[dict[str, tuple[signal.Signals, str, str]]] = {
    "SIGKILL, with a tap": (signal.SIGKILL, TAP, ""),
    "SIGKILL, standby: 1": (signal.SIGKILL, "", ", standby: 1"),
    "SIGKILL, neither": (signal.SIGKILL, "", ""),
    "SIGTERM, neither": (signal.SIGTERM, "", ""),
}


class Client(threading.Thread):
    """Reads a stream: when each token arrived, its number, and how many gaps were announced."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(daemon=True)
        self.tokens: list[tuple[float, int]] = []
        self.gaps = 0
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n"
        self._socket.sendall(request.encode())

    def run(self) -> None:
        """Read until the connection is closed."""
        rest = b""
        with contextlib.suppress(OSError):
            while more := self._socket.recv(65536):
                *frames, rest = (rest + more).split(b"\n\n")
                now = time.monotonic()
                for frame in frames:
                    self.gaps += b"stream.gap" in frame
                    self.tokens += [(now, int(number)) for number in NUMBER.findall(frame)]

    def close(self) -> None:
        """Stop reading."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self.join(PATIENCE)


def taken_over(end: signal.Signals, tap: str, more: str) -> dict[str, float]:
    """The figures of one take-over. Raises NotReady."""
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder = Path(place)
        shm, written = folder / "shm", folder / "feed.log"
        store = stack.enter_context(redis(folder))
        feeding = process(feed_command("engine", TOKENS, shm, "--tapped"), LOAD_CORE, log=written, pipes=True)
        ready = first_line(stack.enter_context(feeding), written)
        url = f"redis://127.0.0.1:{store.port}/0"
        leader, other = (
            stack.enter_context(proxy(folder, name, ready["env"], url, tap=tap, more=more))
            for name in ("leader", "other")
        )
        path = f"/runs/{ready['runs'][0]}"
        visit(leader.port, path)
        client = Client(other.port, path)
        client.start()
        stack.callback(client.close)
        _wait("the other replica follows", lambda: other.counted(f"{SHARED_LOG}_runs_following") == 1)
        if tap or more:
            subscribed = "stream_proxy_upstream_subscriptions"
            _wait("it is subscribed too", lambda: other.counted(subscribed) >= 1)
        shared = Shared(shm)
        shared[3] = 1
        _wait("tokens arrive", lambda: len(client.tokens) > BEFORE * TOKENS.rate)
        ended_at = time.monotonic()
        leader.child.send_signal(end)
        _wait("the other replica leads", lambda: other.counted(f"{SHARED_LOG}_take_overs_total") >= 1)
        time.sleep(AFTER)
        shared[1] = 1
        tokens = client.tokens
    times = [at for at, _ in tokens if at > ended_at - 0.1]
    numbers = [number for _, number in tokens]
    return {
        "pause": max(later - earlier for earlier, later in pairwise(times)),
        "missing": numbers[-1] - numbers[0] + 1 - len(set(numbers)),
        "twice": len(numbers) - len(set(numbers)),
        "gaps": client.gaps,
    }


def _wait(what: str, is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > until:
            raise NotReady(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.02)


def takeover(repeat: int) -> Table:
    """The shared log: how long a client waits when its run's leader ends, and what it misses."""
    columns = (
        ("pause", "s until the next token", "{:.2f}"),
        ("missing", "of 50 tokens/s missing", "{:.0f}"),
        ("gaps", "gaps announced", "{:.0f}"),
        ("twice", "tokens twice", "{:.0f}"),
    )
    table = Table("W8: the leader ends; a client at the other replica", columns, "")
    for _ in range(repeat):
        for name, way in WAYS.items():
            try:
                table.add(name, taken_over(*way))
            except NotReady as error:
                print(f"takeover: {name} could not: {str(error)[:300]}", flush=True)
    return table
