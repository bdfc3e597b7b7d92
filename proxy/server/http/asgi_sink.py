"""AsgiSink: an ASGI response as the sink of a session; bytes wait here while a ``send`` is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from proxy.server.http.responses import Headers
from proxy.streams.session import SinkListener

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class AsgiSink:
    """Takes bytes at once, and sends them from `run`."""

    LIMIT: Final = 64 * 1024  # bytes that may wait before the session pauses

    def __init__(
        self,
        abort_connection: Callable[[], None] | None = None,
        unsent: Callable[[], int] = int,
    ) -> None:
        """`abort_connection` closes the client's connection at once; None where the server cannot."""
        self.listener: SinkListener | None = None
        self.paused = False
        self._abort_connection = abort_connection
        self._unsent_below = unsent  # bytes that wait below this object: in the server and the kernel
        self._headers: Headers = []
        self._pending: list[bytes] = []
        self._size = 0
        self._finished = False
        self._aborted = False
        self._wake = asyncio.Event()

    # -- the session writes --

    def begin(self, headers: Headers, body: bytes) -> None:
        self._headers = headers
        self.write(body)

    def flush(self) -> None:
        """`run` sends what waits."""

    def write(self, body: bytes) -> None:
        self._pending.append(body)
        self._size += len(body)
        self._wake.set()
        if self._size > self.LIMIT and not self.paused:
            self.paused = True
            if self.listener is not None:
                self.listener.pause()

    def write_shared(self, body: bytes, chunk: bytes) -> None:
        self.write(body)  # the server makes chunks of its own

    def finish(self) -> None:
        self._finished = True
        self._wake.set()

    def unsent(self) -> int:
        return self._size + self._unsent_below()

    def abort(self) -> None:
        self._aborted = True
        self._pending.clear()
        self.finish()
        if self._abort_connection is not None:
            self._abort_connection()

    # -- the application sends --

    def lost(self) -> None:
        """The client has left; what is written from now on is dropped."""
        listener, self.listener = self.listener, None
        self._aborted = True
        self._wake.set()
        if listener is not None:
            listener.lost()

    async def run(self, send: Send) -> None:
        """Send the response that was begun, until the session has finished it or the client has left.

        uvicorn's ``send`` returns when its bytes are in the transport's buffer, and waits for room at its
        next call. So an empty body is sent before the session goes on: while the client takes nothing, that
        call waits.
        """
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        while not self._aborted:
            pending, self._pending, self._size = self._pending, [], 0
            if pending:
                await send({"type": "http.response.body", "body": b"".join(pending), "more_body": True})
            elif self._finished:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            else:
                self._wake.clear()
                await self._wake.wait()
            if self.paused and not self._pending:
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                if self._pending:
                    continue
                self.paused = False
                if self.listener is not None:
                    self.listener.resume()
