"""The metrics of ``/metrics`` as OpenTelemetry's data: the same names, labels and numbers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from proxy import __version__
from proxy.observability.otel.tracer import SCOPE

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

NO_SCHEMA: Final = ""
UNITS: Final = {"seconds": "s", "bytes": "By"}  # by the last word of a name; the unit is in the name already


def metrics_data(families: Iterable[Family], resource: Resource, *, started_at: int) -> MetricsData:
    """`families` of a Prometheus registry; `started_at`: when counting began, in ns since the epoch."""
    now = time.time_ns()
    metrics = [metric for family in families for metric in _metrics(family, started_at, now)]
    scope = ScopeMetrics(InstrumentationScope(SCOPE, __version__), metrics, NO_SCHEMA)
    return MetricsData([ResourceMetrics(resource, [scope], NO_SCHEMA)])


def _metrics(family: Family, started_at: int, now: int) -> Iterator[Metric]:
    unit = UNITS.get(family.name.rpartition("_")[2], "")
    data: Any
    if family.type == "histogram":
        points = _histogram_points(family, started_at, now)
        data, name = Histogram(points, AggregationTemporality.CUMULATIVE), family.name
    elif family.type == "counter":
        total = [sample for sample in family.samples if sample.name.endswith("_total")]
        numbers = _number_points(total, started_at, now)
        data, name = Sum(numbers, AggregationTemporality.CUMULATIVE, True), f"{family.name}_total"
    else:
        numbers = _number_points(family.samples, 0, now)
        data, name = Gauge(numbers), family.name
    if data.data_points:
        yield Metric(name, family.documentation, unit, data)


def _number_points(samples: Iterable[Any], started_at: int, now: int) -> list[NumberDataPoint]:
    return [NumberDataPoint(dict(one.labels), started_at, now, float(one.value)) for one in samples]


def _histogram_points(family: Family, started_at: int, now: int) -> list[HistogramDataPoint]:
    """One point for each set of labels; Prometheus' buckets are cumulative, OpenTelemetry's are not."""
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, int]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = tuple(sorted((key, text) for key, text in sample.labels.items() if key != "le"))
        if sample.name.endswith("_bucket"):
            buckets.setdefault(labels, []).append((float(sample.labels["le"]), int(sample.value)))
        elif sample.name.endswith("_sum"):
            sums[labels] = float(sample.value)
    points = []
    for labels, cumulative in buckets.items():
        counts = [count for _, count in cumulative]
        own = [count - before for count, before in zip(counts, [0, *counts], strict=False)]
        bounds = [bound for bound, _ in cumulative[:-1]]
        unknown: Any = None  # the smallest and the largest are not counted
        points.append(
            HistogramDataPoint(
                dict(labels),
                started_at,
                now,
                counts[-1],
                sums.get(labels, 0.0),
                own,
                bounds,
                unknown,
                unknown,
            )
        )
    return points
