"""Through nginx with its defaults, and through the shipped one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from proxy.simulator import Engine
from tests.e2e.test_wire import NOBODY, PAGE, SECRET, YAML, request
from tests.support.demo_run import CHAT, FAST, trigger
from tests.support.eventsource import EventSource
from tests.support.front import front as shipped
from tests.support.issuer import token
from tests.support.processes import answers, demo, free_port, running
from tests.support.reference import RunPicture, judge
from tests.support.served import served
from tests.support.tools import need

pytestmark = [pytest.mark.nginx, pytest.mark.timeout(120)]

# nothing but what is needed to run as an ordinary user: buffering and timeouts are nginx's own
CONFIGURATION: Final = """
daemon off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            {more}
        }}
    }}
}}
"""


@asynccontextmanager
async def nginx(upstream: str, folder: Path, more: str = "") -> AsyncIterator[str]:
    """nginx in front of `upstream`; its address."""
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, port=port, upstream=upstream, more=more))
    program = (need("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(file))
    async with running(program=program) as one:
        url = f"http://127.0.0.1:{port}"
        await answers(url)
        yield url
        assert await one.stop() == 0


async def spread(url: str) -> tuple[RunPicture, float]:
    """The picture of a run, and the seconds between its first chunk and its end, as a client saw them."""
    picture = RunPicture()
    first = 0.0
    async with EventSource(url, patience=0.1) as source:
        async for frame in source.frames():
            picture.frame(frame)
            first = first or (time.monotonic() if frame.event == "token" else 0.0)
            if picture.ended:
                break
    return picture, time.monotonic() - first


async def test_a_stream_flows_through_nginx_with_its_default_buffering(tmp_path: Path) -> None:
    async with demo(*FAST) as (_, url), nginx(url, tmp_path) as front:
        run_id = await trigger(url)
        picture, seconds = await spread(f"{front}/streams/live/{run_id}")
    assert judge(picture, CHAT) == []
    assert seconds > 1, "the whole run came at once: nginx has buffered it"


async def test_long_polls_pass_an_nginx_that_buffers_whatever_the_proxy_asks_for(tmp_path: Path) -> None:
    buffers = "proxy_ignore_headers X-Accel-Buffering; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;"
    async with (
        demo(*FAST) as (_, url),
        nginx(url, tmp_path, buffers) as front,
        httpx.AsyncClient(base_url=front, timeout=30) as client,
    ):
        run_id = await trigger(url)
        found: list[dict[str, object]] = []
        status, cursor, polls = "running", "", 0
        while status == "running":
            answer = await client.get(f"/streams/live/{run_id}", params={"wait": "10s", "after": cursor})
            document = answer.json()
            found += document["messages"]
            status, cursor, polls = document["status"], document["cursor"], polls + 1
        frames = []
        async with EventSource(f"{url}/streams/live/{run_id}") as source:
            async for frame in source.frames():
                frames.append({"event": frame.event, "data": frame.value})
                if frame.event == "stream.end":
                    break
    assert polls > 5, "they come while the run goes on"
    assert found == frames


async def test_ten_clients_through_nginx_get_the_same_events(tmp_path: Path) -> None:
    async with demo(*FAST) as (_, url), nginx(url, tmp_path) as front:
        run_id = await trigger(url)
        results = await asyncio.gather(*(spread(f"{front}/streams/live/{run_id}") for _ in range(10)))
    assert [judge(picture, CHAT) for picture, _ in results] == [[]] * 10


async def test_a_page_behind_the_shipped_nginx_on_another_port_is_of_the_own_host(
    tmp_path: Path,
) -> None:
    (tmp_path / "streams.yaml").write_text(YAML)
    async with (
        Engine(speed=20.0, seed=7) as engine,
        served(tmp_path / "streams.yaml", engine.env) as proxy,
        shipped(tmp_path, [httpx.URL(proxy.url).port or 0]) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        run = await engine.trigger("chat")
        headers = {"Origin": url, "Authorization": f"Bearer {token(SECRET, 'HS256')}"}
        ticket = await client.post("/tickets", json={"stream": "live", "run": run}, headers=headers)
        assert ticket.status_code == 201, ticket.text
        path = f"/live/{run}"
        assert (await client.head(path, headers=headers)).status_code == 200
        for other in (url.rpartition(":")[0], "http://evil.example.com"):
            assert (await client.head(path, headers={**headers, "Origin": other})).status_code == 403
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        writer.write(request(f"GET /live/{NOBODY}", version="1.0", host=""))
        assert b" 401 " in await reader.readline(), "a client of HTTP/1.0 may send no Host"
        writer.close()
        await nginxs_own_answers_have_cors_headers_and_those_of_a_replica_only_theirs(client, run)


async def nginxs_own_answers_have_cors_headers_and_those_of_a_replica_only_theirs(
    client: httpx.AsyncClient, run: str
) -> None:
    page = {"Origin": PAGE, "Authorization": f"Bearer {token(SECRET, 'HS256')}"}
    answers_by_nginx = (
        await client.post("/tickets", content=b"x" * (1 << 20 | 1), headers=page),
        await client.get(f"/live/{run}", headers={**page, "X-Long": "x" * 9000}),
        await client.get("/metrics", headers=page),
    )
    assert [one.status_code for one in answers_by_nginx] == [413, 400, 404]
    answers_by_a_replica = (
        await client.post("/tickets", content=b"x" * 100_000, headers=page),
        await client.get(f"/live/{run}", headers={"Origin": PAGE}),
        await client.get("/live/no-run", headers=page),
        await client.head(f"/live/{run}", headers=page),
    )
    assert [one.status_code for one in answers_by_a_replica] == [413, 401, 400, 200]
    for one in (*answers_by_nginx, *answers_by_a_replica):
        assert one.headers.get_list("access-control-allow-origin") == [PAGE], one
        assert one.headers.get_list("access-control-allow-credentials") == ["true"], one
        assert len(one.headers.get_list("vary")) == 1, one
    without_origin = await client.post("/tickets", content=b"x" * (1 << 20 | 1))
    assert without_origin.status_code == 413
    assert "access-control-allow-credentials" not in without_origin.headers
