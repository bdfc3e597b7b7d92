"""One HTTP/2 connection to Hatchet: a socket, timers and an `Http2`.

It is dropped when the peer violates HTTP/2, or when nothing was received for KEEPALIVE_TIME and then nothing
within KEEPALIVE_TIMEOUT after a ping. All calls that are open then end with UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, cast

from proxy.hatchet.grpc.base import KEEPALIVE_TIME, KEEPALIVE_TIMEOUT
from proxy.hatchet.grpc.call import Call
from proxy.hatchet.grpc.frames import TOO_MANY_PINGS, ProtocolError
from proxy.hatchet.grpc.grouped_reads import read
from proxy.hatchet.grpc.header_blocks import Fields
from proxy.hatchet.grpc.http2 import Http2
from proxy.hatchet.grpc.read_scheduler import ReadScheduler
from proxy.hatchet.grpc.status import Code

CALLS_PER_CONNECTION: Final = (
    250  # Hatchet's engine sets no limit; a lower one in the server's SETTINGS is kept
)
LARGE_READ: Final = (
    64 * 1024
)  # bytes: after a read of this size no read pause, so that large messages do not wait
SLICE: Final = 4 * 1024  # bytes that are parsed between two looks at the clock: three to fifteen chunks
NO_SOCKET: Final = -1
IDLE_CLOSE: Final = 120.0  # seconds without a call after which a connection is closed


class Connection(asyncio.Protocol):
    """Speaks HTTP/2 over one transport; created by `loop.create_connection`."""

    def __init__(
        self,
        max_message: int,
        on_lost: Callable[[Connection], None],
        keepalive: float = KEEPALIVE_TIME,
        scheduler: ReadScheduler | None = None,
    ) -> None:
        """`max_message` in bytes, `keepalive` in seconds; `scheduler` is shared with the team's other
        connections.

        `on_lost` is called when no more calls can begin here; more than once where several causes meet.
        """
        self._http2 = Http2(max_message, CALLS_PER_CONNECTION)
        self._on_lost = on_lost
        self._keepalive = keepalive
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received_at = self._busy_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._scheduler = scheduler or ReadScheduler()
        self._unparsed = b""  # a read that is larger than a slice
        self._parsed = 0  # bytes of `_unparsed` that are parsed
        self._last_read_large = False
        self._frames_counted = 0  # DATA frames that the scheduler has counted
        self._fd = NO_SOCKET  # of a plain socket
        self._grouped = False  # it is read together with others (`GroupedReads`)
        self.ready: asyncio.Future[None] = self._loop.create_future()  # done when calls may begin
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # -- for the pool -----------------------------------------------------------------------------

    def can_begin(self, size: int) -> bool:
        """Whether a call with a request of `size` bytes can begin now."""
        return self._transport is not None and self._http2.can_begin(size)

    @property
    def sent_too_many_pings(self) -> bool:
        """Whether the server closed the connection because of our keepalives."""
        return self._http2.goaway_reason == TOO_MANY_PINGS

    def begin(self, headers: Fields, request: bytes, call: Call) -> None:
        """Send a request; the response goes to `call`."""
        self._http2.begin(headers, request, call)
        self._send()

    def cancel(self, call: Call) -> None:
        """End a call without calling its `on_end`."""
        self._http2.cancel(call)
        self._busy_at = self._loop.time()
        self._send()

    def close(self, why: str) -> None:
        """End all calls with `why`, send what is buffered and close the socket."""
        self._end_calls(why)
        self._leave_group()
        if self._transport is not None:
            self._transport.close()

    def abort(self, why: str) -> None:
        """End all calls with `why` and close the socket at once."""
        self._end_calls(why)
        self._leave_group()
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and transport.get_extra_info("sslcontext") is None:
            self._fd = sock.fileno()
        self._send()
        self._timer = self._loop.call_later(self._keepalive, self._check_keepalive)

    def data_received(self, data: bytes) -> None:
        self._received_at = self._loop.time()
        self._last_read_large = len(data) >= LARGE_READ
        if self._unparsed:  # TLS can deliver what it has decrypted although reading is paused
            self._unparsed = self._take_unparsed() + data
        elif len(data) <= SLICE:
            self._parse(data)
            self._after_read()
        else:
            self._unparsed = data
            if self._transport is not None and self._transport.is_reading():
                self._transport.pause_reading()
            self._scheduler.schedule(self._parse_slices)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave_group()
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._parse(self._take_unparsed())  # what arrived before the loss is delivered
        self._end_calls(str(exc) if exc else self._http2.goaway_reason)
        self.closed.set_result(None)

    # -- parsing and reading on -------------------------------------------------------------------

    def _parse_slices(self) -> None:
        """Parse slices until the time of this turn is over; schedule the rest."""
        while self._unparsed:  # it is emptied when the connection is lost meanwhile
            data = self._unparsed[self._parsed : self._parsed + SLICE]
            self._parsed += SLICE
            if self._parsed >= len(self._unparsed):
                self._take_unparsed()
            self._parse(data)
            if self._scheduler.slice_over:
                break
        if self._unparsed:
            self._scheduler.schedule(self._parse_slices)
        else:
            self._after_read()

    def _take_unparsed(self) -> bytes:
        """Return what is not parsed yet and empty the buffer."""
        rest, self._unparsed, self._parsed = self._unparsed[self._parsed :], b"", 0
        return rest

    def _parse(self, data: bytes) -> None:
        http2 = self._http2
        try:
            http2.receive(data)
        except ProtocolError as error:
            self._take_unparsed()
            self.abort(f"it does not speak gRPC ({error}); look at hatchet.tls and hatchet.host_port")
            return
        if http2.ready and not self.ready.done():
            self.ready.set_result(None)
        self._send()

    def _after_read(self) -> None:
        """Everything that was read is parsed: read on, after a read pause if the team is busy."""
        counted, self._frames_counted = self._frames_counted, self._http2.data_frames_received
        if not self._scheduler.is_busy(self._frames_counted - counted) or self._last_read_large:
            self._read_on()
        elif self._transport is not None and not self._transport.is_closing() and not self._grouped:
            self._transport.pause_reading()
            if self._fd == NO_SOCKET:
                self._scheduler.resume_later(self._read_on)
            else:
                self._grouped = True
                self._scheduler.reads.add(self._fd, self)

    def read_now(self) -> None:
        if self._unparsed or self._transport is None or self._transport.is_closing():
            return
        data = read(self._fd)
        if data:
            self.data_received(data)
        else:
            self._read_on()  # the transport finds out how the connection ended

    def nothing_came(self) -> None:
        if not self._scheduler.is_busy(0):
            self._read_on()

    def _leave_group(self) -> None:
        if self._grouped:
            self._grouped = False
            self._scheduler.reads.remove(self._fd, self)

    def _read_on(self) -> None:
        self._leave_group()
        transport = self._transport
        if transport is None or transport.is_closing() or transport.is_reading() or self._unparsed:
            return
        transport.resume_reading()

    def _send(self) -> None:
        if self._transport is not None and (out := self._http2.take()):
            with contextlib.suppress(OSError):  # connection_lost reports the loss
                self._transport.write(out)

    # -- keepalive --------------------------------------------------------------------------------

    def _check_keepalive(self) -> None:
        """Ping after KEEPALIVE_TIME without a received byte; close a connection that is idle or going
        away."""
        now = self._loop.time()
        if not self._http2.calls and (self._http2.going_away or now - self._busy_at > IDLE_CLOSE):
            self.close("idle")
            return
        if self._http2.calls:
            self._busy_at = now
        wait = self._received_at + self._keepalive - now
        if wait > 0:
            self._timer = self._loop.call_later(wait, self._check_keepalive)
            return
        self._http2.ping()
        self._send()
        self._timer = self._loop.call_later(KEEPALIVE_TIMEOUT, self._check_answer, now)

    def _check_answer(self, pinged_at: float) -> None:
        if self._received_at >= pinged_at:
            self._check_keepalive()
        else:
            self.abort("no answer to keepalives")

    def _end_calls(self, why: str) -> None:
        self._on_lost(self)
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(why))
            self.ready.exception()  # marks it as retrieved, also if nobody waits for it any more
        calls = list(self._http2.calls.values())
        self._http2.calls.clear()
        for call in calls:
            call.open = False
            call.on_end(Code.UNAVAILABLE, why, None)
