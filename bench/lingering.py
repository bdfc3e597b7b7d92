"""The whole proxy without delivery, for W6: the clients of the runs have left, but events still arrive.

`stream-proxy serve` keeps a run, its subscription and its streams for `linger` (30 s) after the last
client. So one client per run connects, gets the first frames and leaves. From then on every event is
received, ordered, matched, shaped, encoded and kept in the stream's backlog as usual, but nothing is
written to a socket. That is W6's work, done by the process that users run. The proxy's own counters say how
many events it received, and that each became a frame.
"""

from __future__ import annotations

import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

from drive import Shared
from machine import NotReady, cpu
from peers import Need, Ours

SETTLE = 2.0  # seconds until every subscription is open
WARM = 1.0
PATIENCE = 10.0  # seconds for a client's first bytes


def linger(peer: Ours, need: Need, seconds: float) -> dict[str, float]:
    """CPU microseconds per event, and events per second. Raises NotReady."""
    with peer.serve(need) as serving:
        port: int = serving.options["port"]
        for path in Path(serving.options["paths"]).read_text(encoding="utf-8").split():
            visit(port, path)
        time.sleep(SETTLE)
        shared = Shared(serving.options["shm"])
        shared[3] = 1
        _counted(port)  # the first scrape imports modules, so it must not be measured
        time.sleep(WARM)
        used, began, before = cpu(serving.pid), time.monotonic(), _counted(port)
        time.sleep(seconds)
        spent, took, after = cpu(serving.pid) - used, time.monotonic() - began, _counted(port)
        shared[1] = 1
    events, forwarded = (after[key] - before[key] for key in ("events", "forwarded"))
    if not events or forwarded < events or after["delivered"] > before["delivered"]:
        raise NotReady(f"{events} events became {forwarded} frames; runs should linger and forward all")
    return {"us_event": spent / events * 1e6, "ev_s": events / took}


def visit(port: int, path: str, patience: float = PATIENCE) -> None:
    """Read a run's stream until its first frame has arrived, then leave."""
    with socket.create_connection(("127.0.0.1", port), patience) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode())
        received = b""
        while b"\ndata: " not in received:
            more = client.recv(65536)
            if not more:
                raise NotReady(f"no stream: {received[:300]!r}")
            received += more


def _counted(port: int) -> dict[str, float]:
    """The proxy's counters."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        lines: list[str] = answer.read().decode().splitlines()
    return {
        "events": _sum(lines, "stream_proxy_events_total"),
        "forwarded": _sum(lines, "stream_proxy_forwarded_total"),
        "delivered": _sum(lines, "stream_proxy_frames_total"),
    }


def _sum(lines: list[str], name: str) -> float:
    values: Any = [line.rpartition(" ")[2] for line in lines if line.startswith(name + "{")]
    return sum(float(number) for number in values)
