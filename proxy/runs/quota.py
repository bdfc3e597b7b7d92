"""How many runs of a team may have subscriptions of their own at once.

Each subscription makes the engine look at every event of the tenant: N runs that are watched one by one cost
it N². A dozen break it for everybody, so this is protection, not thrift. Runs that the team's tap brings need
none.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 8  # `hatchet.subscriptions` where it is not written


class SubscriptionQuota:
    """A team's places; `take` before a run subscribes by itself, `give` after."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.taken = 0
        self.refused = 0  # how many runs are told from their states alone, for want of a place

    def take(self) -> bool:
        """Take a place; False where there is none."""
        if self.taken >= self.most:
            return False
        self.taken += 1
        return True

    def give(self) -> None:
        """Give a place back."""
        self.taken -= 1
