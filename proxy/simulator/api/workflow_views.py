"""What the read side answers about workflows: their list, a version, and the config that runs carry too."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from proxy.simulator.script.model import ON_FAILURE, Script, Step, Workflow
from proxy.simulator.state.attempts import go_duration


def workflows_answer(tenant: str, script: Script, part: str) -> dict[str, Any]:
    """The list of workflows whose name has `part` in it."""
    rows = [
        {"name": name, "metadata": {"id": id_of(tenant, name, "workflow")}}
        for name in script.workflows
        if part.lower() in name.lower()
    ]
    return {"pagination": {"current_page": 1, "next_page": 1, "num_pages": 1}, "rows": rows}


def version_answer(tenant: str, script: Script, workflow_id: str) -> dict[str, Any] | None:
    """The newest version of a workflow; None where the id is no workflow's."""
    for name, workflow in script.workflows.items():
        if id_of(tenant, name, "workflow") == workflow_id:
            return {"workflowConfig": workflow_config(workflow)}
    return None


def workflow_config(workflow: Workflow) -> dict[str, Any]:
    """The config that a run's history and a WorkflowVersion have."""
    failure = workflow.on_failure
    config: dict[str, Any] = {
        "CronInput": None,
        "CronTriggers": None,
        "DefaultPriority": 1,
        "EventTriggers": None,
        "Name": workflow.name,
        "Sticky": None,
        "Tasks": [_declared(workflow, step, step.name) for step in workflow.steps],
        "description": "",
    }
    if failure is not None:
        declared = _declared(workflow, failure, failure.name + ON_FAILURE)
        config["onFailureJob"] = {**declared, "slotRequests": {"default": 1}}
    return config


def _declared(workflow: Workflow, step: Step, name: str) -> dict[str, Any]:
    return {
        "Action": action(workflow, name),
        "DesiredWorkerLabels": None,
        "Parents": list(step.parents),
        "RateLimits": [],
        "ReadableId": name,
        "Retries": step.retries,
        "RetryBackoffFactor": step.backoff.factor if step.backoff else None,
        "RetryBackoffMaxSeconds": int(step.backoff.longest) if step.backoff else None,
        "ScheduleTimeout": go_duration(step.schedule_timeout),
        "Timeout": f"{step.timeout:g}s",
        "TriggerConditions": [],
    }


def action(workflow: Workflow, name: str) -> str:
    """A step's action id."""
    return f"{workflow.name}:{name}".lower()


def id_of(tenant: str, workflow: str, name: str) -> str:
    """The id of something that has a name in a workflow; the same in each process."""
    return str(uuid5(NAMESPACE_URL, f"{tenant}/{workflow}/{name}"))
