"""The budget of work for one evaluation, and the weight of values."""

from __future__ import annotations

from typing import Any, Final

from config.expressions.ast import ExpressionFailed

WORK_LIMIT: Final = 200_000
"""Node visits per event and stream: about a tenth of a second, the longest time that one hostile event may
delay other streams. Usual expressions over large events need a hundredth of it."""

CHARACTERS_PER_UNIT: Final = 64
"""Building or searching text is about a hundred times cheaper than visiting nodes: 12 MB of text use up the
budget. Measured: `contains` takes 6 ns a character, a visit of a node half a microsecond."""

CHANGED_PER_UNIT: Final = 16
"""Characters whose case is changed for one unit: 19 ns each where the text is not ASCII."""

COMPARED_PER_UNIT: Final = 1024
"""Characters of two texts that are compared for one unit: the C library compares whole words of memory."""


TOO_MUCH: Final = "needs too much work on this event: it was stopped"


class Meter:
    """What is left of one evaluation's budget."""

    __slots__ = ("left", "refusal")

    def __init__(self) -> None:
        self.left = WORK_LIMIT
        self.refusal = TOO_MUCH  # why an evaluation is stopped that needs more than is left

    def spend(self, amount: int) -> None:
        """Take `amount` units; raises ExpressionFailed where fewer are left."""
        self.left -= amount
        if self.left < 0:
            raise ExpressionFailed(self.refusal)


def weigh(value: Any, meter: Meter) -> int:
    """Roughly how many characters of JSON `value` is.

    Values can share parts, so a value that is small in memory may be huge when it is written or compared. A
    shared part is visited (and spent from the meter) once, and counted each time it occurs.
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
