"""In a browser: the demo's page, and a plain EventSource in outages, restarts and refusals."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from playwright.async_api import Page, expect

from proxy.cli.demo.page import example
from proxy.cli.demo.workflows import ANSWER, THOUGHTS, demo_script
from proxy.simulator import Engine
from tests.support.browser import another_origin, artifact, chromium, complaints_of
from tests.support.delivery import becomes
from tests.support.demo_run import STEPS
from tests.support.processes import demo, free_port, serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(150)]  # a browser on a busy machine takes its time

END: Final = 30_000  # milliseconds: a run takes some eight seconds, an end without an event fifteen more
KEY: Final = "a key for tests that is long enough for HS256"
SITES: Final = 6  # connections that a browser opens to one host over HTTP/1.1

# follow a run with a bare EventSource; the promise is what came, by the time of the end or a final error
FOLLOW: Final = """
([url, withCredentials]) => new Promise((resolve) => {
  const seen = { tokens: "", gaps: 0, opened: 0, lost: 0, end: null };
  const source = new EventSource(url, { withCredentials });
  window.seen = seen;
  source.onopen = () => (seen.opened += 1);
  source.addEventListener("token", ({ data }) => {
    const { step, text } = JSON.parse(data);
    if (step === "generate_response") seen.tokens += text;
  });
  source.addEventListener("stream.gap", () => (seen.gaps += 1));
  source.addEventListener("stream.end", ({ data }) => {
    source.close();
    resolve({ ...seen, end: JSON.parse(data).status });
  });
  source.onerror = () => {
    seen.lost += 1;
    if (source.readyState === EventSource.CLOSED) resolve({ ...seen, end: "refused" });
  };
})
"""


async def start(page: Page, url: str, button: str = "#start") -> None:
    await page.goto(url)
    await page.click(button)


async def step_text(page: Page, step: str, reader: int = 0) -> str:
    return await page.locator(".reader").nth(reader).locator(f'[data-step="{step}"] .text').inner_text()


async def test_a_click_on_the_demos_page_leads_to_the_verified_end(tmp_path: Path) -> None:
    async with demo("--speed", "2") as (_, url), chromium() as browser:
        page = await browser.new_page(viewport={"width": 1180, "height": 800})
        complaints = complaints_of(page)
        await start(page, url)
        await expect(page.locator(".step")).to_have_count(len(STEPS), timeout=END)
        await page.wait_for_selector('[data-step="generate_response"] .text:not(:empty)', timeout=END)
        await page.screenshot(path=artifact("demo-streaming.png", tmp_path))
        await expect(page.locator(".end")).to_have_text("Verified end: completed", timeout=END)
        await page.click(".raw summary")
        await page.screenshot(path=artifact("demo-end.png", tmp_path), full_page=True)
        assert await page.locator(".step .name").all_inner_texts() == list(STEPS)
        assert await page.locator('.step[data-status="completed"]').count() == len(STEPS)
        assert await step_text(page, "reason_docs") == THOUGHTS
        assert await step_text(page, "generate_response") == ANSWER
        assert await page.locator(".holes:visible").count() == 0
    assert complaints == []


async def test_a_second_attempt_replaces_the_text_of_the_first(tmp_path: Path) -> None:
    async with demo("--speed", "2") as (_, url), chromium() as browser:
        page = await browser.new_page()
        await start(page, url, '[data-workflow="flaky"]')
        await expect(page.locator('[data-step="generate_response"] .attempt')).to_have_text(
            "attempt 2", timeout=END
        )
        await expect(page.locator(".end")).to_have_text("Verified end: completed", timeout=END)
        await page.screenshot(path=artifact("demo-flaky.png", tmp_path), full_page=True)
        assert await step_text(page, "generate_response") == ANSWER


async def test_a_failing_run_is_shown_as_failed(tmp_path: Path) -> None:
    async with demo("--speed", "2") as (_, url), chromium() as browser:
        page = await browser.new_page()
        await start(page, url, '[data-workflow="broken"]')
        await expect(page.locator(".end")).to_have_text("Verified end: failed", timeout=END)
        await page.screenshot(path=artifact("demo-broken.png", tmp_path), full_page=True)
        assert await page.locator('.step[data-status="failed"] .name').all_inner_texts() == ["reason_docs"]


async def test_late_joins_reloads_and_cut_connections_all_get_the_whole_run(tmp_path: Path) -> None:
    async with demo("--speed", "2") as (_, url), chromium() as browser:
        page = await browser.new_page(viewport={"width": 1180, "height": 800})
        await start(page, url)
        await page.wait_for_selector('[data-step="reason_docs"] .text:not(:empty)', timeout=END)
        await page.reload()
        await page.wait_for_selector('[data-step="generate_response"] .text:not(:empty)', timeout=END)
        await page.click("#join")
        await page.evaluate(
            "document.querySelector('.cut').click()"
        )  # the button exists even if the run is over by now
        await page.screenshot(path=artifact("demo-late.png", tmp_path))
        await expect(page.locator(".end:visible")).to_have_count(2, timeout=END)
        for reader in (0, 1):
            assert await step_text(page, "reason_docs", reader) == THOUGHTS
            assert await step_text(page, "generate_response", reader) == ANSWER
        assert await page.locator(".holes:visible").count() == 0


async def shows(page: Page, part: str, step: str = "generate_response") -> bool:
    return await page.locator(f'[data-step="{step}"] {part}').is_visible()


async def test_streams_survive_an_outage_of_hatchet() -> None:
    async with demo() as (_, url), chromium() as browser:
        page = await browser.new_page()
        await start(page, url)
        await page.wait_for_selector('[data-step="reason_docs"] .text:not(:empty)', timeout=END)
        await page.click("#outage")
        await expect(page.locator(".end")).to_have_text("Verified end: completed", timeout=2 * END)
        assert await page.locator('.step[data-status="completed"]').count() == len(STEPS)
        text = await step_text(page, "generate_response") if await shows(page, ".text") else ""
        assert text in ("", ANSWER) or await shows(page, ".holes")


def config_for(folder: Path, origin: str) -> Path:
    """The example with a cookie as its credential and one other origin listed."""
    text = (
        example()
        .read_text(encoding="utf-8")
        .replace("    rules:\n", f'    cors: {{origins: ["{origin}"], credentials: true}}\n    rules:\n')
    )
    auth = f"auth:\n  jwt: {{key: '{KEY}', algorithms: [HS256]}}\n  from: ['cookie:session']\n"
    file = folder / "streams.yaml"
    file.write_text(text + auth, encoding="utf-8")
    return file


async def test_an_event_source_with_credentials_from_another_origin(tmp_path: Path) -> None:
    async with (
        another_origin() as friend,
        another_origin() as stranger,
        Engine(demo_script(), speed=4) as engine,
        serving(config_for(tmp_path, friend), engine.env) as (_, url),
        chromium() as browser,
    ):
        token = jwt.encode({"sub": "ada", "exp": time.time() + 600}, KEY, "HS256")
        cookie = {"name": "session", "value": token, "url": url}
        context = await browser.new_context()
        await context.add_cookies([cookie])  # type: ignore[list-item]
        page = await context.new_page()
        stream = f"{url}/streams/live/{await engine.trigger('chat', {})}"
        await page.goto(friend)
        assert (await page.evaluate(FOLLOW, [stream, True]))["tokens"] == ANSWER
        assert (await page.evaluate(FOLLOW, [stream, False]))["end"] == "refused"  # no cookie is sent: 401
        await page.goto(stranger)
        assert (await page.evaluate(FOLLOW, [stream, True]))["end"] == "refused"  # not listed: 403


async def test_ten_browser_contexts_on_one_run() -> None:
    async with (
        Engine(demo_script()) as engine,
        serving(example(), engine.env) as (_, url),
        chromium() as browser,
    ):
        pages = [await (await browser.new_context()).new_page() for _ in range(10)]
        await asyncio.gather(*(page.goto(f"{url}/healthz") for page in pages))
        stream = f"{url}/streams/live/{await engine.trigger('chat', {})}"
        seen = await asyncio.gather(*(page.evaluate(FOLLOW, [stream, False]) for page in pages))
        assert [one["tokens"] for one in seen] == [ANSWER] * 10
        await becomes(lambda: engine.streams <= 1)


async def test_one_page_has_six_connections_and_the_seventh_stream_waits() -> None:
    async with (
        Engine(demo_script()) as engine,
        serving(example(), engine.env) as (_, url),
        chromium() as browser,
    ):
        page = await browser.new_page()
        await page.goto(f"{url}/healthz")
        stream = f"{url}/streams/live/{await engine.trigger('chat', {})}"
        opened: int = await page.evaluate(
            """async ([url, count]) => {
              const sources = Array.from({ length: count }, () => new EventSource(url));
              const isOpen = (source) => source.readyState === EventSource.OPEN;
              while (sources.filter(isOpen).length < 6) await new Promise((next) => setTimeout(next, 20));
              await new Promise((next) => setTimeout(next, 500));
              const opened = sources.filter(isOpen).length;
              sources.forEach((source) => source.close());
              return opened;
            }""",
            [stream, SITES + 2],
        )
        assert opened == SITES


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
async def test_an_event_source_reconnects_after_a_restart_of_the_proxy(sign: signal.Signals) -> None:
    port = free_port()
    async with Engine(demo_script()) as engine, chromium() as browser:
        page = await browser.new_page()
        async with serving(example(), engine.env, port) as (first, url):
            await page.goto(f"{url}/healthz")
            stream = f"{url}/streams/live/{await engine.trigger('chat', {})}"
            following = asyncio.create_task(page.evaluate(FOLLOW, [stream, False]))
            await page.wait_for_function("window.seen && window.seen.tokens.length > 60", timeout=END)
            await first.stop(sign)
        async with serving(example(), engine.env, port):
            seen: dict[str, Any] = await following
    assert seen["end"] == "completed"
    assert seen["opened"] >= 2
    assert seen["gaps"] >= 1
    assert ANSWER.startswith(seen["tokens"][:60])
