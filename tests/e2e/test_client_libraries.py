"""docs/clients.md: each sample reads a whole run, through a wait and a lost connection, and then stops."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route

from proxy.cli.demo.page import example
from proxy.cli.demo.workflows import ANSWER, THOUGHTS, demo_script, words
from proxy.simulator import Engine
from tests.support.browser import chromium
from tests.support.demo_run import LOSSLESS
from tests.support.faulty_front import FaultyFront, faulty_front
from tests.support.processes import running
from tests.support.served import served
from tests.support.tools import ROOT, TOOLS, need, need_npm
from tests.support.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

PAGE: Final = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
PAIR: Final = {"stream": "on"}
TEXT: Final = THOUGHTS + ANSWER
NOBODY: Final = "00000000-0000-4000-8000-000000000000"
RETURNED: Final = "\nwindow.returned = true;"
AGAIN: Final = 0.6  # seconds: six times the stream's retry; a client that asks again has done so by then

# The package of each sample for browsers, and the file that an import of it means.
MODULES: Final = {
    "@microsoft/fetch-event-source": "lib/esm/index.js",
    "event-source-polyfill": "src/eventsource.js",
    "reconnecting-eventsource": "build/esm/reconnecting-eventsource.js",
    "@vueuse/core": "dist/index.js",
    "@vueuse/shared": "dist/index.js",
    "vue": "dist/vue.esm-browser.prod.js",
    "eventsource-client": "dist/default.esm.js",
    "eventsource-parser": "dist/index.js",
}
HTML: Final = f"""<!doctype html><title>clients</title>
<script>
window.shown = [];
window.token = "a-token";
window.show = (data) => shown.push(data);
window.url = new URLSearchParams(location.search).get("url");
</script>
<script type="importmap">{
    json.dumps({"imports": {name: f"/lib/{name}/{file}" for name, file in MODULES.items()}})
}</script>
<script type="module" src="/sample.js"></script>"""


def sample(heading: str, language: str) -> str:
    """The sample under a heading."""
    section = PAGE.split(f"\n### {heading}\n", 1)[1].split("\n##", 1)[0]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None, heading
    return found[1]


IN_BROWSERS: Final = (
    "EventSource",
    "@microsoft/fetch-event-source",
    "event-source-polyfill",
    "reconnecting-eventsource",
    "@vueuse/core",
    "eventsource-client",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as one:
        yield one


@pytest.fixture
def config(tmp_path: Path) -> Path:
    text = example().read_text(encoding="utf-8")
    file = tmp_path / "streams.yaml"
    file.write_text(text.replace("    rules:\n", "    retry: 100ms\n    wait_for_run: 100ms\n    rules:\n"))
    return file


@asynccontextmanager
async def run_of(config: Path, *, calm: bool = False) -> AsyncIterator[tuple[FaultyFront, str]]:
    """A front before a proxy, and the path of a run that has just begun."""
    async with (
        Engine(demo_script(), speed=4, seed=1, quirks=LOSSLESS) as engine,
        served(config, engine.env) as proxy,
        faulty_front(proxy.url, calm=calm) as front,
    ):
        await until(lambda: engine.streams, "the tap is open")
        yield front, f"/streams/live/{await engine.trigger('chat', {}, PAIR)}"


@asynccontextmanager
async def opened(browser: Browser, front: FaultyFront, path: str, code: str) -> AsyncIterator[Page]:
    """A page of the front's origin that runs `code` on the stream at `path`."""

    async def module(route: Route) -> None:
        name = urlsplit(route.request.url).path.removeprefix("/lib/")
        file = TOOLS / "node_modules" / name
        file = file if file.is_file() else file.with_name(f"{file.name}.js")
        text = file.read_text(encoding="utf-8")
        if "event-source-polyfill" in name:  # a script, which bundlers turn into a module
            text += "\nexport const EventSourcePolyfill = window.EventSourcePolyfill;"
        await route.fulfill(body=text, content_type="text/javascript")

    context = await browser.new_context()
    page = await context.new_page()
    await page.route("**/lib/**", module)
    await page.route(re.compile("/page"), lambda route: route.fulfill(body=HTML, content_type="text/html"))
    await page.route("**/sample.js", lambda route: route.fulfill(body=code, content_type="text/javascript"))
    await page.goto(f"{front.url}/page?url={quote(path, safe='')}")
    yield page
    await context.close()


def text_of(shown: list[dict[str, Any]]) -> str:
    """The text of the frames in the order in which they came; a frame that comes twice is in it twice."""
    return "".join(frame["text"] for frame in shown)


async def is_done(page: Page) -> list[dict[str, Any]]:
    """What the sample has shown, once the last token has come."""
    await page.wait_for_function(
        "([length]) => shown.map((one) => one.text).join('').length >= length",
        arg=[len(TEXT)],
        timeout=60_000,
    )
    shown: list[dict[str, Any]] = await page.evaluate("shown")
    return shown


@pytest.mark.parametrize("library", IN_BROWSERS)
async def test_a_browsers_library_reads_the_whole_run_once_and_stops(
    browser: Browser, config: Path, library: str
) -> None:
    if library in MODULES:
        need_npm(library)
    async with (
        run_of(config) as (front, path),
        opened(browser, front, path, sample(library, "js")) as page,
    ):
        assert text_of(await is_done(page)) == TEXT
        assert len(front.requests) == 3, "after the wait, and after the lost connection"
        await asyncio.sleep(AGAIN)
        assert len(front.requests) == 3, "it asked again after the end"
        assert text_of(await page.evaluate("shown")) == TEXT


@pytest.mark.parametrize("library", [one for one in IN_BROWSERS if one != "reconnecting-eventsource"])
async def test_a_browsers_library_takes_404_for_final(browser: Browser, config: Path, library: str) -> None:
    if library in MODULES:
        need_npm(library)
    path = f"/streams/live/{NOBODY}"
    async with (
        run_of(config, calm=True) as (front, _),
        opened(browser, front, path, sample(library, "js")),
    ):
        await until(lambda: len(front.answered) == 1, within=30)
        assert front.answered == [404]
        await asyncio.sleep(AGAIN)
        assert len(front.requests) == 1


async def test_fetch_event_source_does_not_reconnect_unless_onclose_throws(
    browser: Browser, config: Path
) -> None:
    need_npm("@microsoft/fetch-event-source")
    code = sample("@microsoft/fetch-event-source", "js")
    naive = code.replace('throw new Error("the stream was cut");', "0;") + RETURNED
    assert naive.count("throw new") == 1
    async with run_of(config) as (front, path), opened(browser, front, path, naive) as page:
        await page.wait_for_function("window.returned", timeout=30_000)
        assert len(front.requests) == 1, "it took the wait for the end"


async def test_fetch_event_source_loses_the_frame_in_which_a_connection_breaks_unless_the_cursor_is_kept(
    browser: Browser, config: Path
) -> None:
    need_npm("@microsoft/fetch-event-source")
    naive = sample("@microsoft/fetch-event-source", "js").replace('"last-event-id": cursor }', "}")
    naive = naive.replace('const { "last-event-id": _, ...others } = headers;', "const others = headers;")
    async with run_of(config) as (front, path), opened(browser, front, path, naive + RETURNED) as page:
        await page.wait_for_function("window.returned", timeout=30_000)
        shown = await page.evaluate("shown.map((one) => [one.step, one.index])")
    whole = len(words(THOUGHTS)) + len(words(ANSWER))
    assert len(shown) in {whole - 1, whole}, "the frame is lost only if its id came before the break"


async def test_reconnecting_eventsource_asks_again_after_204_unless_it_is_closed(
    browser: Browser, config: Path
) -> None:
    need_npm("reconnecting-eventsource")
    code = sample("reconnecting-eventsource", "js").replace("source.close()", "0")
    eager = code.replace("(url)", "(url, { max_retry_time: 50 })")
    async with run_of(config, calm=True) as (front, path), opened(browser, front, path, eager) as page:
        assert text_of(await is_done(page)) == TEXT
        await until(lambda: len(front.requests) >= 5, within=30)
        assert text_of(await page.evaluate("shown")) == TEXT


async def test_vueuse_with_auto_reconnect_begins_the_run_again_unless_it_is_closed(
    browser: Browser, config: Path
) -> None:
    need_npm("@vueuse/core")
    code = sample("@vueuse/core", "js").replace("close();", "0;")
    naive = code.replace('"stream.end"])', '"stream.end"], { autoReconnect: { delay: 10 } })')
    async with run_of(config, calm=True) as (front, path), opened(browser, front, path, naive) as page:
        await page.wait_for_function(
            "(length) => shown.map((one) => one.text).join('').length >= 2 * length",
            arg=len(TEXT),
            timeout=60_000,
        )


async def test_eventsource_client_asks_again_after_404_unless_a_fetch_looks_at_the_status(
    browser: Browser, config: Path
) -> None:
    need_npm("eventsource-client")
    naive = sample("eventsource-client", "js").replace("source.close();\n    return", "0;\n    return")
    assert naive.count("source.close()") == 1
    path = f"/streams/live/{NOBODY}"
    async with run_of(config, calm=True) as (front, _), opened(browser, front, path, naive):
        await until(lambda: len(front.requests) >= 2, within=30)


async def test_eventsource_for_node_reads_the_whole_run_once_and_stops(config: Path, tmp_path: Path) -> None:
    need_npm("eventsource")
    async with run_of(config) as (front, path):
        code = (
            "import { createRequire } from 'node:module';\n"
            f"const require = createRequire({json.dumps(str(TOOLS) + '/')});\n"
            f"const url = {json.dumps(front.url + path)}, token = 'a-token';\n"
            "const show = (data) => console.log(JSON.stringify(data));\n"
            + re.sub(r"import (.*) from (.*);", r"const \1 = require(\2);", sample("eventsource", "js"))
        )
        script = tmp_path / "sample.mjs"
        script.write_text(code)
        async with running(str(script), program=(need("node"),)) as node:
            assert await node.ended(60) == 0, node.output  # it ends by itself: nothing is open any more
        assert text_of([json.loads(line) for line in node.output.splitlines()]) == TEXT
        assert len(front.requests) == 3
        assert "authorization: bearer a-token" in front.requests[0].lower()


@pytest.mark.parametrize("library", ["httpx-sse", "aiohttp-sse-client"])
async def test_a_python_library_reads_the_whole_run_once_and_stops(config: Path, library: str) -> None:
    names: dict[str, Any] = {}
    exec(sample(library, "python"), names)
    shown: list[dict[str, Any]] = []
    async with run_of(config) as (front, path):
        await names["follow"](front.url + path, shown.append)
        assert text_of(shown) == TEXT
        assert len(front.requests) == 3


async def test_sseclient_py_reads_one_connection(config: Path) -> None:
    names: dict[str, Any] = {}
    exec(sample("sseclient-py", "python"), names)
    shown: list[dict[str, Any]] = []
    async with run_of(config, calm=True) as (front, path):
        await asyncio.to_thread(names["follow"], front.url + path, shown.append)
        assert text_of(shown) == TEXT


async def test_the_answer_to_the_cursor_of_an_end_is_no_error_for_httpx_sse(config: Path) -> None:
    from httpx_sse import aconnect_sse  # noqa: PLC0415

    async with run_of(config, calm=True) as (front, path), httpx.AsyncClient(timeout=60) as client:
        async with aconnect_sse(client, "GET", front.url + path) as source:
            *_, end = [frame async for frame in source.aiter_sse()]
        headers = {"Last-Event-ID": end.id}
        async with aconnect_sse(client, "GET", front.url + path, headers=headers) as source:
            assert source.response.status_code == 204
            assert [frame async for frame in source.aiter_sse()] == []


async def test_every_library_of_the_overview_has_a_sample() -> None:
    rows = re.findall(r"^\| ([^|]+?) \|", PAGE.split("## Overview", 1)[1].split("The samples", 1)[0], re.M)[
        1:
    ]
    names = [re.sub(r"`useEventSource`|`| \(Node\.js\)| in browsers", "", row).strip() for row in rows]
    assert len(names) == 10
    for name in names:
        assert f"\n### {name}\n" in PAGE
