"""Telemetry: the exporters and the tracer of this process; `open_telemetry` makes it from the environment."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from proxy import __version__
from proxy.observability.counters import Counters, Undelivered
from proxy.observability.event_log import EventLog
from proxy.observability.health import Health
from proxy.observability.otel.answers import Answers
from proxy.observability.otel.settings import (
    GRPC,
    METRICS,
    TRACES,
    Settings,
    milliseconds,
    number,
    read_settings,
)
from proxy.observability.prometheus import registry_of
from proxy.observability.tracing import Tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from proxy.observability.otel.delivery import Delivery

SERVICE: Final = "hatchet-stream-proxy"
EXTRA: Final = "pip install 'hatchet-stream-proxy[otel]'"
FLUSH: Final = 1.0
"""Seconds that the end of the process waits for a collector, after everything else is closed."""
REPORT: Final = 5.0  # seconds between looks at what was dropped
# the specification's defaults, in milliseconds and numbers of spans
EXPORT_EVERY: Final = 60_000
SEND_EVERY: Final = 5_000
MAX_QUEUE: Final = 2_048
MAX_BATCH: Final = 512


class Telemetry:
    """The exporters of one process."""

    def __init__(self, settings: Settings, env: Mapping[str, str], counters: Counters, event_log: EventLog):
        """Raises ImportError without the extra, and what the libraries raise for values they cannot use."""
        self._counters = counters
        self._event_log = event_log
        self._reasons = _LastReason()
        self._resource = _resource()
        self._started_at = time.time_ns()
        self._deliveries: list[Delivery[Any]] = []
        self._metrics: Delivery[Health] | None = None
        self._export_every = milliseconds(env, "OTEL_METRIC_EXPORT_INTERVAL", EXPORT_EVERY)
        self._watching: asyncio.Task[None] | None = None
        self.tracer: Tracer | None = None
        for signal, protocol in settings.protocols.items():
            undelivered = counters.telemetry.setdefault(signal, Undelivered())
            if signal == TRACES:
                self._trace(protocol, env, undelivered)
            else:
                self._measure(protocol, undelivered)
        _silence(self._reasons)

    def _trace(self, protocol: str, env: Mapping[str, str], undelivered: Undelivered) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415 - only where it is on

        from proxy.observability.otel.delivery import Delivery  # noqa: PLC0415
        from proxy.observability.otel.tracer import OtelTracer  # noqa: PLC0415

        answers = Answers(TRACES)
        exporter = _span_exporter(protocol, answers)

        def send(batch: Sequence[Any]) -> bool:
            taken = exporter.export(batch) is SpanExportResult.SUCCESS
            undelivered.refused += min(answers.rejected(), len(batch))
            return taken

        spans: Delivery[Any] = Delivery(
            send,
            undelivered,
            name="otel-spans",
            capacity=number(env, "OTEL_BSP_MAX_QUEUE_SIZE", MAX_QUEUE),
            batch=number(env, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", MAX_BATCH),
            pause=milliseconds(env, "OTEL_BSP_SCHEDULE_DELAY", SEND_EVERY),
        )
        self._deliveries.append(spans)
        self.tracer = OtelTracer(spans, self._resource)

    def _measure(self, protocol: str, undelivered: Undelivered) -> None:
        from opentelemetry.sdk.metrics.export import MetricExportResult  # noqa: PLC0415

        from proxy.observability.otel.delivery import Delivery  # noqa: PLC0415
        from proxy.observability.otel.metrics import metrics_data  # noqa: PLC0415

        answers = Answers(METRICS)
        exporter = _metric_exporter(protocol, answers)

        def send(healths: Sequence[Health]) -> bool:
            families = registry_of(self._counters, healths[-1]).collect()
            data = metrics_data(families, self._resource, started_at=self._started_at)
            taken = exporter.export(data) is MetricExportResult.SUCCESS
            undelivered.refused += answers.rejected()
            return bool(taken)

        # one may wait while another is sent: a later one says all that an earlier one says
        self._metrics = Delivery(
            send, undelivered, name="otel-metrics", capacity=1, batch=1, pause=self._export_every
        )
        self._deliveries.append(self._metrics)

    def start(self, health: Callable[[], Health]) -> None:
        """Export the metrics regularly, `health` with them, and log what was dropped."""
        self._watching = asyncio.get_running_loop().create_task(self._watch(health))

    async def _watch(self, health: Callable[[], Health]) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._export_every
        reported: dict[str, int] = {}
        while True:
            await asyncio.sleep(min(REPORT, max(0.0, due - loop.time())))
            if self._metrics is not None and loop.time() >= due:
                self._metrics.offer(health())
            if loop.time() >= due:
                due += self._export_every
            for signal, undelivered in self._counters.telemetry.items():
                lost = undelivered.total - reported.get(signal, 0)
                if lost:
                    self._event_log.telemetry_dropped(signal, lost=lost, why=self._reasons.text)
                    reported[signal] = undelivered.total

    async def close(self, health: Callable[[], Health]) -> None:
        """Send what waits, and the metrics once more, for at most `FLUSH` seconds."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        if self._metrics is not None:
            self._metrics.offer(health())
        deadline = time.monotonic() + FLUSH
        for delivery in self._deliveries:
            await asyncio.to_thread(delivery.close, max(0.0, deadline - time.monotonic()))


def open_telemetry(env: Mapping[str, str], counters: Counters, event_log: EventLog) -> Telemetry | None:
    """What `env` asks for, or None where it asks for nothing or for something that cannot be had.

    Streams never depend on it: every trouble is a line in the event log.
    """
    settings = read_settings(env)
    for problem in settings.problems:
        event_log.telemetry_off(problem)
    if not settings.protocols:
        return None
    try:
        return Telemetry(settings, env, counters, event_log)
    except ImportError as error:
        event_log.telemetry_off(f"OTEL_… is set, but {error.name} is not installed: {EXTRA}")
    except Exception as error:  # the libraries raise many kinds for variables that they cannot use
        event_log.telemetry_off(f"OpenTelemetry cannot use the OTEL_… variables: {error}")
    return None


def _span_exporter(protocol: str, answers: Answers) -> Any:
    if protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter as Grpc,
        )

        return Grpc()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter as Http,
    )

    return Http(session=answers.session())


def _metric_exporter(protocol: str, answers: Answers) -> Any:
    if protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter as Grpc,
        )

        return Grpc()
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
        OTLPMetricExporter as Http,
    )

    return Http(session=answers.session())


def _resource() -> Resource:
    """What the environment says of this process; without a name there, ours."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415

    resource: Resource = Resource.create(
        {"service.version": __version__, "service.instance.id": str(uuid.uuid4())}
    )
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        named: Resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
        return named
    return resource


class _LastReason(logging.Handler):
    """Keeps the last thing that an exporter logged, for the line about what was dropped."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = "the collector did not accept it"

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage().strip().split("\n", 1)[0]


def _silence(reasons: logging.Handler) -> None:
    """Keep the exporters' own lines out of the log: there is one for each attempt, from another thread."""
    logger = logging.getLogger("opentelemetry")
    logger.handlers[:] = [reasons]
    logger.propagate = False
