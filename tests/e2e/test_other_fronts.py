"""Caddy, HAProxy, Envoy, Traefik as shipped: HTTP/2, no buffer, runs kept together, stream.wait for a 502."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import httpx
import pytest

from proxy.simulator import Engine
from tests.support.other_fronts import FRONTS, KEEPS_RUNS_TOGETHER, other_front
from tests.support.served import Served, served
from tests.support.waiting import until

pytestmark = [pytest.mark.nginx, pytest.mark.timeout(120)]

YAML: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}", tap: {stream: "on"}}
server: {linger: 200ms, drain: {grace: 3s, spread: 1s}}
streams:
  live:
    rules:
      - {events: step_stream, event: token, data: {text: payload}}
      - {events: "*", data: {type: type}}
  steps:
    path: /steps/{workflowRunId}/of
    rules:
      - {events: "*", data: {type: type}}
"""
ORIGIN: Final = {"Origin": "https://shop.example.com"}


def followed(proxy: Served) -> int:
    """How many runs a replica follows, or keeps."""
    return proxy.hub.counters.team("default").runs


@pytest.mark.parametrize("name", [*FRONTS])
async def test_streams_pass_the_front_and_its_502_becomes_stream_wait(name: str, tmp_path: Path) -> None:
    (tmp_path / "streams.yaml").write_text(YAML)
    async with (
        Engine(speed=10.0, seed=7) as engine,
        served(tmp_path / "streams.yaml", engine.env) as one,
        served(tmp_path / "streams.yaml", engine.env) as two,
    ):
        ports = [httpx.URL(proxy.url).port or 0 for proxy in (one, two)]
        async with other_front(name, tmp_path, ports) as client:
            run = await engine.trigger("chat", metadata={"stream": "on"})
            paths = (f"/streams/live/{run}", f"/steps/{run}/of")
            await asyncio.gather(streams_at_once(client, run), *(read(client, path) for path in paths))
            if name in KEEPS_RUNS_TOGETHER:
                assert sorted([followed(one), followed(two)]) == [0, 1], "a run's clients are on two replicas"
            runs = [await engine.trigger("chat", metadata={"stream": "on"}) for _ in range(8)]
            await asyncio.gather(*(first_frame(client, run) for run in runs))
            assert followed(one) > 0
            assert followed(two) > 0
            await until(
                lambda: len(one.hub.sessions) + len(two.hub.sessions) == 0,
                "the proxy noticed that the clients left",
            )
            own = {"Origin": f"https://{client.base_url.netloc.decode()}"}
            assert (await client.head(f"/streams/live/{run}", headers=own)).status_code == 200
            assert (await client.head(f"/streams/live/{run}", headers=ORIGIN)).status_code == 403
            assert (await client.get("/metrics")).status_code == 404
            assert (await client.get("/streams/live/no-run")).status_code == 400, (
                "a replica's own answer passes"
            )
            await asyncio.gather(one.stop(), two.stop())
            await waits(client, run)


async def read(client: httpx.AsyncClient, path: str) -> str:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert "event: stream.end" in answer.text
    return answer.text


async def streams_at_once(client: httpx.AsyncClient, run: str) -> None:
    """Frames arrive one by one, by HTTP/2."""
    pieces = []
    async with client.stream("GET", f"/streams/live/{run}") as response:
        assert response.http_version == "HTTP/2"
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        async for piece in response.aiter_raw():
            pieces.append(piece)
    assert len(pieces) > 10, "the frames were buffered"
    assert b"event: stream.end" in pieces[-1]


async def first_frame(client: httpx.AsyncClient, run: str) -> None:
    """Read one frame, then leave."""
    async with client.stream("GET", f"/streams/live/{run}") as response:
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                return


async def waits(client: httpx.AsyncClient, run: str) -> None:
    """While no replica responds, a stream gets stream.wait and everything else 503."""
    path = f"/streams/live/{run}"
    post = client.build_request("POST", "/tickets", headers=ORIGIN)
    del post.headers["Content-Length"]  # else httpx ends with an empty DATA frame, maybe after the answer
    answers = await asyncio.gather(
        client.get(path, headers={**ORIGIN, "Accept": "text/event-stream"}),
        client.get(path, headers=ORIGIN),
        client.get(path, headers={"Accept": "application/json"}),
        client.send(post),
    )
    for answer in answers[:2]:
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
        retry, _, rest = answer.text.partition("\n")
        assert 2000 <= int(retry.removeprefix("retry: ")) <= 5000
        assert rest == 'event: stream.wait\ndata: {"cause":"hatchet"}\n\n'
    for refused in answers[2:]:
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["retry-after"] == "3"
        assert refused.json()["status"] == 503
