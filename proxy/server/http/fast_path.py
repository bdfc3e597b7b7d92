"""Doorway: a connection that serves a stream in place, where nothing unusual is asked and nothing waited for.

Most connects are one plain GET for a run that is known. They need no parser, no ASGI, no task: the doorway
reads the request (`plain`), asks what everybody is asked (`Visit`), and the stream's bytes go to the socket.

The law: the doorway decides nothing. Whatever is not a stream that begins at once (another request, another
answer, a visit that has to wait) it hands over, with every byte that came and the visit as far as it got, to
uvicorn's protocol, which has the connection from then on.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

import uvicorn
from uvicorn.server import ServerState

from proxy.access.authenticator import RequestHead
from proxy.formats.chunked import LAST
from proxy.server.http import request_parser
from proxy.server.http.app import Front
from proxy.server.http.protocol import CLOSE, HIGH_WATER, Headers, SocketSink, StreamProtocol, head_of
from proxy.server.http.request_limits import REQUEST_SECONDS
from proxy.server.http.stream_request import Opened, Question, Visit
from proxy.server.http.timeouts import Deadlines

KEEP_ALIVE: Final = 75
"""Seconds an idle connection stays; longer than nginx's 60 s, so that nginx is the one to close."""
NOWHERE: Final = asyncio.Transport()  # before there is one
MOST_HEADS: Final = 64
"""Heads kept within a second: a stream has one for each of its listed origins that is around."""


class Doors:
    """What all connections of a loop share; called for each of them, as uvicorn calls its protocols."""

    def __init__(
        self,
        front: Front,
        *,
        ceiling: int | None = None,
        keep_alive: float = KEEP_ALIVE,
        seconds: float = REQUEST_SECONDS,
    ) -> None:
        """`keep_alive`, `seconds`: how long a connection may say nothing between and before requests.

        `ceiling`: connections that this process holds; None for no limit. It belongs to the running loop.
        """
        loop = asyncio.get_running_loop()
        self.front: Final = front
        self.ceiling: Final = ceiling
        self.seconds: Final = seconds
        self.arriving: Final = Deadlines(seconds, loop)  # accepted, and silent until now
        self.idle: Final = Deadlines(keep_alive, loop)  # between two requests
        self.expects_signs_within: float | None = None  # of connections that are accepted
        self._heads: dict[tuple[Any, ...], bytes] = {}
        self._heads_begin: list[tuple[bytes, bytes]] | None = None

    def __call__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Doorway:
        self.config, self.state, self.app_state = config, server_state, app_state
        return Doorway(self)

    def parser(self, visit: Visit | None) -> StreamProtocol:
        """The protocol that takes what is not served in place.

        It knows no ceiling: the connection was counted when it came; who came since is not held against it.
        """
        return StreamProtocol(self.config, self.state, self.app_state, visit=visit, seconds=self.seconds)

    def head(self, headers: Headers, keeps: bool) -> bytes:
        """The head of a response that begins now; uvicorn makes its own headers anew each second."""
        if self._heads_begin is not self.state.default_headers or len(self._heads) >= MOST_HEADS:
            self._heads_begin = self.state.default_headers
            self._heads.clear()
        key = (*headers, keeps)
        head = self._heads.get(key)
        if head is None:
            head = head_of([*self._heads_begin, *headers, *(() if keeps else (CLOSE,))])
            self._heads[key] = head
        return head


class Doorway(asyncio.Protocol):
    """One connection, until it is handed over."""

    __slots__ = ("_doors", "_keeps", "_sink", "_streaming", "_waits", "expects_signs_within", "transport")

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._sink = SocketSink(self)
        self._streaming = False
        self._keeps = True
        self._waits: Deadlines | None = None  # the list it is on
        self.transport: asyncio.Transport = NOWHERE
        self.expects_signs_within = doors.expects_signs_within

    # -- the connection --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        doors, connections = self._doors, self._doors.state.connections
        self.transport = cast(asyncio.Transport, transport)
        connections.add(self)  # type: ignore[arg-type]
        if doors.ceiling is not None and len(connections) > doors.ceiling:
            self.transport.abort()
        else:
            self.transport.set_write_buffer_limits(high=HIGH_WATER)
            self._wait_in(doors.arriving)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._sink.lose()

    def shutdown(self) -> None:
        """This replica goes away; who reads a stream was told (`Hub.drain`)."""
        self.transport.close()

    def late(self) -> None:
        """Said nothing in its time, is told nothing: a browser's spare connection."""
        self.transport.close()

    def _leave(self) -> float | None:
        """Be none of the doors' connections; when the request was due, where one was waited for."""
        self._doors.state.connections.discard(self)
        arriving = self._waits is self._doors.arriving
        due = self._wait_no_more()
        return due if arriving else None

    def _wait_in(self, deadlines: Deadlines) -> None:
        self._waits = deadlines
        deadlines.add(self)

    def _wait_no_more(self) -> float | None:
        waits, self._waits = self._waits, None
        return None if waits is None else waits.take(self)

    # -- a request --

    def data_received(self, data: bytes) -> None:
        if self._streaming:
            self._keeps = False  # nobody reads it: see proxy.server.http.protocol
            return
        request = request_parser.read(data)
        visit = None if request is None else self._visit(request)
        if request is None or visit is None:
            self._hand_over(data)
            return
        opened = visit.at_once()
        if isinstance(opened, Opened):
            self._keeps = request.keeps
            try:
                self._sink.take_over(None, opened.headers, visit.head())
                self._doors.front.settle(visit, opened, self._sink)
            finally:
                visit.close()  # of what the stay did not take
        else:
            self._hand_over(data, visit)

    def _visit(self, request: request_parser.Plain) -> Visit | None:
        """The question for a stream, where the path is one's."""
        front = self._doors.front
        found = front.find(request.path)
        if found is None:
            return None
        team, match = found
        asked = RequestHead(request.headers, crumbs=request.cookies, text=request.query)
        peer = self.transport.get_extra_info("peername")
        # The listener speaks no TLS; uvicorn's protocol would say the same.
        question = Question(match.value, asked, "http", peer[0] if isinstance(peer, tuple) else "")
        return Visit(front.hub, team, match.target, question)

    def _hand_over(self, data: bytes, visit: Visit | None = None) -> None:
        """From now on the connection is uvicorn's, as if it had been from the beginning."""
        due = self._leave()
        protocol = self._doors.parser(visit)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if due is not None:
            protocol.expect_by(due)
        if self._sink.paused:
            protocol.pause_writing()  # by an earlier stream's last bytes: nobody would say it again
        self._sink.lose()
        protocol.data_received(data)
        if visit is not None and protocol.cycle is None:
            visit.close()  # the parser took no request out of it, so nobody else will

    # -- the stream --

    def begin_stream(self, scope: object, headers: Headers) -> bytes | None:
        """The response's head; nobody is in the way."""
        self._wait_no_more()
        self._streaming = True
        return self._doors.head(headers, self._keeps)

    def end_stream(self) -> None:
        """Close the response; the connection waits for another request, or is closed."""
        self._streaming = False
        self.transport.write(LAST)
        if not self._keeps:
            self.transport.close()
        elif not self.transport.is_closing():
            self._wait_in(self._doors.idle)

    # -- flow control --

    def pause_writing(self) -> None:
        self._sink.pause()

    def resume_writing(self) -> None:
        self._sink.resume()
