"""Renders `Counters` and `Health` for ``/metrics`` at the time of the scrape; owns and counts nothing itself.

What is exposed is in the tables of `proxy.observability.metrics` and
`proxy.observability.health_metrics`.

`render` may run in a thread of its own. prometheus_client is imported at the first scrape, so a sidecar that
is never scraped does not load it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from proxy import __version__
from proxy.observability.counters import Counters
from proxy.observability.health import Health
from proxy.observability.health_metrics import HEALTH_FAMILIES
from proxy.observability.metrics import FAMILIES, HISTOGRAMS, PREFIX, HistogramRow, Row

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric


def render(counts: Counters, health: Health | None = None, *, accept: str = "") -> tuple[bytes, str]:
    """The scrape's body and its content type, as the request's Accept asks for."""
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - see above

    encode, content_type = choose_encoder(accept)
    return encode(registry_of(counts, health)), content_type


def registry_of(counts: Counters, health: Health | None = None) -> CollectorRegistry:
    """Everything that is exposed, for one scrape, or for one export by OTLP."""
    from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415 - see above

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ScrapeCollector(counts, health))
    ProcessCollector(registry=registry)
    return registry


class _ScrapeCollector:
    """A collector of prometheus_client, for one scrape."""

    def __init__(self, counts: Counters, health: Health | None) -> None:
        self._counts = counts
        self._health = health

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            yield _metric(family.name, family.kind, family.meaning, family.labels, family.rows(self._counts))
        yield _metric("build_info", "gauge", "The version that runs.", ("version",), [((__version__,), 1)])
        for histogram in HISTOGRAMS:
            rows = histogram.rows(self._counts)
            yield _histogram(histogram.name, histogram.meaning, histogram.labels, rows)
        if self._health is not None:
            for gauge in HEALTH_FAMILIES:
                yield _metric(gauge.name, gauge.kind, gauge.meaning, gauge.labels, gauge.rows(self._health))


def _metric(name: str, kind: str, meaning: str, labels: tuple[str, ...], rows: Iterable[Row]) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

    made = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    metric = made(PREFIX + name, meaning, labels=labels)
    for values, number in rows:
        metric.add_metric(values, number)
    return metric


def _histogram(name: str, meaning: str, labels: tuple[str, ...], rows: Iterable[HistogramRow]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415

    metric = HistogramMetricFamily(PREFIX + name, meaning, labels=labels)
    for values, histogram in rows:
        bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
        sums = accumulate(float(bucket) for bucket in histogram.buckets)
        metric.add_metric(values, list(zip(bounds, sums, strict=True)), sum_value=histogram.total)
    return metric
