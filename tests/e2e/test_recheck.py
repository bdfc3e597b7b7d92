"""Rights that are taken away close the open streams that would not be admitted now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from proxy.simulator import Engine
from proxy.simulator.script.default import chat
from proxy.simulator.script.model import Step, Workflow, script
from tests.e2e.test_wire import FOR_UVICORN, PAGE, SECRET, YAML
from tests.support.issuer import Issuer, jwk, private_key, token
from tests.support.served import Served, served
from tests.support.waiting import until

ENDLESS = Workflow("endless", (Step("wait", takes=100_000.0),))
OPEN = YAML.replace("limits: {connections_per_run: 1}\n", "")
BOTH = pytest.mark.parametrize("extra", [{}, {"Content-Length": "0"}], ids=["fast path", "by uvicorn"])
assert FOR_UVICORN == "Content-Length: 0"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(script(chat(), ENDLESS), speed=20.0, seed=7) as one:
        yield one


class Reader:
    """A client that reads a stream in the background of the test."""

    def __init__(self, response: httpx.Response) -> None:
        self.pieces = response.aiter_text()
        self.text = ""

    async def until(self, what: str) -> None:
        while what not in self.text:
            self.text += await anext(self.pieces)

    async def rest(self) -> str:
        async for piece in self.pieces:
            self.text += piece
        return self.text


@asynccontextmanager
async def reading(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> AsyncIterator[Reader]:
    async with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        reader = Reader(response)
        await reader.until("retry: ")
        yield reader


async def put(proxy: Served, path: Path, text: str) -> None:
    path.write_text(text)
    await proxy.reloader.reload()


CHANGES = {
    "key": (SECRET, "another secret of the tokens, long enough for HS256: 01234"),
    "audience": ("algorithms: [HS256]", "algorithms: [HS256], audience: others"),
    "algorithm": ("algorithms: [HS256]", "algorithms: [HS512]"),
    "source": ("from: [bearer, cookie:session, ticket]", "from: [cookie:session, ticket]"),
    "origin": (f'cors: {{origins: ["{PAGE}"], credentials: true', 'cors: {origins: ["https://b.example"]'),
    "allow": ("path: /live/{workflowRunId}", "path: /live/{workflowRunId}\n    allow: claims.role == 'x'"),
}


@BOTH
@pytest.mark.parametrize("change", CHANGES)
async def test_a_reload_closes_the_streams_that_would_not_be_admitted_now(
    engine: Engine, tmp_path: Path, change: str, extra: dict[str, str]
) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text(OPEN)
    async with served(path, engine.env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        run = await engine.trigger("endless")
        headers = {"Authorization": f"Bearer {token(SECRET, 'HS256')}", "Origin": PAGE, **extra}
        async with reading(client, f"/live/{run}", headers) as reader:
            await put(proxy, path, OPEN + "\n# nothing else\n")
            await put(proxy, path, OPEN.replace(*CHANGES[change]))
            assert (await reader.rest()).endswith("event: stream.expired\ndata: {}\n\n")
        refused = await client.get(f"/live/{run}", headers=headers)
        assert refused.status_code in (401, 403)


@BOTH
async def test_a_reload_that_takes_no_rights_away_closes_nothing(
    engine: Engine, tmp_path: Path, extra: dict[str, str]
) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text(OPEN)
    async with served(path, engine.env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        run = await engine.trigger("endless")
        good, other = token(SECRET, "HS256"), token(SECRET, "HS256", sub="bob")
        async with (
            reading(client, f"/live/{run}", {"Authorization": f"Bearer {good}", **extra}),
            reading(client, f"/live/{run}", {"Cookie": f"session={other}", **extra}),
        ):
            changed = OPEN.replace("linger: 10s", "linger: 11s").replace(
                "path: /live/{workflowRunId}", "path: /live/{workflowRunId}\n    allow: claims.sub == 'ada'"
            )
            await put(proxy, path, changed)
            await until(lambda: len(proxy.hub.sessions) == 1)
            (left,) = proxy.hub.sessions
            assert left.entitlement is not None and left.entitlement.identity.subject == "ada"


async def test_a_key_that_is_revoked_at_the_issuer_closes_the_streams_of_its_tokens(
    engine: Engine, tmp_path: Path
) -> None:
    first, second = private_key("RS256", "first"), private_key("RS256", "second")
    path = tmp_path / "streams.yaml"
    async with Issuer([jwk(first, kid="1"), jwk(second, kid="2")]) as issuer:
        path.write_text(
            OPEN.replace(
                f'key: "{SECRET}", algorithms: [HS256]', f"jwks_url: {issuer.url}, algorithms: [RS256]"
            )
        )
        async with served(path, engine.env) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
            run = await engine.trigger("endless")
            one, two = (
                {"Authorization": f"Bearer {token(key, 'RS256', kid=kid)}"}
                for key, kid in ((first, "1"), (second, "2"))
            )
            async with (
                reading(client, f"/live/{run}", one) as revoked,
                reading(client, f"/live/{run}", two),
            ):
                issuer.keys.pop(0)
                await proxy.hub._key_sets.at(issuer.url)._renew()
                assert (await revoked.rest()).endswith("event: stream.expired\ndata: {}\n\n")
                assert len(proxy.hub.sessions) == 1
