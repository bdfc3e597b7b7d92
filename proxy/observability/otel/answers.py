"""What a collector answers by HTTP, where the exporters count each status below 400 as taken.

A redirect, a page of a web server, and the items that a partial success rejects are lost too. Source: OTLP
Specification, "OTLP/HTTP Response", "Partial Success".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from proxy.observability.otel.settings import TRACES

NOT_TAKEN: Final = 400
"""The status that an answer gets here if it is no success of OTLP: the exporters do not try it again."""


class Answers:
    """Looks at the answers to one exporter; used in the thread that sends."""

    def __init__(self, signal: str) -> None:
        self._parse = _parser(signal)
        self._rejected = 0

    def session(self) -> Any:
        """A session of ``requests`` for the exporter, which looks at each answer."""
        import requests  # noqa: PLC0415 - only where OpenTelemetry is on

        session = requests.Session()
        session.hooks["response"].append(self._look)
        return session

    def rejected(self) -> int:
        """How many items the collector has rejected since the last call, although it took their batch."""
        rejected, self._rejected = self._rejected, 0
        return rejected

    def _look(self, response: Any, *_: object, **__: object) -> None:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if 300 <= response.status_code < 400:
            _refuse(response, f"{response.status_code}, a redirect to {response.headers.get('location')}")
        elif response.status_code < 300 and kind == "text/html":
            _refuse(response, f"{response.status_code} with a page: is this a collector?")
        elif response.status_code < 300 and kind == "application/x-protobuf":
            self._rejected += self._parse(response.content)


def _refuse(response: Any, reason: str) -> None:
    response.status_code = NOT_TAKEN
    response.reason = reason


def _parser(signal: str) -> Callable[[bytes], int]:
    """How many items an answer's body rejects; 0 where it is no answer of a collector."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2  # noqa: PLC0415
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: PLC0415

    def spans(body: bytes) -> int:
        answer = trace_service_pb2.ExportTraceServiceResponse.FromString(body)
        return int(answer.partial_success.rejected_spans)

    def points(body: bytes) -> int:
        """An export of metrics counts as one, however many of its points are rejected."""
        answer = metrics_service_pb2.ExportMetricsServiceResponse.FromString(body)
        return min(1, int(answer.partial_success.rejected_data_points))

    def rejected(body: bytes) -> int:
        try:
            return max(0, spans(body) if signal == TRACES else points(body))
        except DecodeError:
            return 0

    return rejected
