"""The client's side of HTTP/2 for gRPC calls that mostly receive (RFC 9113, RFC 7541). Pure: bytes in, bytes
out.

One `Http2` is one connection. `receive` is the hot path. It is simpler than a general HTTP/2 implementation:

- A request fits into one DATA frame and into the peer's window, or the call is not begun.
- Server push is switched off.
- Messages are consumed at once, so every received byte is given back to the peer's flow control window.
- Whatever violates the protocol is a `ProtocolError`, and the connection is dropped.
"""

from __future__ import annotations

import struct
from typing import Final

from hpack import HPACKError

from proxy.hatchet.grpc import frames
from proxy.hatchet.grpc.call import Call, Outcome
from proxy.hatchet.grpc.frames import (
    DATA,
    END_STREAM,
    FRAME,
    FRAME_BYTES,
    PADDED,
    ProtocolError,
    frame,
    window_update,
)
from proxy.hatchet.grpc.header_blocks import Fields, HeaderDecoder, HeaderEncoder
from proxy.hatchet.grpc.status import Code

OUR_SETTINGS: Final = frames.settings(
    {frames.ENABLE_PUSH: 0, frames.INITIAL_WINDOW_SIZE: frames.STREAM_WINDOW}
)


class Http2:
    """The client's side of one connection. After each method call, send what `take` returns."""

    def __init__(self, max_message: int, max_calls: int = frames.LAST_STREAM) -> None:
        """`max_message` is in bytes; `max_calls` bounds the calls at once, and the server may allow fewer."""
        self.calls: dict[int, Call] = {}
        self.ready = False  # the server's SETTINGS have arrived: calls may begin
        self.going_away = False  # the server sent GOAWAY: no new calls
        self.goaway_reason = "closed"  # the error text of calls that are open when the connection ends
        self.max_calls = max_calls  # at once; the server may allow fewer
        self.data_frames_received = 0
        self._max_message = max_message
        self._most_calls = max_calls
        self._encoder = HeaderEncoder()
        self._decoder = HeaderDecoder(frames.HEADER_BYTES)
        self._next = 1
        self._send_window = frames.FIRST_WINDOW
        self._peer_stream_window = frames.FIRST_WINDOW
        self._unacknowledged = 0
        self._rest = b""
        self._block: tuple[int, int, bytearray] | None = None  # unfinished headers: stream, flags, bytes
        self._out: list[bytes] = [
            frames.PREFACE,
            frame(frames.SETTINGS, 0, 0, OUR_SETTINGS),
            window_update(0, frames.CONNECTION_WINDOW - frames.FIRST_WINDOW),
        ]

    # -- sending ----------------------------------------------------------------------------------

    def take(self) -> bytes:
        """The bytes to send now; empties the buffer."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def can_begin(self, size: int) -> bool:
        """Whether a call with a request of `size` bytes can begin now."""
        return (
            self.ready
            and not self.going_away
            and len(self.calls) < self.max_calls
            and self._next < frames.LAST_STREAM
            and size + frames.MESSAGE.size <= min(self._send_window, self._peer_stream_window, FRAME_BYTES)
        )

    def begin(self, headers: Fields, request: bytes, call: Call) -> None:
        """Begin a call; `can_begin` must hold for `request`."""
        call.number, self._next = self._next, self._next + 2
        call.max_message = self._max_message
        self.calls[call.number] = call
        self._out.append(
            frame(frames.HEADERS, frames.END_HEADERS, call.number, self._encoder.encode(headers))
        )
        body = frames.MESSAGE.pack(0, len(request)) + request
        self._send_window -= len(body)
        self._out.append(frame(DATA, END_STREAM, call.number, body))

    def cancel(self, call: Call) -> None:
        """End a call with RST_STREAM; `on_end` is not called."""
        if self.calls.pop(call.number, None) is not None:
            self._out.append(frame(frames.RST_STREAM, 0, call.number, frames.NUMBER.pack(frames.CANCEL)))
        call.open = False

    def ping(self) -> None:
        """Send a PING; any received byte counts as its answer (`connection.py`)."""
        self._out.append(frame(frames.PING, 0, 0, b"stream-p"))

    # -- receiving --------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Process received bytes. Raises ProtocolError."""
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        unpack, calls = FRAME.unpack_from, self.calls
        while size - at >= 9:
            high, low, kind, flags, number = unpack(data, at)
            length = high << 8 | low
            start = at + 9
            end = start + length
            if length > FRAME_BYTES:
                raise ProtocolError("a frame is too large, or this is not HTTP/2")
            if end > size:
                break
            at = end
            if kind == DATA and not flags & PADDED and self._block is None:
                self._unacknowledged += length
                self.data_frames_received += 1
                call = calls.get(number)
                if call is not None:
                    self._data(call, data, start, end, flags & END_STREAM)
            else:
                self._other(kind, flags, number & frames.LAST_STREAM, data[start:end])
        self._rest = data[at:] if at < size else b""
        if self._unacknowledged >= frames.CONNECTION_WINDOW // 2:
            self._out.append(window_update(0, self._unacknowledged))
            self._unacknowledged = 0

    def _data(self, call: Call, data: bytes, start: int, end: int, last: int) -> None:
        call.unacknowledged += end - start
        if call.unacknowledged >= frames.STREAM_WINDOW // 2:
            self._out.append(window_update(call.number, call.unacknowledged))
            call.unacknowledged = 0
        outcome = call.data(data, start, end)
        if outcome is None and last:
            outcome = Code.INTERNAL, "ended without a status", None
        if outcome is not None:
            self._end(call, outcome)

    def _other(self, kind: int, flags: int, number: int, body: bytes) -> None:
        if self._block is not None and kind != frames.CONTINUATION:
            raise ProtocolError("another frame between HEADERS and CONTINUATION")
        if not self.ready and kind != frames.SETTINGS:
            raise ProtocolError("the first frame is not SETTINGS")
        try:
            handler = self._handlers.get(kind)
            if handler is not None:  # unknown types are ignored (RFC 9113, 5.5)
                handler(self, flags, number, body)
        except (IndexError, struct.error, HPACKError):
            raise ProtocolError(f"a frame of type {kind} is malformed") from None

    def _on_padded_data(self, flags: int, number: int, body: bytes) -> None:
        self._unacknowledged += len(body)
        call = self.calls.get(number)
        if call is None:
            return
        call.unacknowledged += len(body) - len(inner := frames.unpadded(flags, body))
        self._data(call, inner, 0, len(inner), flags & END_STREAM)

    def _on_headers(self, flags: int, number: int, body: bytes) -> None:
        body = frames.unpadded(flags, body)
        if flags & frames.PRIORITY:
            body = body[5:]
        self._block = (number, flags, bytearray(body))
        self._headers_if_whole(flags)

    def _on_continuation(self, flags: int, number: int, body: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise ProtocolError("CONTINUATION without HEADERS")
        self._block[2].extend(body)
        if len(self._block[2]) > frames.HEADER_BYTES:
            raise ProtocolError("headers are too large")
        self._headers_if_whole(flags)

    def _headers_if_whole(self, flags: int) -> None:
        if self._block is None or not flags & frames.END_HEADERS:
            return
        number, first_flags, block = self._block
        self._block = None
        headers = self._decoder.decode(bytes(block))
        call = self.calls.get(number)
        last = bool(first_flags & END_STREAM)
        if call is not None and (outcome := call.headers(headers, last)) is not None:
            self._end(call, outcome, reset=not last)

    def _on_reset(self, flags: int, number: int, body: bytes) -> None:
        call = self.calls.get(number)
        if call is not None:
            (why,) = frames.NUMBER.unpack(body)
            call.refused = why == frames.REFUSED_STREAM
            code = frames.RESET_CODES.get(why, Code.INTERNAL)
            self._end(call, (code, f"stream reset ({why})", None), reset=False)

    def _on_settings(self, flags: int, number: int, body: bytes) -> None:
        if flags & frames.ACK:
            return
        for what, value in frames.SETTING.iter_unpack(body):
            if what == frames.HEADER_TABLE_SIZE:
                self._encoder.resize(min(value, 4096))
            elif what == frames.MAX_CONCURRENT_STREAMS:
                self.max_calls = min(value, self._most_calls)
            elif what == frames.INITIAL_WINDOW_SIZE:
                self._peer_stream_window = value
        self.ready = True
        self._out.append(frame(frames.SETTINGS, frames.ACK, 0, b""))

    def _on_ping(self, flags: int, number: int, body: bytes) -> None:
        if not flags & frames.ACK:
            self._out.append(frame(frames.PING, frames.ACK, 0, body))

    def _on_goaway(self, flags: int, number: int, body: bytes) -> None:
        self.going_away = True
        last, _why = struct.unpack_from(">II", body)
        self.goaway_reason = frames.TOO_MANY_PINGS if body[8:] == frames.TOO_MANY_PINGS.encode() else "goaway"
        for call in [call for call in self.calls.values() if call.number > last & frames.LAST_STREAM]:
            call.refused = True
            self._end(call, (Code.UNAVAILABLE, self.goaway_reason, None), reset=False)

    def _on_window_update(self, flags: int, number: int, body: bytes) -> None:
        if number == 0:  # a stream sends nothing after its request, so its own window does not matter
            self._send_window += frames.NUMBER.unpack(body)[0] & frames.LAST_STREAM

    def _on_push(self, flags: int, number: int, body: bytes) -> None:
        raise ProtocolError("PUSH_PROMISE, though push is disabled")

    def _end(self, call: Call, outcome: Outcome, *, reset: bool = True) -> None:
        if call.open:
            if reset:
                self.cancel(call)
            self.calls.pop(call.number, None)
            call.open = False
            call.on_end(*outcome)

    _handlers: Final = {
        DATA: _on_padded_data,
        frames.HEADERS: _on_headers,
        frames.CONTINUATION: _on_continuation,
        frames.RST_STREAM: _on_reset,
        frames.SETTINGS: _on_settings,
        frames.PING: _on_ping,
        frames.GOAWAY: _on_goaway,
        frames.WINDOW_UPDATE: _on_window_update,
        frames.PUSH_PROMISE: _on_push,
    }
