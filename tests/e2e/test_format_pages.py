"""Formats in Chromium: React's useChat({resume: true}) on `ai-sdk`, and htmx on `text`."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, Route

from proxy.simulator import Engine
from tests.e2e.test_format_clients import ANSWER, JOINS, THINKING, streams, workflow
from tests.support.browser import chromium, complaints_of
from tests.support.chat_clients import need_front_ends
from tests.support.processes import free_port, serving

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(120)]

HTML: Final = (
    '<!doctype html><meta charset="utf-8"><title>chat</title><div id="root"></div><script>{script}</script>'
)
HTMX: Final = """<!doctype html><meta charset="utf-8"><title>text</title><script>{script}</script>
<pre id="answer" hx-get="{stream}" hx-trigger="load" hx-swap="textContent">…</pre>"""
SHOWN: Final = """() => [...document.querySelectorAll("article[data-role=assistant]")]
    .map((article) => [...article.querySelectorAll("p")])
    .map((parts) => parts.map((part) => [part.dataset.kind, part.textContent]))"""
RIGHT: Final = [["reasoning", THINKING], ["text", ANSWER]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page's script: React, useChat and the AI SDK in one."""
    folder = need_front_ends(tmp_path_factory.mktemp("page") / "scripts")
    made = subprocess.run(
        [
            folder / "node_modules" / ".bin" / "esbuild",
            "chat.jsx",
            "--bundle",
            "--jsx=automatic",
            "--log-level=error",
            '--define:process.env.NODE_ENV="development"',
            "--define:process.env={}",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return made.stdout.replace("</script", "<\\/script")


async def page_at(browser: Browser, url: str, html: str) -> Page:
    """A page of the proxy's own origin."""
    page = await browser.new_page()

    async def answer(route: Route) -> None:
        await route.fulfill(content_type="text/html", body=html)

    await page.route(re.compile(r"/page\?"), answer)
    await page.goto(url)
    return page


async def chat_of(browser: Browser, url: str, run_id: str, script: str) -> Page:
    """A chat that resumes the stream of a run."""
    return await page_at(browser, f"{url}/page?stream=/chat/{run_id}", HTML.replace("{script}", script))


async def shown(page: Page) -> Any:
    """What the chat shows of the assistant once nothing streams any more, in a fixed order."""
    await page.wait_for_function("window.chat && ['ready', 'error'].includes(window.chat.status)")
    return [sorted(each) for each in await page.evaluate(SHOWN)]


async def finished(page: Page) -> Any:
    """What the chat shows when all of the answer is there."""
    await page.wait_for_function(
        "(answer) => [...document.querySelectorAll('p')].some((part) => part.textContent === answer)",
        arg=ANSWER,
    )
    await page.wait_for_function(
        "(text) => [...document.querySelectorAll('p')].some((part) => part.textContent === text)",
        arg=THINKING,
    )
    return await shown(page)


async def test_use_chat_shows_the_outputs_once_whenever_the_page_is_opened(
    tmp_path: Path, bundle: str
) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(streams(("chat", "ai-sdk", "", "reasoning")))
    async with (
        Engine(workflow(), seed=3) as engine,
        serving(file, engine.env) as (_, url),
        chromium() as browser,
    ):
        run_id = await engine.trigger("chat", {}, metadata={"stream": "on"})

        async def opened(after: float) -> tuple[float, Any, Any]:
            await asyncio.sleep(after)
            page = await chat_of(browser, url, run_id, bundle)
            return after, await finished(page), await page.evaluate("window.errors")

        found = await asyncio.gather(*(opened(after) for after in JOINS))
        found.append(await opened(0))
    assert found == [(after, [RIGHT], []) for after in (*JOINS, 0)]


async def test_use_chat_shows_nothing_for_a_run_that_is_unknown(tmp_path: Path, bundle: str) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(streams(("chat", "ai-sdk", "", "reasoning")))
    async with (
        Engine(workflow(), seed=3) as engine,
        serving(file, engine.env) as (_, url),
        chromium() as browser,
    ):
        page = await chat_of(browser, url, "00000000-0000-4000-8000-000000000000", bundle)
        complaints = complaints_of(page)
        await page.wait_for_load_state("networkidle")
        assert await shown(page) == []
        assert await page.evaluate("window.errors") == []
    assert complaints == []


async def test_use_chat_that_resumes_after_the_proxy_was_killed_shows_the_outputs_once(
    tmp_path: Path, bundle: str
) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(streams(("chat", "ai-sdk", "", "reasoning")))
    port = free_port()
    async with Engine(workflow(every=0.4), seed=3) as engine, chromium() as browser:
        async with serving(file, engine.env, port) as (first, url):
            run_id = await engine.trigger("chat", {}, metadata={"stream": "on"})
            stays, reloads = [await chat_of(browser, url, run_id, bundle) for _ in range(2)]
            for page in (stays, reloads):
                await page.wait_for_selector("p[data-kind=text]")
            await first.stop(signal.SIGKILL)
            await stays.wait_for_function("window.chat.status === 'error'")
        async with serving(file, engine.env, port):
            await stays.evaluate("void window.chat.resumeStream()")
            await reloads.reload()
            assert await finished(stays) == [RIGHT]
            assert await finished(reloads) == [RIGHT]
            assert await reloads.evaluate("window.errors") == []


async def test_htmx_shows_the_text_of_a_run(tmp_path: Path) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(streams(("plain", "text", "", "text")))
    script = (need_front_ends(tmp_path / "scripts") / "node_modules/htmx.org/dist/htmx.min.js").read_text()
    async with (
        Engine(workflow(), seed=3) as engine,
        serving(file, engine.env) as (_, url),
        chromium() as browser,
    ):
        run_id = await engine.trigger("chat", {}, metadata={"stream": "on"})
        html = HTMX.replace("{script}", script.replace("</script", "<\\/script")).replace(
            "{stream}", f"/plain/{run_id}"
        )
        page = await page_at(browser, f"{url}/page?text", html)
        complaints = complaints_of(page)
        await page.wait_for_function("document.getElementById('answer').textContent.length > 1")
        text = await page.text_content("#answer")
    assert text in {THINKING + ANSWER, ANSWER + THINKING}
    assert complaints == []
