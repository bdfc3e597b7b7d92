"""What happens around runs that operators count; the default counts nothing."""

from __future__ import annotations


class Observer:
    """Is told of what happens around runs; subclass it to count."""

    def false_end(self) -> None:
        """The engine said that a run was over, and it was not."""

    def lookup(self, kind: str) -> None:
        """A state is read: `kind` is core, past or find."""

    def subscribed(self, kind: str, change: int) -> None:
        """A subscription (`kind`: run, trace, tap, find) was opened (+1) or is over (-1)."""

    def late_chunk(self, count: int = 1) -> None:
        """Chunks came after their attempt or their run was over."""

    def state_only(self, change: int) -> None:
        """A run is told from its states alone, for want of a place (+1), or not any more (-1)."""

    def unforeseen(self, error: Exception) -> None:
        """Something went wrong that should not be possible; it is tried again."""
