"""A scrape of a process that has served: every documented metric, with bounded labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from proxy.cli.demo.page import example
from proxy.simulator import Engine
from tests.support.eventsource import EventSource
from tests.support.processes import Running, serving
from tests.support.waiting import until

PROMISED: Final = (
    "clients", "runs", "upstream_subscriptions", "events_total", "frames_total", "sent_bytes_total",
    "gaps_total", "resets_total", "run_ends_total", "stream_ends_total", "false_ends_total",
    "state_lookups_total", "reloads_total", "last_reload_duration_seconds",
    "last_reload_timestamp_seconds", "backlog_bytes", "delivery_latency_seconds_sum", "loop_lag_seconds_sum",
)  # fmt: skip
STRANGERS: Final = 50


async def scrape(url: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Every sample: its name, its labels, its number."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{url}/metrics")).text
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return samples


async def read(url: str) -> None:
    async with EventSource(url) as source:
        async for frame in source.frames():
            if frame.event == "stream.end":
                return


async def scan(url: str, run: str) -> None:
    """Requests of scanners: other teams, other streams, no run, invented names."""
    async with httpx.AsyncClient(base_url=url) as client:
        for number in range(STRANGERS):
            for path in (
                f"stranger{number}/{run}",
                f"streams/live/stranger{number}",
                f"streams/s{number}/{run}",
            ):
                await client.get(f"/{path}", headers={"User-Agent": f"stranger{number}"})


async def failed_reload(proxy: Running, yaml: Path, url: str) -> dict[str, float]:
    """How long the reload of a broken file took, by team, once it was counted."""
    yaml.write_text(yaml.read_text() + "mistake: 1\n")

    async def counted() -> bool:
        failed = (("result", "failed"), ("team", "default"))
        return failed in (await scrape(url))["stream_proxy_reloads_total"]

    await until(counted, "the failed reload is counted")
    took = (await scrape(url))["stream_proxy_last_reload_duration_seconds"]
    return {dict(labels)["team"]: seconds for labels, seconds in took.items()}


async def test_a_scrape_has_every_documented_metric_and_bounded_labels(tmp_path: Path) -> None:
    yaml = tmp_path / "streams.yaml"
    yaml.write_text(example().read_text())
    async with Engine(speed=5, seed=1) as engine, serving(yaml, engine.env) as (proxy, url):
        await until(lambda: engine.streams, "the tap is open")
        run = await engine.trigger("chat", {}, {"stream": "on"})
        await read(f"{url}/streams/live/{run}")
        await read(
            f"{url}/streams/live/{run}?last_event_id=of-another-process"
        )  # a gap, cause unknown_cursor
        before = await scrape(url)
        await scan(url, run)
        after = await scrape(url)
        took = await failed_reload(proxy, yaml, url)
    for name in PROMISED:
        assert f"stream_proxy_{name}" in after, name
    series = {(name, labels) for name, samples in after.items() for labels in samples}
    assert len(series) <= sum(map(len, before.values())) + 5, "requests of scanners created series"
    assert not re.search(rf"stranger|{run}|127\.0\.0\.1", str(series))
    live = (("stream", "live"), ("team", "default"))
    assert after["stream_proxy_frames_total"][live] > 40
    assert after["stream_proxy_delivery_latency_seconds_sum"][live] > 0
    assert after["stream_proxy_run_ends_total"] == {(("status", "completed"), ("team", "default")): 1}
    assert took["default"] > 0
