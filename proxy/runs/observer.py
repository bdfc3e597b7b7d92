"""An interface for counting what happens around runs."""

from __future__ import annotations


class Observer:
    """Receives what happens around runs, and counts nothing; subclass it to count."""

    def false_end(self) -> None:
        """The engine said that a run was over, and it was not."""

    def lookup(self, kind: str) -> None:
        """A state is read: `kind` is core, past or find."""

    def subscribed(self, kind: str, change: int) -> None:
        """A subscription (`kind`: run, trace, tap, find) was opened (+1) or is over (-1)."""

    def late_chunk(self, count: int = 1) -> None:
        """Chunks came after their attempt or their run was over."""

    def foreign_event(self) -> None:
        """A subscription by run id brought an event of another run, which was dropped."""

    def state_only(self, change: int) -> None:
        """A run is served from its states alone because no place was free (+1), or not any more (-1)."""

    def unforeseen(self, error: Exception) -> None:
        """An error that should not be possible was caught; the operation is tried again."""
