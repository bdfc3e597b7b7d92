"""The front door: an ASGI application that serves streams itself and hands the rest to Starlette.

Paths come first: they say which team and which stream is meant. A stream's response begins as any ASGI
response does; its frames then go through a sink: the connection's own (``connection.SocketSink``) under our
uvicorn protocol, or ASGI's ``send`` (`SendSink`) under any other server. Most streams begin at once and never
come this way: the connection itself serves them (`proxy.server.http.fast_path`), by the same routes and
questions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from proxy.access.authenticator import RequestHead
from proxy.server.http.protocol import EXTENSION, NOBODY, SocketSink
from proxy.server.http.responses import Answer, draining, problem, wait
from proxy.server.http.stream_request import Opened, Question, Visit
from proxy.streams.session import Stay, StaySink
from proxy.streams.stream import LiveStream
from proxy.streams.subscriber import Ending
from proxy.teams.hub import SINGLE, Hub
from proxy.teams.router import Match
from proxy.teams.team import Team

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

METHODS: Final = ("GET", "HEAD", "OPTIONS")
JSON: Final = "application/json"


class Front:
    """The ASGI application of a hub; `rest` answers what is no stream."""

    def __init__(self, hub: Hub, rest: App) -> None:
        self.hub = hub
        self.rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.rest(scope, receive, send)
            return
        visit = _under_way(scope)
        found = None if visit is not None else self.find(_raw_path(scope))
        if visit is not None:  # which goes on as it began, whatever the path means since a reload
            await self._visited(visit, scope, receive, send)
        elif found is not None:
            await self._stream(*found, scope, receive, send)
        elif self._is_broken(scope):
            await self._wait_for_config(scope, send)
        else:
            await self.rest(scope, receive, send)

    # -- which stream --

    def find(self, path: str) -> tuple[Team, Match[LiveStream]] | None:
        """The team and the stream of a path as it came (still quoted), or None."""
        if self.hub.single:
            name, within = SINGLE, path
        else:
            name, slash, tail = path[1:].partition("/")
            within = slash + tail
        team = self.hub.teams.get(name)
        match = None if team is None else team.router.match(within)
        return None if team is None or match is None else (team, match)

    def _is_broken(self, scope: Scope) -> bool:
        """Whether the path is a team's whose file never was good, so that its streams are not known."""
        name = _raw_path(scope).split("/")[1:2]
        return bool(name) and self.hub.is_broken(name[0])

    async def _wait_for_config(self, scope: Scope, send: Send) -> None:
        headers = RequestHead.read(scope["headers"], b"").headers
        accept = headers.get("accept") if scope["method"] in METHODS else JSON  # who posts reads none
        answer = wait("config", accept, 0.0, "the configuration of this team is being mended")
        origin = headers.get("origin")
        if origin is not None:  # nothing of the team's is in it, and without these a browser would give up
            allowed = [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-allow-credentials", b"true"),
                (b"vary", b"Origin"),
            ]
            answer = Answer(answer.status, answer.headers + allowed, answer.body)
        await _send_answer(send, scope, answer)

    # -- the stream --

    async def _stream(
        self, team: Team, match: Match[LiveStream], scope: Scope, receive: Receive, send: Send
    ) -> None:
        method = scope["method"]
        asked = RequestHead.read(scope["headers"], scope.get("query_string", b""))
        origins = match.target.origins
        if method not in METHODS:
            allow = ", ".join(METHODS).encode()
            await _send_answer(
                send, scope, problem(405, "a stream is read with GET", headers=[(b"allow", allow)])
            )
            return
        if method == "OPTIONS":
            verdict = origins.preflight(asked.headers, scope.get("scheme", "http"))
            if verdict.refused is None:
                answer = Answer(204, [(b"allow", ", ".join(METHODS).encode()), *verdict.headers])
            else:
                answer = problem(403, verdict.refused, headers=verdict.headers)
            await _send_answer(send, scope, answer)
            return
        visit = Visit(self.hub, team, match.target, _question(scope, match.value, asked))
        await self._visited(visit, scope, receive, send)

    async def _visited(self, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve `visit`, and take back what is left of what was lent to it."""
        try:
            await self._serve(visit, scope, receive, send)
        finally:
            visit.close()

    async def _serve(self, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        socket = _socket(scope)
        opened = await self._unless_lost(visit, socket, receive)
        if opened is None:
            return
        if isinstance(opened, Answer):
            await _send_answer(send, scope, opened)
            return
        head = visit.head()
        if scope["method"] == "GET" and socket is not None and socket.take_over(scope, opened.headers, head):
            self.settle(visit, opened, socket)
            return
        await send({"type": "http.response.start", "status": 200, "headers": opened.headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await send({"type": "http.response.body", "body": head, "more_body": True})
        await self._serve_by_send(visit.stay, opened, receive, send)

    def settle(self, visit: Visit, opened: Opened, socket: SocketSink) -> None:
        """Begin the stream on a connection that was taken over for it."""
        stay = visit.stay(opened, socket)
        socket.owner = stay
        socket.expect_signs_within(self.hub.server.write_timeout)
        stay.begin()
        socket.begun()

    async def _unless_lost(
        self, visit: Visit, socket: SocketSink | None, receive: Receive
    ) -> Opened | Answer | None:
        """`visit.open()`, given up when the client leaves (None) or this replica does."""
        task = asyncio.current_task()
        assert task is not None
        door = InTheDoor(task)
        watcher = None
        if socket is not None:
            socket.owner = door
        else:
            watcher = asyncio.ensure_future(_disconnected(receive))
            watcher.add_done_callback(lambda done: None if done.cancelled() else door.lost())
        self.hub.waiting.add(task)
        try:
            return await visit.open()
        except asyncio.CancelledError:
            if not (door.left or self.hub.draining):
                raise
            task.uncancel()
            return None if door.left else draining()
        finally:
            self.hub.waiting.discard(task)
            if socket is not None:
                socket.owner = NOBODY
            if watcher is not None:
                watcher.cancel()

    async def _serve_by_send(
        self,
        stay_in: Callable[[Opened, StaySink], Stay],
        opened: Opened,
        receive: Receive,
        send: Send,
    ) -> None:
        """Under another server, or where the connection cannot be taken over."""
        sink = SendSink()
        stay = stay_in(opened, sink)
        sink.owner = stay
        watcher = asyncio.ensure_future(_disconnected(receive))
        watcher.add_done_callback(lambda done: None if done.cancelled() else stay.lost())
        try:
            stay.begin()
            await sink.drain_into(send)
        finally:
            watcher.cancel()
            stay.lost()
        if stay.reader.ending not in (Ending.LEFT, Ending.STUCK):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class InTheDoor:
    """Owns a connection while its questions are answered: a client that leaves is not waited for."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self.left = False

    def pause(self) -> None:
        """Nothing is written yet."""

    def resume(self) -> None:
        """Nothing is written yet."""

    def lost(self) -> None:
        self.left = True
        self._task.cancel()


class SendSink:
    """ASGI's ``send`` as a reader's sink: bytes wait here while a send is under way."""

    LIMIT: Final = 64 * 1024  # bytes that may wait before the reader pauses

    def __init__(self) -> None:
        self.paused = False
        self.owner = NOBODY
        self._pending: list[bytes] = []
        self._size = 0
        self._closed = False
        self._wake = asyncio.Event()

    def write(self, body: bytes) -> None:
        self._pending.append(body)
        self._size += len(body)
        self._wake.set()
        if self._size > self.LIMIT and not self.paused:
            self.paused = True
            self.owner.pause()

    def write_shared(self, body: bytes, chunk: bytes) -> None:
        """The server makes chunks of its own."""
        self.write(body)

    def finish(self) -> None:
        """No more will be written; what waits is still sent."""
        self.owner = NOBODY
        self._closed = True
        self._wake.set()

    def abort(self) -> None:
        """What waits is not sent."""
        self._pending.clear()
        self.finish()

    async def drain_into(self, send: Send) -> None:
        """Send what is written until the sink is finished."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            pending, self._pending, self._size = self._pending, [], 0
            if pending:
                await send({"type": "http.response.body", "body": b"".join(pending), "more_body": True})
            elif self._closed:
                return
            if self._closed:
                self._wake.set()
            if self.paused:
                self.paused = False
                self.owner.resume()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_answer(send: Send, scope: Scope, answer: Answer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _socket(scope: Scope) -> SocketSink | None:
    extension = scope.get("extensions", {}).get(EXTENSION)
    return None if extension is None else extension["sink"]


def _under_way(scope: Scope) -> Visit | None:
    """The visit that the connection has begun by itself (`proxy.server.http.fast_path`)."""
    visit: Visit | None = scope.get("extensions", {}).get(EXTENSION, {}).get("visit")
    return visit


def _raw_path(scope: Scope) -> str:
    raw = scope.get("raw_path")
    path = raw.decode("ascii", "replace") if isinstance(raw, bytes) else str(scope["path"])
    return path.partition("?")[0]


def _question(scope: Scope, value: str, asked: RequestHead) -> Question:
    client = scope.get("client")
    return Question(
        value=value,
        asked=asked,
        scheme=scope.get("scheme", "http"),
        client=client[0] if client else "",
    )
