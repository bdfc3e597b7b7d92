"""Message: what the engine publishes to all subscriptions of a tenant, and its bytes on the wire."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from proxy.simulator.stubs import dispatcher_pb2 as pb

Kind = pb.ResourceEventType
STARTED = pb.RESOURCE_EVENT_TYPE_STARTED
COMPLETED = pb.RESOURCE_EVENT_TYPE_COMPLETED
FAILED = pb.RESOURCE_EVENT_TYPE_FAILED
CANCELLED = pb.RESOURCE_EVENT_TYPE_CANCELLED
TIMED_OUT = pb.RESOURCE_EVENT_TYPE_TIMED_OUT
STREAM = pb.RESOURCE_EVENT_TYPE_STREAM
ENDS = frozenset({COMPLETED, FAILED, CANCELLED})


@dataclass(slots=True)
class Message:
    """One message. `step_run_id` is None where it is about the run itself; `at` is wall clock time."""

    run_id: str
    kind: pb.ResourceEventType
    step_run_id: str | None = None
    payload: bytes = b""
    at: float | None = None  # None: the time at which a subscription converts it
    retry_count: int | None = None
    index: int | None = None
    _shared: bytes | None = None

    @property
    def is_chunk(self) -> bool:
        return self.kind == STREAM

    @property
    def buffer(self) -> str:
        """The name of the engine's buffer that it waits in: one for each kind of event."""
        return "RUN" if self.step_run_id is None else pb.ResourceEventType.Name(self.kind)

    @property
    def is_run_end(self) -> bool:
        return self.step_run_id is None and self.kind in ENDS

    def wire(self, now: float, hangup: bool = False) -> bytes | None:
        """The WorkflowEvent's bytes; None where the payload is not UTF-8 and protobuf refuses it."""
        if self._shared is not None and not hangup:
            return self._shared
        try:
            text = self.payload.decode()
        except UnicodeDecodeError:
            return None
        wire = self._encode(text, now, hangup)
        if self.at is not None and not hangup:
            self._shared = wire
        return wire

    def _encode(self, text: str, now: float, hangup: bool) -> bytes:
        seconds, fraction = divmod(now if self.at is None else self.at, 1)
        event = pb.WorkflowEvent(
            workflow_run_id=self.run_id,
            resource_type=pb.RESOURCE_TYPE_WORKFLOW_RUN
            if self.step_run_id is None
            else pb.RESOURCE_TYPE_STEP_RUN,
            event_type=self.kind,
            resource_id=self.step_run_id or self.run_id,
            event_timestamp=Timestamp(seconds=int(seconds), nanos=int(fraction * 1e9)),
            event_payload=text,
            hangup=hangup,
            retry_count=self.retry_count,
            event_index=self.index,
        )
        return event.SerializeToString()
