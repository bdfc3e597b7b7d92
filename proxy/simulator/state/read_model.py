"""ReadModel: what the engine's read side is told of a run, each line visible only after its lag.

The read side (OLAP) is another database than the core: what it says of a run is a fold over the lines that
have reached it. Its own changes of status are what makes the engine tell a run's end, which is where the
false ends come from: a DAG that goes from QUEUED to RUNNING "has changed", and a status that the dispatcher
does not know is called COMPLETED.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.simulator.statuses import CANCELLED, COMPLETED, FAILED, OVER, QUEUED, RUNNING

_STATUS_AFTER = {
    "CREATED": QUEUED,
    "QUEUED": QUEUED,
    "ASSIGNED": QUEUED,
    "SENT_TO_WORKER": RUNNING,
    "STARTED": RUNNING,
    "FINISHED": COMPLETED,
    "SKIPPED": COMPLETED,
    "FAILED": FAILED,
    "TIMED_OUT": FAILED,
    "CANCELLED": CANCELLED,
    "RETRYING": QUEUED,
}


@dataclass(slots=True)
class TaskEvent:
    """One task event; ``CREATED`` is the engine's own and is not shown."""

    step_run_id: str
    type: str
    at: float
    retry_count: int
    visible_at: float
    output: str = ""
    error: str = ""
    number: int = 0
    message: str = ""


@dataclass(slots=True)
class TaskView:
    """What the read side says of one step at one moment."""

    status: str = QUEUED
    retry_count: int = 0
    output: str = ""
    error: str = ""
    started_at: float | None = None
    finished_at: float | None = None


class ReadModel:
    """The lines of one run, in the order of what happened."""

    def __init__(self, created_visible_at: float) -> None:
        self.created_visible_at = created_visible_at
        self.lines: list[TaskEvent] = []

    def write(self, line: TaskEvent) -> None:
        """Add a line; none is visible before its predecessor."""
        if self.lines:
            line.visible_at = max(line.visible_at, self.lines[-1].visible_at)
        line.number = len(self.lines) + 1
        self.lines.append(line)

    def known(self, now: float) -> bool:
        """Whether the read side has the run itself."""
        return self.created_visible_at <= now

    def visible(self, now: float) -> list[TaskEvent]:
        """The lines that have reached the read side."""
        return [line for line in self.lines if line.visible_at <= now]

    def steps(self, now: float) -> dict[str, TaskView]:
        """What the read side says of each step that it knows, oldest first."""
        past: dict[str, TaskView] = {}
        for line in self.visible(now):
            _fold(past.setdefault(line.step_run_id, TaskView()), line)
        return past

    def error(self, now: float) -> str:
        """The run's errorMessage: the last failure told, also when a retry went well since."""
        errors = [line.error for line in self.visible(now) if line.error]
        return errors[-1] if errors else ""


def _fold(past: TaskView, line: TaskEvent) -> None:
    if line.type == "CANCELLED" and past.status in OVER:
        return  # a user's cancellation of the whole run changes nothing of what was over
    if line.type == "RETRIED_BY_USER":
        return  # told of all steps at once; each reads as before until it is its turn
    past.status = _STATUS_AFTER[line.type]
    past.retry_count = max(past.retry_count, line.retry_count)
    if line.type == "FINISHED":
        past.output, past.error = line.output, ""  # an output of before stays until there is another
    elif line.type == "FAILED":
        past.error = line.error
    elif line.type in ("RETRYING", "STARTED"):
        past.error = ""
    if line.type == "STARTED":
        past.started_at = line.at
    if past.status in OVER:
        past.finished_at = line.at


def run_status(before: str, steps: dict[str, TaskView], total: int, is_task: bool) -> str:
    """The status of a run whose status was `before` (``UpdateDAGStatuses`` in the engine's olap.sql)."""
    if is_task:
        return next((past.status for past in steps.values()), QUEUED)
    statuses = [past.status for past in steps.values()]
    if all(status == QUEUED for status in statuses):
        return before
    if len(statuses) != total:
        return before if before in (FAILED, CANCELLED) else RUNNING
    if RUNNING in statuses or QUEUED in statuses:
        return RUNNING
    return next((status for status in (FAILED, CANCELLED) if status in statuses), COMPLETED)
