"""What streams receive of a run, as values: `Event`, `StepGap`, `Reset` and `End`, in one order.

`proxy.runs.reconcile.reconciler` makes them.

Ids are lower-case UUID text. Attempts count from 1. Times are ISO 8601 text in UTC with ``Z``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct

STEP_STARTED: Final = "step_started"
STEP_STREAM: Final = "step_stream"
STEP_COMPLETED: Final = "step_completed"
STEP_SKIPPED: Final = "step_skipped"
STEP_RETRYING: Final = "step_retrying"
STEP_FAILED: Final = "step_failed"
STEP_CANCELLED: Final = "step_cancelled"
RUN_COMPLETED: Final = "run_completed"
RUN_FAILED: Final = "run_failed"
RUN_CANCELLED: Final = "run_cancelled"

STEP_ENDS: Final = frozenset({STEP_COMPLETED, STEP_SKIPPED, STEP_FAILED, STEP_CANCELLED})
RUN_EVENTS: Final = frozenset({RUN_COMPLETED, RUN_FAILED, RUN_CANCELLED})


class Event(Struct, frozen=True, gc=False):
    """One thing that happened in a run; the root of the expressions in ``when`` and ``data``.

    ``payload`` is text for a chunk, else a JSON value (docs/configuration.md lists them by type). ``step``,
    ``step_run_id`` and ``attempt`` are None on run events, ``index`` is None on everything but chunks.
    ``first_index`` is the index of the first of several chunks that were merged; None elsewhere.
    ``parent`` is set where a stream includes child runs.
    """

    type: str
    run_id: str
    step: str | None = None
    step_run_id: str | None = None
    payload: Any = None
    attempt: int | None = None
    index: int | None = None
    at: str | None = None
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)
    recovered: bool = False
    workflow: str | None = None  # None where its name is not known yet
    parent: Mapping[str, Any] | None = None  # of a child run's events: run_id, step and workflow
    first_index: int | None = None

    @property
    def identity(self) -> tuple[str | None, int | None, str, int | None]:
        """(step run or run, attempt, type, index): equal for two reports of the same event."""
        return (self.step_run_id or self.run_id, self.attempt, self.type, self.index)

    @property
    def lasting(self) -> bool:
        """Whether it can be rebuilt from the run's state (everything but a chunk)."""
        return self.type != STEP_STREAM


class GapCause(StrEnum):
    """Why chunks cannot be given any more (docs/delivery.md, "Gaps")."""

    JOINED_LATE = "joined_late"
    UPSTREAM = "upstream"
    BACKLOG = "backlog"
    SLOW_CLIENT = "slow_client"
    UNKNOWN_CURSOR = "unknown_cursor"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class StepGap:
    """Chunks of a step that no client will get; ``missed`` is None where the number is unknown.

    ``workflow`` is the run's, None where it is not known. ``run_id`` is set in a stream of several runs.
    """

    cause: GapCause
    step: str | None
    attempt: int | None
    missed: int | None
    workflow: str | None = field(default=None, compare=False, repr=False)
    run_id: str | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The data of its control frame, ``stream.gap``."""
        data = {"cause": self.cause.value, "step": self.step, "attempt": self.attempt, "missed": self.missed}
        return data if self.run_id is None else {**data, "run_id": self.run_id}


@dataclass(frozen=True, slots=True)
class Reset:
    """Attempt ``attempt`` (2 or more) of ``step`` begins: what earlier attempts streamed is void.

    With ``whole``, what the attempt itself has streamed is void too; its whole text follows as one message.
    """

    step: str
    attempt: int
    whole: bool = False
    workflow: str | None = field(default=None, compare=False, repr=False)
    run_id: str | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The data of its control frame, ``stream.reset``."""
        data: dict[str, Any] = {"step": self.step, "attempt": self.attempt}
        if self.whole:
            data["whole"] = True
        return data if self.run_id is None else {**data, "run_id": self.run_id}


class End(Struct, frozen=True):
    """The verified end of a run."""

    status: str  # completed | failed | cancelled


Item = Event | StepGap | Reset | End


class Flush(Struct, frozen=True):
    """Chunks that wait for a rule with a ``merge`` of so many milliseconds become frames here.

    Only a log that replicas share has it, so that all of them make the same frames of the same chunks.
    """

    milliseconds: int


LogItem = Item | Flush
"""What a position of a log that replicas share holds."""


def without_flushes(items: Iterable[LogItem]) -> list[Item]:
    """The items that a run's readers get."""
    return [item for item in items if not isinstance(item, Flush)]


def step_key(item: Event | StepGap | Reset, *, merged: bool) -> str | None:
    """A text for the item's step alone; `merged`: in a stream of several runs, which may share step names."""
    return item.step if item.step is None or not merged else f"{item.run_id}/{item.step}"
