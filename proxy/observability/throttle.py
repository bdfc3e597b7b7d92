"""Throttle: how often a thing may be said. Pure: the time is passed in.

The law: a thing is said at once the first time, then at most once per `every`, with how many times it was
held back in between; what was held back is told in the end (`due`), even if it never happens again. However
many different things happen, at most `things` + 1 are remembered: the rest share one turn (`OTHERS`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

EVERY: Final = 60.0  # seconds: a broken upstream is a line a minute, for as long as it is broken
THINGS: Final = 1000  # more different troubles at once than a person can read
OTHERS: Final = "others"


class _Turn:
    """When a thing may be said again, and how often it was not."""

    __slots__ = ("held", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.held = 0


class Throttle:
    """Decides whether something may be said now."""

    def __init__(self, every: float = EVERY, things: int = THINGS) -> None:
        self._every = every
        self._things = things
        self._turns: dict[Hashable, _Turn] = {}

    def ask(self, thing: Hashable, now: float) -> int | None:
        """How often `thing` was held back since it was said last; None: hold it back now."""
        turn = self._turns.get(thing)
        if turn is None and len(self._turns) >= self._things:
            thing = OTHERS
            turn = self._turns.get(thing)
        if turn is None:
            self._turns[thing] = _Turn(now + self._every)
            return 0
        if now < turn.until:
            turn.held += 1
            return None
        held, turn.held = turn.held, 0
        turn.until = now + self._every
        return held

    def due(self, now: float) -> list[tuple[Hashable, int]]:
        """What was held back and whose time is over, with how often; what has been quiet is forgotten."""
        told = []
        for thing, turn in list(self._turns.items()):
            if now < turn.until:
                continue
            if turn.held:
                told.append((thing, turn.held))
                turn.held, turn.until = 0, now + self._every
            else:
                del self._turns[thing]
        return told
