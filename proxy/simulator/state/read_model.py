"""ReadModel: the engine's read side of one run, a list of task events of which each is visible after its lag.

The read side (OLAP) is another database than the core: what it says of a run is a fold over the events that
have reached it. Each change of its status of a run is published as "the run has finished", and the dispatcher
calls a status that it does not know COMPLETED. The false ends come from there: a DAG that goes from QUEUED to
RUNNING has changed its status.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.simulator.statuses import CANCELLED, COMPLETED, EVICTED, FAILED, OVER, QUEUED, RUNNING

# internal/services/controllers/olap/controller.go, handleCreateMonitoringEvent
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
    "SCHEDULING_TIMED_OUT": FAILED,
    "CANCELLED": CANCELLED,
    "RETRYING": QUEUED,
    "REASSIGNED": QUEUED,
    "DURABLE_EVICTED": EVICTED,
    "DURABLE_RESTORING": RUNNING,
    "WAITING_FOR_BATCH": QUEUED,
    "BATCH_FLUSHED": RUNNING,
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
    """The task events of one run, in the order in which they happened."""

    def __init__(self, created_visible_at: float) -> None:
        self.created_visible_at = created_visible_at
        self.events: list[TaskEvent] = []

    def add(self, event: TaskEvent) -> None:
        """Add an event; it is not visible before the one before it."""
        if self.events:
            event.visible_at = max(event.visible_at, self.events[-1].visible_at)
        event.number = len(self.events) + 1
        self.events.append(event)

    def is_visible(self, now: float) -> bool:
        """Whether the read side has the run itself."""
        return self.created_visible_at <= now

    def visible(self, now: float) -> list[TaskEvent]:
        """The events that have reached the read side."""
        return [event for event in self.events if event.visible_at <= now]

    def steps(self, now: float) -> dict[str, TaskView]:
        """What the read side says of each step that it knows, oldest first."""
        views: dict[str, TaskView] = {}
        for event in self.visible(now):
            _fold(views.setdefault(event.step_run_id, TaskView()), event)
        return views

    def error(self, now: float) -> str:
        """The run's errorMessage: that of the last failure, also when a retry succeeded since."""
        errors = [event.error for event in self.visible(now) if event.error]
        return errors[-1] if errors else ""


def _fold(view: TaskView, event: TaskEvent) -> None:
    if event.type == "CANCELLED" and view.status in OVER:
        return  # a user's cancellation of the run does not change a step that was over
    if event.type == "RETRIED_BY_USER":
        return  # written for all steps at once; each reads as before until its reset
    view.status = _STATUS_AFTER[event.type]
    view.retry_count = max(view.retry_count, event.retry_count)
    if event.type == "FINISHED":
        view.output, view.error = event.output, ""  # the output of an earlier attempt stays until then
    elif event.type == "FAILED":
        view.error = event.error
    elif event.type in ("RETRYING", "STARTED"):
        view.error = ""
    if event.type == "STARTED":
        view.started_at = event.at
    if view.status in OVER:
        view.finished_at = event.at


def run_status(before: str, steps: dict[str, TaskView], total: int, is_task: bool) -> str:
    """The status of a run whose status was `before` (``UpdateDAGStatuses`` in the engine's olap.sql)."""
    if is_task:
        return next((view.status for view in steps.values()), QUEUED)
    statuses = [view.status for view in steps.values()]
    if all(status == QUEUED for status in statuses):
        return before
    if len(statuses) != total:
        return before if before in (FAILED, CANCELLED) else RUNNING
    if all(status == EVICTED for status in statuses):
        return EVICTED
    if any(status in (RUNNING, QUEUED, EVICTED) for status in statuses):
        return RUNNING
    return next((status for status in (FAILED, CANCELLED) if status in statuses), COMPLETED)
