"""Builds the load generator (sseload.c) if it is older than its source, and runs one measurement with it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from machine import HERE, LOAD_CORE, NotReady

SOURCE, PROGRAM = HERE / "sseload.c", HERE / "sseload"


def build() -> None:
    """Compile the generator; needs gcc."""
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < SOURCE.stat().st_mtime:
        subprocess.run(["gcc", "-O2", "-w", "-o", str(PROGRAM), str(SOURCE)], check=True)


def load(**options: Any) -> dict[str, Any]:
    """Run the load generator on its core; returns its figures. Raises NotReady if it failed."""
    arguments = [f"{name}={value}" for name, value in options.items() if value is not None]
    command = ["taskset", "-c", str(LOAD_CORE), str(PROGRAM), "busy=0", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        measured: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise NotReady(done.stdout + done.stderr) from None
    if "error" in measured:
        raise NotReady(done.stdout + done.stderr)
    return measured
