"""Hatchet's protobuf messages as our values, and back. Pure, and fast, because every event passes here.

`live_event` is called for each chunk. Ids come out in lower case, times as nanoseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from google.protobuf.message import DecodeError

from proxy.core.instant import SECOND
from proxy.core.observations import CoreState, CoreStep, Kind, LiveEvent, Status
from proxy.hatchet.errors import BadChunk, HatchetAway
from proxy.hatchet.protobuf import dispatcher_pb2, workflows_pb2

STEP_RUN: Final = int(dispatcher_pb2.RESOURCE_TYPE_STEP_RUN)
STREAM: Final = int(dispatcher_pb2.RESOURCE_EVENT_TYPE_STREAM)

KINDS: Final[Mapping[int, Kind]] = {
    int(dispatcher_pb2.RESOURCE_EVENT_TYPE_STARTED): Kind.STARTED,
    int(dispatcher_pb2.RESOURCE_EVENT_TYPE_STREAM): Kind.STREAM,
    int(dispatcher_pb2.RESOURCE_EVENT_TYPE_COMPLETED): Kind.COMPLETED,
    int(dispatcher_pb2.RESOURCE_EVENT_TYPE_FAILED): Kind.FAILED,
    int(dispatcher_pb2.RESOURCE_EVENT_TYPE_CANCELLED): Kind.CANCELLED,
    int(dispatcher_pb2.RESOURCE_EVENT_TYPE_TIMED_OUT): Kind.TIMED_OUT,
}
STATUSES: Final[Mapping[int, Status]] = {
    int(number): Status[name]
    for name, number in workflows_pb2.RunStatus.items()
    if name in Status.__members__
}

OTHER: Final = Kind.OTHER  # looking a member up takes ten times as long

_parse = dispatcher_pb2.WorkflowEvent.FromString


def live_event(raw: bytes) -> LiveEvent:
    """A WorkflowEvent from its bytes.

    Raises BadChunk for bytes that are no WorkflowEvent (a text that is not UTF-8).
    """
    try:
        told = _parse(raw)
    except (DecodeError, UnicodeDecodeError):
        raise BadChunk("Hatchet sent an event that is not valid UTF-8: it is lost") from None
    stamp = told.event_timestamp
    kind = told.event_type
    of_step = told.resource_type == STEP_RUN
    return LiveEvent(
        told.workflow_run_id.lower(),
        KINDS.get(kind, OTHER),
        told.resource_id.lower() if of_step else None,
        told.event_payload,
        stamp.seconds * SECOND + stamp.nanos if stamp.seconds else None,
        told.retry_count if of_step and told.HasField("retry_count") else None,
        told.event_index if kind == STREAM and told.HasField("event_index") else None,
        told.hangup,
    )


def by_run(run_id: str) -> bytes:
    """The request of a subscription by run id."""
    request = dispatcher_pb2.SubscribeToWorkflowEventsRequest(workflow_run_id=run_id)
    return bytes(request.SerializeToString())


def by_metadata(key: str, value: str) -> bytes:
    """The request of a subscription by a metadata pair."""
    request = dispatcher_pb2.SubscribeToWorkflowEventsRequest(
        additional_meta_key=key, additional_meta_value=value
    )
    return bytes(request.SerializeToString())


def run_details(run_id: str) -> bytes:
    """The request of GetRunDetails."""
    return bytes(workflows_pb2.GetRunDetailsRequest(external_id=run_id).SerializeToString())


def core_state(run_id: str, raw: bytes) -> CoreState:
    """GetRunDetails' answer. Raises HatchetAway for bytes that are none."""
    try:
        told = workflows_pb2.GetRunDetailsResponse.FromString(raw)
    except (DecodeError, UnicodeDecodeError):
        raise HatchetAway("GetRunDetails: the answer could not be read") from None
    steps = [_core_step(key, told.task_runs[key]) for key in sorted(told.task_runs)]
    return CoreState(
        run_id=run_id.lower(),
        status=STATUSES.get(told.status, Status.QUEUED),
        done=told.done,
        steps=tuple(steps),
        metadata=metadata_of(told.additional_metadata),
    )


def _core_step(key: str, told: Any) -> CoreStep:
    status = Status.EVICTED if told.is_evicted else STATUSES.get(told.status, Status.QUEUED)
    return CoreStep(
        name=told.readable_id or key,
        step_run_id=told.external_id.lower(),
        status=status,
        output=told.output.decode("utf-8", "replace") if told.output else None,
        error=told.error or None,
    )


def metadata_of(text: bytes | str) -> dict[str, Any]:
    """A run's metadata: JSON text of an object, or nothing."""
    try:
        value = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
