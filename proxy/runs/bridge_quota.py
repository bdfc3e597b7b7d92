"""Bridges: how many subscriptions by metadata a team may have open to span the engine's silences.

Each makes the engine look up every event of the tenant; so they are few, short, and the team's, not a run's.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 16  # per team: what an engine bears beside its own work
SECONDS: Final = 6.0  # the engine's hold lasts 5: by then the subscription by run id has caught up


class Bridges:
    """A team's share; `take` before opening one, `give` after."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.open = 0

    def take(self) -> bool:
        """Whether one more may be opened; counts it."""
        if self.open >= self.most:
            return False
        self.open += 1
        return True

    def give(self) -> None:
        """One is closed."""
        self.open -= 1
