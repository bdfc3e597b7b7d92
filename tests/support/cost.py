"""The CPU cost of a call, as a multiple of a reference computation on the same machine in the same moment.

A busy or slow machine makes both slower, so a bound on the ratio holds where a bound in seconds does not. One
unit is about 50 ms on the machine of docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Final

ROUNDS: Final = 800_000


def reference() -> float:
    """CPU seconds of the reference computation: integer arithmetic and dictionary stores in plain Python."""
    began = process_time()
    table: dict[int, int] = {}
    for number in range(ROUNDS):
        table[number & 1023] = number * number
    return process_time() - began


def relative_cost(call: Callable[[], object]) -> float:
    """Run `call` once; return its CPU time in units of the reference, measured before and after it."""
    before = reference()
    began = process_time()
    call()
    spent = process_time() - began
    return spent / max(before, reference())
