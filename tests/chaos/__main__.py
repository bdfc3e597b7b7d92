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
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6))
    parser.add_argument("--log", choices=["memory", "redis"], default="memory", help="redis: a shared log")
    parser.add_argument("--only", default="", metavar="TEXT", help="faults whose name contains it")
    parser.add_argument("--proxies", type=int, help="2, or 3 with a shared log")
    parser.add_argument("--clients", type=int, default=8, help="at most so many for each run")
    parser.add_argument(
        "--evidence", type=Path, help="a folder for the frames of clients whose picture is wrong"
    )
    options = parser.parse_args()
    if options.evidence is not None:
        options.evidence.mkdir(parents=True, exist_ok=True)
    shared = options.log == "redis"
    proxies = options.proxies or (3 if shared else 2)
    print(f"seed {options.seed}, {options.minutes:g} minutes, {proxies} proxies, {options.log}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(
            play(
                options.seed,
                options.minutes * 60,
                Path(folder),
                proxies=proxies,
                shared_log=shared,
                only=options.only,
                clients_per_run=options.clients,
                evidence=options.evidence,
            )
        )
    print(report)
    return 0 if report.fine else 1


sys.exit(main())
