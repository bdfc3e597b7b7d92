"""The demo's page: readable on a phone, by a screen reader and by keyboard, and honest about each loss."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route, expect

from proxy.cli.demo.page import FILES, HERE, client, example
from tests.support.browser import artifact, chromium, complaints_of
from tests.support.processes import demo
from tests.support.tools import need_npm

pytestmark = [pytest.mark.browser, pytest.mark.timeout(150), pytest.mark.asyncio(loop_scope="module")]

END: Final = 30_000  # milliseconds
PHONE: Final = {"width": 390, "height": 844}
DESKTOP: Final = {"width": 1280, "height": 800}
URL: Final = "http://localhost:1"  # nothing listens there: the tests answer
RUN_ID: Final = "11111111-2222-4333-8444-555555555555"
RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

OUTPUT: Final = {"answer": "The whole text"}
GAPS: Final = {
    "joined_late": "connected",
    "upstream": "Hatchet",
    "backlog": "backlog",
    "slow_client": "too slow",
    "unknown_cursor": "cursor",
    "too_large": "larger",
}


def sse(*frames: tuple[str, dict[str, Any]]) -> str:
    """The body of a stream with these frames."""
    return "retry: 60000\n\n" + "".join(
        f"id: {at}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for at, (name, data) in enumerate(frames)
    )


def step(kind: str, name: str = "answer", **more: Any) -> tuple[str, dict[str, Any]]:
    return "step", {"type": kind, "step": name, "attempt": 1, "recovered": False, **more}


def gap(cause: str, name: str | None = "answer", missed: int | None = None) -> tuple[str, dict[str, Any]]:
    return "stream.gap", {"cause": cause, "step": name, "attempt": name and 1, "missed": missed}


LOST: Final = (
    gap("upstream"),
    step("step_completed", payload=OUTPUT),
    ("stream.end", {"status": "completed"}),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as one:
        yield one


async def file(route: Route) -> None:
    """One of the page's files, as the demo serves it."""
    path = urlsplit(route.request.url).path
    others = {"/demo/stream-proxy.js": client(), "/demo/streams.yaml": example()}
    found = HERE / FILES[path][0] if path in FILES else others[path]
    kind = FILES[path][1] if path in FILES else "text/javascript" if path.endswith("js") else "text/plain"
    await route.fulfill(path=found, content_type=kind)


@asynccontextmanager
async def opened(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """A page of a demo that only exists in this browser."""
    context = await browser.new_context(**options)
    page = await context.new_page()
    await page.route(f"{URL}/**", file)
    yield page
    await context.close()


async def shows(page: Page, frames: Sequence[tuple[str, dict[str, Any]]], status: int = 200) -> None:
    """Open the page on a run whose stream has these frames."""

    async def answer(route: Route) -> None:
        await route.fulfill(status=status, content_type="text/event-stream", body=sse(*frames))

    await page.route(f"**/streams/live/{RUN_ID}*", answer)
    await page.goto(f"{URL}/#{RUN_ID}")


@pytest.mark.parametrize("cause", GAPS)
async def test_the_page_shows_each_gap_and_the_output_where_the_text_was_lost(
    browser: Browser, cause: str
) -> None:
    async with opened(browser, viewport=PHONE) as page:
        of_step = None if cause == "unknown_cursor" else "answer"
        frames = (step("step_started"), gap(cause, of_step, 3), *LOST[1:])
        await shows(page, frames)
        notice = page.locator(".reader > .notices" if of_step is None else '[data-step="answer"] .holes')
        await expect(notice).to_contain_text(GAPS[cause], timeout=END)
        if of_step is not None:
            await expect(notice).to_contain_text("3 chunks are missing")
        await expect(page.locator('[data-step="answer"] .text')).to_be_empty()
        await expect(page.locator('[data-step="answer"] .output pre')).to_contain_text("The whole text")


async def test_a_step_without_a_gap_shows_neither_a_notice_nor_its_output(browser: Browser) -> None:
    async with opened(browser) as page:
        token = ("token", {"step": "answer", "attempt": 1, "index": 0, "text": "Hi"})
        await shows(page, (step("step_started"), token, *LOST[1:]))
        await expect(page.locator(".end")).to_have_text("Verified end: completed", timeout=END)
        assert await page.locator(".notices:visible, .output:visible").count() == 0


async def test_a_refused_stream_says_why_nothing_comes(browser: Browser) -> None:
    async with opened(browser) as page:
        await shows(page, (), status=404)
        await expect(page.locator(".reader > .notices")).to_contain_text("does not exist", timeout=END)


async def test_a_screen_reader_hears_the_start_each_gap_and_the_end(browser: Browser) -> None:
    async with opened(browser) as page:
        await shows(page, (step("step_started"), *LOST))
        news = page.get_by_role("status")
        await expect(news).to_contain_text("verified end: the run is completed", timeout=END)
        text = await news.inner_text()
        assert "From the" in text or "After a reload" in text
        assert "answer: started" in text
        assert "answer: Gap: chunks may be missing in attempt 1" in text
        assert "answer: completed" in text


async def test_a_button_that_fails_says_so_in_an_alert(browser: Browser) -> None:
    async with opened(browser) as page:
        await page.goto(URL)
        await page.route("**/demo/runs", lambda route: route.abort())
        await page.click("#start")
        await expect(page.get_by_role("alert")).to_contain_text("The demo does not answer")
        await expect(page.locator("#start")).to_be_enabled()


STATES: Final[dict[str, Sequence[tuple[str, dict[str, Any]]]]] = {
    "streaming": (
        step("step_started"),
        ("token", {"step": "answer", "attempt": 1, "index": 0, "text": "Hi"}),
    ),
    "lost": (gap("unknown_cursor", None), step("step_skipped", "other"), *LOST),
    "failed": (
        ("stream.reset", {"step": "answer", "attempt": 2}),
        step("step_retrying", "other"),
        step("step_failed"),
        ("stream.end", {"status": "failed"}),
    ),
    "waiting": (("stream.wait", {"cause": "hatchet"}),),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_axe_finds_nothing_in_any_state_of_the_page(
    browser: Browser, scheme: str, viewport: dict[str, int], tmp_path: Path
) -> None:
    axe = (need_npm("axe-core") / "axe.min.js").read_text(encoding="utf-8")
    for state in ("empty", *STATES):
        async with opened(browser, viewport=viewport, color_scheme=scheme) as page:
            complaints = complaints_of(page)
            if state == "empty":
                await page.goto(URL)
            else:
                await shows(page, STATES[state])
                await expect(page.locator(".count")).to_have_text(str(len(STATES[state])), timeout=END)
            await page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
            await page.evaluate(axe)
            found = await page.evaluate(
                "(values) => axe.run(document, { runOnly: { type: 'tag', values } })", RULES
            )
            broken = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]
            name = f"demo-{state}-{scheme}-{viewport['width']}.png"
            await page.screenshot(path=artifact(name, tmp_path), full_page=True)
            assert broken == [], state
            assert complaints == [], state


OUT_OF_PLACE: Final = """
() => {
  const shown = [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility());
  const outside = (one) => {
    const scrolls = one.closest("pre, .frames");
    if ((scrolls && scrolls !== one) || one.closest("#news, svg")) return false;
    const box = one.getBoundingClientRect();
    const around = (one.parentElement.closest(".card") ?? document.body).getBoundingClientRect();
    return box.right > around.right + 0.5 || box.left < around.left - 0.5 || box.right > innerWidth;
  };
  return shown.filter(outside).map((one) => one.outerHTML.slice(0, 120));
}
"""


async def test_on_a_phone_nothing_leaves_its_card_and_the_first_reader_is_in_sight(browser: Browser) -> None:
    async with demo("--speed", "2") as (_, url), opened(browser, viewport=PHONE) as page:
        await page.goto(url)
        assert await page.evaluate(OUT_OF_PLACE) == []
        await page.click('[data-workflow="flaky"]')
        text = page.locator('[data-step="reason_docs"] .text:not(:empty)')
        await text.wait_for(timeout=END)
        box = await text.bounding_box()
        assert box is not None
        assert box["y"] + 24 < PHONE["height"]  # the first line of the first text, without scrolling
        assert await page.evaluate(OUT_OF_PLACE) == []
        await page.click("#join")
        await expect(page.locator(".end:visible")).to_have_count(2, timeout=END)
        assert await page.evaluate(OUT_OF_PLACE) == []
        assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


FOCUSED: Final = """
() => {
  const one = document.activeElement;
  const style = getComputedStyle(one);
  return [one.id || one.className || one.tagName, style.outlineStyle, parseFloat(style.outlineWidth)];
}
"""


async def test_each_control_and_each_scroll_area_is_reached_by_keyboard_and_shows_its_focus(
    browser: Browser,
) -> None:
    async with opened(browser, viewport=PHONE) as page:
        await shows(page, STATES["streaming"])
        await expect(page.locator(".count")).to_have_text("2", timeout=END)
        await page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        reached = {}
        for _ in range(20):
            await page.keyboard.press("Tab")
            name, outline, width = await page.evaluate(FOCUSED)
            reached[name] = (outline, width)
        del reached["BODY"]
        assert reached.keys() >= {"start", "join", "reload", "outage", "quiet cut", "frames", "copy", "yaml"}
        assert {name: one for name, one in reached.items() if one != ("solid", 2)} == {}


async def test_nothing_moves_for_longer_than_five_seconds(browser: Browser) -> None:
    async with opened(browser) as page:
        await shows(page, STATES["streaming"])
        await expect(page.locator(".count")).to_have_text("2", timeout=END)
        lasting = await page.evaluate(
            "document.getAnimations().map((one) => one.effect.getComputedTiming().endTime)"
        )
        assert lasting
        assert max(lasting) <= 5_000
