"""OpenTelemetry: what a collector receives of streams, calls to Hatchet and metrics; and its absence."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from proxy.simulator import Engine
from tests.support.otlp import Receiver, attributes, need_otel, receiver, silent
from tests.support.served import Served, served
from tests.support.tools import ROOT
from tests.support.waiting import until

YAML: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}
server: {linger: 200ms, drain: {grace: 3s, spread: 1s}}
streams:
  live:
    path: /live/{workflowRunId}
    wait_for_run: 300ms
    rules:
      - {events: step_stream, event: token, data: {text: payload}}
      - {events: "*", data: {type: type}}
  mine:
    path: /mine/{metadata.message_id}
    wait_for_run: 300ms
    rules:
      - {events: "*", data: {type: type}}
  late:
    path: /late/{metadata.message_id}
    wait_for_run: 30s
    rules:
      - {events: "*", data: {type: type}}
"""
SCRIPT: Final = ROOT / "examples/agent.yaml"
PARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOBODY: Final = "00000000-0000-4000-8000-000000000000"


@contextmanager
def environment(env: dict[str, str]) -> Iterator[None]:
    """The libraries read the process's own environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, text in env.items():
            patch.setenv(name, text)
        yield


@asynccontextmanager
async def traced(folder: Path, env: dict[str, str]) -> AsyncIterator[tuple[Engine, Served]]:
    """An engine, and a proxy with `env`."""
    need_otel()
    path = folder / "streams.yaml"
    path.write_text(YAML)
    async with Engine(SCRIPT, speed=20.0, seed=7) as engine:
        with environment(env):
            async with served(path, {**engine.env, **env}) as proxy:
                yield engine, proxy


async def read(url: str, headers: dict[str, str] | None = None) -> str:
    """A stream until it closes, as text."""
    async with httpx.AsyncClient(timeout=20) as client:
        return (await client.get(url, headers=headers or {})).text


async def frames(url: str) -> str:
    """A stream's frames, without `retry`, which differs for each client."""
    return (await read(url)).partition("\n")[2]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_a_stream_is_one_span_linked_to_its_run_with_the_calls_below_it(
    protocol: str, tmp_path: Path
) -> None:
    async with receiver(protocol) as collector, traced(tmp_path, collector.env) as (engine, proxy):
        run = await engine.trigger("agent")
        text = await read(f"{proxy.url}/live/{run}", {"traceparent": PARENT, "tracestate": "vendor=x"})
        await until(lambda: collector.named("GET /live/{workflowRunId}"), "the stream's span")
        (span,) = collector.named("GET /live/{workflowRunId}")
        await until(lambda: collector.named("hatchet read run state"), "the look-up's span")
        assert_is_the_streams_span(span, run, frames=text.count("\nid: "))
        traceparent = (await engine_metadata(proxy, run))["traceparent"]
        (link,) = span.links
        assert (link.trace_id.hex(), link.span_id.hex()) == tuple(traceparent.split("-")[1:3])
        for name in ("hatchet read run state", "hatchet subscribe by metadata"):
            below = [one for one in collector.named(name) if one.parent_span_id == span.span_id]
            assert below, f"{name} is not below the stream that caused it"
            assert below[0].trace_id == span.trace_id
        await until(lambda: "stream_proxy_frames_total" in collector.metrics, "metrics")
        assert collector.resource["service.name"] == "hatchet-stream-proxy"
        assert collector.headers["x-tenant"] == "streams"
        assert len(collector.spans) < text.count("\nid: "), "there is no span for each frame"
        (line,) = [line for line in proxy.log if line["event"] == "stream over"]
        assert (line["trace_id"], line["span_id"]) == (span.trace_id.hex(), span.span_id.hex())


def assert_is_the_streams_span(span: Any, run: str, *, frames: int) -> None:
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == tuple(PARENT.split("-")[1:3])
    assert span.trace_state == "vendor=x"
    assert span.kind == span.SPAN_KIND_SERVER
    events = [event.name for event in span.events]
    assert (events[0], events[-1]) == ("first_frame", "end")
    about = attributes(span)
    assert about["stream_proxy.run_id"] == run
    assert (about["stream_proxy.team"], about["stream_proxy.stream"]) == ("default", "live")
    assert (about["stream_proxy.ending"], about["http.response.status_code"]) == ("end", 200)
    assert abs(about["stream_proxy.frames"] - frames) <= 1
    assert not [key for key in about if "path" in key or "query" in key]


async def engine_metadata(proxy: Served, run: str) -> dict[str, Any]:
    """The run's metadata, as the proxy read it."""
    (team,) = proxy.hub.teams.values()
    return dict((await team.upstream.core(run)).metadata)


async def test_gaps_and_resets_are_events_and_a_refused_request_is_a_span_with_its_status(
    tmp_path: Path,
) -> None:
    async with receiver() as collector, traced(tmp_path, collector.env) as (engine, proxy):
        run = await engine.trigger("agent")
        text = await read(f"{proxy.url}/live/{run}", {"last-event-id": "unknown"})
        await read(f"{proxy.url}/live/{NOBODY}", {"traceparent": "no trace"})
        await read(f"{proxy.url}/mine/nobody")
        await until(lambda: len(collector.named("GET /live/{workflowRunId}")) == 2, "two spans")
        streamed, refused = collector.named("GET /live/{workflowRunId}")
        events = [(event.name, attributes(event).get("stream_proxy.cause")) for event in streamed.events]
        assert ("gap", "unknown_cursor") in events
        notices = text.count("event: stream.gap"), text.count("event: stream.reset")
        assert notices[1] > 0, "the workflow has a retry"
        assert (sum(name == "gap" for name, _ in events), events.count(("reset", None))) == notices
        assert attributes(refused)["http.response.status_code"] == 404
        assert refused.parent_span_id == b""
        await until(lambda: collector.named("hatchet find run"), "the search's span")
        assert "nobody" not in str(collector.spans), "a value of metadata is nobody's business"


async def test_a_span_says_whether_its_stream_resumed_at_a_cursor(tmp_path: Path) -> None:
    async with receiver() as collector, traced(tmp_path, collector.env) as (engine, proxy):
        name = "GET /live/{workflowRunId}"
        of_run, of_another = [f"{proxy.url}/live/{await engine.trigger('agent')}" for _ in range(2)]
        cursor = (await read(of_run)).partition("\nid: ")[2].partition("\n")[0]
        await read(of_another, {"last-event-id": cursor})
        await read(of_run, {"last-event-id": cursor})
        await until(lambda: len(collector.named(name)) == 3, "three spans")
        spans = sorted(collector.named(name), key=lambda span: span.start_time_unix_nano)
        assert [attributes(span)["stream_proxy.resumed"] for span in spans] == [False, False, True]


async def test_a_client_that_leaves_while_it_waits_for_its_run_leaves_a_span(tmp_path: Path) -> None:
    async with receiver() as collector, traced(tmp_path, collector.env) as (_, proxy):
        async with asyncio.timeout(20):
            waits = asyncio.create_task(read(f"{proxy.url}/late/nobody"))
            await until(lambda: collector.named("hatchet find run"), "the run is searched")
            waits.cancel()
            await asyncio.wait([waits])
        await until(lambda: collector.named("GET /late/{metadata.message_id}"), "the stream's span")
        (span,) = collector.named("GET /late/{metadata.message_id}")
        about = attributes(span)
        assert about["stream_proxy.ending"] == "left"
        assert "http.response.status_code" not in about


async def test_the_metrics_are_those_of_prometheus(tmp_path: Path) -> None:
    async with receiver() as collector, traced(tmp_path, collector.env) as (engine, proxy):
        run = await engine.trigger("agent")
        await read(f"{proxy.url}/live/{run}")
        frames = proxy.hub.counters.team("default").stream("live").frames

        def arrived() -> bool:
            found = collector.metrics.get("stream_proxy_frames_total")
            return found is not None and any(point.as_double == frames for point in found.sum.data_points)

        await until(arrived, "the frames are counted")
        counter = collector.metrics["stream_proxy_frames_total"].sum
        assert counter.is_monotonic
        (point,) = [one for one in counter.data_points if attributes(one)["stream"] == "live"]
        assert attributes(point) == {"team": "default", "stream": "live"}
        (lag,) = collector.metrics["stream_proxy_loop_lag_seconds"].histogram.data_points
        assert sum(lag.bucket_counts) == lag.count
        assert len(lag.bucket_counts) == len(lag.explicit_bounds) + 1
        async with httpx.AsyncClient() as client:
            scraped = (await client.get(f"{proxy.url}/metrics")).text
        for name, metric in collector.metrics.items():
            assert f"\n{name}" in scraped, name
            assert f"# HELP {name} {metric.description}" in scraped, name


@pytest.mark.parametrize("trouble", ["away", "silent"])
async def test_a_collector_in_trouble_costs_counted_drops_and_nothing_else(
    trouble: str, tmp_path: Path
) -> None:
    few = {"OTEL_BSP_MAX_QUEUE_SIZE": "2", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    async with silent() as hanging:
        endpoint = {"away": "http://127.0.0.1:9", "silent": hanging}[trouble]
        env = {**Receiver("http/protobuf", endpoint).env, **few}
        async with traced(tmp_path, env) as (engine, proxy):
            run = await engine.trigger("agent")
            whole = await frames(f"{proxy.url}/live/{run}")
            for _ in range(6):
                assert await frames(f"{proxy.url}/live/{run}") == whole
            dropped = proxy.hub.counters.telemetry
            await until(lambda: dropped["traces"].total > 0 and dropped["metrics"].total > 0, "drops")
            async with httpx.AsyncClient() as client:
                scraped = (await client.get(f"{proxy.url}/metrics")).text
            assert 'stream_proxy_telemetry_dropped_total{signal="traces"}' in scraped
    assert not [line for line in proxy.log if line["level"] == "error"]


def test_without_the_variables_nothing_of_opentelemetrys_sdk_is_imported() -> None:
    program = (
        "import sys\n"
        "from proxy.observability.counters import Counters\n"
        "from proxy.observability.event_log import EventLog\n"
        "import proxy.server.assembly\n"
        "from proxy.observability.otel.telemetry import open_telemetry\n"
        "counters = Counters()\n"
        "off = {'OTEL_SERVICE_NAME': 'x', 'OTEL_TRACES_EXPORTER': 'none'}\n"
        "assert open_telemetry(off, counters, EventLog()) is None\n"
        "assert open_telemetry({'OTEL_SDK_DISABLED': 'true', 'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://a'},"
        " counters, EventLog()) is None\n"
        "assert counters.telemetry == {}\n"
        "heavy = ('opentelemetry.sdk', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
