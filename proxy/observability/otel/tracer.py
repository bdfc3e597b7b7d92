"""OtelTracer: the `Tracer` of `proxy.observability.tracing`, with OpenTelemetry's SDK.

The SDK makes and samples the spans; `Delivery` brings them away. Nothing global is set, and no span is the
current one outside of a request's own context, so libraries that trace themselves are not affected.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proxy import __version__
from proxy.hatchet.errors import HatchetError, RunUnknown
from proxy.observability.otel.delivery import Delivery
from proxy.observability.tracing import CallSpan, Notice, StreamSpan, StreamStart

SCOPE: Final = "hatchet-stream-proxy"
PREFIX: Final = "stream_proxy."
"""Of attributes that no semantic convention has."""
MAX_EVENTS: Final = 100
"""Of gaps and resets on one span: the SDK keeps 128 events and would drop the oldest, the first frame."""
SERVER_ERROR: Final = 500
_W3C: Final = TraceContextTextMapPropagator()


class OtelTracer:
    """Makes spans; a span that is sampled goes to `spans` when it ends."""

    def __init__(self, spans: Delivery[ReadableSpan], resource: Resource) -> None:
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(_Enqueue(spans))
        self._tracer = provider.get_tracer(SCOPE, __version__)

    def stream(self, start: StreamStart) -> StreamSpan:
        parent = propagate.extract(dict(start.headers), context=Context())
        attributes = {
            "http.request.method": start.method,
            "http.route": start.route,
            "url.scheme": start.scheme,
            "client.address": start.address,
            f"{PREFIX}team": start.team,
            f"{PREFIX}stream": start.stream,
        }
        name = f"{start.method} {start.route}"
        return _StreamSpan(
            self._tracer.start_span(name, context=parent, kind=SpanKind.SERVER, attributes=attributes)
        )

    @contextmanager
    def call(self, name: str, attributes: Mapping[str, str]) -> Iterator[CallSpan]:
        named = {f"{PREFIX}{key}": text for key, text in attributes.items()}
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=named)
        try:
            yield _CallSpan(span)
        except asyncio.CancelledError:
            span.set_attribute(f"{PREFIX}cancelled", True)
            raise
        except RunUnknown:
            span.set_attribute(f"{PREFIX}unknown_run", True)
            raise
        except Exception as error:
            span.set_attribute("error.type", type(error).__name__)
            # only the messages of Hatchet's errors never hold a payload
            text = str(error) if isinstance(error, HatchetError) else None
            span.set_status(Status(StatusCode.ERROR, text))
            raise
        finally:
            span.end()


class _StreamSpan:
    def __init__(self, span: Span) -> None:
        self._span = span
        self._began_at = 0  # nanoseconds since the epoch; 0 before the stream began

    @property
    def ids(self) -> Mapping[str, str]:
        found = self._span.get_span_context()
        return {
            "trace_id": trace.format_trace_id(found.trace_id),
            "span_id": trace.format_span_id(found.span_id),
        }

    def make_current(self) -> None:
        context.attach(trace.set_span_in_context(self._span, Context()))

    def answered(self, status: int) -> None:
        self._span.set_attribute("http.response.status_code", status)
        if status >= SERVER_ERROR:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()

    def left(self) -> None:
        self._span.set_attribute(f"{PREFIX}ending", "left")
        self._span.end()

    def began(self, *, run_id: str, traceparent: str | None, resumed: bool) -> None:
        if not self._span.is_recording():
            return
        self._began_at = time.time_ns()
        self._span.set_attributes(
            {
                "http.response.status_code": 200,
                f"{PREFIX}run_id": run_id,
                f"{PREFIX}resumed": resumed,
            }
        )
        _link(self._span, traceparent)

    def first_frame(self) -> None:
        self._span.add_event("first_frame")

    def ended(self, ending: str, *, frames: int, notices: Sequence[Notice], failed: bool) -> None:
        span = self._span
        if not span.is_recording():
            return
        for notice in sorted(notices[-MAX_EVENTS:], key=_when):
            at = max(notice.at, self._began_at)  # a client that joined late is told when its stream begins
            if notice.cause is None:
                span.add_event("reset", timestamp=at)
            else:
                attributes: dict[str, str | int] = {
                    f"{PREFIX}cause": notice.cause,
                    f"{PREFIX}count": notice.count,
                }
                span.add_event("gap", attributes, timestamp=at)
        gaps = sum(notice.count for notice in notices if notice.cause is not None)
        resets = sum(notice.count for notice in notices if notice.cause is None)
        span.set_attributes(
            {
                f"{PREFIX}ending": ending,
                f"{PREFIX}frames": frames,
                f"{PREFIX}gaps": gaps,
                f"{PREFIX}resets": resets,
            }
        )
        span.add_event("end", {f"{PREFIX}ending": ending})
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end()


class _CallSpan:
    def __init__(self, span: Span) -> None:
        self._span = span

    def opened(self) -> None:
        self._span.add_event("opened")

    def of_run(self, traceparent: object) -> None:
        if self._span.is_recording():
            _link(self._span, traceparent)


class _Enqueue(SpanProcessor):
    """Gives each span that is sampled to the delivery when it ends."""

    def __init__(self, spans: Delivery[ReadableSpan]) -> None:
        self._spans = spans

    def on_end(self, span: ReadableSpan) -> None:
        found: Any = span.context
        if found is not None and found.trace_flags.sampled:
            self._spans.offer(span)


def _when(notice: Notice) -> int:
    return notice.at


def _link(span: Span, traceparent: object) -> None:
    """Link `span` with the trace of a run, whose metadata is written by its caller and may hold anything."""
    if not isinstance(traceparent, str):
        return
    carrier = {"traceparent": traceparent}
    found = trace.get_current_span(_W3C.extract(carrier, context=Context())).get_span_context()
    if found.is_valid:
        span.add_link(found)
