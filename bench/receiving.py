"""Receiving alone: the cost of a process that only receives the feed, to compare W2 and W6 with."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from drive import Shared
from machine import HERE, LOAD_CORE, PYTHON, SERVER_CORE, cpu, first_line, process
from peers import Need, feed_command

SETTLE = 2.0  # seconds until every subscription is open


def receive(way: str, need: Need, seconds: float) -> dict[str, float]:
    """CPU microseconds per event, and events per second."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        shm, log, own_log = here / "shm", here / "feed.log", here / "receive.log"
        command = [PYTHON, HERE / "servers" / "receive.py", way]
        with (
            process(feed_command("engine", need, shm), LOAD_CORE, log=log, pipes=True) as feed,
            process(command, SERVER_CORE, log=own_log, pipes=True) as receiver,
        ):
            ready = feed.stdout.readline() if feed.stdout else ""
            assert receiver.stdin is not None
            receiver.stdin.write(ready)
            receiver.stdin.flush()

            def come() -> int:
                assert receiver.stdin is not None
                receiver.stdin.write("how many\n")
                receiver.stdin.flush()
                return int(first_line(receiver, own_log))

            come()
            time.sleep(SETTLE)
            shared = Shared(shm)
            shared[3] = 1
            time.sleep(1.0)
            before, used, began = come(), cpu(receiver.pid), time.monotonic()
            time.sleep(seconds)
            events, spent = come() - before, cpu(receiver.pid) - used
            took = time.monotonic() - began
            shared[1] = 1
    return {"us_event": spent / max(1, events) * 1e6, "ev_s": events / took}
