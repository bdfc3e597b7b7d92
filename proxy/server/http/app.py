"""The ASGI application: requests for streams that the fast path leaves to it, and everything else.

Under our own listener most requests for streams never get here (`proxy.server.http.fast_path`). Those that
do (HEAD, OPTIONS, unusual requests), and all requests under any other ASGI server, pass the same checks in a
`StreamRequest`. Requests for anything else go to `rest`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from proxy.access.authenticator import RequestHead
from proxy.server.http.asgi_sink import AsgiSink, Message, Send
from proxy.server.http.client_request import ClientRequest
from proxy.server.http.cors import (
    SHARED,
    for_everybody,
    outside_headers,
    outside_preflight,
    refusal_headers,
)
from proxy.server.http.request_limits import ABORT
from proxy.server.http.responses import Headers, HttpResponse, problem, wait
from proxy.server.http.routing import find_stream, is_broken_team
from proxy.server.http.stream_request import StreamRequest
from proxy.streams.stream import LiveStream
from proxy.teams.hub import Hub
from proxy.teams.router import Match
from proxy.teams.team import Team

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

METHODS: Final = ("GET", "HEAD", "OPTIONS")
ALLOW: Final = (b"allow", ", ".join(METHODS).encode())
JSON: Final = "application/json"


class StreamApp:
    """The ASGI application of a hub; `rest` answers what is no stream."""

    def __init__(self, hub: Hub, rest: App) -> None:
        self.hub = hub
        self.rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.rest(scope, receive, send)
            return
        started = False

        async def tracked(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._route(scope, receive, tracked)
        except Exception as error:
            if started:
                raise
            context = {"message": "a request failed unexpectedly", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            shared = refusal_headers(self.hub, _raw_path(scope), scope["headers"])
            response = problem(500, "the request could not be answered", headers=shared)
            await _send_response(send, scope, response)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = _raw_path(scope)
        found = find_stream(self.hub, path)
        if found is not None:
            await self._answer(*found, scope, receive, send)
        elif is_broken_team(self.hub, path):
            await _send_response(send, scope, _wait_for_config(scope))
        else:
            await self._answer_outside(path, scope, receive, send)

    async def _answer(
        self, team: Team, match: Match[LiveStream], scope: Scope, receive: Receive, send: Send
    ) -> None:
        method = scope["method"]
        head = RequestHead.read(scope["headers"], scope.get("query_string", b""))
        scheme = scope.get("scheme", "http")
        origins = match.target.origins
        if method == "OPTIONS":
            verdict = origins.preflight(head.headers, scheme)
            if verdict.refused is None:
                response = HttpResponse(204, [ALLOW, *verdict.headers])
            else:
                response = problem(403, verdict.refused, headers=verdict.headers)
            await _send_response(send, scope, response)
        elif method in METHODS:
            address = scope["client"][0] if scope.get("client") else ""
            client = ClientRequest(match.value, head, scheme, address, head_only=method == "HEAD")
            await _serve(self.hub, StreamRequest(self.hub, team, match.target, client), scope, receive, send)
        else:
            shared = origins.decide(head.headers, scheme).headers
            response = problem(405, "a stream is read with GET", headers=[ALLOW, *shared])
            await _send_response(send, scope, response)

    async def _answer_outside(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is no stream, with the CORS headers that the path's team or all teams list."""
        headers = RequestHead.read(scope["headers"], b"").headers
        scheme = scope.get("scheme", "http")
        if scope["method"] == "OPTIONS" and not path.endswith("/tickets"):
            rights = outside_preflight(self.hub, path, headers, scheme)
            if rights:
                await _send_response(send, scope, HttpResponse(204, [ALLOW, *rights]))
                return
        shared = outside_headers(self.hub, path, headers, scheme)
        await self.rest(scope, receive, _adding(shared, send) if shared else send)


def _adding(shared: Headers, send: Send) -> Send:
    """`send`, which adds the headers `shared` to a response that has no CORS headers of its own."""

    async def send_shared(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            if not any(name.lower() == SHARED for name, _ in headers):
                message = {**message, "headers": [*headers, *shared]}
        await send(message)

    return send_shared


async def _serve(hub: Hub, request: StreamRequest, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request for a stream, and stop when the client leaves."""
    connection = scope.get("extensions", {}).get(ABORT, {})
    sink = AsgiSink(connection.get("abort"), connection.get("unsent", int))
    starting = asyncio.create_task(request.start(sink))
    hub.wait_for(starting)
    leaving = asyncio.ensure_future(_disconnected(receive))

    def left(done: asyncio.Future[None]) -> None:
        if not done.cancelled():
            starting.cancel()
            sink.lost()

    leaving.add_done_callback(left)
    try:
        response = await starting
        if response is None:
            await sink.run(send)
        else:
            await _send_response(send, scope, response)
    except asyncio.CancelledError:
        if not leaving.done():  # then it is this task that was cancelled
            raise
    finally:
        leaving.cancel()
        sink.lost()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _wait_for_config(scope: Scope) -> HttpResponse:
    """For a team whose file was never valid: its streams are not known yet."""
    headers = RequestHead.read(scope["headers"], b"").headers
    shared = for_everybody(headers)  # a page that cannot read the answer gives up
    if scope["method"] == "OPTIONS":
        return HttpResponse(204, [ALLOW, *shared])
    # a method that reads no stream is answered with a status
    accept = headers.get("accept") if scope["method"] in METHODS else JSON
    response = wait("config", accept, 0.0, "the configuration of this team is being mended")
    return HttpResponse(response.status, response.headers + shared, response.body)


async def _send_response(send: Send, scope: Scope, response: HttpResponse) -> None:
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    body = b"" if scope["method"] == "HEAD" else response.body
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _raw_path(scope: Scope) -> str:
    """The path as it came, still quoted; a server may leave it out (ASGI 3)."""
    raw = scope.get("raw_path")
    path = raw.decode("ascii", "replace") if isinstance(raw, bytes) else str(scope["path"])
    return path.partition("?")[0]
