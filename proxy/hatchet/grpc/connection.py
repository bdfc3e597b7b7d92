"""One lean connection to Hatchet: a socket, a clock and an `Http2`.

It is given up when the peer speaks no HTTP/2, or gives no sign of life for KEEPALIVE_TIME and then
no answer to a ping for KEEPALIVE_TIMEOUT. All calls that were open then end with UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final, cast

from proxy.hatchet.grpc.base import KEEPALIVE_TIME, KEEPALIVE_TIMEOUT
from proxy.hatchet.grpc.call import Call
from proxy.hatchet.grpc.frames import TOO_MANY_PINGS, Fault
from proxy.hatchet.grpc.http2 import Http2
from proxy.hatchet.grpc.read_scheduler import Turns
from proxy.hatchet.grpc.status import Code

Headers = Sequence[tuple[str, str]]
CALLS_PER_LINK: Final = 250  # Hatchet's engine sets no limit; what a server says lower holds
FULL_READ: Final = 64 * 1024  # bytes: a read of so many needs no breath, and large messages must not wait
SLICE: Final = 4 * 1024  # bytes taken between two looks at the clock, three to fifteen chunks
IDLE_CLOSE: Final = 120.0  # seconds without a call until a connection is closed


class Link(asyncio.Protocol):
    """Speaks HTTP/2 over one transport; made by `loop.create_connection`."""

    def __init__(
        self,
        max_message: int,
        lost: Callable[[Link], None],
        keepalive: float = KEEPALIVE_TIME,
        turns: Turns | None = None,
    ) -> None:
        """`turns` are shared with the team's other links."""
        self._http2 = Http2(max_message, CALLS_PER_LINK)
        self._lost = lost
        self._keepalive = keepalive
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._heard = self._busy = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._turns = turns or Turns()
        self._waiting = b""  # what came in one read and is more than a slice
        self._taken = 0  # bytes of it that were taken
        self._full = False  # the last read
        self._came = 0  # data frames until now
        self.settled: asyncio.Future[None] = self._loop.create_future()  # calls may be made
        self.gone: asyncio.Future[None] = self._loop.create_future()

    # -- for the pool -----------------------------------------------------------------------------

    def has_room(self, size: int) -> bool:
        """Whether a call with a request of `size` bytes can begin here now."""
        return self._transport is not None and self._http2.has_room(size)

    @property
    def pinged_too_often(self) -> bool:
        """Whether the server left because of our keepalives."""
        return self._http2.farewell == TOO_MANY_PINGS

    def begin(self, headers: Headers, request: bytes, call: Call) -> None:
        """Send a request; its answer goes to `call`."""
        self._http2.begin(headers, request, call)
        self._send()

    def cancel(self, call: Call) -> None:
        """End a call from here."""
        self._http2.cancel(call)
        self._busy = self._loop.time()
        self._send()

    def close(self, why: str) -> None:
        """Close it politely; calls still open end now, with `why`."""
        self._end_calls(why)
        if self._transport is not None:
            self._transport.close()

    def give_up(self, why: str) -> None:
        """Drop it at once, whatever the peer may still say; calls still open end now, with `why`."""
        self._end_calls(why)
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's side ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()
        self._timer = self._loop.call_later(self._keepalive, self._look)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._full = len(data) >= FULL_READ
        if self._waiting:  # paused, and yet it came: TLS hands over what it has
            self._waiting = self._rest() + data
        elif len(data) <= SLICE:
            self._receive(data)
            self._breathe()
        else:
            self._waiting = data
            if self._transport is not None and self._transport.is_reading():
                self._transport.pause_reading()
            self._turns.ask(self._take)

    def _take(self) -> None:
        """Slices of what came; the rest in the next turns, so that no team's burst holds up another."""
        while self._waiting:  # unless the connection was lost meanwhile
            data = self._waiting[self._taken : self._taken + SLICE]
            self._taken += SLICE
            if self._taken >= len(self._waiting):
                self._rest()
            self._receive(data)
            if self._turns.over:
                break
        if self._waiting:
            self._turns.ask(self._take)
        else:
            self._breathe()

    def _rest(self) -> bytes:
        """What was not taken yet; nothing waits any more."""
        rest, self._waiting, self._taken = self._waiting[self._taken :], b"", 0
        return rest

    def _receive(self, data: bytes) -> None:
        http2 = self._http2
        try:
            http2.receive(data)
        except Fault as fault:
            self._rest()
            self.give_up(f"it does not speak gRPC ({fault}); look at hatchet.tls and hatchet.host_port")
            return
        if http2.settled and not self.settled.done():
            self.settled.set_result(None)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._receive(self._rest())  # what came before the end counts
        self._end_calls(str(exc) if exc else self._http2.farewell)
        self.gone.set_result(None)

    def _breathe(self) -> None:
        """All that came was taken: read on, where events come thick after a breath."""
        came, self._came = self._came, self._http2.data_frames
        if not self._turns.thick(self._came - came) or self._full:
            self._go_on()
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._turns.rest(self._go_on)

    def _go_on(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or transport.is_reading() or self._waiting:
            return
        transport.resume_reading()

    # -- signs of life ----------------------------------------------------------------------------

    def _look(self) -> None:
        now = self._loop.time()
        if not self._http2.calls and (self._http2.leaving or now - self._busy > IDLE_CLOSE):
            self.close("idle")
            return
        if self._http2.calls:
            self._busy = now
        wait = self._heard + self._keepalive - now
        if wait > 0:
            self._timer = self._loop.call_later(wait, self._look)
            return
        self._http2.ping()
        self._send()
        self._timer = self._loop.call_later(KEEPALIVE_TIMEOUT, self._judge, now)

    def _judge(self, asked: float) -> None:
        if self._heard >= asked:
            self._look()
        else:
            self.give_up("no answer to keepalives")

    def _end_calls(self, why: str) -> None:
        self._lost(self)
        if not self.settled.done():
            self.settled.set_exception(ConnectionError(why))
            self.settled.exception()  # taken note of, even where nobody waits any more
        calls = list(self._http2.calls.values())
        self._http2.calls.clear()
        for call in calls:
            call.open = False
            call.on_end(Code.UNAVAILABLE, why, None)

    def _send(self) -> None:
        if self._transport is not None and (out := self._http2.take()):
            with contextlib.suppress(OSError):  # its loss is told by connection_lost
                self._transport.write(out)
