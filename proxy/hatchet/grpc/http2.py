"""HTTP/2 as a gRPC client that mostly listens needs it: pure, bytes in, bytes out (RFC 9113, RFC 7541).

One `Http2` is one connection, `receive` its hot path. What is simple here is so because of what we are:
requests are small and sent whole, nothing is pushed, messages are taken at once, so flow control is only
given back, never withheld. Anything out of order is a `Fault`: the connection is given up, never guessed at.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from hpack import Decoder, Encoder, HPACKError

from proxy.hatchet.grpc import frames
from proxy.hatchet.grpc.call import Call, Outcome
from proxy.hatchet.grpc.frames import (
    DATA,
    END_STREAM,
    FRAME,
    FRAME_BYTES,
    PADDED,
    Fault,
    frame,
    window_update,
)
from proxy.hatchet.grpc.status import Code

OUR_SETTINGS: Final = frames.settings(
    {frames.ENABLE_PUSH: 0, frames.INITIAL_WINDOW_SIZE: frames.STREAM_WINDOW}
)


class Http2:
    """The client's side of one connection; `take()` what is to be sent after each call."""

    def __init__(self, max_message: int, max_calls: int = frames.LAST_STREAM) -> None:
        self.calls: dict[int, Call] = {}
        self.settled = False  # the server has said its settings: calls may be made
        self.leaving = False  # frames.GOAWAY: no new calls
        self.farewell = "closed"  # what the server's going means for calls still open
        self.max_calls = max_calls  # at once; the server may allow fewer
        self.data_frames = 0  # that came so far, in what was taken
        self._max_message = max_message
        self._most_calls = max_calls
        self._encoder = Encoder()
        self._decoder = Decoder(max_header_list_size=frames.HEADER_BYTES)
        self._next = 1
        self._send_window = frames.FIRST_WINDOW
        self._peer_stream_window = frames.FIRST_WINDOW
        self._owed = 0
        self._rest = b""
        self._block: tuple[int, int, bytearray] | None = None  # headers that continue: stream, flags, bytes
        self._out: list[bytes] = [
            frames.PREFACE,
            frame(
                frames.SETTINGS,
                0,
                0,
                frames.settings({frames.ENABLE_PUSH: 0, frames.INITIAL_WINDOW_SIZE: frames.STREAM_WINDOW}),
            ),
            window_update(0, frames.CONNECTION_WINDOW - frames.FIRST_WINDOW),
        ]

    # -- sending ----------------------------------------------------------------------------------

    def take(self) -> bytes:
        """What is to be sent now."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def has_room(self, size: int) -> bool:
        """Whether a call with a request of `size` bytes can begin here now."""
        return (
            self.settled
            and not self.leaving
            and len(self.calls) < self.max_calls
            and self._next < frames.LAST_STREAM
            and size + frames.MESSAGE.size <= min(self._send_window, self._peer_stream_window, FRAME_BYTES)
        )

    def begin(self, headers: Sequence[tuple[str, str]], request: bytes, call: Call) -> None:
        """Send a request whole; its answer goes to `call`."""
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
        """End a call from here, silently."""
        if self.calls.pop(call.number, None) is not None:
            self._out.append(frame(frames.RST_STREAM, 0, call.number, frames.NUMBER.pack(frames.CANCEL)))
        call.open = False

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._out.append(frame(frames.PING, 0, 0, b"stream-p"))

    # -- receiving --------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take in what came. Raises Fault."""
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
                raise Fault("a frame is too large, or this is no HTTP/2")
            if end > size:
                break
            at = end
            if kind == DATA and not flags & PADDED and self._block is None:
                self._owed += length
                self.data_frames += 1
                call = calls.get(number)
                if call is not None:
                    self._data(call, data, start, end, flags & END_STREAM)
            else:
                self._other(kind, flags, number & frames.LAST_STREAM, data[start:end])
        self._rest = data[at:] if at < size else b""
        if self._owed >= frames.CONNECTION_WINDOW // 2:
            self._out.append(window_update(0, self._owed))
            self._owed = 0

    def _data(self, call: Call, data: bytes, start: int, end: int, last: int) -> None:
        call.owed += end - start
        if call.owed >= frames.STREAM_WINDOW // 2:
            self._out.append(window_update(call.number, call.owed))
            call.owed = 0
        outcome = call.data(data, start, end)
        if outcome is None and last:
            outcome = Code.INTERNAL, "ended without a status", None
        if outcome is not None:
            self._end(call, outcome)

    def _other(self, kind: int, flags: int, number: int, body: bytes) -> None:
        if self._block is not None and kind != frames.CONTINUATION:
            raise Fault("headers that go on were interrupted")
        if not self.settled and kind != frames.SETTINGS:
            raise Fault("no settings came first")
        try:
            handler = self._handlers.get(kind)
            if handler is not None:  # unknown kinds are to be ignored
                handler(self, flags, number, body)
        except (IndexError, struct.error, HPACKError):
            raise Fault(f"a frame of type {kind} is broken") from None

    def _on_padded_data(self, flags: int, number: int, body: bytes) -> None:
        self._owed += len(body)
        call = self.calls.get(number)
        if call is None:
            return
        call.owed += len(body) - len(inner := frames.unpadded(flags, body))
        self._data(call, inner, 0, len(inner), flags & END_STREAM)

    def _on_headers(self, flags: int, number: int, body: bytes) -> None:
        body = frames.unpadded(flags, body)
        if flags & frames.PRIORITY:
            body = body[5:]
        self._block = (number, flags, bytearray(body))
        self._headers_if_whole(flags)

    def _on_continuation(self, flags: int, number: int, body: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise Fault("headers go on that never began")
        self._block[2].extend(body)
        if len(self._block[2]) > frames.HEADER_BYTES:
            raise Fault("headers are too large")
        self._headers_if_whole(flags)

    def _headers_if_whole(self, flags: int) -> None:
        if self._block is None or not flags & frames.END_HEADERS:
            return
        number, first_flags, block = self._block
        self._block = None
        headers = {bytes(name): bytes(value) for name, value in self._decoder.decode(bytes(block), raw=True)}
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
                self._encoder.header_table_size = min(value, 4096)
            elif what == frames.MAX_CONCURRENT_STREAMS:
                self.max_calls = min(value, self._most_calls)
            elif what == frames.INITIAL_WINDOW_SIZE:
                self._peer_stream_window = value
        self.settled = True
        self._out.append(frame(frames.SETTINGS, frames.ACK, 0, b""))

    def _on_ping(self, flags: int, number: int, body: bytes) -> None:
        if not flags & frames.ACK:
            self._out.append(frame(frames.PING, frames.ACK, 0, body))

    def _on_goaway(self, flags: int, number: int, body: bytes) -> None:
        self.leaving = True
        last, _why = struct.unpack_from(">II", body)
        self.farewell = frames.TOO_MANY_PINGS if body[8:] == frames.TOO_MANY_PINGS.encode() else "goaway"
        for call in [call for call in self.calls.values() if call.number > last & frames.LAST_STREAM]:
            call.refused = True
            self._end(call, (Code.UNAVAILABLE, self.farewell, None), reset=False)

    def _on_window_update(self, flags: int, number: int, body: bytes) -> None:
        if number == 0:  # requests are sent whole: a stream's own window does not matter any more
            self._send_window += frames.NUMBER.unpack(body)[0] & frames.LAST_STREAM

    def _on_push(self, flags: int, number: int, body: bytes) -> None:
        raise Fault("pushed something, though that was declined")

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
