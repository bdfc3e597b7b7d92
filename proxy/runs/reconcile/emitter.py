"""The items of a run in the order in which clients get them, each made once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.core.events import STEP_STREAM, Event, GapCause, Item, Reset, StepGap
from proxy.core.instant import text_of
from proxy.core.observations import LiveEvent


class Emitter:
    """Collects items; `take` hands them over."""

    __slots__ = ("items", "metadata", "run_id", "workflow")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.metadata: Mapping[str, Any] = {}
        self.workflow: str | None = None  # its name, once it is known
        self.items: list[Item] = []

    def take(self) -> list[Item]:
        """All items since the last call, in order."""
        items = self.items
        self.items = []
        return items

    def chunk(self, name: str, event: LiveEvent, attempt: int) -> Event:
        """The item of a chunk. Positional for speed, in the order of the fields of `Event`."""
        return Event(
            STEP_STREAM,
            self.run_id,
            name,
            event.step_run_id,
            event.payload,
            attempt,
            event.index,
            text_of(event.at),
            self.metadata,
            False,
            self.workflow,
        )

    def step(
        self,
        type_: str,
        name: str,
        step_run_id: str,
        attempt: int,
        *,
        payload: Any = None,
        at: int | None = None,
        recovered: bool = False,
    ) -> None:
        """Emit an event of a step that is no chunk; `at` in nanoseconds since 1970."""
        self.items.append(
            Event(
                type_,
                self.run_id,
                name,
                step_run_id,
                payload,
                attempt,
                at=text_of(at),
                metadata=self.metadata,
                recovered=recovered,
                workflow=self.workflow,
            )
        )

    def run(self, type_: str, payload: Any, at: int | None, recovered: bool) -> None:
        """Emit an event of the run."""
        self.items.append(
            Event(
                type_,
                self.run_id,
                payload=payload,
                at=text_of(at),
                metadata=self.metadata,
                recovered=recovered,
                workflow=self.workflow,
            )
        )

    def gap(self, cause: GapCause, step: str | None, attempt: int | None, missed: int | None) -> None:
        """Emit a gap: `missed` chunks (None: unknown) cannot be given any more."""
        self.items.append(StepGap(cause, step, attempt, missed, self.workflow))

    def reset(self, step: str, attempt: int) -> None:
        """Emit the beginning of an attempt that voids what earlier ones streamed."""
        self.items.append(Reset(step, attempt, workflow=self.workflow))
