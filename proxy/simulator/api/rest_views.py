"""What the read side answers: V1WorkflowRunDetails and the list of runs, as JSON-like values.

The shapes are the engine's, field by field (compare tests/recordings/rest/). The content is what the run's
read model shows at the time of the call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from proxy.simulator.api.workflow_views import action, id_of, workflow_config
from proxy.simulator.recordings.parser import stamp
from proxy.simulator.state.entities import Run, StepRun
from proxy.simulator.state.read_model import TaskEvent, TaskView
from proxy.simulator.statuses import EVICTED, FAILED, OVER

NO_STEP = "00000000-0000-0000-0000-000000000000"
NEVER = "0001-01-01T00:00:00Z"
ON_WORKER = frozenset({"ASSIGNED", "SENT_TO_WORKER", "STARTED", "FINISHED"})  # events that name a worker
_WORKER = "b2959e71-5612-4c63-b893-18f11e78e109"


def run_answer(run: Run, now: float) -> dict[str, Any]:
    """GET /api/v1/stable/workflow-runs/{id} at scheduler time `now`."""
    views = run.read_model.steps(now)
    seen = [(step, views[step.id]) for step in reversed(run.steps.values()) if step.id in views]
    return {
        "run": _run(run, seen, now),
        "shape": [_shape(run, step) for step, _ in seen],
        "taskEvents": []
        if run.workflow.is_task
        else [_event(run, event) for event in reversed(run.read_model.visible(now))],
        "tasks": [_task(run, step, view, now) for step, view in seen],
        "workflowConfig": workflow_config(run.workflow),
    }


def list_answer(runs: Iterable[Run], now: float, offset: int, limit: int) -> dict[str, Any]:
    """GET …/workflow-runs: one row a run, newest first; a DAG's steps are its children."""
    known = [run for run in runs if run.read_model.is_visible(now)]
    rows = [_row(run, now) for run in known[offset : offset + limit]]
    pages = -(-len(known) // limit) if limit else 0
    page = offset // limit + 1 if limit else 1
    return {
        "pagination": {"current_page": page, "next_page": min(page + 1, pages), "num_pages": pages},
        "rows": rows,
    }


def _run(run: Run, seen: list[tuple[StepRun, TaskView]], now: float) -> dict[str, Any]:
    over = run.history_status in OVER
    started = [view.started_at for _, view in seen if view.started_at is not None]
    ended = [view.finished_at for _, view in seen if view.finished_at is not None] if over else []
    answer: dict[str, Any] = {
        "additionalMetadata": run.metadata,
        "createdAt": stamp(run.created_at),
        "displayName": _display_name(run.workflow.name, run.created_at),
        "errorMessage": run.read_model.error(now),
        "input": _task_input(run, {}) if run.workflow.is_task else run.input,
        "metadata": _meta(run.id, run.created_at),
        "output": _run_output(run, seen),
        "status": run.history_status,
        "tenantId": run.tenant_id,
        "workflowId": _name_id(run, "workflow"),
        "workflowVersionId": _name_id(run, "version"),
    }
    if started:
        answer["startedAt"] = stamp(min(started))
    if ended:
        answer["finishedAt"] = stamp(max(ended))
        answer["duration"] = int((max(ended) - min(started, default=max(ended))) * 1000)
    return answer


def _run_output(run: Run, seen: list[tuple[StepRun, TaskView]]) -> Any:
    latest = max(
        (one for one in seen if one[1].output), key=lambda one: one[1].finished_at or 0.0, default=None
    )
    return json.loads(latest[1].output) if latest else {}


def _task(run: Run, step: StepRun, view: TaskView, now: float) -> dict[str, Any]:
    parents = {name: run.outputs.get(name) for name in step.step.parents if name in run.outputs}
    return {
        **_summary(run, step, view),
        "createdAt": NEVER,
        "input": _task_input(run, parents),
        "isDurable": step.step.evicts is not None,
        "isEvicted": view.status == EVICTED,
        "output": json.loads(view.output) if view.output else {},
    }


def _summary(run: Run, step: StepRun, view: TaskView) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "actionId": action(run.workflow, step.name),
        "additionalMetadata": run.metadata,
        "attempt": view.retry_count + 1,
        "createdAt": stamp(step.created_at),
        "displayName": _display_name(step.name, step.created_at),
        "errorMessage": view.error if view.status == FAILED else "",
        "input": {},
        "metadata": _meta(step.id, step.created_at),
        "numSpawnedChildren": 0,
        "output": {},
        "retryCount": view.retry_count,
        "status": view.status,
        "stepId": _name_id(run, step.name),
        "taskExternalId": step.id,
        "taskId": step.number,
        "taskInsertedAt": stamp(step.created_at),
        "tenantId": run.tenant_id,
        "type": "TASK",
        "workflowId": _name_id(run, "workflow"),
        "workflowRunExternalId": run.id,
        "workflowVersionId": _name_id(run, "version"),
    }
    if run.parent_step_run_id is not None:
        answer["parentTaskExternalId"] = run.parent_step_run_id
    if view.started_at is not None:
        answer["startedAt"] = stamp(view.started_at)
    if view.finished_at is not None:
        answer["finishedAt"] = stamp(view.finished_at)
        if view.started_at is not None:
            answer["duration"] = int((view.finished_at - view.started_at) * 1000)
    return answer


def _row(run: Run, now: float) -> dict[str, Any]:
    views = run.read_model.steps(now)
    seen = [(step, views[step.id]) for step in reversed(run.steps.values()) if step.id in views]
    if run.workflow.is_task and seen:
        step, view = seen[0]
        row = _summary(run, step, view)
        row["output"] = json.loads(view.output) if view.output else {}
        children = []
    else:
        row = {**_run(run, seen, now), "actionId": "", "attempt": 1, "retryCount": 0, "numSpawnedChildren": 0}
        row |= {"output": {}, "stepId": NO_STEP}
        row |= {"taskExternalId": run.id, "taskId": 0, "taskInsertedAt": stamp(run.created_at), "type": "DAG"}
        row["workflowRunExternalId"] = run.id
        children = [{**_summary(run, step, view), "workflowName": run.workflow.name} for step, view in seen]
    if run.parent_step_run_id is not None:
        row["parentTaskExternalId"] = run.parent_step_run_id
    return {**row, "children": children, "workflowName": run.workflow.name}


def _event(run: Run, event: TaskEvent) -> dict[str, Any]:
    step = run.step_by_id(event.step_run_id)
    name = step.name if step is not None else ""
    shown: dict[str, Any] = {
        "attempt": event.retry_count + 1,
        "errorMessage": event.error,
        "eventType": event.type,
        "id": event.number,
        "message": _event_message(event),
        "output": event.output,
        "retryCount": event.retry_count,
        "taskDisplayName": _display_name(name, step.created_at if step is not None else event.at),
        "taskId": event.step_run_id,
        "timestamp": stamp(event.at),
    }
    if event.type in ON_WORKER:
        shown["workerId"] = _WORKER
    return shown


def _event_message(event: TaskEvent) -> str:
    if event.type == "SENT_TO_WORKER":
        return "Sent task run to the assigned worker"
    if event.type == "RETRYING":
        return f"This is retry number {event.retry_count}."
    return event.message


def _shape(run: Run, step: StepRun) -> dict[str, Any]:
    children = [one.name for one in run.workflow.steps if step.name in one.parents]
    return {
        "childrenStepIds": [_name_id(run, name) for name in children],
        "stepId": _name_id(run, step.name),
        "taskExternalId": step.id,
        "taskName": step.name,
    }


def _task_input(run: Run, parents: dict[str, Any]) -> dict[str, Any]:
    return {
        "input": run.input,
        "overrides": None,
        "parents": parents,
        "triggered_by": "manual",
        "triggers": {"filter_payload": None},
        "user_data": None,
    }


def _meta(id: str, at: float) -> dict[str, Any]:
    return {"createdAt": stamp(at), "id": id, "updatedAt": stamp(at)}


def _display_name(name: str, at: float) -> str:
    return f"{name}-{int(at * 1000)}"


def _name_id(run: Run, name: str) -> str:
    return id_of(run.tenant_id, run.workflow.name, name)
