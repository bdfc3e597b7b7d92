"""Fences: which replica led a run from which position on, and the cursors that follow from it.

A log has one *generation*: a text with the number of its first fence. Each replica that takes the lead writes
a *fence* with a higher number; Redis refuses entries of lower ones from then on. Positions count the items of
a generation from 1, across its fences.

    generation   1b3f~9kQ2…
    fence        7001 from 1          7002 from 5
    position     1  2  3  4           5  6  7
    entry id     7001-1 … 7001-4      7002-5 …

A cursor's seal covers the fence that its position was written under, and the replica that wrote it. Positions
that were written twice with other content (a replica went on without Redis while another one took over,
perhaps with the same number) therefore have different cursors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from msgspec import Struct

MOST_FENCES: Final = 256  # fences that are remembered: older cursors become unknown


class Fence(Struct, frozen=True):
    """`replica` leads with the number `number`; `start` is the first position that is written under it."""

    number: int
    start: int
    replica: str

    @property
    def name(self) -> str:
        """What distinguishes it from all others of its generation, also from those that were never stored."""
        return f"{self.number}.{self.replica}"


class Fences:
    """The fences of one generation, the oldest first."""

    __slots__ = ("_all", "generation")

    def __init__(self, generation: str, fences: Iterable[Fence] = ()) -> None:
        self.generation = generation
        self._all = list(fences)

    @property
    def first(self) -> int:
        """The number of the generation's first fence: Unix milliseconds of its creation."""
        return int(self.generation.partition("~")[0], 16)

    @property
    def last(self) -> Fence:
        """The newest one."""
        return self._all[-1]

    def __iter__(self) -> Iterator[Fence]:
        return iter(self._all)

    def add(self, fence: Fence) -> None:
        """A replica took the lead: what others wrote at `fence.start` or later is not valid any more."""
        while self._all and self._all[-1].start >= fence.start:
            self._all.pop()
        self._all.append(fence)
        del self._all[:-MOST_FENCES]

    def replace(self, other: Fences) -> None:
        """Take over the fences of `other`, which is of the same generation."""
        self._all = list(other._all)

    def at(self, position: int) -> str:
        """Which fence `position` was written under; an empty text where that is not known any more."""
        for fence in reversed(self._all):
            if fence.start <= position:
                return fence.name
        return self._all[0].name if self._all and self._all[0].number == self.first else ""

    @property
    def plain(self) -> list[list[Any]]:
        """The fences as JSON values."""
        return [[fence.number, fence.start, fence.replica] for fence in self._all]

    @classmethod
    def of(cls, generation: str, plain: Iterable[Any]) -> Fences:
        """The fences that `plain` describes. Raises ValueError or TypeError."""
        return cls(generation, [Fence(*fields) for fields in plain])


def new_generation(number: int, random: str) -> str:
    """The generation whose first fence is `number`; `random` distinguishes it from any other."""
    return f"{number:x}~{random}"
