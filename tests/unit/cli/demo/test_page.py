"""The demo's routes without a browser: files, buttons and malformed requests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from proxy.cli.demo.page import CHECKOUT, FILES, client, example, with_page
from proxy.cli.demo.workflows import demo_script
from proxy.simulator import Engine


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(demo_script(), speed=20) as one:
        yield one


@pytest.fixture
async def page(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    rest = PlainTextResponse("the proxy's")
    transport = httpx.ASGITransport(app=with_page(rest, engine, example()))
    async with httpx.AsyncClient(transport=transport, base_url="http://demo") as asked:
        yield asked


@pytest.mark.parametrize("path", [*FILES, "/demo/stream-proxy.js", "/demo/streams.yaml"])
async def test_the_pages_files_are_served(page: httpx.AsyncClient, path: str) -> None:
    answer = await page.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/")
    assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", ""), (
        "the page loads nothing from elsewhere"
    )


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/streams/live/x", "/streams/tickets", "/demons", "/x"]
)
async def test_every_other_request_reaches_the_proxy_unchanged(
    engine: Engine, method: str, path: str
) -> None:
    seen: list[tuple[str, str, bytes, bytes]] = []

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        seen.append((scope["method"], scope["path"], scope["query_string"], body))
        await PlainTextResponse("the proxy's")(scope, receive, send)

    transport = httpx.ASGITransport(app=with_page(proxy, engine, example()))
    async with httpx.AsyncClient(transport=transport, base_url="http://demo") as asked:
        answer = await asked.request(method, f"{path}?a=b", content=b"body")
    assert answer.text == "the proxy's"
    assert seen == [(method, path, b"a=b", b"body")]


@pytest.mark.parametrize("workflow", ["chat", "flaky", "broken"])
async def test_a_click_triggers_a_run(page: httpx.AsyncClient, engine: Engine, workflow: str) -> None:
    answer = await page.post("/demo/runs", json={"workflow": workflow})
    assert answer.status_code == 201
    assert engine.run(answer.json()["run_id"]).workflow.name == workflow


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"1", b'{"workflow": 7}', b'{"workflow": "other"}', b"x" * 20_000]
)
async def test_a_malformed_request_triggers_nothing(page: httpx.AsyncClient, body: bytes) -> None:
    assert (await page.post("/demo/runs", content=body)).status_code == 400


async def test_the_outage_button_makes_hatchet_unreachable(page: httpx.AsyncClient, engine: Engine) -> None:
    assert (await page.post("/demo/outage")).json() == {"seconds": 4.0}
    await engine.faults.start_grpc()


def test_a_wheel_contains_the_files_of_the_demo() -> None:
    carried = re.findall(r'"force_include"\]\["(.+)"\] = "(.+)"', (CHECKOUT / "hatch_build.py").read_text())
    assert [CHECKOUT / source for source, _ in carried] == [example(), client()]
    assert {target.rpartition("/")[0] for _, target in carried} == {"proxy/cli/demo"}
