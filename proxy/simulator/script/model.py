"""Script: workflows as the embedded engine plays them; values only.

A step works for `takes`, puts its chunks, works for `then`, waits for its child runs, and ends as it is told
to: with its output, a failure, a cancellation. Durations are seconds. Where a value depends on the run it is
a `Formula`, asked with the step's scope: ``{input, parents, metadata, attempt, run_id}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Scope = Mapping[str, Any]
Formula = Callable[[Scope], Any]

DEFAULT_TIMEOUT = 60.0  # the SDK's execution_timeout


class Nothing:
    """The output of a step that returns none."""


NOTHING = Nothing()


@dataclass(frozen=True, slots=True)
class Chunks:
    """What a step streams: texts (or bytes), `every` so many seconds; or a formula that gives them."""

    texts: tuple[bytes, ...] | Formula = ()
    every: float = 0.1

    def given(self, scope: Scope) -> tuple[bytes, ...]:
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
    """An attempt that fails: which (None: each), and with what error."""

    error: str = "RuntimeError: scripted failure"
    attempts: int | None = None
    final: bool = False  # a non-retryable error

    def strikes(self, attempt: int) -> bool:
        """Whether attempt number `attempt`, counted from 1, fails."""
        return self.attempts is None or attempt <= self.attempts


@dataclass(frozen=True, slots=True)
class Child:
    """A child run: a workflow of the same script, and its input."""

    workflow: str
    input: Any = None  # a JSON value or a Formula
    count: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a workflow."""

    name: str
    parents: tuple[str, ...] = ()
    takes: float = 0.0
    chunks: Chunks = Chunks()
    then: float = 0.0
    children: tuple[Child, ...] = ()
    output: Any = NOTHING  # a JSON value, a Formula, or NOTHING
    fails: Failure | None = None
    retries: int = 0
    backoff: Backoff | None = None
    timeout: float = DEFAULT_TIMEOUT
    skipped: bool | Formula = False
    cancels: bool = False
    deaf: bool = False  # goes on streaming after a cancellation

    def is_skipped(self, scope: Scope) -> bool:
        """Whether the step is skipped in this run."""
        return self.skipped if isinstance(self.skipped, bool) else bool(self.skipped(scope))


@dataclass(frozen=True, slots=True)
class Workflow:
    """Steps in the order in which they are written; one alone is a standalone task."""

    name: str
    steps: tuple[Step, ...]
    on_failure: Step | None = None

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
