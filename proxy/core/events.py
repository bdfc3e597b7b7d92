"""What happens in a run, as values: what Hatchet says (in) and what streams are told (out).

In come a `LiveEvent` (the gRPC stream), a `CoreState` (GetRunDetails) and a `PastState` (the REST
history). Out come `Event`, `StepGap`, `Reset` and `End`, in one order, made by
``proxy.runs.reconcile.reconciler``.
Nothing here does IO, looks at a clock or knows a loop.

Ids are lower-case UUID text. Attempts count from 1 (the wire's ``retry_count`` from 0). Times are
ISO 8601 text in UTC as they came, with ``Z``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final

from proxy.core.value import value

# -- what streams are told --------------------------------------------------------------------

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


@value
class Event:
    """One thing that happened in a run; the root that ``when`` and ``data`` see.

    ``payload`` is text for a chunk, else JSON-like (see the operator's contract). ``attempt`` and
    ``step``, ``step_run_id`` are None on run events, ``index`` on everything but chunks.
    """

    type: str
    run_id: str
    step: str | None = None
    step_run_id: str | None = None
    payload: Any = None
    attempt: int | None = None
    index: int | None = None
    at: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    recovered: bool = False

    @property
    def identity(self) -> tuple[str | None, int | None, str, int | None]:
        """What this event is, however and how often it was told: (step run, attempt, type, index)."""
        return (self.step_run_id, self.attempt, self.type, self.index)

    @property
    def lasting(self) -> bool:
        """Whether it can be told again from the run's state (everything but a chunk)."""
        return self.type != STEP_STREAM


class GapCause(StrEnum):
    """Why chunks cannot be given any more."""

    JOINED_LATE = "joined_late"
    UPSTREAM = "upstream"
    BACKLOG = "backlog"
    SLOW_CLIENT = "slow_client"
    UNKNOWN_CURSOR = "unknown_cursor"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class StepGap:
    """Chunks of a step that nobody will get; ``missed`` is None where the number is unknown."""

    cause: GapCause
    step: str | None
    attempt: int | None
    missed: int | None


@dataclass(frozen=True, slots=True)
class Reset:
    """Attempt ``attempt`` (2 or more) of ``step`` begins: what earlier attempts streamed is void."""

    step: str
    attempt: int


@dataclass(frozen=True, slots=True)
class End:
    """The verified end of a run."""

    status: str  # completed | failed | cancelled


Item = Event | StepGap | Reset | End


# -- what Hatchet says ------------------------------------------------------------------------


class Kind(Enum):
    """The event types on the wire, for a step or for the run."""

    STARTED = "started"
    STREAM = "stream"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    OTHER = "other"


@value
class LiveEvent:
    """One WorkflowEvent from a gRPC subscription, translated but not yet believed."""

    run_id: str
    kind: Kind
    step_run_id: str | None  # None: the event is about the run
    payload: str = ""
    at: str | None = None
    retry_count: int | None = None  # absent on chunks and run events
    index: int | None = None  # chunks only
    hangup: bool = False


class Status(Enum):
    """A run's or a step's status in the core state and the history."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EVICTED = "EVICTED"


@dataclass(frozen=True, slots=True)
class CoreStep:
    """A step in GetRunDetails; ``output`` is JSON text, trustworthy only once the run is done."""

    name: str
    step_run_id: str
    status: Status
    output: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CoreState:
    """GetRunDetails: at once, but a finished step of a running run reads QUEUED without output."""

    run_id: str
    status: Status
    done: bool
    steps: tuple[CoreStep, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PastTaskEvent:
    """One of the history's task events (DAGs only), e.g. QUEUED, STARTED, FINISHED, FAILED, RETRYING."""

    type: str
    at: str
    retry_count: int
    error: str | None = None
    output: str | None = None  # JSON text, where the engine gives it


@dataclass(frozen=True, slots=True)
class PastStep:
    """A task in the REST history: 50-100 ms behind, but with outputs while the run goes on."""

    name: str
    step_run_id: str
    status: Status
    retry_count: int
    retries: int | None  # the step's own limit; None where the workflow's shape does not tell
    output: Any = None  # parsed JSON; {} also for "returned nothing"
    error: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    events: tuple[PastTaskEvent, ...] = ()  # oldest first


@dataclass(frozen=True, slots=True)
class PastState:
    """GET /api/v1/stable/workflow-runs/{id}: what the history knows of a run."""

    run_id: str
    status: Status
    steps: tuple[PastStep, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    finished_at: str | None = None
