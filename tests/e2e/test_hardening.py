"""What an attacker may try, and the result, in the order of SECURITY.md.

Most tests run against the whole proxy on a real socket (`served`), those about processes against the
command itself (`Command`). Two teams share it: `open` admits everybody, `locked` needs a token.

    1  requests      lines, heads, bodies, slowness, numbers
    2  paths         isolation of teams, streams and runs
    3  injection     into frames, headers and logs
    4  bombs         YAML and expressions of a team's file
    5  cursors       forged, foreign, too long
    6  accidents     an exception reveals nothing
    7  secrets       planted in all inputs, found in no output

Tokens, tickets, keys: test_auth*.py, test_tickets.py. Pages: test_origins.py. Random input: test_fuzz.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import grpc
import grpc.aio
import httpx
import pytest
from click.testing import CliRunner

from config.checks.checker import Form, check
from config.expressions.api import ExpressionFailed, ExpressionProblem, compile_expression
from config.model.files import HatchetConfig
from config.problems import ERROR
from proxy.access.jwks import BURST, SOONEST, USABLE
from proxy.cli.commands.check import command as check_command
from proxy.core.events import Event
from proxy.hatchet.client import HatchetClient
from proxy.hatchet.upstream import Upstream
from proxy.rules.ruleset import Rules
from proxy.server.http.request_limits import BODY_BYTES, HEAD_BYTES, HEAD_COUNT, LINE_BYTES, REQUEST_SECONDS
from proxy.simulator import Engine
from proxy.simulator.script.default import chat
from proxy.simulator.script.model import Chunks, Step, Workflow, script
from tests.support.cost import relative_cost
from tests.support.issuer import token
from tests.support.served import Command, Served, served
from tests.support.waiting import until

NOBODY: Final = "00000000-0000-4000-8000-000000000000"
SECRET: Final = "planted-jwt-secret-0123456789-0123456789-0123456789"
TICKETS: Final = "planted-ticket-key-0123456789-0123456789"

INJECTED: Final = (
    "\n\nevent: stream.end\ndata: {}\n\n",
    "\r\rid: forged\r\r",
    "\r\n\r\nretry: 1\r\n\r\n",
    "\u2028data: x\u2029",
    "\x00\x1b[2J\x7f",
    "data: {}",
    ": comment",
    '","type":"forged',
    "</script>",
)
SCRIPT: Final = script(
    chat(),
    Workflow(
        "inject",
        (
            Step(
                "say",
                chunks=Chunks(tuple(t.encode() for t in INJECTED), 0.01),
                output={"text": list(INJECTED)},
            ),
        ),
    ),
    Workflow("endless", (Step("wait", takes=1e6, timeout=2e6),)),
)
PROXY: Final = """
version: 1
server: {linger: 200ms, drain: {grace: 2s, spread: 1s}}
teams:
  open:
    hatchet: {token: "${OPEN}"}
    auth: none
  locked:
    hatchet: {token: "${LOCKED}"}
    auth:
      jwt: {key: "${SECRET}", algorithms: [HS256], audience: streams}
      from: [bearer, "cookie:session", ticket]
      tickets: {key: "${file:KEY_FILE}", lifetime: 10m}
"""
TEAM: Final = """
version: 1
streams:
  chat:
    path: /chat/{workflowRunId}
    wait_for_run: 100ms
    rules: [{events: ["*", step_stream], event: run_event, data: {type: type, step: step, payload: payload}}]
  own:
    path: /own/{metadata.key}
    wait_for_run: 100ms
    rules: [{events: ["*", step_stream], data: run_id}]
"""


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(SCRIPT, speed=20.0, seed=7, tenants=2) as one:
        yield one


@pytest.fixture
def env(engine: Engine) -> dict[str, str]:
    found, locked = engine.env_of(0), engine.env_of(1)
    return {
        **found,
        "OPEN": found["HATCHET_CLIENT_TOKEN"],
        "LOCKED": locked["HATCHET_CLIENT_TOKEN"],
        "SECRET": SECRET,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    key = tmp_path / "ticket-key"
    key.write_text(TICKETS)
    where = tmp_path / "stream-proxy"
    (where / "teams").mkdir(parents=True)
    (where / "proxy.yaml").write_text(PROXY.replace("KEY_FILE", str(key)))
    for team in ("open", "locked"):
        (where / "teams" / f"{team}.yaml").write_text(TEAM)
    return where


@pytest.fixture
async def proxy(folder: Path, env: dict[str, str]) -> AsyncIterator[Served]:
    async with served(folder, env) as one:
        yield one


@pytest.fixture
async def client(proxy: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as one:
        yield one


async def raw(url: str, *pieces: bytes) -> bytes:
    """The response to bytes that no HTTP client would send, up to the end of the connection."""
    where = httpx.URL(url)
    reader, writer = await asyncio.open_connection(where.host, where.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def status_of(url: str, *pieces: bytes) -> int:
    """The status of the response; it is read while the pieces are sent, so that no reset can hide it."""
    where = httpx.URL(url)
    reader, writer = await asyncio.open_connection(where.host, where.port)
    line = asyncio.create_task(reader.readline())
    try:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        return int((await line).split()[1])
    finally:
        writer.close()


def get(target: str, *headers: str) -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: streams.example.com", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def bearer(**claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(SECRET, 'HS256', aud='streams', **claims)}"}


# -- 1 requests: a client may not be long, slow or many ---------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/open/chat/" + "a" * LINE_BYTES), 414),
        (get(f"/open/chat/{NOBODY}?ticket=" + "a" * 300_000), 414),
        (get(f"/open/chat/{NOBODY}", "Cookie: session=" + "c" * HEAD_BYTES), 431),
        (get(f"/open/chat/{NOBODY}", "Cookie: session=" + "c" * 300_000), 431),
        (get(f"/open/chat/{NOBODY}", *(f"X-{n}: x" for n in range(200))), 431),
        (get(f"/open/chat/{NOBODY}", "Content-Length: 3", "Transfer-Encoding: chunked"), 400),
        (get(f"/open/chat/{NOBODY}", "Content-Length: 3", "Content-Length: 4"), 400),
        (get(f"/open/chat/{NOBODY}", "X: a\x00b"), 400),
        (get(f"/open/chat/{NOBODY}", "X : a"), 400),
        (get(f"/open/chat/{NOBODY}\x00"), 400),
        (get("/open/chat/\xff"), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x00" * 1000, 400),
    ],
)
async def test_a_request_that_is_too_long_or_not_http_is_refused(
    proxy: Served, request_bytes: bytes, status: int
) -> None:
    assert await status_of(proxy.url, request_bytes) == status
    assert not proxy.hub.sessions


async def test_a_body_is_not_read_beyond_the_size_of_a_ticket_request(proxy: Served) -> None:
    for path in ("/locked/tickets", f"/open/chat/{NOBODY}", "/healthz"):
        head = f"POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 10000000\r\n\r\n"
        assert await status_of(proxy.url, head.encode(), *(b"x" * 65536 for _ in range(40))) == 413, path


async def test_other_methods_and_upgrades_are_refused(proxy: Served, client: httpx.AsyncClient) -> None:
    for method in ("PUT", "PATCH", "DELETE", "TRACE", "POST", "PROPFIND"):
        answer = await client.request(method, f"/open/chat/{NOBODY}")
        assert answer.status_code == 405, method
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        assert b"Authorization" not in answer.content  # TRACE would echo
    for upgrade in ("websocket", "h2c", "TLS/1.0"):
        answer = await client.get(
            f"/open/chat/{NOBODY}", headers={"Connection": "Upgrade", "Upgrade": upgrade}
        )
        assert answer.status_code == 404
    assert await status_of(proxy.url, b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: h\r\n\r\n") == 400


async def test_two_hundred_slow_requests_do_not_block_others_for_long(
    folder: Path, env: dict[str, str]
) -> None:
    """Slow loris: clients send single bytes and never a whole head."""
    command = await Command(folder, env).start()
    loris = [asyncio.create_task(_drip(command.port)) for _ in range(200)]
    try:
        async with httpx.AsyncClient(base_url=command.url) as client:
            assert (await client.get("/healthz")).status_code == 200
        assert not any(task.done() for task in loris), "answered while all of them are still sending"
        ended = await asyncio.wait_for(asyncio.gather(*loris), REQUEST_SECONDS + 10)
        assert set(ended) <= {b"HTTP/1.1 408", b""}
    finally:
        command.terminate()
        assert await command.ended() == 0


async def _drip(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(reader.read())
    try:
        for byte in get("/healthz", "X: " + "x" * 500):
            writer.write(bytes([byte]))
            await asyncio.wait([answer], timeout=0.5)
            if answer.done():
                break
        return (await answer)[:12]
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_process_refuses_connections_before_its_file_limit_and_keeps_running(
    folder: Path, env: dict[str, str]
) -> None:
    files = 200
    command = await Command(folder, env, wrapper=("sh", "-c", f'ulimit -n {files}; exec "$@"', "sh")).start()
    connections = []
    try:
        for _ in range(files + 50):
            connections.append(await asyncio.open_connection("127.0.0.1", command.port))
        open_files = Path(f"/proc/{command.process.pid}/fd")
        await until(lambda: len(list(open_files.iterdir())) > files // 2, "the process has accepted many")
        assert len(list(open_files.iterdir())) < files
        for _, writer in connections:
            writer.close()
        async with httpx.AsyncClient(base_url=command.url) as client:

            async def healthy() -> bool:
                try:
                    return (await client.get("/healthz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(healthy, "it accepts again")
    finally:
        command.terminate()
        assert await command.ended() == 0


# -- 2 paths: isolation of teams, streams and runs ------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/open/../locked/chat/{run}",
        "/open/%2e%2e/locked/chat/{run}",
        "/open/..%2flocked/chat/{run}",
        "/open%2f..%2flocked/chat/{run}",
        "/open/chat/..%2f..%2flocked%2fchat%2f{run}",
        "/open/chat/%2e%2e%2f{run}",
        "/open/chat/{run}%2f..%2f..",
        "/open\\..\\locked\\chat\\{run}",
        "/open/chat/{run}%00",
        "/open/chat/{run}/",
        "/open/chat//{run}",
        "//open/chat/{run}",
        "//locked/chat/{run}",
        "/./locked/chat/{run}",
        "/LOCKED/chat/{run}",
        "/Locked/chat/{run}",
        "/locked/CHAT/{run}",
        "/%6cocked/chat/{run}",
        "/locked;x=1/chat/{run}",
        "/locked%20/chat/{run}",
        "/locked%c0%af/chat/{run}",
        "/locked/chat/{run}",
        "/locked/chat/%7b{run}%7d",
        "/open/chat/{run}",
        "/open/chat/{run}?team=locked",
        "http://127.0.0.1/locked/chat/{run}",
        "http://locked/locked/chat/{run}",
        "/chat/{run}",
        "/default/chat/{run}",
        "/{run}",
        "/open/own/{run}",
    ],
)
async def test_no_path_leads_to_another_teams_run_without_its_credentials(
    engine: Engine, proxy: Served, target: str
) -> None:
    run = await engine.trigger("chat", tenant=1)
    answer = await raw(proxy.url, get(target.format(run=run)))
    assert answer.split(b" ", 2)[1] in (b"400", b"401", b"404"), answer[:200]
    assert b"run_event" not in answer and b"event:" not in answer


async def test_a_run_id_names_one_run_however_it_is_written(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat")
    for written in (f"{{{run}}}", run.replace("-", ""), f"urn:uuid:{run}", f" {run}", f"{run}\n", run[:-1]):
        assert (await client.get(f"/open/chat/{quote(written, safe='')}")).status_code == 400
    assert (await client.head(f"/open/chat/{run.upper()}")).status_code == 200


class TokenRecorder(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """A Hatchet that only notes which tokens come over which connection, and refuses them all."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

    def service(self, handler_call_details: Any) -> Any:
        async def refuse(request: bytes, context: Any) -> bytes:
            metadata = dict(context.invocation_metadata())
            self.seen.add((context.peer(), metadata["authorization"]))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            return b""

        return grpc.unary_unary_rpc_method_handler(refuse)


async def test_tokens_of_two_teams_never_meet_on_one_connection(folder: Path, env: dict[str, str]) -> None:
    """Also where both teams' Hatchet has one address, as for two tenants of one engine."""
    listener, server = TokenRecorder(), grpc.aio.server()
    server.add_generic_rpc_handlers((listener,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    elsewhere = {**env, "HATCHET_CLIENT_HOST_PORT": f"127.0.0.1:{port}"}
    async with served(folder, elsewhere) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        asks = [client.get(f"/{team}/chat/{NOBODY}", headers=bearer()) for team in ("open", "locked") * 5]
        assert {answer.status_code for answer in await asyncio.gather(*asks)} == {200}  # stream.wait
    await server.stop(None)
    assert {metadata for _, metadata in listener.seen} == {f"bearer {env['OPEN']}", f"bearer {env['LOCKED']}"}
    assert len({peer for peer, _ in listener.seen}) == len(listener.seen)


async def test_probes_and_metrics_name_no_run_no_subject_and_no_secret(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run = await engine.trigger("chat", tenant=1)
    await client.get(
        f"/locked/chat/{run}", headers={**bearer(sub="planted-subject"), "Accept": "text/event-stream"}
    )
    for path in ("/metrics", "/healthz", "/readyz"):
        text = (await client.get(path)).text
        assert run not in text and "planted" not in text and engine.tokens[1] not in text


# -- 3 injection: what a run, a client or a team's file says stays text --------------------------------


def frames(stream: bytes) -> Iterator[dict[str, str]]:
    """An event stream as the HTML standard reads it: a line ends at CR, LF or both."""
    for block in re.split(rb"(?:\r\n|\r|\n){2}", stream):
        lines = [line for line in re.split(rb"\r\n|\r|\n", block) if line]
        fields = [line.partition(b":") for line in lines if not line.startswith(b":")]
        if fields:
            yield {name.decode(): value.removeprefix(b" ").decode() for name, _, value in fields}


async def test_a_payload_cannot_inject_a_frame(engine: Engine, client: httpx.AsyncClient) -> None:
    run = await engine.trigger("inject")
    async with client.stream("GET", f"/open/chat/{run}") as response:
        body = b"".join([part async for part in response.aiter_bytes()])
    received = list(frames(body))
    assert all(set(frame) <= {"id", "event", "data", "retry"} for frame in received)
    assert [frame["event"] for frame in received if "event" in frame].count("stream.end") == 1
    assert len([frame for frame in received if "retry" in frame]) == 1
    payloads = [
        json.loads(frame["data"])["payload"] for frame in received if frame.get("event") == "run_event"
    ]
    texts = [payload for payload in payloads if isinstance(payload, str)]
    outputs = [payload["text"] for payload in payloads if isinstance(payload, dict) and "text" in payload]
    assert texts == list(INJECTED) or outputs == [list(INJECTED)]
    assert b"\x00" not in body and b"\x1b" not in body


@pytest.mark.parametrize(
    "name", ["a\\nid: 1", "a\\rb", "a\\u2028", "stream.end", "stream.", "open", "error", "a\\0"]
)
def test_a_rule_cannot_name_a_reserved_event(name: str) -> None:
    text = f'version: 1\nstreams: {{s: {{rules: [{{events: ["*", step_stream], event: "{name}"}}]}}}}\n'
    problems = check("t.yaml", text.encode(), Form.TEAM, {}).problems
    assert [problem for problem in problems if problem.severity == ERROR]
    assert all("\n" not in problem.message and "\r" not in problem.message for problem in problems)


@pytest.mark.parametrize(
    "evil", ["x%0d%0aSet-Cookie:%20a=b", "x%0aX: y", "%0d%0a%0d%0a<html>", "x%00y", "x%1b[2J"]
)
async def test_a_request_cannot_inject_a_response_header(proxy: Served, evil: str) -> None:
    for target in (
        f"/open/own/{evil}",
        f"/open/chat/{evil}",
        f"/open/chat/{NOBODY}?ticket={evil}&last_event_id={evil}",
    ):
        head, _, body = (await raw(proxy.url, get(target, f"Origin: https://{evil}"))).partition(b"\r\n\r\n")
        assert b"set-cookie" not in head.lower() and b"x:" not in head.lower()
        assert b"\x1b" not in head + body and b"<html>" not in body


async def test_nothing_can_inject_a_log_line(
    engine: Engine, proxy: Served, client: httpx.AsyncClient
) -> None:
    evil = 'x\r\n{"level":"error","event":"forged"}\x1b[2J\u2028'
    forged = {"traceparent": evil, "key": evil}
    run = await engine.trigger("chat", metadata=forged)
    await client.get(f"/open/chat/{run}", headers={"User-Agent": "a\tb \x7f", "X-Forwarded-For": "forged"})
    for path in ("/open/own/%0a%0dforged%1b", "/open/%0aforged", "/%0aforged%1b%5b2J/chat/x"):
        await client.get(path)
    await raw(proxy.url, b"GET /\x1b[2Jforged HTTP/1.1\r\nforged\r\n\r\n")
    text = proxy.written.getvalue()
    assert "\x1b" not in text and "\u2028" not in text
    for line in text.splitlines():
        assert json.loads(line)["event"] != "forged"


# -- 4 bombs: a team's file and its expressions cost no more than their size --------------------------------


def bombs() -> Iterator[tuple[str, bytes]]:
    laughs = "\n".join(
        f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" if n else "  l0: &l0 lol" for n in range(12)
    )
    yield "a billion laughs", f"version: 1\nshapes:\n{laughs}\n".encode()
    yield "itself inside itself", b"version: 1\nshapes: &a {a: *a}\n"
    yield "deep brackets", b"version: 1\nstreams: " + b"[" * 100_000
    yield "deep braces", b"version: 1\nstreams: " + b"{a: " * 20_000
    yield "deep indents", b"\n".join(b" " * n + b"a:" for n in range(1000))
    yield "a megabyte", b"version: 1\nstreams: {" + b"a" * (1 << 20) + b": 1}"
    yield "many keys", b"version: 1\nshapes: {" + b",".join(b"k%d: {a: a}" % n for n in range(100_000)) + b"}"
    yield "many anchors", b"version: 1\n" + b"".join(b"k%d: &a%d x\n" % (n, n) for n in range(50_000))
    yield "a long number", b"version: 1\nstreams: " + b"9" * 100_000
    yield "a long key", b"version: 1\n? " + b"k" * 5000 + b"\n: 1\n"
    yield "a tag that runs", b"version: 1\nstreams: !!python/object/apply:os.system ['touch pwned']\n"
    yield "merge keys", b"version: 1\na: &a {x: 1}\nstreams: {<<: [" + b"*a, " * 5000 + b"*a]}\n"
    rules = b"".join(
        b"      - {events: ['*', step_stream], when: \"" + b"(" * 60 + b"a" + b")" * 60 + b'"}\n'
        for _ in range(2000)
    )
    yield "many expressions", b"version: 1\nstreams:\n  s:\n    rules:\n" + rules


@pytest.mark.parametrize(("name", "content"), list(bombs()), ids=[name for name, _ in bombs()])
def test_a_yaml_bomb_is_refused_quickly(name: str, content: bytes) -> None:
    found = []
    assert relative_cost(lambda: found.append(check("team.yaml", content, Form.TEAM, {}))) < 100
    (checked,) = found
    assert checked.model is None
    assert len(checked.problems) <= 201
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    "text",
    [
        " | ".join(["[@, @]"] * 40),
        " | ".join(["{a: @, b: @}"] * 40),
        "(" * 2000 + "a" + ")" * 2000,
        "[" * 2000 + "a" + "]" * 2000,
        "!" * 3000 + "a",
        "a" + ".a" * 5000,
        "a" + "[*]" * 1400,
        "a || " * 2000 + "a",
        "`" + "[" * 3000 + "]" * 3000 + "`",
        "'" + "x" * 5000 + "'",
        "map(&" * 500 + "@" + ", @)" * 500,
    ],
    ids=lambda text: text[:12],
)
def test_an_expression_that_could_explode_is_never_compiled(text: str) -> None:
    def compiled() -> None:
        with pytest.raises(ExpressionProblem):
            compile_expression(text)

    assert relative_cost(compiled) < 40


@pytest.mark.parametrize(
    "text",
    [
        "payload[*].[payload]",
        "map(&length(to_string(@)), payload)",
        "payload[?contains(payload, @)]",
        "payload[].map(&[@, @], payload)",
        "sort_by(payload, &to_string(@))",
        "payload[?map(&@, payload)]",
        "join('', map(&to_string($), payload))",
        "map(&map(&map(&@, payload), payload), payload)",
        "[payload, payload][].to_string(@)",
    ],
)
def test_evaluation_has_a_budget_whatever_the_event(text: str) -> None:
    """The event's size is the attacker's choice too: a product's users fill its payloads."""
    try:
        expression = compile_expression(text)
    except ExpressionProblem:
        return
    event = {"type": "step_completed", "payload": [f"item {n}" for n in range(20_000)]}

    def evaluate() -> None:
        try:
            expression.evaluate(event)
        except ExpressionFailed as failed:
            assert "item" not in failed.reason

    assert relative_cost(evaluate) < 60


def test_a_rule_over_its_budget_is_reported_and_nothing_is_sent() -> None:
    checked = check(
        "t.yaml", TEAM.replace("data: run_id", 'data: "map(&payload, payload)"').encode(), Form.TEAM, {}
    )
    assert checked.model is not None
    failures: list[tuple[str, str, str]] = []
    stream: Any = checked.model.model_dump()["streams"]["own"]
    from config.model.files import StreamConfig  # noqa: PLC0415

    rule = {"name": "r", "events": "*", "data": "map(&map(&map(&@, payload), payload), payload)"}
    config = StreamConfig.model_validate({"name": "own", "path": stream["path"], "rules": [rule]})
    rules = Rules(config, lambda *failure: failures.append(failure))
    event = Event("step_completed", NOBODY, "s", payload=["planted"] * 20_000)
    if rules.message(event) is None:
        assert failures and "planted" not in str(failures)


# -- 5 cursors: forged, foreign, oversized ----------------------------------------------------------------


async def test_a_foreign_cursor_starts_from_the_beginning_with_one_gap(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    run, other = await engine.trigger("chat"), await engine.trigger("chat")
    whole = await _listen(client, f"/open/chat/{run}", "")
    mine, foreign = whole[-2]["id"], (await _listen(client, f"/open/chat/{other}", ""))[-2]["id"]
    packed, seal, place = mine.split(".")
    forged = [
        foreign,
        f"{packed}.{seal}.99999999",
        f"{packed}.{seal}.-1",
        f"{packed}.{seal}.1e3",
        f"{packed}.{seal}.٣",
        f"{packed}.{seal[::-1]}.{place}",
        f"{packed}.{'A' * len(seal)}.end",
        f"{packed}.{seal}.end",
        f"{packed}.{seal}",
        f"{mine}.{place}",
        "x" * 7000,
        "..",
        "\u202e",
        "0",
    ]
    for cursor in forged:
        received = await _listen(client, f"/open/chat/{run}", cursor)
        assert _gaps(received) == ["unknown_cursor", *_gaps(whole)], cursor
        assert [f["data"] for f in received if f.get("event") == "run_event"] == [
            f["data"] for f in whole if f.get("event") == "run_event"
        ]


def _gaps(received: list[dict[str, str]]) -> list[str]:
    return [json.loads(frame["data"])["cause"] for frame in received if frame.get("event") == "stream.gap"]


async def _listen(client: httpx.AsyncClient, path: str, cursor: str) -> list[dict[str, str]]:
    answer = await client.get(path, params={"last_event_id": cursor})
    assert answer.status_code == 200
    return [frame for frame in frames(answer.content) if "data" in frame]


@pytest.mark.parametrize("cursor", [b"\x00", b"a\x00b", b"\r", b"\xff\xfe", b"\x7f"])
async def test_a_cursor_of_control_characters_is_handled(
    engine: Engine, proxy: Served, cursor: bytes
) -> None:
    run = await engine.trigger("chat")
    head = get(f"/open/chat/{run}").replace(
        b"Connection: close", b"Connection: close\r\nLast-Event-ID: " + cursor
    )
    answer = await raw(proxy.url, head)
    assert answer[:12] in (b"HTTP/1.1 200", b"HTTP/1.1 400")


# -- 6 accidents: unforeseen errors reveal nothing --------------------------------------------------------


class Exploding(HatchetClient):
    """A client of Hatchet that raises an unforeseen exception with a secret in its text."""

    async def core(self, run_id: str) -> Any:
        raise RuntimeError(f"planted-in-an-exception {self!r}")


async def test_the_text_of_an_unforeseen_exception_reaches_neither_client_nor_log(
    folder: Path, env: dict[str, str]
) -> None:
    def open_client(config: HatchetConfig) -> Upstream:
        return Exploding(config, env)

    async with served(folder, env, open_client) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        try:
            answer = await client.get(f"/open/chat/{NOBODY}", timeout=3)
            assert "planted" not in answer.text and "Traceback" not in answer.text
        except httpx.TransportError:
            pass
        assert (await client.get("/healthz")).status_code in (200, 503)
        assert "planted" not in proxy.written.getvalue()


# -- 7 secrets: planted in all inputs, found in no output ---


class Output:
    """Everything that a proxy writes: responses, log, metrics."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.failed = 0.0  # reloads that failed so far

    def add(self, where: str, text: str) -> None:
        self.texts[f"{where} #{len(self.texts)}"] = text

    async def ask(self, client: httpx.AsyncClient, method: str, path: str, **more: Any) -> httpx.Response:
        answer = await client.request(method, path, **more)
        self.add(f"{method} {path[:20]}", f"{answer.headers} {answer.text}")
        return answer

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log's lines."""
        texts = [text for where, text in self.texts.items() if where.startswith("log")]
        return [json.loads(line) for text in texts for line in text.splitlines() if line]

    def search(self, secrets: Mapping[str, str]) -> None:
        for name, secret in secrets.items():
            for where, text in self.texts.items():
                assert secret not in text, f"{name} is in {where}"


@asynccontextmanager
async def command(folder: Path, env: Mapping[str, str], haul: Output) -> AsyncIterator[Command]:
    one = await Command(folder, env).start()
    try:
        haul.add("arguments", Path(f"/proc/{one.process.pid}/cmdline").read_text())
        yield one
    finally:
        one.terminate()
        out = await asyncio.to_thread(one.process.stdout.read) if one.process.stdout else b""
        await one.ended()
        haul.add("log", "\n".join(one.lines))
        haul.add("standard output", out.decode())


@pytest.mark.timeout(120)
async def test_planted_secrets_are_found_nowhere(engine: Engine, folder: Path, env: dict[str, str]) -> None:
    """Good and bad clients, good and broken files, an outage of Hatchet; then all output is searched."""
    run, haul = await engine.trigger("chat", {"message": "planted-payload"}, tenant=1), Output()
    good, wrong = (
        bearer(sub="ada"),
        {"Authorization": "Bearer " + token("wrong-" + SECRET, "HS256", aud="streams")},
    )
    secrets = {
        "the open team's Hatchet token": env["OPEN"],
        "the locked team's Hatchet token": env["LOCKED"],
        "the JWT secret": SECRET,
        "the ticket key": TICKETS,
        "a good token": good["Authorization"].split()[1],
        "a wrong token": wrong["Authorization"].split()[1],
        "a run's input": "planted-payload",
    }
    async with (
        command(folder, env, haul) as proxy,
        httpx.AsyncClient(base_url=proxy.url, timeout=20) as client,
    ):
        given = await client.post("/locked/tickets", json={"stream": "chat", "run": run}, headers=good)
        ticket = secrets["a ticket"] = given.json()["ticket"]
        stale = secrets["a bad ticket"] = ticket[:-6] + "planted"
        for headers in (good, wrong, {"Cookie": f"session={good['Authorization'].split()[1]}"}):
            await haul.ask(client, "GET", f"/locked/chat/{NOBODY}", headers=headers)
            await haul.ask(
                client, "POST", "/locked/tickets", json={"stream": "x", "run": "y"}, headers=headers
            )
        for path in (
            f"/locked/chat/{NOBODY}",
            "/locked/nothing",
            "/nobody/chat/x",
            "/open/tickets",
            "/metrics",
        ):
            for each in (ticket, stale):
                await haul.ask(client, "GET", path, params={"ticket": each})
        await client.get(f"/locked/chat/{run}", params={"ticket": ticket})
        await raw(proxy.url, get(f"/locked/chat/{run}?ticket={ticket}", "broken header"))
        await raw(proxy.url, f"GET /x?ticket={ticket} HTTP/9.9\r\nAuthorization: {good}\r\n\r\n".encode())
        await engine.faults.stop_grpc()
        await haul.ask(client, "GET", f"/locked/chat/{NOBODY}", headers=good)
        await engine.faults.start_grpc()
        engine.faults.refuse_tokens()
        await haul.ask(client, "GET", f"/open/chat/{NOBODY}")
        engine.faults.refuse_tokens(False)
        for broken in _broken_files(folder):
            (folder / "proxy.yaml").write_text(broken)
            os.kill(proxy.process.pid, 1)  # SIGHUP: read the files again
            await _until_reload_failed(client, haul)
            haul.add("check", _check(folder, env))
        for path in ("/metrics", "/healthz", "/readyz", "/readyz?strict=1"):
            await haul.ask(client, "GET", path)
    assert {"stream over", "reload failed"} <= {line["event"] for line in haul.log}
    haul.search(secrets)


def _broken_files(folder: Path) -> list[str]:
    """Secrets in wrong places, where an error message might quote one."""
    good = (folder / "proxy.yaml").read_text()
    places = {
        "lifetime: 10m": 'lifetime: "${SECRET}"',
        "algorithms: [HS256]": 'algorithms: ["${SECRET}"]',
        "auth: none": 'auth: "${LOCKED}"',
        "version: 1": 'version: "${SECRET}"',
        "linger: 200ms": 'linger: "${file:' + re.findall(r"file:([^}]+)}", good)[0] + '}"',
        '{token: "${OPEN}"}': '{token: "${OPEN}", api: "${OPEN}", host_port: "http://u:${SECRET}@h"}',
        "audience: streams": 'audience: streams, "${SECRET}": 1',
        'key: "${SECRET}"': 'key: ["${SECRET}"]',
        "grace: 2s": 'grace: "2s${MISSING:?needed}${SECRET}"',
        'from: [bearer, "cookie:session", ticket]': 'from: ["cookie:${SECRET} x"]',
    }
    for old in places:
        assert old in good, old
    return [good.replace(old, new) for old, new in places.items()]


async def _until_reload_failed(client: httpx.AsyncClient, haul: Output) -> None:
    pattern = re.compile(r'stream_proxy_\w*reloads\w*\{[^}]*"failed"[^}]*\} ([0-9.]+)')

    async def failed() -> float:
        return sum(float(n) for n in pattern.findall((await client.get("/metrics")).text))

    async def one_more() -> bool:
        return await failed() > haul.failed

    await until(one_more, "the reload has failed")
    haul.failed = await failed()


def _check(folder: Path, env: Mapping[str, str]) -> str:
    text = ""
    for shape in ("text", "json", "github"):
        result = CliRunner().invoke(check_command, ["--format", shape, str(folder)], env=dict(env))
        assert result.exit_code == 1, result.output
        text += result.output
    return text


# -- SECURITY.md is true -----------------------------------------------------------------------------------


def test_security_md_names_tests_that_exist_and_limits_that_hold() -> None:
    here = Path(__file__).resolve().parent.parent
    text = (here.parent / "SECURITY.md").read_text()
    for name in re.findall(r"test_\w+\.py", text):
        assert any(here.rglob(name)), name
    stated = (
        f"line {LINE_BYTES >> 10} KiB, head {HEAD_BYTES >> 10} KiB and {HEAD_COUNT} headers, "
        f"body {BODY_BYTES >> 10} KiB, {REQUEST_SECONDS:.0f} s for all of it"
    )
    assert stated in text
    issuer = f"{USABLE / 3600:.0f} h, one fetch at a time, {BURST} at once and one per {SOONEST:.0f} s"
    assert issuer in text
