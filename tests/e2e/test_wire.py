"""HTTP as bytes: versions, Host, upgrades, redirects, pipelining, and CORS headers on every status.

Each case goes over the fast path and by uvicorn, where both can get such a request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator import Engine
from tests.support.issuer import token
from tests.support.served import Served, served

NOBODY = "00000000-0000-4000-8000-000000000000"
SECRET = "the secret of the tokens, long enough for HS256: 0123456789"
PAGE = "https://app.example.com"
LISTED = f"Origin: {PAGE}"
FOR_UVICORN = "Content-Length: 0"  # a header that the fast path leaves to uvicorn
BOTH = pytest.mark.parametrize("extra", [(), (FOR_UVICORN,)], ids=["fast path", "by uvicorn"])
YAML = f"""
version: 1
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}"}}
server: {{linger: 10s, drain: {{grace: 3s, spread: 1s}}}}
auth:
  jwt: {{key: "{SECRET}", algorithms: [HS256]}}
  from: [bearer, cookie:session, ticket]
  tickets: {{key: "a key for the tickets, long enough: 0123456789", lifetime: 10m}}
limits: {{connections_per_run: 1}}
streams:
  live:
    path: /live/{{workflowRunId}}
    wait_for_run: 200ms
    cors: {{origins: ["{PAGE}"], credentials: true, headers: [X-Requested-With]}}
    rules: [{{events: ["*", step_stream], event: run_event, data: {{type: type, step: step}}}}]
  staff:
    path: /staff/{{workflowRunId}}
    wait_for_run: 200ms
    cors: {{origins: ["{PAGE}"]}}
    allow: claims.role == 'staff'
    rules: [{{events: "*"}}]
  mine:
    path: /mine/{{metadata.message_id}}
    wait_for_run: 200ms
    rules: [{{events: "*"}}]
"""


def bearer(**claims: Any) -> str:
    return f"Authorization: Bearer {token(SECRET, 'HS256', **claims)}"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(speed=20.0, seed=7) as one:
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    path = tmp_path / "streams.yaml"
    path.write_text(YAML)
    async with served(path, engine.env) as one:
        yield one


class Response:
    """A response as it came: `head` in lower case, `body` without chunked framing taken off."""

    def __init__(self, response: bytes) -> None:
        head, _, self.body = response.partition(b"\r\n\r\n")
        line, *headers = head.decode("latin-1").lower().split("\r\n")
        self.status = int(line.split()[1])
        self.headers = dict(header.split(": ", 1) for header in headers)

    @property
    def detail(self) -> str:
        return str(json.loads(self.body)["detail"])


def request(line: str, *headers: str, body: bytes = b"", version: str = "1.1", host: str = "h") -> bytes:
    lines = [f"{line} HTTP/{version}", *([f"Host: {host}"] if host else []), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


async def exchange(proxy: Served, *pieces: bytes) -> bytes:
    """What comes back for `pieces` until the connection is closed from the other side."""
    host, _, port = proxy.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


async def ask(proxy: Served, line: str, *headers: str, **more: Any) -> Response:
    return Response(await exchange(proxy, request(line, "Connection: close", *headers, **more)))


# -- HTTP/1.0 ---------------------------------------------------------------------------------------


@BOTH
async def test_a_client_of_http_1_0_gets_no_chunks_and_the_body_ends_with_the_connection(
    engine: Engine, proxy: Served, extra: tuple[str, ...]
) -> None:
    run = await engine.trigger("chat")
    for ending in ((), ("Connection: keep-alive",)):
        response = Response(
            await exchange(
                proxy, request(f"GET /live/{run}", bearer(), *extra, *ending, version="1.0", host="")
            )
        )
        assert response.status == 200
        assert "transfer-encoding" not in response.headers and response.headers["connection"] == "close"
        assert response.body.startswith(b"retry: ")
        assert response.body.endswith(b'event: stream.end\ndata: {"status":"completed"}\n\n')


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /healthz", 200),
        ("GET /metrics", 200),
        ("GET /nothing", 404),
        (f"GET /live/{NOBODY}", 401),
        ("HEAD /readyz", 200),
        (f"OPTIONS /live/{NOBODY}", 204),
    ],
)
async def test_no_answer_to_a_client_of_http_1_0_is_chunked(proxy: Served, line: str, status: int) -> None:
    response = Response(await exchange(proxy, request(line, version="1.0")))
    assert response.status == status
    assert "transfer-encoding" not in response.headers


# -- offers to upgrade -------------------------------------------------------------------------------

H2C = (
    "Connection: Upgrade, HTTP2-Settings, close",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
)
WEBSOCKET = (
    "Connection: Upgrade, close",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("pieces", [1, 2, 50])
@pytest.mark.parametrize("upgrade", [H2C, WEBSOCKET])
async def test_a_request_with_a_body_that_offers_an_upgrade_is_answered_with_its_body(
    engine: Engine, proxy: Served, upgrade: tuple[str, ...], chunked: bool, pieces: int
) -> None:
    run = await engine.trigger("chat")
    body = json.dumps({"stream": "live", "run": run}).encode()
    framing = f"Content-Length: {len(body)}"
    if chunked:
        framing, body = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    whole = request("POST /tickets", *upgrade, framing, bearer(), body=body)
    size = -(-len(whole) // pieces)
    response = Response(await exchange(proxy, *(whole[at : at + size] for at in range(0, len(whole), size))))
    assert response.status == 201, response.body


async def test_a_connection_goes_on_after_an_offer_to_upgrade(engine: Engine, proxy: Served) -> None:
    body = json.dumps({"stream": "live", "run": await engine.trigger("chat")}).encode()
    first = ("Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(body)}", bearer())
    response = await exchange(
        proxy,
        request("POST /tickets", *first, body=body)
        + request("GET /healthz", "Connection: Upgrade", "Upgrade: h2c")
        + request("GET /healthz", "Connection: close"),
    )
    assert response.count(b"HTTP/1.1 201") == 1 and response.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("upgrade", [H2C, WEBSOCKET])
async def test_a_stream_flows_although_the_client_offers_an_upgrade(
    engine: Engine, proxy: Served, upgrade: tuple[str, ...]
) -> None:
    run = await engine.trigger("chat")
    response = Response(await exchange(proxy, request(f"GET /live/{run}", *upgrade, bearer())))
    assert response.status == 200
    assert b"event: stream.end" in response.body
    assert {line["event"] for line in proxy.log} == {"configuration warnings", "stream over"}


# -- Host, versions, pipelining ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        request(f"GET /live/{NOBODY}", "Host: other"),
        request(f"GET /live/{NOBODY}", host=""),
        request(f"GET /live/{NOBODY}", host="a b"),
        request(f"GET /live/{NOBODY}", host="a/b"),
        request(f"GET /live/{NOBODY}", host="a@b"),
        request("GET /healthz", host=""),
        request("GET /healthz", "Host: h", version="1.0"),
        request(f"GET /live/{NOBODY}", version="2.0"),
        request(f"GET /live/{NOBODY}", version="0.9"),
        f"GET /live/{NOBODY}\r\n\r\n".encode(),
        b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n",
    ],
)
async def test_a_request_that_rfc_9112_calls_bad_is_answered_with_400(proxy: Served, asked: bytes) -> None:
    response = Response(await exchange(proxy, asked))
    assert (response.status, response.headers["content-type"]) == (400, "application/problem+json")
    assert response.detail


@pytest.mark.parametrize("line", [f"GET /live/{NOBODY}", "GET /healthz"])
@pytest.mark.parametrize("size", [0, 1, 40, 10_000])
async def test_pipelined_requests_are_all_answered(proxy: Served, line: str, size: int) -> None:
    whole = request(line) * 19 + request(line, "Connection: close")
    pieces = [whole] if not size else [whole[at : at + size] for at in range(0, len(whole), size)]
    response = await exchange(proxy, *pieces)
    assert response.count(b"HTTP/1.1 ") == 20


async def test_requests_beyond_the_limit_of_a_pipeline_end_with_an_answer(proxy: Served) -> None:
    response = await exchange(proxy, request("GET /healthz") * 500)
    assert response.count(b"HTTP/1.1 200 ") >= 20
    assert Response(response[response.rindex(b"HTTP/1.1 ") :]).status == 429


@BOTH
async def test_a_request_that_comes_during_a_stream_is_answered_after_it(
    engine: Engine, proxy: Served, extra: tuple[str, ...]
) -> None:
    run = await engine.trigger("chat")
    response = await exchange(
        proxy,
        request(f"GET /live/{run}", bearer(), *extra),
        request("GET /healthz", "Connection: close"),
    )
    stream, _, rest = response.partition(b"0\r\n\r\n")
    assert b"event: stream.end" in stream
    assert rest.startswith(b"HTTP/1.1 200 OK")


# -- redirects -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "GET /metrics/",
        "GET /healthz/",
        "GET /readyz/",
        "POST /tickets/",
        "GET //metrics",
        "GET /live",
        "GET /live/",
    ],
)
async def test_no_answer_is_a_redirect(proxy: Served, line: str) -> None:
    response = await ask(proxy, line, host="evil.example.com")
    assert response.status == 404
    assert "location" not in response.headers


# -- CORS ---------------------------------------------------------------------------------------------------


def shared(response: Response) -> bool:
    return (
        response.headers.get("access-control-allow-origin") == PAGE.lower()
        and response.headers.get("access-control-allow-credentials") == "true"
        and "origin" in response.headers["vary"]
    )


@BOTH
@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("GET /live/undefined", (), 400),
        ("GET /live/undefined", (bearer(),), 400),
        (f"GET /live/{NOBODY}", (), 401),
        (f"HEAD /live/{NOBODY}", (), 401),
        (f"GET /live/{NOBODY}", (bearer(),), 404),
        ("GET /nothing/here", (), 404),
        (f"GET /live/{NOBODY}/more", (), 404),
        (f"DELETE /live/{NOBODY}", (), 405),
        (f"FOO /live/{NOBODY}", (), 405),
        (f"get /live/{NOBODY}", (), 405),
        ("M-SEARCH2 /tickets", (), 405),
        ("GET /tickets", (), 405),
        ("POST /tickets", (), 400),
        (f"OPTIONS /live/{NOBODY}", ("Access-Control-Request-Method: GET",), 204),
        ("OPTIONS /nothing/here", ("Access-Control-Request-Method: GET",), 204),
        ("OPTIONS /tickets", ("Access-Control-Request-Method: POST",), 204),
        ("GET /live/" + "x" * 9000, (), 414),
        ("GET /live/x", ("Cookie: " + "c" * 33_000,), 431),
        ("GET /live/x", ("Host: other",), 400),
    ],
)
async def test_a_listed_page_can_read_every_status(
    proxy: Served, line: str, headers: tuple[str, ...], status: int, extra: tuple[str, ...]
) -> None:
    response = await ask(proxy, line, LISTED, *headers, *extra)
    assert response.status == status
    assert shared(response), response.headers


@BOTH
async def test_a_listed_page_can_read_a_stream_its_end_and_a_limit(
    engine: Engine, proxy: Served, extra: tuple[str, ...]
) -> None:
    run = await engine.trigger("chat")
    whole = await ask(proxy, f"GET /live/{run}", LISTED, bearer(), *extra)
    assert whole.status == 200 and shared(whole)
    cursor = whole.body.split(b"id: ")[-1].split(b"\n")[0].decode()
    ended = await ask(proxy, f"GET /live/{run}", LISTED, bearer(), f"Last-Event-ID: {cursor}", *extra)
    assert ended.status == 204 and shared(ended)
    assert (await ask(proxy, f"HEAD /live/{run}", LISTED, bearer(), *extra)).status == 200
    refused = await ask(proxy, f"GET /staff/{run}", LISTED, bearer(), *extra)
    assert refused.status == 403 and refused.headers["access-control-allow-origin"] == PAGE
    await engine.faults.stop_grpc()
    other = await engine.trigger("chat")
    away = await ask(proxy, f"GET /live/{other}", LISTED, bearer(), "Accept: application/json", *extra)
    assert away.status == 503 and shared(away)
    waits = await ask(proxy, f"GET /live/{other}", LISTED, bearer(), *extra)
    assert waits.status == 200 and b"stream.wait" in waits.body and shared(waits)


@BOTH
async def test_a_listed_page_can_read_that_a_limit_is_reached(
    engine: Engine, proxy: Served, extra: tuple[str, ...]
) -> None:
    run = await engine.trigger("chat")
    host, _, port = proxy.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request(f"GET /live/{run}", bearer()))
    await reader.readuntil(b"retry")
    full = await ask(proxy, f"GET /live/{run}", LISTED, bearer(), "Accept: application/json", *extra)
    assert full.status == 429 and shared(full)
    writer.close()


@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
async def test_a_listed_page_can_read_that_its_body_is_too_large(proxy: Served, framing: str) -> None:
    body = b"x" * 100_000
    if "chunked" in framing:
        body = b"186a0\r\n" + body + b"\r\n0\r\n\r\n"
    response = await ask(proxy, "POST /tickets", LISTED, framing, body=body)
    assert response.status == 413
    assert shared(response)


@BOTH
async def test_a_listed_page_can_read_an_unforeseen_error(
    engine: Engine, proxy: Served, extra: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("planted")

    team = proxy.hub.teams["default"]
    monkeypatch.setattr(team.limits, "admit", broken)
    monkeypatch.setattr(team.authenticator, "mint", broken)
    run = await engine.trigger("chat")
    response = await ask(proxy, f"GET /live/{run}", LISTED, bearer(), *extra)
    assert response.status == 500 and shared(response)
    assert response.headers["content-type"] == "application/problem+json"
    body = json.dumps({"stream": "live", "run": run}).encode()
    response = await ask(proxy, "POST /tickets", LISTED, bearer(), f"Content-Length: {len(body)}", body=body)
    assert response.status == 500 and shared(response)
    assert response.headers["content-type"] == "application/problem+json"


@BOTH
@pytest.mark.parametrize(
    "line", [f"GET /live/{NOBODY}", "GET /nothing", "GET /live/undefined", "GET /metrics"]
)
async def test_a_page_that_is_not_listed_can_read_nothing(
    proxy: Served, line: str, extra: tuple[str, ...]
) -> None:
    response = await ask(proxy, line, "Origin: https://evil.example.com", *extra)
    assert "access-control-allow-origin" not in response.headers


async def test_a_listed_page_cannot_read_the_probes(proxy: Served) -> None:
    for path in ("/metrics", "/readyz", "/healthz"):
        assert "access-control-allow-origin" not in (await ask(proxy, f"GET {path}", LISTED)).headers


@pytest.mark.parametrize("path", [f"/live/{NOBODY}", "/tickets"])
async def test_a_page_may_send_tracing_headers_and_those_that_its_stream_lists(
    proxy: Served, path: str
) -> None:
    method = "POST" if path == "/tickets" else "GET"
    wants = (
        LISTED,
        f"Access-Control-Request-Method: {method}",
        "Access-Control-Request-Headers: traceparent",
    )
    response = await ask(proxy, f"OPTIONS {path}", *wants)
    allowed = set(response.headers["access-control-allow-headers"].split(", "))
    assert {"traceparent", "tracestate", "baggage", "sentry-trace", "b3", "x-request-id"} <= allowed
    assert {"authorization", "last-event-id", "content-type", "x-requested-with"} <= allowed


async def test_headers_that_one_stream_lists_are_not_those_of_another(proxy: Served) -> None:
    response = await ask(proxy, f"OPTIONS /staff/{NOBODY}", LISTED, "Access-Control-Request-Method: GET")
    assert "x-requested-with" not in response.headers["access-control-allow-headers"]


# -- cursors and cookies -----------------------------------------------------------------------------------


def ids_of(response: Response) -> list[str]:
    """The cursors of the frames, without gaps: these repeat a cursor, and a loaded machine has some."""
    pieces = response.body.split(b"id: ")[1:]
    return [piece.split(b"\n")[0].decode() for piece in pieces if b"event: stream.gap\n" not in piece]


@BOTH
@pytest.mark.parametrize(
    "query",
    [
        "last_event_id={new}",
        "lastEventId={new}",
        "lastEventID={new}",
        "last_event_id={old}&lastEventId={new}",
        "lastEventId={old}&lastEventId={new}",
        "lastEventId={new}&lastEventId=",
    ],
)
async def test_a_cursor_in_the_query_is_taken_under_the_names_that_libraries_use(
    engine: Engine, proxy: Served, query: str, extra: tuple[str, ...]
) -> None:
    run = await engine.trigger("chat")
    whole = await ask(proxy, f"GET /live/{run}", bearer(), *extra)
    ids = ids_of(whole)
    asked = query.format(new=ids[-1], old=ids[0])
    assert (await ask(proxy, f"GET /live/{run}?{asked}", bearer(), *extra)).status == 204
    resumed = await ask(proxy, f"GET /live/{run}?{asked}", f"Last-Event-ID: {ids[2]}", bearer(), *extra)
    assert resumed.status == 200
    assert ids_of(resumed) == ids[3:], "the header wins"


@BOTH
async def test_of_two_cookies_of_one_name_the_first_good_one_counts(
    engine: Engine, proxy: Served, extra: tuple[str, ...]
) -> None:
    run = await engine.trigger("chat")
    good, stale = token(SECRET, "HS256"), token(SECRET, "HS256", exp=1)
    for cookies in (
        f"session={stale}; session={good}",
        f"session={good}; session={stale}",
        f"session=; session={good}",
        f"session=undefined; a=b; session={stale}; session={good}",
    ):
        assert (await ask(proxy, f"HEAD /live/{run}", f"Cookie: {cookies}", *extra)).status == 200
    apart = (f"Cookie: session={stale}", f"Cookie: session={good}")
    assert (await ask(proxy, f"HEAD /live/{run}", *apart, *extra)).status == 200
    bad = await ask(proxy, f"GET /live/{run}", f"Cookie: session={stale}; session={stale}x", *extra)
    assert (bad.status, bad.detail) == (401, "the token has expired")


@BOTH
async def test_of_two_tickets_the_first_good_one_counts(
    engine: Engine, proxy: Served, extra: tuple[str, ...]
) -> None:
    run = await engine.trigger("chat")
    body = json.dumps({"stream": "live", "run": run}).encode()
    response = await ask(proxy, "POST /tickets", bearer(), f"Content-Length: {len(body)}", body=body)
    good = json.loads(response.body)["ticket"]
    asked = f"HEAD /live/{run}?ticket=old&ticket={good}"
    assert (await ask(proxy, asked, *extra)).status == 200


# -- the log -------------------------------------------------------------------------------------------------


@BOTH
async def test_the_log_says_why_a_request_was_refused_as_the_body_does(
    engine: Engine, proxy: Served, extra: tuple[str, ...]
) -> None:
    run = await engine.trigger("chat")
    for line, headers in (
        (f"GET /live/{run}", ()),
        (f"GET /live/{run}", (bearer(exp=1),)),
        (f"GET /live/{run}", (bearer(), "Origin: https://evil.example.com")),
        (f"GET /staff/{run}", (bearer(),)),
        ("GET /live/x", ()),
    ):
        response = await ask(proxy, line, *headers, *extra)
        last = [each for each in proxy.log if each["event"] == "refused"][-1]
        assert (last["reason"], last["why"]) == (str(response.status), response.detail)


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"exp": "99999999999"}, 401),
        ({"iat": True}, 401),
        ({"nbf": "1"}, 401),
        ({"iat": "1"}, 401),
        ({}, 201),
    ],
)
async def test_streams_and_tickets_judge_a_token_alike(
    engine: Engine, proxy: Served, claims: dict[str, Any], status: int
) -> None:
    run = await engine.trigger("chat")
    body = json.dumps({"stream": "live", "run": run}).encode()
    response = await ask(proxy, "POST /tickets", bearer(**claims), f"Content-Length: {len(body)}", body=body)
    assert response.status == status
    stream = await ask(proxy, f"HEAD /live/{run}", bearer(**claims))
    assert stream.status == (200 if status == 201 else status)
    if status == 401:
        assert response.detail == f"the token's {next(iter(claims))} is not a number"
        line = next(each for each in proxy.log if each["event"] == "refused")
        assert (line["stream"], line["why"]) == ("(tickets)", response.detail)


@pytest.mark.parametrize("run", ["\ud800", "a\nb", "x\u0000"])
async def test_a_ticket_for_a_value_that_no_path_can_have_is_refused(proxy: Served, run: str) -> None:
    body = json.dumps({"stream": "mine", "run": run}).encode()
    response = await ask(proxy, "POST /tickets", bearer(), f"Content-Length: {len(body)}", body=body)
    assert response.status == 400
