"""What a run costs that nobody speaks of: silent runs, a run's beginning and end, a run's memory.

Each is measured on `stream-proxy serve` with an embedded engine in another process, like every other work.
"""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from lingering import visit
from machine import NotReady, cpu, first_line, pss
from peers import Need, Ours, Serving
from table import Table

EVERYTHING: Final = "    rules:\n      - {events: '*'}\n"
SILENT: Final = Need(
    clients=500,
    runs=500,
    fed=False,
    rules=EVERYTHING,
    server="server: {check_after: 1s, linger: 10m}\n",
)
"""Each run is checked once a second, so ten seconds have 5,000 checks."""
BRIEF: Final = Need(clients=1, runs=300, rate=50.0, way="brief", rules=EVERYTHING)
KEPT: Final = Need(clients=2000, runs=2000, fed=False, rules=EVERYTHING)
HEADERS: Final = "Host: bench\r\nAccept: text/event-stream"
SETTLE, SECONDS = 4.0, 10.0
PATIENCE: Final = 120.0


def silent(peer: Ours) -> dict[str, float]:
    """CPU milliseconds of a run and `check_after`, without clients."""
    with peer.serve(SILENT) as serving:
        port: int = serving.options["port"]
        for path in paths_of(serving):
            visit(port, path)
        time.sleep(SETTLE)
        lookups(port)  # the first scrape imports modules
        before, used = lookups(port), cpu(serving.pid)
        time.sleep(SECONDS)
        spent, checks = cpu(serving.pid) - used, lookups(port) - before
    if checks < SILENT.runs * SECONDS / 2:
        raise NotReady(
            f"{checks} checks in {SECONDS} s: the proxy cannot keep up, or the runs are not silent"
        )
    return {"ms": spent / checks * 1e3, "n": checks}


def brief(peer: Ours) -> dict[str, float]:
    """CPU milliseconds of a run of a second: its beginning, a client, its end."""
    with peer.serve(BRIEF) as serving:
        assert serving.feed is not None and serving.feed.stdin is not None
        time.sleep(1.0)
        used = cpu(serving.pid)
        serving.feed.stdin.write(f"{serving.options['port']}\n")
        serving.feed.stdin.flush()
        ended = first_line(serving.feed, Path(serving.options["paths"]))["ended"]
        spent = cpu(serving.pid) - used
    if ended != BRIEF.runs:
        raise NotReady(f"{ended} of {BRIEF.runs} runs had an end")
    return {"ms": spent / BRIEF.runs * 1e3, "n": BRIEF.runs}


def kept(peer: Ours) -> dict[str, float]:
    """KB of a run with its client, before its first chunk, and of the run alone, which lingers."""
    with peer.serve(KEPT) as serving:
        port: int = serving.options["port"]
        paths = paths_of(serving)
        with clients(port, paths[:100]):  # what the first runs need once
            time.sleep(SETTLE)
            before = pss(serving.pid)
            with clients(port, paths[100:]):
                time.sleep(SETTLE)
                whole = pss(serving.pid)
            time.sleep(1.0)
            alone = pss(serving.pid)
    more = len(paths) - 100
    return {"kb": (whole - before) / more, "kb_alone": (alone - before) / more}


@contextlib.contextmanager
def clients(port: int, paths: list[str]) -> Iterator[None]:
    """A client for each path, that has got its first bytes."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as stack:
        for first in range(0, len(paths), 50):
            some = []
            for path in paths[first : first + 50]:
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
                client.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode()
                )
                some.append(client)
            for client in some:
                if not client.recv(65536).startswith(b"HTTP/1.1 200"):
                    raise NotReady("a client got no stream")
        yield


def paths_of(serving: Serving) -> list[str]:
    """The paths of the runs at the proxy."""
    return Path(serving.options["paths"]).read_text(encoding="utf-8").split()


def lookups(port: int) -> float:
    """How many core states the proxy has read."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
    lines = [line for line in text.splitlines() if line.startswith("stream_proxy_state_lookups_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if 'kind="core"' in line)


def w7runs(repeat: int) -> Table:
    """Silent runs, a run's beginning and end, and a run's memory."""
    columns = (
        ("ms", "ms of CPU", "{:.2f}"),
        ("kb", "KB with its client", "{:.1f}"),
        ("kb_alone", "KB lingering", "{:.1f}"),
    )
    table = Table("W7: runs", columns, "")
    works: dict[str, Callable[[Ours], dict[str, float]]] = {
        "a silent run, each check_after": silent,
        "a run's beginning and end": brief,
        "a run that is kept": kept,
    }
    for _ in range(repeat):
        for name, work in works.items():
            try:
                table.add(name, {"ms": 0.0, "kb": 0.0, "kb_alone": 0.0, **work(Ours())})
            except NotReady as error:
                print(f"w7runs: {name}: {str(error)[:300]}", flush=True)
    return table


if __name__ == "__main__":
    print(json.dumps({"silent": silent(Ours()), "brief": brief(Ours()), "kept": kept(Ours())}))
