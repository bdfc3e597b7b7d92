"""docs/metrics.md lists every metric, with its labels and its meaning, as /metrics says them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from proxy.observability.counters import Counters
from proxy.observability.prometheus import _ScrapeCollector
from tests.unit.observability.test_prometheus import busy, well

FILE: Final = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
HEAD: Final = """\
# Metrics

Everything that `/metrics` exposes, beside the `process_` metrics of Prometheus' own library. Labels are
names from the configuration and a few fixed words, never a run or a client, so the configuration bounds the
number of series. [The dashboard](../deploy/grafana/stream-proxy.json) shows each of them;
[operations](operations.md) says what is normal and explains the alerts. This table is made from the code by
`STREAM_PROXY_WRITE=1 pytest tests/unit/observability/test_metrics_docs.py`.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def table() -> str:
    lines = []
    for metric in _ScrapeCollector(busy(), well()).collect():
        names = sorted({name for sample in metric.samples for name in sample.labels if name != "le"})
        total = "_total" if metric.type == "counter" else ""
        labels = ", ".join(f"`{name}`" for name in names) or "none"
        lines.append(f"| `{metric.name}{total}` | {metric.type} | {labels} | {metric.documentation} |\n")
    return HEAD + "".join(sorted(lines))


def test_the_table_of_metrics_is_the_codes() -> None:
    if os.environ.get("STREAM_PROXY_WRITE"):
        FILE.write_text(table(), encoding="utf-8")
    assert FILE.read_text(encoding="utf-8") == table()


def test_every_metric_of_an_idle_process_is_in_the_table() -> None:
    text = FILE.read_text(encoding="utf-8")
    for metric in _ScrapeCollector(Counters(), well()).collect():
        assert f"`{metric.name}" in text, metric.name
