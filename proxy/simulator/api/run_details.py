"""What the core answers: GetRunDetails, and the results of SubscribeToWorkflowRuns."""

from __future__ import annotations

import json

from google.protobuf.timestamp_pb2 import Timestamp

from proxy.simulator.quirks import Quirks
from proxy.simulator.state.entities import Run, StepRun
from proxy.simulator.statuses import CANCELLED, COMPLETED, EVICTED, FAILED, QUEUED, RUNNING, STATUS
from proxy.simulator.stubs import dispatcher_pb2, workflows_pb2


def run_details(run: Run, quirks: Quirks) -> workflows_pb2.GetRunDetailsResponse:
    """GetRunDetails: until the run is done a finished step reads QUEUED and shows nothing."""
    answer = workflows_pb2.GetRunDetailsResponse(
        input=_json(run.input), additional_metadata=_json(run.metadata), done=run.done
    )
    statuses = []
    for name, step in run.steps.items():
        shown = run.done or (bool(step.ended) and not quirks.finished_reads_queued)
        status = step.ended if shown else _unfinished(step)
        statuses.append(status)
        detail = answer.task_runs[name]
        detail.external_id, detail.readable_id, detail.status = step.id, name, STATUS[status]
        detail.is_evicted = status == EVICTED
        if shown:
            detail.error = step.error
            if step.output is not None:
                detail.output = step.output.encode()
    answer.status = STATUS[_derived(statuses)]
    return answer


def _unfinished(step: StepRun) -> str:
    if step.evicted:
        return EVICTED
    return RUNNING if step.on_worker else QUEUED


def _derived(statuses: list[str]) -> str:
    """DeriveWorkflowRunStatus: FAILED before RUNNING, and RUNNING wherever statuses differ."""
    if len(set(statuses)) == 1:
        return statuses[0]
    if FAILED in statuses:
        return FAILED
    if not statuses or any(status in (RUNNING, QUEUED, EVICTED) for status in statuses):
        return RUNNING
    return CANCELLED


def run_results(run: Run, now: float) -> dispatcher_pb2.WorkflowRunEvent:
    """The answer of SubscribeToWorkflowRuns for a run that is done."""
    return dispatcher_pb2.WorkflowRunEvent(
        workflow_run_id=run.id,
        event_type=dispatcher_pb2.WORKFLOW_RUN_EVENT_TYPE_FINISHED,
        event_timestamp=Timestamp(seconds=int(now), nanos=int(now % 1 * 1e9)),
        results=[_result(step) for step in run.steps.values()],
    )


def _result(step: StepRun) -> dispatcher_pb2.StepRunResult:
    result = dispatcher_pb2.StepRunResult(
        task_run_external_id=step.id, task_name=step.name, job_run_id=step.id
    )
    if step.ended == COMPLETED:
        result.output = step.output or ""
    else:
        result.error = step.error
    return result


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
