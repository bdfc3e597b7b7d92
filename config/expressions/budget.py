"""The allowance of work that evaluation has, and what values weigh"""

from __future__ import annotations

from typing import Any, Final

from config.expressions.ast import ExpressionFailed

WORK_LIMIT: Final = 200_000
"""Node visits per event and stream: about a tenth of a second, which is what other streams may be held up
for by one hostile event; honest expressions over large events stay hundreds of times below."""

CHARACTERS_PER_UNIT: Final = 64
"""Building text is some hundred times cheaper than visiting nodes: 12 MB of it use up the meter."""


class Meter:
    """What is left of one evaluation's allowance."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = WORK_LIMIT

    def spend(self, amount: int) -> None:
        """Take `amount` units; raises ExpressionFailed when there is not so much left."""
        self.left -= amount
        if self.left < 0:
            raise ExpressionFailed("needs too much work on this event: it was stopped")


def weigh(value: Any, meter: Meter) -> int:
    """Roughly how many characters of JSON `value` is.

    Values can share parts, so a small one in memory may be a giant one when it is written or compared:
    what is shared is looked at (and spent from the meter) once, and counted each time.
    """
    known: dict[int, int] = {}
    waiting = [value]
    while waiting:
        item = waiting[-1]
        if id(item) in known or item.__class__ not in (list, dict):
            waiting.pop()
            continue
        meter.spend(len(item) + 1)
        inner = item.values() if item.__class__ is dict else item
        unknown = [part for part in inner if part.__class__ in (list, dict) and id(part) not in known]
        if unknown:
            waiting.extend(unknown)
            continue
        waiting.pop()
        own = sum(map(len, item)) if item.__class__ is dict else 0
        known[id(item)] = own + 2 + sum(known.get(id(part)) or _scalar_weight(part) for part in inner)
    return known.get(id(value)) or _scalar_weight(value)


def _scalar_weight(value: Any) -> int:
    return len(value) + 4 if value.__class__ is str else 4
