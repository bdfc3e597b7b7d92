"""The examples of front ends: type-checked, built, and driven in Chromium against the embedded engine."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.browser import artifact, chromium, complaints_of
from tests.support.chat_clients import need_packages
from tests.support.example_pages import ANSWER, FRONT_ENDS, built, installed, pages_of, site
from tests.support.npm_package import tool
from tests.support.processes import Running, running
from tests.support.tools import ROOT, need

pytestmark = [pytest.mark.browser, pytest.mark.timeout(150)]

END: Final = 40_000  # milliseconds; a run takes some five seconds


# htmx asks for headers that another origin does not show: Chromium logs it and gives null.
HIDDEN: Final = re.compile('Refused to get unsafe header "HX-')
REACT: Final = ("vite", "react", "react-dom", "@vitejs/plugin-react", "typescript", "ai", "@ai-sdk/react")


@pytest.fixture(scope="module")
def react_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The React example, type-checked and built once for all tests, as the folder `react`."""
    folder = tmp_path_factory.mktemp("react-example")
    react = installed("react", folder, *REACT)
    tool(react, "typescript", "bin/tsc", "-p", ".")
    asyncio.run(built(react, folder / "pages"))
    return folder / "pages" / "react"


async def ask(page: Page, question: str) -> None:
    await page.get_by_label("Question").fill(question)
    await page.get_by_role("button", name="Send").click()


async def chat(browser: Browser, url: str, name: str, picture: Path) -> list[str]:
    """Ask twice on a page; what the browser complained about."""
    page = await browser.new_page(viewport={"width": 720, "height": 420})
    complaints = complaints_of(page)
    await page.goto(f"{url}/{name}/")
    await ask(page, "What is the answer?")
    first, second = page.locator("article").nth(0), page.locator("article").nth(1)
    await expect(first.locator("p")).to_contain_text("The answer", timeout=END)
    await ask(page, "Are you sure?")  # while the first answer streams
    await expect(second.locator("p")).to_contain_text("The answer is", timeout=END)
    await page.screenshot(path=picture)
    for article in (first, second):
        await expect(article.locator("small")).to_have_text("completed", timeout=END)
        await expect(article.locator("p")).to_have_text(ANSWER)  # the failed attempt's text is gone
    await expect(first.locator("b")).to_have_text("What is the answer?")
    return complaints


async def test_a_plain_page_react_and_vue_chat_and_strict_mode_costs_no_second_connection(
    tmp_path: Path, react_pages: Path
) -> None:
    pages = tmp_path / "pages"
    shutil.copytree(FRONT_ENDS / "plain", pages / "plain")
    shutil.copytree(react_pages, pages / "react")
    await built(installed("vue", tmp_path, "vite", "vue", "@vitejs/plugin-vue"), pages)
    async with site(pages_of(pages), tmp_path) as served, chromium() as browser:
        names = ("plain", "react", "vue")
        pictures = [artifact(f"{name}.png", tmp_path) for name in names]
        chats = [
            chat(browser, served.url, name, picture) for name, picture in zip(names, pictures, strict=True)
        ]
        assert await asyncio.gather(*chats) == [[], [], []]
        async with httpx.AsyncClient() as client:
            metrics = (await client.get(f"{served.streams}/metrics")).text
    opened = re.search(r'stream_proxy_streams_opened_total\{stream="chat".*\} (.*)', metrics)
    assert opened is not None and float(opened[1]) == 6  # two of each page


async def test_use_chat_shows_each_text_once_also_after_a_reload_and_after_the_proxy_was_killed(
    tmp_path: Path, react_pages: Path
) -> None:
    pages = tmp_path / "pages"
    shutil.copytree(react_pages, pages / "react")
    async with site(pages_of(pages), tmp_path) as served, chromium() as browser:
        page = await browser.new_page(viewport={"width": 720, "height": 420})
        complaints = complaints_of(page)
        await page.goto(f"{served.url}/react/#ai")
        answer = page.locator(".assistant p")
        await ask(page, "What is the answer?")
        await expect(answer).to_contain_text("The answer", timeout=END)
        await expect(page.locator(".assistant i")).to_have_text("3 pages found")  # a data part
        await page.screenshot(path=artifact("ai-sdk.png", tmp_path))
        await expect(page.locator("main > small")).to_have_text("ready", timeout=END)
        await expect(answer).to_have_text([ANSWER])

        await ask(page, "And after a reload?")
        await expect(answer).to_contain_text([ANSWER, "The"], timeout=END)
        await page.reload()  # the application keeps no messages: the answer under way is all there is
        await expect(answer).to_contain_text(["The answer"], timeout=END)
        await expect(page.locator("main > small")).to_have_text("ready", timeout=END)
        await expect(answer).to_have_text([ANSWER])

        await ask(page, "And after the proxy was killed?")
        await expect(answer).to_contain_text([ANSWER, "The"], timeout=END)
        await served.restart_the_proxy()
        await expect(page.locator("main > small")).to_have_text("ready", timeout=END)
        await expect(answer).to_have_text([ANSWER, ANSWER])
        assert [each for each in complaints if "ERR_" not in each] == []


async def test_htmx_shows_each_answer_once_also_after_the_proxy_was_killed(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    shutil.copytree(FRONT_ENDS / "htmx", pages / "htmx")
    shutil.copy(need_packages() / "htmx.org" / "dist" / "htmx.min.js", pages / "htmx")
    async with site(pages_of(pages), tmp_path) as served, chromium() as browser:
        page = await browser.new_page(viewport={"width": 720, "height": 420})
        complaints = complaints_of(page)
        await page.goto(f"{served.url}/htmx/")
        answers = page.locator("article p")
        await ask(page, "What is the answer?")
        await expect(answers).to_have_text([ANSWER], timeout=END)
        await ask(page, "Is <b>this</b> text?")
        await expect(answers).to_have_text([ANSWER, "…"])
        await page.screenshot(path=artifact("htmx.png", tmp_path))
        assert [each for each in complaints if not HIDDEN.match(each)] == []
        await served.restart_the_proxy()
        await expect(answers).to_have_text([ANSWER, ANSWER], timeout=END)
        await expect(page.locator("article > b").nth(1)).to_have_text("Is <b>this</b> text?")


@pytest.mark.parametrize("name", ["ag-ui", "openai"])
async def test_a_program_prints_the_answer_and_the_messages_that_its_page_records(
    tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(FRONT_ENDS / name, tmp_path / name)
    (folder / "node_modules").symlink_to(need_packages())
    recorded = re.search(
        r"```text\n(.*?)```", (ROOT / "docs" / "front-ends" / f"{name}.md").read_text(), re.S
    )
    assert recorded is not None
    async with site(pages_of(tmp_path), tmp_path) as served:
        program = await asyncio.create_subprocess_exec(
            need("node"),
            str(folder / "chat.mjs"),
            env={**os.environ, "SITE": served.url},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await program.communicate()
    assert program.returncode == 0
    # How much of the failed attempt an AG-UI client shows depends on when it joins. The rest does not.
    assert output.decode().splitlines()[-3:] == recorded[1].splitlines()[-3:]


WATCH: Final = """
() => {
  window.seen = [];
  const read = () => window.seen.push(document.querySelector(".assistant p")?.textContent ?? "");
  new MutationObserver(read).observe(document.body, {subtree: true, childList: true, characterData: true});
}
"""
"""Notes each text that the answer has had."""


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_next_js_built_for_production_chats_and_passes_the_streams_on_at_once(tmp_path: Path) -> None:
    packages = ("next", "react", "react-dom", "typescript", "ai", "@ai-sdk/react", "@types/node")
    folder = installed("nextjs", tmp_path, *packages, linked=False)
    program = folder / "node_modules" / "next" / "dist" / "bin" / "next"

    @asynccontextmanager
    async def application(env: dict[str, str]) -> AsyncIterator[Running]:
        given = {**env, "NEXT_TELEMETRY_DISABLED": "1"}
        without_token = {name: text for name, text in given.items() if not name.startswith("HATCHET_")}
        await asyncio.to_thread(next_build, folder, program, without_token)
        words = ("start", folder, "--hostname", "127.0.0.1", "--port", env["PORT"])
        async with running(*words, env=given, program=(need("node"), str(program))) as one:
            yield one
            await one.stop()  # it has a process of its own, which SIGKILL would leave alone

    async with site(application, tmp_path) as served, chromium() as browser:
        page = await browser.new_page(viewport={"width": 720, "height": 420})
        complaints = complaints_of(page)
        await page.goto(f"{served.url}/")
        answer = page.locator(".assistant p")
        await page.evaluate(WATCH)
        await ask(page, "What is the answer?")
        await expect(answer).to_have_text([ANSWER], timeout=END)
        await expect(page.locator("main > small")).to_have_text("ready", timeout=END)
        await page.screenshot(path=artifact("nextjs.png", tmp_path))
        seen = [text for text in dict.fromkeys(await page.evaluate("seen")) if text != ANSWER]
        assert len(seen) > 2, "it came at once"
        assert all(ANSWER.startswith(text.rstrip()) for text in seen)
        assert complaints == []


def next_build(folder: Path, program: Path, env: dict[str, str]) -> None:
    """Build an example with Next.js, as its users deploy it."""
    words = (need("node"), str(program), "build", str(folder))
    ran = subprocess.run(
        words, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
