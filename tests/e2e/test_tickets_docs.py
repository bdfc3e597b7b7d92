"""docs/tickets.md: the servers of the samples give tickets, and the sample page goes on with new ones."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from proxy.cli.demo.workflows import ANSWER, THOUGHTS, demo_script
from proxy.simulator import Engine
from tests.support.browser import chromium, complaints_of
from tests.support.demo_run import LOSSLESS
from tests.support.eventsource import EventSource
from tests.support.processes import answers, free_port, running
from tests.support.served import Served, served
from tests.support.tools import ROOT, TOOLS, need, need_npm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PAGE: Final = (ROOT / "docs/tickets.md").read_text(encoding="utf-8")
KEY: Final = "a key that the server and the proxy share, 0123456789"
COOKIE: Final = {"Cookie": "session=a-session"}
MINE: Final = {"stream": "on", "user_id": "ada"}
NOBODY: Final = "00000000-0000-4000-8000-000000000000"


def block(heading: str, language: str) -> str:
    """The sample under a heading."""
    section = re.split(rf"\n##+ {re.escape(heading)}[^\n]*\n", PAGE)[1].split("\n##", 1)[0]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None, heading
    return found[1]


def config(folder: Path, *, origin: str, lifetime: str) -> Path:
    """The YAML of the page, with keys, an origin and a lifetime for the test."""
    for name in ("stream-jwt", "stream-tickets"):
        (folder / name).write_text(KEY if name == "stream-jwt" else "the key of the tickets, 0123456789")
    text = block("In the YAML", "yaml").replace("/run/secrets", str(folder))
    text = text.replace("https://app.example.com", origin).replace("lifetime: 10m", f"lifetime: {lifetime}")
    file = folder / "streams.yaml"
    file.write_text(text)
    return file


@dataclass(frozen=True)
class Setup:
    """An engine, the proxy of the page's YAML, and the server of a sample."""

    engine: Engine
    proxy: Served
    app: str


def program(server: str, folder: Path, port: int) -> tuple[str, ...]:
    """The command that runs a sample's server."""
    if server == "FastAPI":
        (folder / "sample.py").write_text(block("FastAPI", "python"))
        return (sys.executable, "-m", "uvicorn", "sample:app", "--app-dir", str(folder), "--port", str(port))
    for package in ("express", "jose"):
        need_npm(package)
    (folder / "node_modules").symlink_to(TOOLS / "node_modules")
    (folder / "sample.mjs").write_text(block("Express", "js"))
    return (need("node"), str(folder / "sample.mjs"))


@asynccontextmanager
async def staged(server: str, folder: Path, lifetime: str = "10m", speed: float = 4) -> AsyncIterator[Setup]:
    port = free_port()
    app = f"http://127.0.0.1:{port}"
    async with (
        Engine(demo_script(), speed=speed, seed=1, quirks=LOSSLESS) as engine,
        served(config(folder, origin=app, lifetime=lifetime), engine.env) as proxy,
    ):
        env = {"STREAM_PROXY_URL": proxy.url, "STREAM_JWT_KEY": KEY, "PORT": str(port)}
        async with running(program=program(server, folder, port), env=env):
            await answers(app)
            yield Setup(engine, proxy, app)


@pytest.mark.parametrize("server", ["FastAPI", "Express"])
async def test_a_samples_server_gives_its_user_a_ticket_for_the_users_own_run(
    server: str, tmp_path: Path
) -> None:
    async with staged(server, tmp_path) as setup, httpx.AsyncClient(base_url=setup.app, timeout=30) as client:
        mine = await setup.engine.trigger("chat", {}, MINE)
        answer = await client.post(f"/stream-ticket/{mine}", headers=COOKIE)
        assert answer.status_code == 201, answer.text
        assert answer.json().keys() == json.loads(re.findall(r"```json\n(.*)\n```", PAGE)[1]).keys()
        stream = f"{setup.proxy.url}/streams/live/{mine}?ticket={answer.json()['ticket']}"
        text = ""
        async with EventSource(stream) as source:
            async for frame in source.frames():
                text += frame.value["text"] if frame.event == "token" else ""
                if frame.event == "stream.end":
                    break
        assert text == THOUGHTS + ANSWER


@pytest.mark.parametrize("server", ["FastAPI", "Express"])
async def test_a_samples_server_passes_refusals_on(server: str, tmp_path: Path) -> None:
    async with staged(server, tmp_path) as setup, httpx.AsyncClient(base_url=setup.app, timeout=30) as client:
        other = await setup.engine.trigger("chat", {}, {**MINE, "user_id": "bob"})
        statuses = [
            (await client.post(f"/stream-ticket/{other}")).status_code,  # nobody has logged in
            (await client.post(f"/stream-ticket/{other}", headers=COOKIE)).status_code,
            (await client.post(f"/stream-ticket/{NOBODY}", headers=COOKIE)).status_code,
        ]
        assert statuses == [401, 403, 404]


@pytest.mark.browser
async def test_the_samples_page_outlives_its_tickets(tmp_path: Path) -> None:
    """The run takes about eight seconds, a ticket two."""
    code = block("The page", "js") + (
        "\nwindow.text = ''; window.ended = null;"
        "\nfollow(RUN, (frame) => (window.text += frame.text))"
        "\n  .then(() => (window.ended = 'yes'), (error) => (window.ended = String(error)));"
    )
    async with staged("FastAPI", tmp_path, lifetime="2s", speed=1) as setup, chromium() as browser:
        context = await browser.new_context()
        await context.add_cookies([{"name": "session", "value": "a-session", "url": setup.app}])
        page = await context.new_page()
        complaints = complaints_of(page)
        tickets: list[int] = []
        page.on("response", lambda one: tickets.append(one.status) if "/stream-ticket/" in one.url else None)
        await page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        await page.goto(f"{setup.app}/openapi.json")  # a page of the server's origin
        run_id = await setup.engine.trigger("chat", {}, MINE)
        names = f"const STREAMS = {json.dumps(setup.proxy.url)}, RUN = {json.dumps(run_id)};\n"
        await page.add_script_tag(content=names + code, type="module")
        await page.wait_for_function("window.ended !== null", timeout=60_000)
        assert await page.evaluate("window.ended") == "yes"
        assert await page.evaluate("window.text") == THOUGHTS + ANSWER
        assert len(tickets) >= 3
        assert set(tickets) == {201}
        assert complaints == []
