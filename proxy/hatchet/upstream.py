"""Upstream: what a run, a tap or a command may ask of Hatchet; ``hatchet.py`` is the real one.

One `Upstream` per team. All calls are safe to make side by side, share the team's channels, and raise
only `proxy.hatchet.errors.HatchetError`s. Cancelling a call ends it at Hatchet too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from proxy.core.observations import CoreState, LiveEvent, PastState

Deliver = Callable[[LiveEvent], None]


class Upstream(Protocol):
    """A team's door to Hatchet."""

    @property
    def has_history(self) -> bool:
        """Whether a REST history is configured (``hatchet.api`` is not off)."""

    async def follow(self, run_id: str, deliver: Deliver, opened: Callable[[], None] | None = None) -> None:
        """Subscribe by run id; call `deliver` (synchronously) per event; return when Hatchet ends it with OK.

        `opened` is called once the request is on the wire. Raises HatchetAway, TokenRefused, RateLimited,
        RunUnknown, MessageTooLarge, BadChunk.
        """

    async def follow_metadata(
        self, key: str, value: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> None:
        """Subscribe by a metadata pair: events of every run that carries it. As `follow` otherwise."""

    async def core(self, run_id: str) -> CoreState:
        """GetRunDetails. Raises HatchetAway, TokenRefused, RateLimited, RunUnknown, MessageTooLarge."""

    async def past(self, run_id: str) -> PastState | None:
        """The REST history of a run; None while it does not know the run. Raises HistoryAway."""

    async def find(self, key: str, value: str) -> str | None:
        """The id of the newest run without a parent that carries the pair, or None. Raises HistoryAway."""

    async def close(self) -> None:
        """Close channels and sessions; running calls end with HatchetAway or cancellation."""
