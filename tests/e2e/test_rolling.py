"""Restarts behind the nginx of deploy/: every loss is announced, and no EventSource ends on a 502."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from proxy.cli.demo.page import example
from proxy.cli.demo.workflows import ANSWER, demo_script
from proxy.simulator import Engine
from tests.support.browser import another_origin, chromium
from tests.support.demo_run import CHAT
from tests.support.eventsource import EventSource
from tests.support.front import SHIPPED, front
from tests.support.processes import Running, free_port, serving
from tests.support.reference import RunPicture, judge

pytestmark = pytest.mark.nginx

RUNS: Final = 12
READERS: Final = 5  # of each run
BETWEEN: Final = (
    0.25  # seconds between two runs' beginnings: some are young at each restart, some nearly over
)
DOWN: Final = 4.0  # seconds without any replica: longer than the wait that nginx asks for at least

# follows a run and records its events; reconnects after waits, as any page does
FOLLOW: Final = """
([url]) => new Promise((resolve) => {
  const seen = { tokens: "", waits: [], drains: 0, gaps: 0, end: null };
  const source = new EventSource(url);
  window.seen = seen;
  source.addEventListener("token", ({ data }) => {
    const { step, text } = JSON.parse(data);
    if (step === "generate_response") seen.tokens += text;
  });
  source.addEventListener("stream.wait", ({ data }) => seen.waits.push(JSON.parse(data).cause));
  source.addEventListener("stream.drain", () => (seen.drains += 1));
  source.addEventListener("stream.gap", () => (seen.gaps += 1));
  source.addEventListener("stream.end", ({ data }) => {
    source.close();
    resolve({ ...seen, end: JSON.parse(data).status });
  });
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) resolve({ ...seen, end: "dead" });
  };
})
"""


def config(folder: Path, *, origin: str | None = None) -> Path:
    """The example with a short drain, and `origin` listed."""
    text = example().read_text(encoding="utf-8") + "server: {drain: {grace: 8s, spread: 1s}}\n"
    if origin is not None:
        text = text.replace("    rules:\n", f'    cors: {{origins: ["{origin}"]}}\n    rules:\n')
    path = folder / "streams.yaml"
    path.write_text(text, encoding="utf-8")
    return path


async def follow(url: str) -> RunPicture:
    """A run's picture, with all reconnects on the way."""
    picture = RunPicture()
    async with EventSource(url, patience=0.3) as source:
        async for frame in source.frames():
            picture.frame(frame)
            if picture.ended:
                return picture
    return picture


async def runs_at(port: int) -> int:
    """How many runs a replica holds."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    found = re.search(r'^stream_proxy_runs{team="default"} (\S+)$', text, re.MULTILINE)
    return int(float(found[1])) if found else 0


class Replicas:
    """Two replicas at ports of their own, each restarted as in a rollout."""

    def __init__(self, config: Path, env: dict[str, str], stack: AsyncExitStack) -> None:
        self.ports = [free_port(), free_port()]
        self._config, self._env, self._stack = config, env, stack
        self._running: list[Running] = []

    async def start(self) -> None:
        self._running = [await self._one(port) for port in self.ports]

    async def _one(self, port: int) -> Running:
        one, _ = await self._stack.enter_async_context(serving(self._config, self._env, port))
        return one

    async def restart(self, number: int) -> None:
        """Send SIGTERM, check the exit status of the drain, and start the replica again."""
        old = self._running[number]
        assert await old.stop() == 0
        assert "Traceback" not in old.output
        self._running[number] = await self._one(self.ports[number])


@asynccontextmanager
async def two_replicas(folder: Path, speed: float = 1.0) -> AsyncIterator[tuple[Engine, Replicas, str]]:
    async with Engine(demo_script(), speed=speed) as engine, AsyncExitStack() as stack:
        replicas = Replicas(config(folder), dict(engine.env), stack)
        await replicas.start()
        url = await stack.enter_async_context(front(folder, replicas.ports))
        yield engine, replicas, url


async def test_a_rolling_restart_of_two_replicas_under_load_announces_every_loss(tmp_path: Path) -> None:
    followers: list[asyncio.Task[RunPicture]] = []
    async with two_replicas(tmp_path) as (engine, replicas, url):
        for _ in range(RUNS):
            stream = f"{url}/streams/live/{await engine.trigger('chat', {})}"
            followers += [asyncio.create_task(follow(stream)) for _ in range(READERS)]
            await asyncio.sleep(BETWEEN)
        await replicas.restart(0)
        await replicas.restart(1)
        pictures = await asyncio.gather(*followers)
    assert [judge(picture, CHAT) for picture in pictures] == [[]] * (RUNS * READERS)
    assert any(picture.gaps for picture in pictures), (
        "no restart happened during a run: too early or too late"
    )


async def test_all_clients_of_a_run_are_routed_to_one_replica(tmp_path: Path) -> None:
    async with two_replicas(tmp_path, speed=4) as (engine, replicas, url):
        streams = [f"{url}/streams/live/{await engine.trigger('chat', {})}" for _ in range(RUNS)]
        pictures = [asyncio.create_task(follow(stream)) for stream in streams for _ in range(READERS)]
        others = [
            asyncio.create_task(follow(stream.replace("/streams/live", "/message"))) for stream in streams
        ]
        await asyncio.gather(*pictures, *others)
        held = [await runs_at(port) for port in replicas.ports]
    assert sum(held) == RUNS, f"{held}: a run was followed at both"
    assert all(held)


async def restarted_under_a_browser(folder: Path, shipped: Path = SHIPPED) -> dict[str, Any]:
    """The events of a page on another origin while the only replica was restarted."""
    port = free_port()
    async with (
        another_origin() as origin,
        Engine(demo_script()) as engine,
        front(folder, [port], shipped=shipped) as url,
        chromium() as browser,
    ):
        yaml = config(folder, origin=origin)
        page = await browser.new_page()
        await page.goto(origin)
        async with serving(yaml, engine.env, port) as (first, _):
            stream = f"{url}/streams/live/{await engine.trigger('chat', {})}"
            following = asyncio.create_task(page.evaluate(FOLLOW, [stream]))
            await page.wait_for_function("window.seen && window.seen.tokens.length > 60", timeout=20_000)
            assert await first.stop() == 0
        await asyncio.sleep(DOWN)
        async with serving(yaml, engine.env, port):
            seen: dict[str, Any] = await following
    return seen


@pytest.mark.browser
async def test_an_event_source_survives_a_restart_of_the_only_replica(tmp_path: Path) -> None:
    seen = await restarted_under_a_browser(tmp_path)
    assert seen["end"] == "completed"
    assert seen["drains"] == 1
    assert {*seen["waits"]} == {"hatchet"}
    assert seen["gaps"] >= 1
    assert ANSWER.startswith(seen["tokens"][:60])


@pytest.mark.browser
async def test_without_our_error_page_an_event_source_ends_on_a_502(tmp_path: Path) -> None:
    plain = tmp_path / "shipped"
    plain.mkdir()
    for path in SHIPPED.glob("*.conf"):
        (plain / path.name).write_text(re.sub(r"\n *error_page .*", "", path.read_text()))
    seen = await restarted_under_a_browser(tmp_path, plain)
    assert seen["end"] == "dead"


async def test_a_request_that_does_not_accept_streams_gets_503(tmp_path: Path) -> None:
    path = "/streams/live/11111111-1111-4111-8111-111111111111"
    async with front(tmp_path, [free_port()]) as url, httpx.AsyncClient(base_url=url) as client:
        stream = await client.get(
            path, headers={"Accept": "text/event-stream", "Origin": "https://a.example"}
        )
        anything = await client.get(path)
        json = await client.get(path, headers={"Accept": "application/json"})
        ticket = await client.post("/tickets", json={})
        probe = await client.get("/metrics")
    assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert re.fullmatch(r'retry: [2-5]000\nevent: stream.wait\ndata: {"cause":"hatchet"}\n\n', stream.text)
    assert stream.headers["access-control-allow-origin"] == "https://a.example"
    assert anything.status_code == 200
    for refused in (json, ticket):
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "3")
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["status"] == 503
    assert probe.status_code == 404


async def test_the_access_log_has_no_query_strings(tmp_path: Path) -> None:
    async with front(tmp_path, [free_port()]) as url, httpx.AsyncClient() as client:
        await client.get(f"{url}/chat/1?ticket=a-secret")
    log = (tmp_path / "access.log").read_text()
    assert re.search(r'"GET /chat/1" 200 .* 502$', log, re.MULTILINE), (
        "the response of the replica is not passed on"
    )
    assert "a-secret" not in log
