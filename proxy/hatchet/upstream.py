"""Upstream: what runs, the tap and the commands need of Hatchet; `client.py` implements it.

There is one `Upstream` per team. Its calls can run concurrently and share the team's connections. They raise
only `proxy.hatchet.errors.HatchetError`. Cancelling a call also ends it at Hatchet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from proxy.core.observations import CoreState, ListedRun, LiveEvent, PastState

Deliver = Callable[[LiveEvent], None]


class Upstream(Protocol):
    """One team's access to Hatchet."""

    @property
    def has_history(self) -> bool:
        """Whether a REST history is configured (``hatchet.api`` is not off)."""

    async def follow(self, run_id: str, deliver: Deliver, opened: Callable[[], None] | None = None) -> None:
        """Subscribe by run id; return when Hatchet ends the subscription with OK.

        `deliver` is called synchronously with each event. `opened` is called once, when the request has been
        written to an established connection. Raises HatchetAway, TokenRefused, RateLimited,
        RunUnknown, MessageTooLarge, BadChunk.
        """

    async def follow_metadata(
        self, key: str, value: str, deliver: Deliver, opened: Callable[[], None] | None = None
    ) -> None:
        """Subscribe by a metadata pair: events of every run that carries it. Otherwise like `follow`."""

    async def core(self, run_id: str) -> CoreState:
        """GetRunDetails. Raises HatchetAway, TokenRefused, RateLimited, RunUnknown, MessageTooLarge."""

    async def past(self, run_id: str) -> PastState | None:
        """The REST history of a run; None while it does not know the run. Raises HistoryAway."""

    async def find(self, key: str, value: str, workflows: Sequence[str] | None = None) -> str | None:
        """The id of the newest run without a parent that carries the pair, or None. Raises HistoryAway.

        `workflows`: only runs of workflows that one of these globs matches; None: of all.
        """

    async def runs_with(self, key: str, value: str, most: int) -> list[ListedRun]:
        """Runs that carry the pair, the newest first: `most` of them, or a few more. Raises HistoryAway."""

    async def check_history(self) -> None:
        """Ask the REST history something small that it always answers. Raises HistoryAway.

        Also where something else than Hatchet answers at its address, or Hatchet under another path.
        """

    async def keep_open(self, step_run_id: str) -> None:
        """Send an empty chunk with the index `codec.KEEPALIVE_INDEX` in the name of a step run that is over.

        Subscriptions by a metadata pair of its run are not hung up any more from then on; they
        deliver that chunk too. Raises HatchetError.
        """

    async def close(self) -> None:
        """Close all connections; running calls end with HatchetAway or are cancelled."""
