"""What a run does that operators count; the default counts nothing."""

from __future__ import annotations

from proxy.core.events import GapCause


class RunWatch:
    """Told of what happens around runs; subclass what you count."""

    def false_end(self) -> None:
        """The engine said that a run was over, and it was not."""

    def lookup(self, kind: str) -> None:
        """A state was read: `kind` is core, past or find."""

    def subscribed(self, kind: str, change: int) -> None:
        """A subscription (`kind`: run, bridge, tap, find) was opened (+1) or is over (-1)."""

    def gap(self, cause: GapCause, missed: int | None) -> None:
        """Chunks cannot be given any more."""

    def reset(self) -> None:
        """A step is tried again."""

    def late_chunk(self, count: int = 1) -> None:
        """A chunk came after its step or its run was over."""

    def ended(self, status: str) -> None:
        """A run came to its verified end."""
