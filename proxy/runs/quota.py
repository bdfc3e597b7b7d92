"""How many runs of a team may have subscriptions of their own at once.

The engine looks at every event of the tenant for each subscription, so its work grows with the square of the
runs that have one. A dozen overload it for the whole tenant; the quota protects it. Runs that the team's tap
brings need none.
"""

from __future__ import annotations

from typing import Final

from proxy.runs.reconcile.subscription_state import Overload

MOST: Final = 8  # the default of `hatchet.subscriptions`


class SubscriptionQuota:
    """A team's places; `take` before a run subscribes by itself, `give` after."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.taken = 0
        self.refused = 0  # how many runs are served from their states alone because no place was free
        self.overload = Overload()

    def take(self, now: float) -> bool:
        """Take a place; False where there is none. `now`: seconds of the runs' clock."""
        if self.taken >= self.most:
            self.overload.at = now
            return False
        self.taken += 1
        return True

    def give(self) -> None:
        """Give a place back."""
        self.taken -= 1
