"""What Hatchet reports of a run: `LiveEvent` (gRPC), `CoreState` (GetRunDetails), `PastState` (REST).

Ids are lower-case UUID text. Attempts count from 1, the wire's ``retry_count`` from 0. Times are nanoseconds
since 1970 (`proxy.core.instant`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from msgspec import Struct, field

PARENT_RUN: Final = "hatchet__parent_workflow_run_id"
PARENT_STEP: Final = "hatchet__parent_step_run_id"
"""The engine puts these into the metadata of each child run (``injectParentIDs`` in its
``pkg/repository/trigger.go``), beside what the child inherits from its parent."""


class Kind(Enum):
    """The event types on the wire, for a step or for the run."""

    STARTED = "started"
    STREAM = "stream"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    OTHER = "other"


STEP_END_KINDS: Final = frozenset({Kind.COMPLETED, Kind.FAILED, Kind.CANCELLED, Kind.TIMED_OUT})
"""The kinds of events with which an attempt of a step ends."""


class LiveEvent(Struct, frozen=True, gc=False):
    """One WorkflowEvent from a gRPC subscription, translated but not yet checked against other evidence."""

    run_id: str
    kind: Kind
    step_run_id: str | None  # None: the event is about the run
    payload: str = ""
    at: int | None = None  # by the worker's clock for a chunk, else by the engine's
    retry_count: int | None = None  # absent on chunks and run events
    index: int | None = None  # chunks only
    hangup: bool = False


OVER: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
"""The values of a `Status` that ends a run."""


class Status(Enum):
    """A run's or a step's status in the core state and the history."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EVICTED = "EVICTED"


class CoreStep(Struct, frozen=True):
    """A step in GetRunDetails; ``output`` is JSON text, reliable only once the run is done."""

    name: str
    step_run_id: str
    status: Status
    output: str | None = None
    error: str | None = None


class CoreState(Struct, frozen=True):
    """GetRunDetails: up to date, but a finished step of a running run reads QUEUED, without output."""

    run_id: str
    status: Status
    done: bool
    steps: tuple[CoreStep, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


class PastTaskEvent(Struct, frozen=True):
    """One of the history's task events (DAGs only), e.g. QUEUED, STARTED, FINISHED, FAILED, RETRYING."""

    type: str
    at: int | None
    retry_count: int
    error: str | None = None
    output: str | None = None  # JSON text, where the engine gives it


class PastStep(Struct, frozen=True):
    """A task in the REST history: 50 to 100 ms behind, but with outputs while the run goes on."""

    name: str
    step_run_id: str
    status: Status
    retry_count: int
    retries: int | None  # the step's own limit; None where the answer does not include it
    output: Any = None  # parsed JSON; {} also for "returned nothing"
    error: str | None = None
    created_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    events: tuple[PastTaskEvent, ...] = ()  # oldest first
    timeout: float | None = None  # seconds that an attempt may take; None where the answer does not say
    children: tuple[str, ...] = ()  # names of the steps that it is declared to be a parent of


class PastState(Struct, frozen=True):
    """GET /api/v1/stable/workflow-runs/{id}: what the REST history knows about a run."""

    run_id: str
    status: Status
    steps: tuple[PastStep, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    finished_at: int | None = None
    workflow: str | None = None  # the workflow's name, where the answer has it


class ListedRun(Struct, frozen=True):
    """A run in the history's list of runs; `created_at` in nanoseconds since 1970. `over`: it has ended."""

    run_id: str
    workflow: str | None
    created_at: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    over: bool = False

    @property
    def is_child(self) -> bool:
        """Whether a step started it."""
        return PARENT_RUN in self.metadata
