"""The interface of a run that is followed, for its session and for searches."""

from __future__ import annotations

from typing import Protocol

from proxy.core.observations import CoreState
from proxy.hatchet.errors import HatchetError
from proxy.runs.event_buffer import FedRun


class FollowedRun(FedRun, Protocol):
    """A run whose items are published: a `RunFollower`, or a run that replicas share."""

    @property
    def run_id(self) -> str:
        """The run's id."""

    @property
    def over(self) -> bool:
        """Whether the verified end was published."""

    @property
    def state(self) -> CoreState | None:
        """The last core state, where there is one."""

    @property
    def workflow(self) -> str | None:
        """The name of its workflow, where it is known."""

    @property
    def trouble(self) -> HatchetError | None:
        """The last error of Hatchet that this run met, until a call succeeds."""

    @property
    def state_only(self) -> bool:
        """Whether its events come from its states alone, because the team's subscriptions are used up."""

    @property
    def sources(self) -> list[str]:
        """What brings its events besides its states."""

    def name_workflow(self, name: str) -> None:
        """Its workflow is `name`: items have it from now on."""

    @property
    def does_without_searches(self) -> bool:
        """Whether it needs the events of no search."""

    def start(self) -> None:
        """Begin."""

    async def first_state(self) -> CoreState:
        """The first core state. Raises HatchetError."""

    async def reach(self, position: int) -> None:
        """Serve the shared log up to `position`, if there is such a log and it has that item."""

    async def is_replaced(self) -> bool:
        """Whether this run is over here, and the shared log holds another generation of it."""

    async def close(self) -> None:
        """End everything; nothing is published after that."""
