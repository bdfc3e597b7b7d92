"""Hatchet's generated messages that only an engine needs, beside those of `proxy.hatchet.protobuf`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.hatchet.protobuf import dispatcher_pb2, import_modules, method_path, workflows_pb2

if TYPE_CHECKING:
    from hatchet_sdk.contracts import events_pb2
    from hatchet_sdk.contracts import workflows_pb2 as trigger_pb2
    from hatchet_sdk.contracts.v1.shared import trigger_pb2 as shared_pb2
else:
    (events_pb2, trigger_pb2, shared_pb2), _ = import_modules(
        "hatchet_sdk.contracts.events_pb2",
        "hatchet_sdk.contracts.workflows_pb2",
        "hatchet_sdk.contracts.v1.shared.trigger_pb2",
    )

SUBSCRIBE_TO_RUNS: Final = method_path(dispatcher_pb2, "Dispatcher", "SubscribeToWorkflowRuns")
PUT_STREAM_EVENT: Final = method_path(events_pb2, "EventsService", "PutStreamEvent")
TRIGGER: Final = method_path(trigger_pb2, "WorkflowService", "TriggerWorkflow")
BULK_TRIGGER: Final = method_path(trigger_pb2, "WorkflowService", "BulkTriggerWorkflow")
TRIGGER_RUN: Final = method_path(workflows_pb2, "AdminService", "TriggerWorkflowRun")
CANCEL_TASKS: Final = method_path(workflows_pb2, "AdminService", "CancelTasks")
REPLAY_TASKS: Final = method_path(workflows_pb2, "AdminService", "ReplayTasks")
GET_VERSION: Final = method_path(dispatcher_pb2, "Dispatcher", "GetVersion")

__all__ = [
    "BULK_TRIGGER",
    "CANCEL_TASKS",
    "GET_VERSION",
    "PUT_STREAM_EVENT",
    "REPLAY_TASKS",
    "SUBSCRIBE_TO_RUNS",
    "TRIGGER",
    "TRIGGER_RUN",
    "dispatcher_pb2",
    "events_pb2",
    "shared_pb2",
    "trigger_pb2",
    "workflows_pb2",
]
