"""Converts Hatchet's protobuf messages to the values of `proxy.core` and back. Pure.

`live_event` is the hot path of receiving: one call per chunk. Ids become lower case; times become nanoseconds
since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError

from proxy.core.instant import SECOND
from proxy.core.json_codec import decode
from proxy.core.observations import CoreState, CoreStep, Kind, LiveEvent, Status
from proxy.hatchet.errors import BadChunk, HatchetAway
from proxy.hatchet.protobuf import dispatcher_pb2, events_pb2, workflows_pb2

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

KEEPALIVE_INDEX: Final = -1  # of the chunk that keeps subscriptions open: workers count from 0

OTHER: Final = Kind.OTHER  # a module global: the lookup of an enum member takes ten times as long

_parse = dispatcher_pb2.WorkflowEvent.FromString


def live_event(raw: bytes) -> LiveEvent:
    """Convert a serialized WorkflowEvent.

    Raises BadChunk for bytes that are not a WorkflowEvent, such as text that is not UTF-8.
    """
    try:
        message = _parse(raw)
    except (DecodeError, UnicodeDecodeError):
        raise BadChunk("Hatchet sent an event that is not valid UTF-8: it is lost") from None
    stamp = message.event_timestamp
    kind = message.event_type
    of_step = message.resource_type == STEP_RUN
    return LiveEvent(
        message.workflow_run_id.lower(),
        KINDS.get(kind, OTHER),
        message.resource_id.lower() if of_step else None,
        message.event_payload,
        stamp.seconds * SECOND + stamp.nanos if stamp.seconds else None,
        message.retry_count if of_step and message.HasField("retry_count") else None,
        message.event_index if kind == STREAM and message.HasField("event_index") else None,
        message.hangup,
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


def keepalive_chunk(step_run_id: str, at: int) -> bytes:
    """The request of PutStreamEvent with the chunk that keeps subscriptions open; `at`: ns since 1970."""
    request = events_pb2.PutStreamEventRequest(
        task_run_external_id=step_run_id, message=b"", event_index=KEEPALIVE_INDEX
    )
    request.created_at.FromNanoseconds(at)
    return bytes(request.SerializeToString())


def core_state(run_id: str, raw: bytes) -> CoreState:
    """Convert a GetRunDetailsResponse. Raises HatchetAway if it cannot be parsed."""
    try:
        message = workflows_pb2.GetRunDetailsResponse.FromString(raw)
    except (DecodeError, UnicodeDecodeError):
        raise HatchetAway("GetRunDetails: the answer could not be read") from None
    steps = [_core_step(key, message.task_runs[key]) for key in sorted(message.task_runs)]
    return CoreState(
        run_id=run_id.lower(),
        status=STATUSES.get(message.status, Status.QUEUED),
        done=message.done,
        steps=tuple(steps),
        metadata=metadata_of(message.additional_metadata),
    )


def _core_step(key: str, message: Any) -> CoreStep:
    status = Status.EVICTED if message.is_evicted else STATUSES.get(message.status, Status.QUEUED)
    return CoreStep(
        name=message.readable_id or key,
        step_run_id=message.external_id.lower(),
        status=status,
        output=message.output.decode("utf-8", "replace") if message.output else None,
        error=message.error or None,
    )


def metadata_of(text: bytes | str) -> dict[str, Any]:
    """A run's metadata from its JSON text, integers exact; empty if that is not an object."""
    try:
        value = decode(text if isinstance(text, str) else text.decode()) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
