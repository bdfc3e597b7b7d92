"""The npm package's core in Chromium, against the embedded engine: joins, retries, tickets, cuts."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import pytest
from playwright.async_api import Browser, Page, Route, expect

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Failure, Script, Step, Workflow, script
from tests.support.browser import chromium, complaints_of
from tests.support.npm_package import PACKAGE, node_modules, tool
from tests.support.processes import free_port, serving
from tests.support.tools import ROOT
from tests.support.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

KEY: Final = "a key for tests that is long enough for HS256"
TAP: Final = {"stream": "on"}
WORDS: Final = tuple(f"{number} ".encode() for number in range(30))
TEXT: Final = b"".join(WORDS).decode()
END: Final = 40_000  # milliseconds; a run takes some four seconds

STREAMS: Final = """
version: 1
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}", tap: {{stream: "on"}}}}
{auth}
streams:
  live:
    retry: 200ms
    rules:
      - {{events: step_stream, steps: answer, event: token, data: {data}}}
      - events: step_*
        event: step
        data: {{type: type, step: step, attempt: attempt, recovered: recovered}}
"""
NO_HANGUP: Final = {"metadata-hangup": False}  # one at the run's end leaves the last chunk unproven
DATA: Final = "{step: step, attempt: attempt, index: index, text: payload}"
TICKETS: Final = f"""
auth:
  jwt: {{key: {KEY}, algorithms: [HS256]}}
  from: [bearer, ticket]
  tickets: {{key: another key for tests that is long enough, lifetime: 2s}}
"""

# follows a run with the package; the promise is the last snapshot, with what was counted on the way
FOLLOW: Final = """
async ([url, ticketed]) => {
  const { followRun } = await import("/app/stream-proxy.js");
  const counted = { frames: 0, snapshots: 0, urls: 0, painted: 0, resets: 0, states: [] };
  let going = true;
  const paint = () => { counted.painted += 1; if (going) requestAnimationFrame(paint); };
  requestAnimationFrame(paint);
  const ticket = async () => {
    counted.urls += 1;
    return `${url}?ticket=${await (await fetch("/app/ticket?" + url.split("/").pop())).text()}`;
  };
  const run = (window.run = followRun(ticketed ? ticket : url, {
    events: ["token", "step"],
    onframe: (name) => { counted.frames += 1; counted.resets += name === "stream.reset"; },
    onchange: ({ state, cause }) => {
      const now = cause ? `${state} ${cause}` : state;
      if (counted.states.at(-1) !== now) counted.states.push(now);
    },
  }));
  return await new Promise((resolve) => run.subscribe(() => {
    counted.snapshots += 1;
    const snapshot = run.getSnapshot();
    if (["ended", "expired", "refused"].includes(snapshot.state)) {
      going = false;
      resolve({ ...counted, ...snapshot, steps: { ...snapshot.steps } });
    }
  }));
}
"""


def workflows(delay: float = 0.1) -> Script:
    answer = Step("answer", chunks=Chunks(WORDS, delay), output={"text": TEXT})
    torn = Step("answer", chunks=Chunks(WORDS, 0.03), fails=Failure(attempts=1), retries=1)
    return script(Workflow("good", (answer,)), Workflow("retried", (torn,)))


def config(folder: Path, auth: str = "", data: str = DATA) -> Path:
    file = folder / "streams.yaml"
    file.write_text(STREAMS.format(auth=auth, data=data))
    return file


async def page_at(browser: Browser, url: str, files: Path = PACKAGE) -> Page:
    """A page of the proxy's own origin: below /app it finds files (by default the package's), and tickets."""

    async def answer(route: Route) -> None:
        name = route.request.url.removeprefix(f"{url}/app/")
        if name.startswith("ticket?"):
            token = jwt.encode({"sub": "ada", "exp": time.time() + 600}, KEY, "HS256")
            async with httpx.AsyncClient(headers={"authorization": f"Bearer {token}"}) as client:
                body = {"stream": "live", "run": name.removeprefix("ticket?")}
                given = await client.post(f"{url}/tickets", json=body)
            await route.fulfill(body=given.json()["ticket"])
        elif name:
            await route.fulfill(path=files / name)
        else:
            await route.fulfill(body="<!doctype html><title>a page</title>", content_type="text/html")

    page = await browser.new_page()
    await page.route(f"{url}/app/**", answer)
    await page.goto(f"{url}/app/")
    return page


@asynccontextmanager
async def page_of(file: Path, given: Script | None = None) -> AsyncIterator[tuple[Engine, Page, str]]:
    async with (
        Engine(given or workflows(), seed=1, quirks=NO_HANGUP) as engine,
        serving(file, engine.env) as (_, url),
        chromium() as browser,
    ):
        yield engine, await page_at(browser, url), url


async def test_a_run_that_is_followed_from_its_start_with_one_snapshot_per_frame_of_the_screen(
    tmp_path: Path,
) -> None:
    async with page_of(config(tmp_path), workflows(delay=0.002)) as (engine, page, url):
        stream = f"{url}/streams/live/{await engine.trigger('good', {}, TAP)}"
        seen: dict[str, Any] = await page.evaluate(FOLLOW, [stream, False])
    assert (seen["state"], seen["status"]) == ("ended", "completed")
    assert seen["steps"]["answer"]["status"] == "completed"
    assert seen["steps"]["answer"]["text"] == TEXT or not seen["steps"]["answer"]["complete"]
    assert seen["snapshots"] <= seen["painted"] + 1
    assert seen["snapshots"] < seen["frames"]


async def test_a_retried_step_shows_the_text_of_its_last_attempt_alone(tmp_path: Path) -> None:
    async with page_of(config(tmp_path)) as (engine, page, url):
        stream = f"{url}/streams/live/{await engine.trigger('retried', {}, TAP)}"
        seen: dict[str, Any] = await page.evaluate(FOLLOW, [stream, False])
    assert seen["resets"] == 1
    step = seen["steps"]["answer"]
    assert (step["attempt"], step["text"], step["complete"]) == (2, TEXT, True)
    tokens = [each["data"]["text"] for each in seen["messages"] if each["event"] == "token"]
    assert "".join(tokens) == TEXT


async def test_a_page_that_joins_late_shows_the_whole_text_or_says_that_parts_are_missing(
    tmp_path: Path,
) -> None:
    async with Engine(workflows(), seed=1, quirks=NO_HANGUP) as engine, chromium() as browser:
        run_id = await engine.trigger("good", {}, {})  # without the tap's pair: earlier chunks are lost
        async with serving(config(tmp_path), engine.env) as (_, url):
            page = await page_at(browser, url)
            seen: dict[str, Any] = await page.evaluate(FOLLOW, [f"{url}/streams/live/{run_id}", False])
    assert seen["gaps"], "the chunks before the page came cannot be given"
    step = seen["steps"]["answer"]
    assert TEXT.endswith(step["text"]) and step["text"] != TEXT
    assert (step["status"], step["complete"], seen["complete"]) == ("completed", False, False)


async def test_a_ticket_that_expires_is_renewed_and_the_stream_goes_on_from_its_cursor(
    tmp_path: Path,
) -> None:
    # without indexes a picture trusts the order: a chunk that came twice would be shown twice
    file = config(tmp_path, TICKETS, "{step: step, text: payload}")
    async with page_of(file, workflows(delay=0.15)) as (engine, page, url):
        stream = f"{url}/streams/live/{await engine.trigger('good', {}, TAP)}"
        seen: dict[str, Any] = await page.evaluate(FOLLOW, [stream, True])
    assert seen["urls"] >= 2
    assert "reconnecting expired" in seen["states"]
    assert (seen["state"], seen["gaps"]) == ("ended", [])
    assert (seen["steps"]["answer"]["text"], seen["steps"]["answer"]["complete"]) == (TEXT, True)


async def clients_of(url: str) -> float:
    """How many clients the proxy has."""
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"{url}/metrics")).text
    found = re.search(r"^stream_proxy_clients\{.*\} (.*)$", metrics, re.M)
    return float(found[1]) if found else 0


async def test_use_run_follows_the_run_of_its_url_and_closes_what_is_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "use_run"
    shutil.copytree(ROOT / "tests" / "e2e" / "js" / "use_run", folder)
    node_modules(folder, "vite", "react", "react-dom")
    await asyncio.to_thread(tool, folder, "vite", "bin/vite.js", "build", "--base", "./")
    async with (
        Engine(workflows(0.3), seed=1) as engine,
        serving(config(tmp_path), engine.env) as (_, url),
        chromium() as browser,
    ):
        page = await page_at(browser, url, folder / "dist")
        complaints = complaints_of(page)
        await page.goto(f"{url}/app/index.html")
        shown = page.locator("p")
        await expect(shown).to_have_text("connecting running")
        assert await clients_of(url) == 0
        await page.evaluate("show", f"/streams/live/{await engine.trigger('good', {}, TAP)}")
        await expect(shown).to_contain_text("open running 0 1 2", timeout=END)
        assert await clients_of(url) == 1
        await page.evaluate("show", f"/streams/live/{await engine.trigger('retried', {}, TAP)}")
        await expect(shown).to_have_text(f"ended completed {TEXT}".strip(), timeout=END)
        await until(lambda: _holds(clients_of(url), 0))
        assert await page.evaluate("snapshots.every(Object.isFrozen)")
        await page.evaluate("show", f"/streams/live/{await engine.trigger('good', {}, TAP)}")
        await expect(shown).to_contain_text("open running 0 1", timeout=END)
        await page.evaluate("show", "gone")
        await until(lambda: _holds(clients_of(url), 0))
        assert complaints == []


async def _holds(found: Awaitable[float], wanted: float) -> bool:
    return await found == wanted


async def test_a_page_goes_on_after_the_proxy_was_killed_and_started_again(tmp_path: Path) -> None:
    port, file = free_port(), config(tmp_path)
    async with Engine(workflows(), seed=1, quirks=NO_HANGUP) as engine, chromium() as browser:
        async with serving(file, engine.env, port) as (first, url):
            page = await page_at(browser, url)
            stream = f"{url}/streams/live/{await engine.trigger('good', {}, TAP)}"
            following = asyncio.create_task(page.evaluate(FOLLOW, [stream, False]))
            await page.wait_for_function(
                "window.run?.picture.steps.get('answer')?.text.length > 4", timeout=END
            )
            await first.stop(signal.SIGKILL)
        async with serving(file, engine.env, port):
            seen: dict[str, Any] = await following
    assert (seen["state"], seen["status"]) == ("ended", "completed")
    step = seen["steps"]["answer"]
    assert step["text"].startswith("0 1 2 ")
    assert step["text"] == TEXT or not step["complete"]
    assert json.dumps(seen["states"]).count("reconnecting") >= 1
