"""The ASGI application: a client that leaves, a task that is cancelled, an error after the first byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar, cast

import pytest

from proxy.observability.counters import Counters
from proxy.observability.event_log import EventLog
from proxy.server.http.app import StreamApp, _serve
from proxy.server.http.asgi_sink import AsgiSink, Message
from proxy.server.http.responses import HttpResponse
from proxy.teams.hub import Hub
from tests.support.fakes import FakeUpstream, rest
from tests.support.waiting import until

SCOPE = {"type": "http", "method": "GET", "path": "/nothing", "raw_path": b"/nothing", "headers": []}


class Request:
    """A request for a stream that waits until the test lets it go on, and then streams or is answered."""

    def __init__(self, response: HttpResponse | None) -> None:
        self.response = response
        self.go_on = asyncio.Event()
        self.left = False
        self.calls: list[str] = []

    async def start(self, sink: AsgiSink) -> HttpResponse | None:
        self.sink = sink
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.left = True
            raise
        if self.response is None:
            sink.listener = cast(Any, self)
            sink.begin([], b"begun")
        return self.response

    def lost(self) -> None:
        self.calls.append("lost")


class Server:
    """What the application is called with."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.gone = asyncio.Event()
        self.receiving = 0

    async def receive(self) -> Message:
        self.receiving += 1
        try:
            await self.gone.wait()
        finally:
            self.receiving -= 1
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    one = Hub(lambda config: FakeUpstream(), Counters(), EventLog(lambda level, event, fields: None))
    yield one
    await one.close()


async def begun(hub: Hub, request: Request, server: Server) -> asyncio.Task[None]:
    """The application's task, which waits for the request's checks."""
    scope = {**SCOPE, "extensions": {}}
    task = asyncio.create_task(_serve(hub, cast(Any, request), scope, server.receive, server.send))
    await until(lambda: len(hub.waiting) == 1 and server.receiving == 1)
    return task


async def test_a_client_that_leaves_during_the_checks_ends_them_and_is_sent_nothing(hub: Hub) -> None:
    request, server = Request(None), Server()
    task = await begun(hub, request, server)
    server.gone.set()
    await task
    assert request.left
    assert server.sent == []
    assert not hub.waiting


async def test_a_client_that_leaves_a_stream_ends_its_session(hub: Hub) -> None:
    request, server = Request(None), Server()
    task = await begun(hub, request, server)
    request.go_on.set()
    await until(lambda: any(message.get("body") == b"begun" for message in server.sent))
    server.gone.set()
    await task
    assert request.calls == ["lost"]


async def test_a_task_that_is_cancelled_ends_its_session_and_stops_listening_to_the_client(hub: Hub) -> None:
    request, server = Request(None), Server()
    task = await begun(hub, request, server)
    request.go_on.set()
    await until(lambda: server.sent)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert request.calls == ["lost"]
    await rest()
    assert server.receiving == 0


async def test_an_answer_ends_the_listening_to_the_client(hub: Hub) -> None:
    request, server = Request(HttpResponse(404, [(b"x", b"y")], b"none")), Server()
    task = await begun(hub, request, server)
    request.go_on.set()
    await task
    assert [message.get("body", message.get("status")) for message in server.sent] == [404, b"none"]
    await rest()
    assert server.receiving == 0


class BrokenHub:
    """A hub whose only team has no version that is good."""

    single = True
    teams: ClassVar[dict[str, object]] = {}

    def is_broken(self, name: str) -> bool:
        return True


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 200), ("HEAD", 200), ("POST", 503), ("DELETE", 503), ("OPTIONS", 204)]
)
async def test_a_team_that_was_never_good_lets_readers_wait_and_says_so_to_others(
    method: str, status: int
) -> None:
    origin = (b"origin", b"https://app.example.com")
    asked = [(b"access-control-request-method", b"GET")] if method == "OPTIONS" else []
    scope = {**SCOPE, "method": method, "headers": [origin, *asked, (b"accept", b"*/*")]}
    server = Server()
    await StreamApp(cast(Any, BrokenHub()), cast(Any, None))(scope, server.receive, server.send)
    start, body = server.sent
    assert start["status"] == status
    assert (b"access-control-allow-origin", origin[1]) in start["headers"], "a page can read it"
    if method == "GET":
        assert b'event: stream.wait\ndata: {"cause":"config"}' in body["body"]
    elif method == "OPTIONS":
        assert (b"allow", b"GET, HEAD, OPTIONS") in start["headers"]
        assert b"access-control-allow-methods" in dict(start["headers"])
    elif status == 503:
        assert b"retry-after" in dict(start["headers"])


async def test_an_error_is_reported_and_answered_only_if_nothing_was_sent(hub: Hub) -> None:
    reported: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reported.append(type(context["exception"]).__name__))

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    app, server = StreamApp(hub, fails), Server()
    await app(SCOPE, server.receive, server.send)
    assert server.sent[0]["status"] == 500
    assert reported == ["ZeroDivisionError"]
    server = Server()
    late = {**SCOPE, "path": "/late", "raw_path": b"/late"}
    with pytest.raises(ZeroDivisionError):
        await app(late, server.receive, server.send)
    assert len(server.sent) == 1, "no second answer within the first one"
