"""Through nginx with its defaults: streams flow although its buffering is on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.demo_run import CHAT, FAST, trigger
from tests.support.eventsource import EventSource
from tests.support.processes import answers, demo, free_port, running
from tests.support.reference import RunPicture, judge
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
        }}
    }}
}}
"""


@asynccontextmanager
async def nginx(upstream: str, folder: Path) -> AsyncIterator[str]:
    """nginx in front of `upstream`; its address."""
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, port=port, upstream=upstream))
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


async def test_ten_clients_through_nginx_get_the_same_events(tmp_path: Path) -> None:
    async with demo(*FAST) as (_, url), nginx(url, tmp_path) as front:
        run_id = await trigger(url)
        results = await asyncio.gather(*(spread(f"{front}/streams/live/{run_id}") for _ in range(10)))
    assert [judge(picture, CHAT) for picture, _ in results] == [[]] * 10
