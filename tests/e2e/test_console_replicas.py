"""The console's page of replicas: which are there, which leads which run, on two replicas with one log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Script, Step, Workflow, script
from tests.support.browser import artifact, chromium, complaints_of
from tests.support.demo_run import LOSSLESS
from tests.support.eventsource import EventSource
from tests.support.redis_server import redis_server
from tests.support.served import Served, served
from tests.support.tools import need_npm
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

END: Final = 20_000  # milliseconds
TOKEN: Final = "3f9c1b7a5d2e8046b1c3d5e7f9a0b2c4"
WCAG: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SECRET: Final = "only in a payload"
YAML: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}", tap: {stream: "on"}}
server: {log: "REDIS", admin_port: 1, console: {token: SECRET}, drain: {grace: 3s, spread: 0s}}
streams:
  chat: {rules: [{events: step_stream, data: payload}]}
"""


def endless() -> Script:
    """A step that sends one chunk and goes on."""
    step = Step("talk", chunks=Chunks((SECRET.encode(),), 0.01), then=600.0, timeout=900.0)
    return script(Workflow("endless", (step,)))


@dataclass
class Deployment:
    """Two replicas of a run that goes on, which the first one leads, and a client of each."""

    run: str
    replicas: list[Served]

    async def get(self, number: int, token: str = TOKEN) -> httpx.Response:
        """What the console of a replica says of all of them."""
        url = f"{self.replicas[number].admin_url}/console/api/replicas"
        async with httpx.AsyncClient(timeout=30) as client:
            return await client.get(url, headers={"authorization": f"Bearer {token}"})


def reads(replica: Served, run: str) -> bool:
    """Whether a replica has served something of the run."""
    session = replica.hub.teams["default"].runs.get(run)
    return session is not None and session.published > 0


async def read_on(url: str) -> None:
    async with EventSource(url) as source:
        async for _ in source.frames():
            pass


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    folder = tmp_path_factory.mktemp("replicas")
    with redis_server(folder) as redis:
        file = folder / "streams.yaml"
        file.write_text(YAML.replace("REDIS", redis.url).replace("SECRET", TOKEN))
        async with Engine(endless(), quirks=LOSSLESS) as engine, AsyncExitStack() as stack:
            two = [
                await stack.enter_async_context(served(file, engine.env, with_admin=True)) for _ in range(2)
            ]
            await until(lambda: engine.streams == 2, "every replica has its tap")
            run = await engine.trigger("endless", {}, {"stream": "on"})
            readers = []
            for one in two:
                readers.append(asyncio.create_task(read_on(f"{one.url}/streams/chat/{run}")))
                await until(partial(reads, one, run), "it is read")
            yield Deployment(run, two)
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)


async def test_each_replica_says_what_all_of_them_do(deployment: Deployment) -> None:
    for number in range(2):
        answer = await deployment.get(number)
        found: dict[str, Any] = answer.json()
        first, second = (one.hub.replication for one in deployment.replicas)
        assert first is not None
        assert second is not None
        shown = {one["replica"]: (one["leading"], one["following"], one["here"]) for one in found["replicas"]}
        assert shown == {first.replica: (1, 0, number == 0), second.replica: (0, 1, number == 1)}
        assert found["runs"] == [{"team": "default", "run": deployment.run, "replica": first.replica}]
        assert found["silent"] == 0
        assert found["log"]["state"] == "reachable"
        assert SECRET not in answer.text
        assert answer.headers["cache-control"] == "no-store"
    assert (await deployment.get(0, "wrong")).status_code == 401


@pytest.mark.browser
async def test_the_page_shows_who_leads_the_run(deployment: Deployment, tmp_path: Path) -> None:
    async with chromium() as browser:
        await look(browser, deployment, tmp_path, 1280, "light")
        await look(browser, deployment, tmp_path, 390, "dark")


async def look(browser: Browser, deployment: Deployment, folder: Path, width: int, scheme: Any) -> None:
    """Sign in, and read the page of replicas from the overview on."""
    axe = (need_npm("axe-core") / "axe.min.js").read_text(encoding="utf-8")
    leader = deployment.replicas[0].hub.replication
    assert leader is not None
    viewport: Any = {"width": width, "height": 844}
    context = await browser.new_context(viewport=viewport, color_scheme=scheme, bypass_csp=True)
    page = await context.new_page()
    complaints = complaints_of(page)
    await page.goto(f"{deployment.replicas[1].admin_url}/console/")
    await page.keyboard.type(TOKEN)  # the field has the focus
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name="All replicas").click(timeout=END)
    runs = page.get_by_role("region", name="Active runs")
    led = runs.get_by_role("row").filter(has_text=deployment.run)
    await expect(led).to_contain_text(leader.replica, timeout=END)
    rows = page.get_by_role("region", name="Replicas, and how many runs each has").get_by_role("row")
    follows = rows.filter(has_text="this one").get_by_role("cell").nth(4)
    await expect(follows).to_have_text("1", timeout=END)
    await page.evaluate(axe)
    found = await page.evaluate("(values) => axe.run(document, {runOnly: {type: 'tag', values}})", WCAG)
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    await page.screenshot(path=artifact(f"console-replicas-{scheme}-{width}.png", folder), full_page=True)
    await led.get_by_role("link").click()
    await expect(page.get_by_role("heading", name="Run")).to_be_visible(timeout=END)
    assert complaints == []
    await context.close()
