"""Guards: the readers of a merged session who must be permitted each of its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from proxy.core.observations import CoreState

Permits = Callable[[CoreState], bool]
"""Whether a reader may see a run, by the run's state."""


class Guards:
    """Asks about each run of a merged session for each reader."""

    def __init__(self, *, needed: bool) -> None:
        """`needed`: whether a reader must be permitted each run; else the first one speaks for all."""
        self._needed: Final = needed
        self._readers: dict[object, tuple[Permits, Callable[[], None]]] = {}

    def permit(self, permits: Permits, states: Iterable[CoreState]) -> bool:
        """Whether a reader with `permits` may see the runs with these states."""
        return not self._needed or all(map(permits, states))

    def add(self, reader: object, permits: Permits, refuse: Callable[[], None]) -> None:
        """`reader` sees the stream only as long as `permits` is true of each run; else `refuse` is called."""
        self._readers[reader] = (permits, refuse)

    def remove(self, reader: object) -> None:
        """`reader` is gone."""
        self._readers.pop(reader, None)

    def check(self, state: CoreState) -> None:
        """A run with `state` belongs to the stream from now on."""
        for permits, refuse in list(self._readers.values()) if self._needed else ():
            if not permits(state):
                refuse()
