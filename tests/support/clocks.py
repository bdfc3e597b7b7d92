"""Wall clocks that jump in a generated run, forth or back, and right again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass
class ClockJump:
    """A wall clock is wrong by so many seconds, between two times."""

    began: float
    over: float
    by: float
    engine: bool  # the engine's clock, too, not the workers' alone


def wrong_by(jumps: Iterable[ClockJump], t: float) -> float:
    """By how many seconds a clock is wrong at `t`."""
    return sum(one.by for one in jumps if one.began <= t < one.over)
