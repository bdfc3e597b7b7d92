"""The ASGI application: requests for streams that the fast path leaves to it, and everything else.

Under our own listener most requests for streams never get here (`proxy.server.http.fast_path`). Those that do
(HEAD, OPTIONS, requests that are unusual in some way), and all requests under any other ASGI server, pass
the same checks, as a `StreamRequest`. What is no stream goes to `rest`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from proxy.access.authenticator import RequestHead
from proxy.server.http.asgi_sink import AsgiSink, Message, Send
from proxy.server.http.request_limits import ABORT
from proxy.server.http.responses import HttpResponse, problem, wait
from proxy.server.http.routing import find_stream, is_broken_team
from proxy.server.http.stream_request import ClientRequest, StreamRequest
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
        path = _raw_path(scope)
        found = find_stream(self.hub, path)
        if found is not None:
            await self._answer(*found, scope, receive, send)
        elif is_broken_team(self.hub, path):
            await _send_response(send, scope, _wait_for_config(scope))
        else:
            await self.rest(scope, receive, send)

    async def _answer(
        self, team: Team, match: Match[LiveStream], scope: Scope, receive: Receive, send: Send
    ) -> None:
        method = scope["method"]
        head = RequestHead.read(scope["headers"], scope.get("query_string", b""))
        scheme = scope.get("scheme", "http")
        if method == "OPTIONS":
            verdict = match.target.origins.preflight(head.headers, scheme)
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
            await _send_response(send, scope, problem(405, "a stream is read with GET", headers=[ALLOW]))


async def _serve(hub: Hub, request: StreamRequest, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request for a stream, and stop when the client leaves."""
    sink = AsgiSink(scope.get("extensions", {}).get(ABORT, {}).get("abort"))
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
    """For a team whose file was never valid: its streams are unknown, and may exist once it is mended."""
    headers = RequestHead.read(scope["headers"], b"").headers
    # a method that reads no stream is answered with a status
    accept = headers.get("accept") if scope["method"] in METHODS else JSON
    response = wait("config", accept, 0.0, "the configuration of this team is being mended")
    origin = headers.get("origin")
    if origin is None:
        return response
    # it holds nothing of the team's, and a page that could not read it would give up
    shared = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"Origin"),
    ]
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
