"""Converts answers of the REST history to the values of `proxy.core`. Pure; optional fields may be missing.

The shapes are those of `GET /api/v1/stable/workflow-runs/{id}` (V1WorkflowRunDetails) and of the list of runs
(V1TaskSummaryList) in the engine's OpenAPI; `tests/recordings/rest/` has whole answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from config.expressions.globs import matches
from proxy.core.instant import instant
from proxy.core.observations import OVER, ListedRun, PastState, PastStep, PastTaskEvent, Status

UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)")
DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|h|m|s))+")
NEVER: Final = "0001-01-01"  # Go's zero time: the history writes it for what it does not know


def past_state(answer: Mapping[str, Any]) -> PastState:
    """Convert a V1WorkflowRunDetails. Raises KeyError, TypeError or ValueError if it is malformed."""
    run = answer["run"]
    names = dict(_shape_names(answer))
    declared = dict(_declared(answer.get("workflowConfig")))
    events = _events_by_step(answer)
    children = _children(declared.values())
    steps = [_step(task, names, declared, events, children) for task in answer.get("tasks") or ()]
    return PastState(
        run_id=str(run["metadata"]["id"]).lower(),
        status=Status(run["status"]),
        steps=tuple(steps),
        metadata=run.get("additionalMetadata") or {},
        finished_at=_time(run.get("finishedAt")),
        workflow=_workflow(answer),
    )


def _workflow(answer: Mapping[str, Any]) -> str | None:
    """The workflow's name: the configuration has it, and each action is ``NAME:STEP``."""
    name = (answer.get("workflowConfig") or {}).get("Name")
    if name:
        return str(name)
    actions = (str(task.get("actionId") or "") for task in answer.get("tasks") or ())
    return next((action.rpartition(":")[0] for action in actions if ":" in action), None)


def _step(
    task: Mapping[str, Any],
    names: Mapping[str, str],
    declared: Mapping[str, Mapping[str, Any]],
    events: Mapping[str, list[PastTaskEvent]],
    children: Mapping[str, list[str]],
) -> PastStep:
    step_run_id = str(task.get("taskExternalId") or task["metadata"]["id"]).lower()
    action = str(task.get("actionId") or "")
    config = declared.get(action, {})
    name = names.get(step_run_id) or config.get("ReadableId") or action.rpartition(":")[2]
    return PastStep(
        name=str(name),
        step_run_id=step_run_id,
        status=Status.EVICTED if task.get("isEvicted") else Status(task["status"]),
        retry_count=int(task.get("retryCount") or 0),
        retries=_number(config.get("Retries")),
        output=task.get("output"),
        error=task.get("errorMessage") or None,
        created_at=_time(task.get("taskInsertedAt")) or _time(task["metadata"].get("createdAt")),
        started_at=_time(task.get("startedAt")),
        finished_at=_time(task.get("finishedAt")),
        events=tuple(events.get(step_run_id, ())),
        timeout=_seconds(config.get("Timeout")),
        children=tuple(children.get(str(name), ())),
    )


def _shape_names(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for step in answer.get("shape") or ():
        if step.get("taskName"):
            yield str(step.get("taskExternalId")).lower(), str(step["taskName"])


def _declared(config: Mapping[str, Any] | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each declared step with its action; the on-failure task is in a field of its own."""
    for task in [*((config or {}).get("Tasks") or ()), (config or {}).get("onFailureJob")]:
        if task and task.get("Action"):
            yield str(task["Action"]), task


def _children(declared: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The names of each step's children, by its name."""
    children: dict[str, list[str]] = {}
    for task in declared:
        for parent in task.get("Parents") or ():
            children.setdefault(str(parent), []).append(str(task["ReadableId"]))
    return children


def _events_by_step(answer: Mapping[str, Any]) -> dict[str, list[PastTaskEvent]]:
    task_events = sorted(answer.get("taskEvents") or (), key=_when)
    events: dict[str, list[PastTaskEvent]] = {}
    for event in task_events:
        events.setdefault(str(event["taskId"]).lower(), []).append(
            PastTaskEvent(
                type=str(event["eventType"]),
                at=_time(event["timestamp"]),
                retry_count=int(event.get("retryCount") or 0),
                error=event.get("errorMessage") or _timeout(event),
                output=event.get("output") or None,
            )
        )
    return events


def _timeout(event: Mapping[str, Any]) -> str | None:
    """The text of a timeout, "Task exceeded timeout of 3s":

    it is in the event's message; there is no error field.
    """
    return str(event.get("message") or "") or None if event["eventType"] == "TIMED_OUT" else None


def newest_run(
    answer: Mapping[str, Any], key: str, value: str, workflows: Sequence[str] | None = None
) -> tuple[str | None, int]:
    """The id of the newest run in a list that carries the pair and has no parent; and the list's length.

    With `workflows` (globs) it is a run of one of these.

    The pair is compared again here, because the engine's filter splits at the first colon, so that a key with
    a colon matches another key.
    """
    rows = answer.get("rows") or ()
    runs = [
        row
        for row in rows
        if not row.get("parentTaskExternalId")
        and (row.get("additionalMetadata") or {}).get(key) == value
        and (workflows is None or matches(workflows, str(row.get("workflowName") or "")))
    ]
    newest = max(runs, key=lambda row: str(row["metadata"]["createdAt"]).rstrip("Z"), default=None)
    return None if newest is None else str(newest["workflowRunExternalId"]).lower(), len(rows)


def listed_runs(answer: Mapping[str, Any], key: str, value: str) -> list[ListedRun]:
    """The runs in a list that carry the pair, as listed; compared again for the reason in `newest_run`."""
    return [
        ListedRun(
            run_id=str(row["workflowRunExternalId"]).lower(),
            workflow=str(row["workflowName"]) if row.get("workflowName") else None,
            created_at=_time(row["metadata"].get("createdAt")) or 0,
            metadata=row.get("additionalMetadata") or {},
            over=row.get("status") in OVER,
        )
        for row in answer.get("rows") or ()
        if (row.get("additionalMetadata") or {}).get(key) == value
    ]


def oldest_run_of(answer: Mapping[str, Any], workflow_id: str) -> str | None:
    """The id of the oldest run in a list that is of the workflow and has no parent, or None."""
    runs = [
        row
        for row in rows_of(answer)
        if row.get("workflowId") == workflow_id and not row.get("parentTaskExternalId")
    ]
    oldest = min(runs, key=lambda row: str(row["metadata"]["createdAt"]).rstrip("Z"), default=None)
    return None if oldest is None else str(oldest["workflowRunExternalId"]).lower()


def rows_of(answer: Mapping[str, Any]) -> list[Any]:
    """The rows of a list of runs. Raises KeyError or TypeError where the answer is no such list."""
    rows = answer["rows"]
    if not isinstance(rows, list | None):
        raise TypeError
    return rows or []


def workflow_called(answer: Mapping[str, Any], name: str) -> str | None:
    """The id of the workflow with exactly this name in a list (the engine's filter takes parts of names)."""
    for row in answer.get("rows") or ():
        if str(row["name"]).lower() == name.lower():
            return str(row["metadata"]["id"])
    return None


def workflow_ids(answer: Mapping[str, Any]) -> dict[str, str]:
    """The ids of the workflows in a list, by their names."""
    return {str(row["name"]): str(row["metadata"]["id"]) for row in answer.get("rows") or ()}


def step_names(version: Mapping[str, Any]) -> tuple[str, ...]:
    """The steps of a WorkflowVersion in the order of the code, the on-failure step last."""
    return tuple(str(task["ReadableId"]) for _, task in _declared(version.get("workflowConfig")))


def _when(event: Mapping[str, Any]) -> tuple[str, int]:
    """Sort key: the timestamp, then the id. A first step's QUEUED can have a later timestamp than its
    STARTED.

    Fractions have a variable number of digits, so the final Z must not be compared.
    """
    return str(event["timestamp"]).rstrip("Z"), int(event.get("id") or 0)


def _time(text: object) -> int | None:
    return instant(text) if isinstance(text, str) and not text.startswith(NEVER) else None


def _seconds(text: object) -> float | None:
    """A duration as Go writes it ("1m", "1h30m", "500ms") in seconds."""
    if not isinstance(text, str) or not DURATION.fullmatch(text):
        return None
    return sum(float(number) * UNITS[unit] for number, unit in DURATION_PART.findall(text))


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, int) else None
