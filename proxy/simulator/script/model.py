"""Script: workflows as the embedded engine plays them; values only.

A step works for `takes`, streams its chunks, works for `then`, waits for its child runs, and ends with its
output, a failure or a cancellation. Durations are seconds. A value that depends on the run is a `Formula`,
called with the step's scope: ``{input, parents, metadata, attempt, run_id}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Scope = Mapping[str, Any]
Formula = Callable[[Scope], Any]

DEFAULT_TIMEOUT: Final = 60.0  # the SDK's execution_timeout
DEFAULT_SCHEDULE_TIMEOUT: Final = 300.0  # the SDK's schedule_timeout
NAME: Final = re.compile(r"[a-zA-Z0-9.\-_]+")  # the engine's NameRegex (pkg/validator/validator.go)
ON_FAILURE: Final = "-on-failure"  # what the SDK appends to the names of these two tasks
ON_SUCCESS: Final = "-on-success"


class Nothing:
    """The output of a step that returns none."""


NOTHING = Nothing()


@dataclass(frozen=True, slots=True)
class Chunks:
    """What a step streams: texts or bytes, or a formula for them; `every` seconds from one to the next.

    `pauses`: seconds that it waits before a chunk, beside `every`, by the chunk's number from 0.
    """

    texts: tuple[bytes, ...] | Formula = ()
    every: float = 0.1
    pauses: Mapping[int, float] = field(default_factory=dict)

    def of(self, scope: Scope) -> tuple[bytes, ...]:
        """The chunks of one attempt."""
        return self.texts if isinstance(self.texts, tuple) else self.texts(scope)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds before a retry: factor ** retry, at most `longest`."""

    factor: float
    longest: float

    def before(self, retry: int) -> float:
        """Seconds before retry number `retry`, counted from 1."""
        return float(min(self.factor**retry, self.longest))


@dataclass(frozen=True, slots=True)
class Failure:
    """Attempts that fail: `attempts` of them (None: all) from number `first`, counted from 1."""

    error: str = "RuntimeError: scripted failure"
    attempts: int | None = None
    final: bool = False  # a non-retryable error
    first: int = 1

    def strikes(self, attempt: int) -> bool:
        """Whether attempt number `attempt`, counted from 1, fails."""
        return attempt >= self.first and (self.attempts is None or attempt < self.first + self.attempts)


@dataclass(frozen=True, slots=True)
class Death:
    """The worker dies: in the first `attempts` attempts, `at` seconds after each began.

    The engine notices after `noticed` seconds, and gives the step to a worker once more. That is no retry of
    the application: it does not count against `retries`, but in the history's `retryCount`.
    """

    at: float
    noticed: float
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Eviction:
    """A durable task that waits after so many chunks, is evicted for `away` seconds, and then runs again."""

    after: int
    away: float


@dataclass(frozen=True, slots=True)
class Child:
    """A child run: a workflow of the same script, and its input."""

    workflow: str
    input: Any = None  # a JSON value or a Formula
    count: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a workflow. Its name becomes lower case, as the SDK makes it.

    Raises ValueError for a name that the engine refuses.
    """

    name: str
    parents: tuple[str, ...] = ()
    takes: float = 0.0
    chunks: Chunks = field(default_factory=Chunks)
    then: float = 0.0
    children: tuple[Child, ...] = ()
    output: Any = NOTHING  # a JSON value, a Formula, or NOTHING
    fails: Failure | None = None
    dies: Death | None = None
    evicts: Eviction | None = None
    retries: int = 0
    backoff: Backoff | None = None
    timeout: float = DEFAULT_TIMEOUT
    lingers: float = 0.0  # seconds that its worker streams on after a timeout, beside the next attempt
    schedule_timeout: float = DEFAULT_SCHEDULE_TIMEOUT
    no_worker: bool = False  # no worker takes it: its schedule timeout ends it
    batch: float | None = None  # a batch task waits so many seconds for its batch
    skipped: bool | Formula = False
    cancelled: Formula | None = None  # its cancel_if
    cancels: bool = False
    deaf: bool = False  # goes on streaming after a cancellation

    def __post_init__(self) -> None:
        for name in (self.name, *self.parents):
            if not NAME.fullmatch(name):
                raise ValueError(f"Hatchet names must match the regex ^{NAME.pattern}$: {name!r}")
        object.__setattr__(self, "name", self.name.lower())
        object.__setattr__(self, "parents", tuple(parent.lower() for parent in self.parents))

    def is_skipped(self, scope: Scope) -> bool:
        """Whether the step is skipped in this run."""
        return self.skipped if isinstance(self.skipped, bool) else bool(self.skipped(scope))

    def is_cancelled(self, scope: Scope) -> bool:
        """Whether its `cancel_if` holds in this run."""
        return self.cancelled is not None and bool(self.cancelled(scope))


@dataclass(frozen=True, slots=True)
class Workflow:
    """Steps in the order in which they are written; one alone is a standalone task.

    `max_runs`: further runs are cancelled while so many go on (the concurrency strategy CANCEL_NEWEST).
    """

    name: str
    steps: tuple[Step, ...]
    on_failure: Step | None = None
    max_runs: int | None = None

    @property
    def is_task(self) -> bool:
        """Whether it is one task, not a DAG: its run and its step share one id."""
        return len(self.steps) == 1 and self.on_failure is None


@dataclass(frozen=True, slots=True)
class Script:
    """Workflows by name, and the quirks that the script switches."""

    workflows: Mapping[str, Workflow]
    quirks: Mapping[str, bool] = field(default_factory=dict)


def script(*workflows: Workflow, **quirks: bool) -> Script:
    """A script of these workflows."""
    return Script({workflow.name: workflow for workflow in workflows}, quirks)


def leaves(steps: tuple[Step, ...]) -> tuple[str, ...]:
    """The names of the steps that are no step's parent: the parents of an on-success task."""
    parents = {parent for step in steps for parent in step.parents}
    return tuple(step.name for step in steps if step.name not in parents)
