"""Hatchet's messages as values: every kind, the absent fields, the times."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.observations import Kind, LiveEvent, Status
from proxy.hatchet import codec
from proxy.hatchet.errors import BadChunk, HatchetAway
from proxy.hatchet.protobuf import dispatcher_pb2, workflows_pb2
from tests.support.hatchet_server import RUN, STEP, chunk

EVENTS = {
    "RESOURCE_EVENT_TYPE_STARTED": Kind.STARTED,
    "RESOURCE_EVENT_TYPE_STREAM": Kind.STREAM,
    "RESOURCE_EVENT_TYPE_COMPLETED": Kind.COMPLETED,
    "RESOURCE_EVENT_TYPE_FAILED": Kind.FAILED,
    "RESOURCE_EVENT_TYPE_CANCELLED": Kind.CANCELLED,
    "RESOURCE_EVENT_TYPE_TIMED_OUT": Kind.TIMED_OUT,
    "RESOURCE_EVENT_TYPE_UNKNOWN": Kind.OTHER,
}


@pytest.mark.parametrize(("name", "kind"), EVENTS.items())
def test_every_event_type_has_its_kind(name: str, kind: Kind) -> None:
    event = dispatcher_pb2.WorkflowEvent(
        workflow_run_id=RUN.upper(),
        resource_id=STEP.upper(),
        resource_type=dispatcher_pb2.RESOURCE_TYPE_STEP_RUN,
        event_type=name,
        retry_count=0,
    )
    assert codec.live_event(event.SerializeToString()) == LiveEvent(RUN, kind, STEP, retry_count=0)


def test_no_event_type_of_the_engine_is_forgotten() -> None:
    assert set(EVENTS) == set(dispatcher_pb2.ResourceEventType.keys())
    assert {status.name for status in Status} == set(workflows_pb2.RunStatus.keys())


def test_an_event_of_the_run_is_of_no_step_and_no_attempt() -> None:
    event = dispatcher_pb2.WorkflowEvent(
        workflow_run_id=RUN,
        resource_id=RUN,
        resource_type=dispatcher_pb2.RESOURCE_TYPE_WORKFLOW_RUN,
        event_type=dispatcher_pb2.RESOURCE_EVENT_TYPE_COMPLETED,
        hangup=True,
        retry_count=3,
    )
    assert codec.live_event(event.SerializeToString()) == LiveEvent(RUN, Kind.COMPLETED, None, hangup=True)


def test_a_chunk_has_its_index_and_no_attempt() -> None:
    event = codec.live_event(chunk("", 0))
    assert (event.index, event.retry_count, event.payload) == (0, None, "")


@pytest.mark.parametrize(
    ("seconds", "nanos", "at"),
    [
        (1795333408, 244862079, 1795333408_244862079),
        (1795333408, 0, 1795333408_000000000),
        (0, 0, None),
        (0, 5, None),
        (1, 1, 1_000000001),
    ],
)
def test_times_are_whole_nanoseconds_and_none_where_the_engine_set_none(
    seconds: int, nanos: int, at: int | None
) -> None:
    event = dispatcher_pb2.WorkflowEvent(workflow_run_id=RUN)
    event.event_timestamp.seconds, event.event_timestamp.nanos = seconds, nanos
    assert codec.live_event(event.SerializeToString()).at == at


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_bad_chunk(raw: bytes) -> None:
    try:
        codec.live_event(raw)
    except BadChunk as error:
        assert "UTF-8" in str(error)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_state_or_no_answer(raw: bytes) -> None:
    with contextlib.suppress(HatchetAway):
        codec.core_state(RUN, raw)


@pytest.mark.parametrize("text", [b"", b"null", b"[1]", b"{", b"\xff"])
def test_metadata_that_is_no_object_is_none(text: bytes) -> None:
    assert codec.metadata_of(text) == {}
