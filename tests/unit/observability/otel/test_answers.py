"""Answers of a collector that the exporters take for a success, although something was not taken."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from proxy.observability.otel.answers import Answers

PROTOBUF = {"content-type": "application/x-protobuf"}


def answered(answers: Answers, status: int, headers: dict[str, str], content: bytes = b"") -> SimpleNamespace:
    """The answer, as it is after it was looked at."""
    response = SimpleNamespace(status_code=status, headers=headers, content=content, reason="")
    for look in answers.session().hooks["response"]:
        look(response)
    return response


def test_a_redirect_and_a_page_are_failures_that_are_not_tried_again() -> None:
    answers = Answers("traces")
    moved = answered(answers, 302, {"location": "http://login"})
    assert (moved.status_code, moved.reason) == (400, "302, a redirect to http://login")
    page = answered(answers, 200, {"content-type": "text/html; charset=utf-8"})
    assert (page.status_code, page.reason) == (400, "200 with a page: is this a collector?")


@pytest.mark.parametrize("status", [200, 202, 400, 429, 503])
def test_every_other_answer_keeps_its_status(status: int) -> None:
    for headers in ({}, PROTOBUF, {"content-type": "application/json"}):
        assert answered(Answers("traces"), status, headers).status_code == status


def test_what_a_partial_success_rejects_is_counted_once() -> None:
    traces, metrics = Answers("traces"), Answers("metrics")
    spans = trace_service_pb2.ExportTraceServiceResponse()
    spans.partial_success.rejected_spans = 3
    points = metrics_service_pb2.ExportMetricsServiceResponse()
    points.partial_success.rejected_data_points = 40
    assert answered(traces, 200, PROTOBUF, spans.SerializeToString()).status_code == 200
    answered(metrics, 200, PROTOBUF, points.SerializeToString())
    assert (traces.rejected(), traces.rejected(), metrics.rejected()) == (3, 0, 1)


def test_a_body_that_is_no_answer_of_a_collector_rejects_nothing() -> None:
    answers = Answers("traces")
    for body in (b"", b"\xff\xff", b"{}"):
        answered(answers, 200, PROTOBUF, body)
    assert answers.rejected() == 0
