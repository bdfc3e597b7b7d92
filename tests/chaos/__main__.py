"""``python -m tests.chaos --minutes N --seed S``: break things for so long, print the table."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from tests.chaos.play import play


def main() -> int:
    """The exit status: 0 where every promise was kept."""
    words = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    words.add_argument("--minutes", type=float, default=1.0)
    words.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6))
    words.add_argument("--proxies", type=int, default=2)
    words.add_argument("--clients", type=int, default=8, help="at most so many for each run")
    words.add_argument("--evidence", type=Path, help="a folder for what clients heard that were told wrong")
    told = words.parse_args()
    if told.evidence is not None:
        told.evidence.mkdir(parents=True, exist_ok=True)
    print(f"seed {told.seed}, {told.minutes:g} minutes, {told.proxies} proxies", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(
            play(
                told.seed,
                told.minutes * 60,
                Path(folder),
                proxies=told.proxies,
                clients_per_run=told.clients,
                evidence=told.evidence,
            )
        )
    print(report)
    return 0 if report.fine else 1


sys.exit(main())
