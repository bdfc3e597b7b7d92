"""Processes on a given core, free ports, and the CPU and memory of a process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
PYTHON: Final = ROOT / ".venv" / "bin" / "python"
PEER_PYTHON: Final = HERE / ".venv" / "bin" / "python"
SERVE: Final = ROOT / ".venv" / "bin" / "stream-proxy"
SERVER_CORE, LOAD_CORE = 0, 1
PATIENCE: Final = 60.0  # seconds for a process to become ready on a machine with other work


class NotReady(Exception):
    """A process ended, or was not ready in time; the message is what it wrote."""


@contextlib.contextmanager
def process(
    command: Sequence[str | Path],
    core: int,
    *,
    env: Mapping[str, str] | None = None,
    log: Path,
    pipes: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """A process on one core; its standard error goes to `log`. It is ended when the body ends."""
    pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
    with log.open("w", encoding="utf-8") as errors:
        child = subprocess.Popen(
            ["taskset", "-c", str(core), *(str(part) for part in command)],
            env={**os.environ, **(env or {})},
            stdin=pipe,
            stdout=pipe,
            stderr=errors,
            text=True,
        )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for end in (child.stdin, child.stdout):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()


def first_line(child: subprocess.Popen[str], log: Path) -> Any:
    """The line of JSON that a process prints when it is ready. Raises NotReady."""
    out: IO[str] | None = child.stdout
    line = out.readline() if out is not None else ""
    if not line:
        raise NotReady(log.read_text(encoding="utf-8")[-2000:])
    return json.loads(line)


def listening(child: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    """The proxy's log line `listening`. Raises NotReady."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and child.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if line.startswith("{") and '"listening"' in line:
                return dict(json.loads(line))
        time.sleep(0.02)
    raise NotReady(log.read_text(encoding="utf-8")[-2000:])


def connectable(port: int, child: subprocess.Popen[str], log: Path) -> None:
    """Wait until a connection to `port` succeeds. Raises NotReady."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and child.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise NotReady(log.read_text(encoding="utf-8")[-2000:])


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def cpu(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss(pid: int) -> float:
    """Memory in KB, what is shared with others by halves."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("Pss:")))


def rss(pid: int) -> float:
    """Resident memory, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
