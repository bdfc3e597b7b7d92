"""The logs of finished runs that this replica has sealed: they go first when Redis' memory is full."""

from __future__ import annotations

from time import monotonic
from typing import Final

LEAST: Final = 10  # logs that are removed at once, where there are so many
SHARE: Final = 10  # the oldest tenth is removed at once, if that is more
PAUSE: Final = 0.1
"""Seconds between two removals: appends that are under way are refused too, and would have all logs
removed."""


class SealedLogs:
    """Their names, the oldest first, until Redis has removed them by itself."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._removed_at = float("-inf")

    def add(self, name: str, seconds: float) -> None:
        """A log was sealed, and is kept for `seconds`."""
        now = monotonic()
        self._until.pop(name, None)
        self._until[name] = now + seconds
        while self._until and self._until[next(iter(self._until))] < now:
            del self._until[next(iter(self._until))]

    def discard(self, name: str) -> None:
        """A log is not sealed any more, or is gone."""
        self._until.pop(name, None)

    def to_remove(self) -> list[str]:
        """The oldest ones, which are to be removed now, as memory is needed; they are forgotten."""
        now = monotonic()
        if now - self._removed_at < PAUSE:
            return []
        self._removed_at = now
        oldest = list(self._until)[: max(LEAST, len(self._until) // SHARE)]
        for name in oldest:
            del self._until[name]
        return oldest
