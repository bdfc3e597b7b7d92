"""The log of a whole process during failures: few lines, each complete, nothing private."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx

from proxy.cli.demo.page import example
from proxy.cli.demo.workflows import ANSWER, demo_script
from proxy.observability.event_log import TRACEPARENT
from proxy.simulator import Engine
from tests.support.eventsource import EventSource
from tests.support.processes import serving

READERS: Final = 20
REFUSED: Final = 200
AWAY: Final = 3.0  # seconds


def lines(output: str) -> list[dict[str, Any]]:
    """Every line of the process; each must be JSON."""
    return [json.loads(line) for line in output.splitlines()]


async def read(url: str, first: asyncio.Event) -> None:
    """Read a stream to its end; `first` is set with the first frame."""
    async with EventSource(url, patience=0.1) as source:
        async for frame in source.frames():
            first.set()
            if frame.event == "stream.end":
                return


def unlimited_client(url: str) -> httpx.AsyncClient:
    """A client without httpx's pool of 100 connections and without its timeouts."""
    return httpx.AsyncClient(base_url=url, timeout=None, limits=httpx.Limits(max_connections=None))


async def connect(client: httpx.AsyncClient, path: str) -> str:
    answer = await client.get(path, headers={"Accept": "text/event-stream"})
    return answer.text


async def test_an_outage_under_load_writes_a_few_lines_and_each_stream_one() -> None:
    async with Engine(demo_script(), speed=2, seed=1) as engine:
        async with serving(example(), engine.env) as (proxy, url), unlimited_client(url) as client:
            run = await engine.trigger("chat", {})
            first = [asyncio.Event() for _ in range(READERS)]
            readers = [asyncio.create_task(read(f"{url}/streams/live/{run}", one)) for one in first]
            await asyncio.gather(*(one.wait() for one in first))
            await engine.faults.stop_grpc()
            stranger = "/streams/live/11111111-1111-4111-8111-111111111111"
            responses = await asyncio.gather(*(connect(client, stranger) for _ in range(REFUSED)))
            await asyncio.sleep(AWAY)
            await engine.faults.start_grpc()
            await asyncio.gather(*readers)
            assert await proxy.stop() == 0
        found = lines(proxy.output)
    assert all("stream.wait" in text for text in responses)
    kinds = Counter(line["event"] for line in found)
    assert kinds.pop("stream over") == READERS
    assert sum(kinds.values()) <= 10, kinds
    assert kinds["trouble with Hatchet"] >= 1
    assert kinds["Hatchet answers again"] == 1
    assert not [line for line in found if "logger" in line]
    assert found[-1]["event"] == "stopped"


async def test_the_lines_of_a_run_have_its_trace_and_nothing_private(tmp_path: Path) -> None:
    async with Engine(demo_script(), speed=6, seed=2) as engine:
        async with serving(example(), engine.env) as (proxy, url), httpx.AsyncClient(base_url=url) as client:
            run = await engine.trigger("chat", {"card": "4242-4242"})
            await client.get(f"/streams/live/{run}?ticket=a-ticket-of-ours", timeout=30)
            await client.get("/streams/live/%0a%1b[2Jforged?ticket=a-ticket-of-ours")
            assert await proxy.stop() == 0
        (over,) = (line for line in lines(proxy.output) if line["event"] == "stream over")
        token = engine.token
    assert (over["team"], over["stream"], over["run"], over["ending"]) == ("default", "live", run, "end")
    assert over["frames"] > 10
    assert over["seconds"] > 0
    assert TRACEPARENT.fullmatch(over["traceparent"])
    for private in (token, "a-ticket-of-ours", "4242", ANSWER.split()[0], "\x1b"):
        assert private not in proxy.output
