"""The REST history is read through the reverse proxies that stand in front of Hatchet's API."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from proxy.hatchet.http1 import HttpClient
from proxy.simulator import Engine
from proxy.simulator.script.model import Step, Workflow, script
from tests.e2e.test_nginx import nginx
from tests.support.other_fronts import certificate
from tests.support.processes import free_port, running
from tests.support.tools import need
from tests.support.waiting import until

pytestmark = [pytest.mark.nginx, pytest.mark.timeout(60), pytest.mark.asyncio(loop_scope="module")]

CADDY: Final = """
{{
    admin off
    auto_https off
}}
https://127.0.0.1:{port} {{
    bind 127.0.0.1
    tls {pem} {pem}
    encode gzip
    reverse_proxy {api}
}}
"""
FRONT: Final = """
            }}
            gzip_types application/json;
            gzip_min_length 1;
            location /gzip/ {{ gzip on; proxy_pass {api}/; }}
            location /unbuffered/ {{ gzip on; proxy_buffering off; proxy_pass {api}/; }}
            location /few/ {{ keepalive_requests 3; proxy_pass {api}/; }}
            location /none/ {{ keepalive_timeout 0; proxy_pass {api}/; }}
            location /short/ {{ keepalive_timeout 5ms; proxy_pass {api}/; }}
            location /moved/ {{ return 301 https://elsewhere.invalid/; }}
            location /away/ {{ proxy_pass http://127.0.0.1:9/;
"""
OUTPUT: Final = {"text": [f"a line of text, number {number}" for number in range(2000)]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    one = Workflow("one", (Step("one", output=OUTPUT),))
    async with Engine(script(one), seed=1) as engine:
        yield engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def path(engine: Engine) -> str:
    """The path of a run that is over, so each answer is equal."""
    run = engine.run(await engine.trigger("one"))
    await until(lambda: run.history_status == "COMPLETED", "the run's end in the history")
    return f"/api/v1/stable/workflow-runs/{run.id}"


@asynccontextmanager
async def client(root: str, engine: Engine, trust: ssl.SSLContext | None = None) -> AsyncIterator[HttpClient]:
    headers = {"Authorization": f"Bearer {engine.token}", "Accept": "application/json"}
    one = HttpClient(
        root, headers, connections=4, limit=1 << 20, timeout=20.0, connect_timeout=20.0, trust=trust
    )
    try:
        yield one
    finally:
        await one.close()


async def read_often(root: str, path: str, engine: Engine, trust: ssl.SSLContext | None = None) -> set[bytes]:
    """What is read at `root` by many requests at once, then by one after the other."""
    async with client(root, engine, trust) as one:
        answers = await asyncio.gather(*(one.get(path) for _ in range(12)))
        for number in range(12):
            await asyncio.sleep(0.001 * (number % 8))  # about as long as /short/ keeps a connection
            answers.append(await one.get(path))
    assert {answer.status for answer in answers} == {200}
    return {answer.body for answer in answers}


async def direct(path: str, engine: Engine) -> bytes:
    async with client(engine.api_url, engine) as one:
        return (await one.get(path)).body


async def test_the_history_is_read_through_nginx(engine: Engine, path: str, tmp_path: Path) -> None:
    """Compressed, in chunks, and with connections that nginx closes after a few requests or a moment."""
    expected = await direct(path, engine)
    assert len(expected) > 50_000
    async with nginx(engine.api_url, tmp_path, FRONT.format(api=engine.api_url)) as url:
        for location in ("", "/gzip", "/unbuffered", "/few", "/none", "/short"):
            assert await read_often(url + location, path, engine) == {expected}, location
        async with client(url, engine) as one:
            assert [(await one.get(f"{location}{path}")).status for location in ("/moved", "/away")] == [
                301,
                502,
            ]


async def test_the_history_is_read_through_caddy_with_tls(engine: Engine, path: str, tmp_path: Path) -> None:
    port, pem = free_port(), certificate(tmp_path)
    (tmp_path / "Caddyfile").write_text(CADDY.format(port=port, pem=pem, api=engine.api_url))
    program = (need("caddy"), "run", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile"))
    trust = ssl.create_default_context(cafile=str(pem))
    trust.check_hostname = False  # the certificate has its name only as its subject
    async with running(program=program) as caddy:
        await until(lambda: connected(port), "Caddy listens")
        url = f"https://127.0.0.1:{port}"
        assert await read_often(url, path, engine, trust) == {await direct(path, engine)}
        assert await caddy.stop() == 0


def connected(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
