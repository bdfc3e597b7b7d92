"""The operators' console: behind its token, and without payloads unless they are shown.

The rule that dropped an event is found in three clicks, on a desktop, on a phone, and by keyboard.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Script, Step, Workflow, script
from tests.support.browser import artifact, chromium, complaints_of
from tests.support.demo_run import LOSSLESS
from tests.support.secrets import HATCHET_TOKEN
from tests.support.served import Served, served
from tests.support.tools import need_npm
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

END: Final = 20_000  # milliseconds
PHONE: Final = {"width": 390, "height": 844}
DESKTOP: Final = {"width": 1280, "height": 900}
WCAG: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
TOKEN: Final = "3f9c1b7a5d2e8046b1c3d5e7f9a0b2c4"
CARD: Final = "4242-4242"  # only ever in a payload and in metadata
YAML: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}", tap: {stream: "on"}}
server: {admin_port: 1, console: {token: SECRET, payloads: PAYLOADS}}
streams:
  chat:
    rules:
      - {name: tokens, events: step_stream, steps: talk, data: {text: payload}}
      - {name: paid, events: step_completed, when: "payload.total > `100`", data: {total: payload.total}}
"""


def shop() -> Script:
    """A step that streams a text and returns a total that no rule takes."""
    step = Step("talk", chunks=Chunks((CARD.encode(), b" is fine"), 0.005), output={"total": 7, "card": CARD})
    return script(Workflow("shop", (step,)))


@dataclass
class Deployment:
    """A proxy with an engine, and a run that was read to its end."""

    proxy: Served
    client: httpx.AsyncClient
    run: str
    yaml: Path

    @property
    def url(self) -> str:
        return f"{self.proxy.admin_url}/console/"

    async def configure(self, payloads: str = "hidden") -> None:
        """Serve the file as it was at first, or with payloads shown."""
        self.yaml.write_text(_yaml(payloads), encoding="utf-8")
        await self.proxy.reloader.reload()

    async def get(self, path: str, token: str | None = TOKEN) -> httpx.Response:
        """A request for the console's data."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return await self.client.get(f"{self.url}api/{path}", headers=headers)

    async def post(self, path: str, body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {TOKEN}"}
        return await self.client.post(f"{self.url}api/{path}", json=body, headers=headers)

    async def read(self) -> None:
        """Read the run to its end, so that it is followed here."""
        stream = await self.client.get(f"{self.proxy.url}/streams/chat/{self.run}")
        assert "stream.end" in stream.text


def _yaml(payloads: str = "hidden") -> str:
    return YAML.replace("SECRET", TOKEN).replace("PAYLOADS", payloads)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    yaml = tmp_path_factory.mktemp("console") / "streams.yaml"
    yaml.write_text(_yaml(), encoding="utf-8")
    async with (
        Engine(shop(), speed=20, quirks=LOSSLESS) as engine,
        served(yaml, engine.env, with_admin=True) as proxy,
        httpx.AsyncClient(timeout=30) as client,
    ):
        await until(lambda: engine.streams, "the tap is open")
        run = await engine.trigger("shop", {}, {"stream": "on", "card": CARD})
        deployment = Deployment(proxy, client, run, yaml)
        await deployment.read()
        yield deployment


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as one:
        yield one


@asynccontextmanager
async def signed_in(browser: Browser, deployment: Deployment, **options: Any) -> AsyncIterator[Page]:
    """A page of the console, signed in by keyboard, that complains about nothing."""
    context = await browser.new_context(**options)
    page = await context.new_page()
    complaints = complaints_of(page)
    await page.goto(deployment.url)
    await page.keyboard.type(TOKEN)  # the field has the focus
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible(timeout=END)
    yield page
    assert complaints == []
    await context.close()


# -- the data --


async def test_nothing_is_answered_without_the_token(deployment: Deployment) -> None:
    paths = ("overview", "runs", "log", "teams/default/config", "teams/default/text")
    for path in (
        *paths,
        f"teams/default/runs/{deployment.run}",
        f"teams/default/runs/{deployment.run}/items/1",
    ):
        for token in (None, "x", TOKEN[:-1], TOKEN + "x"):
            answer = await deployment.get(path, token)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json().keys() == {"status", "detail"}
        assert (await deployment.get(path)).status_code == 200
    refused = [line for line in deployment.proxy.log if line["event"] == "refused"]
    assert refused
    assert TOKEN[:-1] not in json.dumps(refused)


async def test_no_answer_may_be_framed_stored_or_run_foreign_scripts(deployment: Deployment) -> None:
    page = await deployment.client.get(deployment.url)
    for answer in (page, await deployment.get("overview"), await deployment.get("runs", None)):
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
    for url in (
        f"{deployment.proxy.url}/console/",
        *(f"{deployment.url}{path}" for path in ("%2e%2e/routes.py", "x.js")),
    ):
        assert (await deployment.client.get(url)).status_code == 404, url


async def test_payloads_and_metadata_are_hidden_until_they_are_shown(deployment: Deployment) -> None:
    run = f"teams/default/runs/{deployment.run}"
    found = (await deployment.get(run)).json()
    paths = [run, *(f"{run}/items/{item['n']}" for item in found["items"])]
    others = ["overview", "runs", "log", "teams/default/config", "teams/default/text"]
    for path in (*paths, *others):
        assert CARD not in (await deployment.get(path)).text, path
    await deployment.configure(payloads="shown")
    try:
        assert CARD in (await deployment.get(run)).text
        for path in others:
            assert CARD not in (await deployment.get(path)).text, path
    finally:
        await deployment.configure()


async def test_a_run_is_found_by_its_id_its_stream_and_its_metadata(deployment: Deployment) -> None:
    here = {"found": [{"team": "default", "run": deployment.run}]}
    for text in (
        deployment.run,
        deployment.run.upper(),
        f"/streams/chat/{deployment.run}",
        f"{deployment.proxy.url}/streams/chat/{deployment.run}?ticket=x",
        f"card={CARD}",
        f" card = {CARD} ",
    ):
        assert (await deployment.post("find", {"text": text})).json() == here, text
    for nothing in ("", "card=unknown", "/elsewhere/x", "https://example.com", "%00", "=", 7):
        assert (await deployment.post("find", {"text": nothing})).json() == {"found": []}, nothing
    for path in (
        "teams/default/runs/no-id",
        "teams/nobody/config",
        f"teams/default/runs/{deployment.run}/items/999",
    ):
        assert (await deployment.get(path)).status_code == 404
    unknown = await deployment.get("teams/default/runs/00000000-0000-4000-8000-000000000000")
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "Hatchet knows no such run of this team")


async def test_a_run_that_nobody_reads_is_shown_from_its_state(deployment: Deployment) -> None:
    followed = (await deployment.get(f"teams/default/runs/{deployment.run}")).json()
    kinds = [item.get("type", item["kind"]) for item in followed["items"]]
    assert kinds == ["step_started", "step_stream", "step_stream", "step_completed", "run_completed", "end"]
    assert followed["followed"]
    deployment.proxy.hub.teams["default"].runs.shrink(0)  # forget it
    state = (await deployment.get(f"teams/default/runs/{deployment.run}")).json()
    assert not state["followed"]
    assert [item["type"] for item in state["items"]] == ["step_started", "step_completed", "run_completed"]
    await deployment.read()  # for the other tests


async def test_a_broken_file_shows_its_problems_beside_what_is_served(deployment: Deployment) -> None:
    same = (await deployment.get("teams/default/config")).json()
    assert (same["problems"], same["differs"]) == ([], [])
    assert same["live"]["hatchet"]["token"] == "[redacted]"
    assert {stream["heartbeat"] for stream in same["live"]["streams"].values()} == {"15s"}
    assert 'token: "[redacted]"' in same["written"]["hatchet"]
    deployment.yaml.write_text(_yaml().replace("step_completed", "step_complete"), encoding="utf-8")
    await deployment.proxy.reloader.reload()
    try:
        broken = (await deployment.get("teams/default/config")).json()
        assert [problem["code"] for problem in broken["problems"]] == ["unknown-event"]
        assert broken["live"] == same["live"]
        text = (await deployment.get("teams/default/text")).json()["yaml"]
        assert "step_complete," in text
        assert TOKEN not in text
    finally:
        await deployment.configure()


async def test_a_team_whose_file_was_never_good_shows_its_problems(tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    secret = "${T}"
    (tmp_path / "proxy.yaml").write_text(
        f"version: 1\nserver: {{admin_port: 1, console: {{token: {TOKEN}}}}}\n"
        f'teams: {{shop: {{hatchet: {{token: "{secret}"}}, auth: none}}}}\n'
    )
    team = tmp_path / "teams/shop.yaml"
    team.write_text("version: 1\nstreams: {chat: {rules: [{events: step_complete}]}}\n")
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with (
        served(tmp_path, {"T": HATCHET_TOKEN}, with_admin=True) as proxy,
        httpx.AsyncClient(base_url=f"{proxy.admin_url}/console/api/", headers=headers) as client,
    ):
        found = (await client.get("teams/shop/config")).json()
        assert [problem["code"] for problem in found["problems"]] == ["unknown-event"]
        assert (found["live"], found["written"], found["differs"]) == (None, {}, [])
        assert (await client.get("teams/nobody/config")).status_code == 404
        assert (await client.get("teams/shop/text")).status_code == 404, "only texts that are served"


async def test_the_console_can_be_switched_off_and_its_token_changed_by_a_reload(
    deployment: Deployment,
) -> None:
    text = _yaml()
    try:
        deployment.yaml.write_text(text.replace(TOKEN, TOKEN[::-1]), encoding="utf-8")
        await deployment.proxy.reloader.reload()
        assert (await deployment.get("overview")).status_code == 401
        assert (await deployment.get("overview", TOKEN[::-1])).status_code == 200
        deployment.yaml.write_text(text.replace(f", console: {{token: {TOKEN}, payloads: hidden}}", ""))
        await deployment.proxy.reloader.reload()
        assert (await deployment.client.get(deployment.url)).status_code == 404
        assert (await deployment.client.get(f"{deployment.proxy.admin_url}/readyz")).status_code == 200
        assert (await deployment.get("overview")).status_code == 404
    finally:
        await deployment.configure()


async def test_drafts_that_are_none_are_refused_in_words(deployment: Deployment) -> None:
    many: list[dict[str, Any]] = [{}] * 201
    bodies: tuple[Any, ...] = (
        [],
        {"yaml": 7},
        {"yaml": "a" * 70_000},
        {"yaml": "", "events": {}},
        {"yaml": "", "events": many},
    )
    for body in bodies:
        answer = await deployment.post("playground", body)
        assert answer.status_code == 400, body
        assert answer.json()["detail"]


# -- the page --


@pytest.mark.browser
@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop-light", "phone-dark"]
)
async def test_the_rule_that_dropped_an_event_is_three_clicks_away(
    browser: Browser, deployment: Deployment, viewport: dict[str, int], scheme: str, tmp_path: Path
) -> None:
    axe = (need_npm("axe-core") / "axe.min.js").read_text(encoding="utf-8")

    async def is_fine(page: Page, name: str) -> None:
        await page.evaluate(axe)
        found = await page.evaluate("(values) => axe.run(document, {runOnly: {type: 'tag', values}})", WCAG)
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == [], (
            name
        )
        assert await page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], name
        await page.screenshot(
            path=artifact(f"console-{name}-{scheme}-{viewport['width']}.png", tmp_path), full_page=True
        )

    async with signed_in(
        browser, deployment, viewport=viewport, color_scheme=scheme, bypass_csp=True
    ) as page:
        run = page.get_by_role("link", name=deployment.run)
        await expect(run).to_be_visible(timeout=END)
        await is_fine(page, "overview")
        await run.click()  # 1
        event = page.get_by_role("button", name="step_completed talk")
        await event.click(timeout=END)  # 2
        chat = page.get_by_role("region", name="Stream chat")
        await expect(chat).to_contain_text("when is not true", timeout=END)  # and the third is not needed
        await expect(chat).to_contain_text("not sent")
        await is_fine(page, "run")
        await page.get_by_role("button", name="Open in the playground").click()
        await expect(page.get_by_text("check finds no problems")).to_be_visible(timeout=END)
        await is_fine(page, "playground")
        await page.get_by_role("link", name="Log").click()
        await expect(page.get_by_role("cell", name="stream over").first).to_be_visible(timeout=END)
        await is_fine(page, "log")
        await page.goto(f"{deployment.url}#/teams/default")
        await expect(page.get_by_text("It is what is served.")).to_be_visible(timeout=END)
        await is_fine(page, "team")


@pytest.mark.browser
async def test_a_draft_is_tried_corrected_and_saved_as_a_test_by_keyboard_alone(
    browser: Browser, deployment: Deployment
) -> None:
    async with signed_in(browser, deployment, viewport=DESKTOP) as page:
        await page.get_by_role("link", name="Playground").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("check finds no problems")).to_be_visible(timeout=END)
        frames = page.get_by_role("region", name="Frames of event 1")
        await expect(frames).to_have_text('data: {"text":"Hello"}', timeout=END)
        yaml = page.get_by_label("The YAML")
        draft = await yaml.input_value()
        await yaml.fill(draft.replace("text: payload", "text: payloa"))
        problems = page.locator(".problems li")
        await expect(problems.first).to_contain_text("payload", timeout=END)
        await expect(problems.first.locator("pre")).to_contain_text("text: payloa")
        await yaml.fill(draft)
        save = page.get_by_role("button", name="Save as test")
        await save.focus(timeout=END)
        await page.keyboard.press("Enter")
        tests = page.locator(".tests li")
        await expect(tests).to_have_count(1, timeout=END)
        await expect(tests).to_contain_text("passed")
        assert "expect: [" in await yaml.input_value()
        await yaml.fill((await yaml.input_value()).replace('"Hello"}}]', '"Bye"}}]'))
        await page.get_by_label("An event").fill('{"type": "step_strem"}')
        await expect(page.get_by_text("did you mean `step_stream`?")).to_be_visible(timeout=END)


@pytest.mark.browser
async def test_a_wrong_token_is_said_and_signing_out_forgets_the_right_one(
    browser: Browser, deployment: Deployment
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(deployment.url)
    await page.get_by_label("Token").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("The console's token is wrong", timeout=END)
    await context.close()
    async with signed_in(browser, deployment) as page:
        await page.reload()
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible(timeout=END)
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Token")).to_be_visible(timeout=END)
        await page.reload()
        await expect(page.get_by_label("Token")).to_be_visible(timeout=END)
