"""`stream-proxy watch --url`: what a running proxy sends, as its clients see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cli.url_watcher import BadRequest, Frames, watch_url
from proxy.simulator import Engine
from tests.support.served import Served, served

NOBODY = "11111111-1111-4111-8111-111111111111"
YAML = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}
server: {drain: {grace: 3s, spread: 1s}}
streams:
  chat:
    path: /chat/{workflowRunId}
    wait_for_run: 100ms
    retry: 100ms
    rules:
      - {events: step_completed, event: result, data: payload.status}
      - {events: run_completed, data: payload}
  text:
    format: text
    path: /text/{workflowRunId}
    rules: [{events: run_completed, as: text, data: "'done'"}]
"""

pytestmark = pytest.mark.timeout(60)


class Enough(Exception):
    """The test has seen what it wants."""


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(speed=20) as one:
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    path = tmp_path / "streams.yaml"
    path.write_text(YAML)
    async with served(path, engine.env) as one:
        yield one


async def test_frames_are_shown_to_the_end_of_the_run(engine: Engine, proxy: Served) -> None:
    run, lines = await engine.trigger("chat", {}, {}), list[str]()
    assert await watch_url(f"{proxy.url}/chat/{run}", ["Cookie: a=b"], lines.append) == 0
    output = "\n".join(lines)
    assert "connected: HTTP 200, text/event-stream" in lines[0]
    assert "result" in output and '"reading hatchet docs"' in output
    assert lines[-1].endswith('{"status":"completed"}\x1b[0m')
    text = list[str]()
    assert await watch_url(f"{proxy.url}/text/{run}", [], text.append) == 0
    assert text[-1] == "done"


async def test_a_refusal_is_shown_with_its_reason(proxy: Served) -> None:
    lines: list[str] = []
    assert await watch_url(f"{proxy.url}/chat/{NOBODY}", [], lines.append) == 1
    assert "HTTP 404" in lines[-1]
    assert "there is no such run" in lines[-1]


async def test_it_reconnects_with_the_cursor_after_the_retry_time_of_the_stream(
    engine: Engine, proxy: Served
) -> None:
    run = await engine.trigger("chat", {}, {})
    await engine.faults.stop_grpc()
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if "reconnecting" in line and len(lines) < 5:
            raise Enough

    with pytest.raises(Enough):
        await watch_url(f"{proxy.url}/chat/{run}", [], say)
    assert any("stream.wait" in line for line in lines)
    assert "the response ended" in lines[-2]


@pytest.mark.parametrize("url", ["chat", "ftp://host/x", "http://", "http:///path"])
async def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(BadRequest):
        await watch_url(url, [], print)


@pytest.mark.parametrize("header", ["Authorization", ": x", "A: b\nC: d"])
async def test_what_is_no_header_is_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        await watch_url("http://127.0.0.1:1/", [header], print)


def test_frames_are_read_as_the_standard_says() -> None:
    frames = Frames()
    lines = [
        "id: 1",
        "event: token",
        "data: a",
        ":comment",
        "data:b",
        "",
        "retry: 250",
        "id: 2",
        "",
        "data: c",
        "",
    ]
    assert [found for line in lines if (found := frames.line(line))] == [("token", "a\nb"), ("message", "c")]
    assert (frames.cursor, frames.retry) == ("2", 0.25)
