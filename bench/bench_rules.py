"""The time one event takes in the rules: 1 KB of JSON, five rules, a mapping of six expressions.

    python bench/bench_rules.py [EVENTS]

One run compares these rules with jmespath's own interpreter, with orjson and with the standard library's
json. The payload is text, as Hatchet sends it, so decoding is part of the work.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

import jmespath
import orjson

from config.model.files import RuleConfig, StreamConfig
from proxy.core import json_codec
from proxy.core.events import Event
from proxy.rules.ruleset import Rules

DATA = {
    "kind": "type",
    "step": "step",
    "order": "payload.order.id",
    "total": "payload.order.total",
    "first": "payload.items[0].name",
    "run": "run_id",
}
WHEN = "payload.order.total > `10`"
PAYLOAD = json.dumps(
    {
        "order": {"id": 7, "total": 99.5, "currency": "EUR"},
        "items": [{"name": f"item {n}", "price": n, "tags": ["a", "b"]} for n in range(16)],
        "note": "x" * 120,
    }
)
RULES = (
    {"name": "tokens", "events": ["step_stream"], "steps": ["generate_*"], "data": "payload"},
    {"name": "starts", "events": ["step_started"], "data": "step"},
    {"name": "small", "events": ["step_completed"], "when": "payload.order.total < `10`", "data": "payload"},
    {"name": "results", "events": ["step_*", "step_stream"], "when": WHEN, "data": DATA},
    {"name": "rest", "events": ["*", "step_stream"], "data": {"type": "type"}},
)


def timed(work: Callable[[], object], events: int) -> float:
    """Microseconds per event."""
    start = time.perf_counter()
    for _ in range(events):
        work()
    return (time.perf_counter() - start) / events * 1e6


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    stream = StreamConfig(name="s", path="/s/{workflowRunId}", rules=tuple(RuleConfig(**r) for r in RULES))
    rules = Rules(stream)
    small, when = jmespath.compile("payload.order.total < `10`"), jmespath.compile(WHEN)
    fields = {name: jmespath.compile(text) for name, text in DATA.items()}

    def ours() -> object:
        return rules.message(Event("step_completed", "run", "charge", "id", json_codec.decode(PAYLOAD), 1))

    def theirs(loads: Callable[[str], object], dumps: Callable[[object], object]) -> object:
        root = {"type": "step_completed", "run_id": "run", "step": "charge", "payload": loads(PAYLOAD)}
        if small.search(root) or not when.search(root):
            return None
        return dumps({name: expression.search(root) for name, expression in fields.items()})

    works: dict[str, Callable[[], object]] = {
        "these rules": ours,
        "decoding alone": lambda: json_codec.decode(PAYLOAD),
        "orjson + jmespath": lambda: theirs(orjson.loads, orjson.dumps),
        "json + jmespath": lambda: theirs(json.loads, json.dumps),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(7):
        for name, work in works.items():
            found[name].append(timed(work, events // 7))
    print(f"{len(PAYLOAD)} bytes of JSON, {len(RULES)} rules, {len(DATA)} expressions")
    for name, times in found.items():
        print(f"{name:20} {statistics.median(times):6.1f} µs per event  (lowest {min(times):.1f})")


if __name__ == "__main__":
    main()
