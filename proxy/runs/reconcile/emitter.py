"""The story of a run as it is told: items in one order, each made once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.core.events import Event, GapCause, Item, LiveEvent, Reset, StepGap


class Story:
    """Collects what is to be told next; `take` hands it over."""

    __slots__ = ("items", "metadata", "run_id")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.metadata: Mapping[str, Any] = {}
        self.items: list[Item] = []

    def take(self) -> list[Item]:
        """All that was told since the last time, in order."""
        items = self.items
        self.items = []
        return items

    def chunk(self, name: str, event: LiveEvent, attempt: int) -> None:
        """Tell a chunk: `index` and `at` are its own, positional for speed (the order of `Event`)."""
        self.items.append(
            Event(
                "step_stream",
                self.run_id,
                name,
                event.step_run_id,
                event.payload,
                attempt,
                event.index,
                event.at,
                self.metadata,
                False,
            )
        )

    def step(
        self,
        type_: str,
        name: str,
        step_run_id: str,
        attempt: int,
        *,
        payload: Any = None,
        at: str | None = None,
        recovered: bool = False,
    ) -> None:
        """Tell something of a step that is no chunk."""
        self.items.append(
            Event(
                type_,
                self.run_id,
                name,
                step_run_id,
                payload,
                attempt,
                at=at,
                metadata=self.metadata,
                recovered=recovered,
            )
        )

    def run(self, type_: str, payload: Any, at: str | None, recovered: bool) -> None:
        """Tell something of the run."""
        self.items.append(
            Event(type_, self.run_id, payload=payload, at=at, metadata=self.metadata, recovered=recovered)
        )

    def gap(self, cause: GapCause, step: str | None, attempt: int | None, missed: int | None) -> None:
        """Tell that chunks cannot be given any more."""
        self.items.append(StepGap(cause, step, attempt, missed))

    def reset(self, step: str, attempt: int) -> None:
        """Tell that an attempt begins which voids what earlier ones streamed."""
        self.items.append(Reset(step, attempt))
