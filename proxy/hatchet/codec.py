"""Hatchet's protobuf messages as our values, and back: pure, and cheap, because each event passes here.

`live_event` is the hot path of receiving: one call per chunk. Ids come out in lower case, times as ISO 8601
text in UTC with as many digits as were sent (as the REST history writes them).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from google.protobuf.message import DecodeError

from proxy.core.events import CoreState, CoreStep, Kind, LiveEvent, Status
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


def translator() -> Callable[[bytes], LiveEvent]:
    """Make a translator of WorkflowEvents; it remembers the last second's text, as bursts share it.

    Raises BadChunk for bytes that are no WorkflowEvent (a text that is not UTF-8).
    """
    last_second, prefix = -1, ""

    def live_event(raw: bytes) -> LiveEvent:
        nonlocal last_second, prefix
        try:
            told = _parse(raw)
        except (DecodeError, UnicodeDecodeError):
            raise BadChunk("Hatchet sent an event that is not valid UTF-8: it is lost") from None
        stamp = told.event_timestamp
        seconds, nanos = stamp.seconds, stamp.nanos
        if seconds != last_second:
            last_second, prefix = seconds, _second_text(seconds)
        kind = told.event_type
        of_step = told.resource_type == STEP_RUN
        return LiveEvent(
            told.workflow_run_id.lower(),
            KINDS.get(kind, OTHER),
            told.resource_id.lower() if of_step else None,
            told.event_payload,
            (f"{prefix}.{nanos:09d}".rstrip("0") + "Z" if nanos else prefix + "Z") if seconds else None,
            told.retry_count if of_step and told.HasField("retry_count") else None,
            told.event_index if kind == STREAM and told.HasField("event_index") else None,
            told.hangup,
        )

    return live_event


def _second_text(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    except (OverflowError, OSError, ValueError):  # a time that no calendar holds
        return "1970-01-01T00:00:00"


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
