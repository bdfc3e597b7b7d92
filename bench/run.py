"""Runs works and prints their tables; `scripts/bench` starts this.

scripts/bench                    every work, three repetitions of each
scripts/bench w1 w1burst         these two
scripts/bench --repeat 5 w4
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from load import build
from machine import HERE, PYTHON
from runs import w7runs
from sharing import takeover, w8
from starting import start
from works import WORKS, Work


def fair() -> None:
    """One team's burst and another team's latency (bench/fairness.py)."""
    subprocess.run([str(PYTHON), str(HERE / "fairness.py"), "--cores", "--seconds", "8"], check=False)


def main() -> None:
    works: dict[str, Work] = {**WORKS, "w7runs": w7runs, "w8": w8, "takeover": takeover, "start": start}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("works", nargs="*", metavar="WORK", help=", ".join([*works, "fair"]))
    parser.add_argument("--repeat", type=int, default=3, help="repetitions, peers interleaved")
    given = parser.parse_args()
    unknown = set(given.works) - {*works, "fair"}
    if unknown:
        parser.error(f"there is no work {', '.join(sorted(unknown))}")
    build()
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, load average {os.getloadavg()[0]:.1f}\n")
    for name in given.works or [*works, "fair"]:
        if name == "fair":
            fair()
        else:
            print(works[name](given.repeat).text(), flush=True)
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
