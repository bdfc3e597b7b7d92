"""HTTP/2 as a gRPC client that mostly listens needs it: pure, bytes in, bytes out (RFC 9113, RFC 7541).

One `Http2` is one connection. `receive` is the hot path: for a message that came in one frame it costs two
struct reads and one slice. What is simple here is so because of what we are: requests are small and sent
whole, nothing is pushed, messages are taken at once, so flow control is only given back, never withheld.
Anything out of order is a `Fault`: the connection is given up, never guessed at.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from hpack import Decoder, Encoder, HPACKError

from proxy.frames import (
    ACK,
    CANCEL,
    CONNECTION_WINDOW,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    FRAME,
    FRAME_BYTES,
    GOAWAY,
    HEADER_BYTES,
    HEADER_TABLE_SIZE,
    HEADERS,
    HTTP_CODES,
    INITIAL_WINDOW_SIZE,
    LAST_STREAM,
    MAX_CONCURRENT_STREAMS,
    MESSAGE,
    NUMBER,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RESET_CODES,
    RST_STREAM,
    SETTING,
    SETTINGS,
    STREAM_WINDOW,
    WINDOW_UPDATE,
    Fault,
    frame,
    settings,
    unpadded,
    window_update,
)
from proxy.refusals import Code


@dataclass(slots=True, eq=False)
class Call:
    """One request on a connection: each message goes to `on_message`, the one outcome to `on_end`.

    The outcome is a gRPC code with its text, or the error that `on_message` raised. `refused` says that
    Hatchet has not begun with it.
    """

    on_message: Callable[[bytes], None]
    on_end: Callable[[int, str, Exception | None], None]
    number: int = 0
    open: bool = True
    answered: bool = False
    refused: bool = False
    partial: bytearray = field(default_factory=bytearray)
    owed: int = 0  # window to give back


class Http2:
    """The client's side of one connection; `take()` what is to be sent after each call."""

    def __init__(self, max_message: int, max_calls: int = LAST_STREAM) -> None:
        self.calls: dict[int, Call] = {}
        self.settled = False  # the server has said its settings: calls may be made
        self.leaving = False  # GOAWAY: no new calls
        self.farewell = "closed"  # what the server's going means for calls still open
        self.max_calls = max_calls  # at once; the server may allow fewer
        self._max_message = max_message
        self._most_calls = max_calls
        self._encoder = Encoder()
        self._decoder = Decoder(max_header_list_size=HEADER_BYTES)
        self._next = 1
        self._send_window = FIRST_WINDOW
        self._peer_stream_window = FIRST_WINDOW
        self._owed = 0
        self._rest = b""
        self._block: tuple[int, int, bytearray] | None = None  # headers that continue: stream, flags, bytes
        self._out: list[bytes] = [
            PREFACE,
            frame(SETTINGS, 0, 0, settings({ENABLE_PUSH: 0, INITIAL_WINDOW_SIZE: STREAM_WINDOW})),
            window_update(0, CONNECTION_WINDOW - FIRST_WINDOW),
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
            and self._next < LAST_STREAM
            and size + MESSAGE.size <= min(self._send_window, self._peer_stream_window, FRAME_BYTES)
        )

    def begin(self, headers: Sequence[tuple[str, str]], request: bytes, call: Call) -> None:
        """Send a request whole; its answer goes to `call`."""
        call.number, self._next = self._next, self._next + 2
        self.calls[call.number] = call
        self._out.append(frame(HEADERS, END_HEADERS, call.number, self._encoder.encode(headers)))
        body = MESSAGE.pack(0, len(request)) + request
        self._send_window -= len(body)
        self._out.append(frame(DATA, END_STREAM, call.number, body))

    def cancel(self, call: Call) -> None:
        """End a call from here, silently."""
        if self.calls.pop(call.number, None) is not None:
            self._out.append(frame(RST_STREAM, 0, call.number, NUMBER.pack(CANCEL)))
        call.open = False

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._out.append(frame(PING, 0, 0, b"stream-p"))

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
                call = calls.get(number)
                if call is not None:
                    self._data(call, data, start, end)
                    if flags & END_STREAM and call.open:
                        self._end(call, Code.INTERNAL, "ended without a status")
            else:
                self._other(kind, flags, number & LAST_STREAM, data[start:end])
        self._rest = data[at:] if at < size else b""
        if self._owed >= CONNECTION_WINDOW // 2:
            self._out.append(window_update(0, self._owed))
            self._owed = 0

    def _data(self, call: Call, data: bytes, start: int, end: int) -> None:
        call.owed += end - start
        if call.owed >= STREAM_WINDOW // 2:
            self._out.append(window_update(call.number, call.owed))
            call.owed = 0
        partial = call.partial
        if partial:
            partial += data[start:end]
            if len(partial) < MESSAGE.size or len(partial) < self._whole(call, partial, 0):
                return
            data, start, end = bytes(partial), 0, len(partial)
            call.partial = bytearray()
        while call.open and end - start >= MESSAGE.size:
            stop = start + self._whole(call, data, start)
            if stop > end or not call.open:
                break
            try:
                call.on_message(data[start + MESSAGE.size : stop])
            except Exception as error:
                self._end(call, Code.CANCELLED, "", error)
            start = stop
        if call.open and start < end:
            call.partial += data[start:end]

    def _whole(self, call: Call, data: bytes | bytearray, start: int) -> int:
        """How long the message that begins at `start` is, with its prefix."""
        compressed, length = MESSAGE.unpack_from(data, start)
        if compressed:
            self._end(call, Code.INTERNAL, "compressed, though that was not offered")
        elif length > self._max_message:
            self._end(call, Code.RESOURCE_EXHAUSTED, "message larger than max")
        return MESSAGE.size + int(length)

    def _other(self, kind: int, flags: int, number: int, body: bytes) -> None:
        if self._block is not None and kind != CONTINUATION:
            raise Fault("headers that go on were interrupted")
        if not self.settled and kind != SETTINGS:
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
        call.owed += len(body) - len(inner := unpadded(flags, body))
        self._data(call, inner, 0, len(inner))
        if flags & END_STREAM and call.open:
            self._end(call, Code.INTERNAL, "ended without a status")

    def _on_headers(self, flags: int, number: int, body: bytes) -> None:
        body = unpadded(flags, body)
        if flags & PRIORITY:
            body = body[5:]
        self._block = (number, flags, bytearray(body))
        self._headers_if_whole(flags)

    def _on_continuation(self, flags: int, number: int, body: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise Fault("headers go on that never began")
        self._block[2].extend(body)
        if len(self._block[2]) > HEADER_BYTES:
            raise Fault("headers are too large")
        self._headers_if_whole(flags)

    def _headers_if_whole(self, flags: int) -> None:
        if self._block is None or not flags & END_HEADERS:
            return
        number, first_flags, block = self._block
        self._block = None
        headers = {bytes(name): bytes(value) for name, value in self._decoder.decode(bytes(block), raw=True)}
        call = self.calls.get(number)
        if call is not None:
            self._answered(call, headers, bool(first_flags & END_STREAM))

    def _answered(self, call: Call, headers: dict[bytes, bytes], ends: bool) -> None:
        """Headers or trailers of a call; the first can be both."""
        if not call.answered:
            status = headers.get(b":status", b"")
            if status.startswith(b"1"):
                return
            call.answered = True
            grpc = headers.get(b"content-type", b"").startswith(b"application/grpc")
            if status != b"200" or not (grpc or b"grpc-status" in headers):
                code = HTTP_CODES.get(status, Code.UNKNOWN)
                self._end(call, code, f"HTTP status {status.decode('ascii', 'replace')[:3]}", reset=not ends)
                return
        if ends:
            code_text = headers.get(b"grpc-status", b"")
            code = int(code_text) if code_text.isdigit() else Code.UNKNOWN
            text = unquote(headers.get(b"grpc-message", b"").decode("latin-1"), errors="replace")
            if code == Code.OK and call.partial:
                code, text = Code.INTERNAL, "ended within a message"
            self._end(call, code, text, reset=False)

    def _on_reset(self, flags: int, number: int, body: bytes) -> None:
        call = self.calls.get(number)
        if call is not None:
            (why,) = NUMBER.unpack(body)
            call.refused = why == REFUSED_STREAM
            self._end(call, RESET_CODES.get(why, Code.INTERNAL), f"stream reset ({why})", reset=False)

    def _on_settings(self, flags: int, number: int, body: bytes) -> None:
        if flags & ACK:
            return
        for what, value in SETTING.iter_unpack(body):
            if what == HEADER_TABLE_SIZE:
                self._encoder.header_table_size = min(value, 4096)
            elif what == MAX_CONCURRENT_STREAMS:
                self.max_calls = min(value, self._most_calls)
            elif what == INITIAL_WINDOW_SIZE:
                self._peer_stream_window = value
        self.settled = True
        self._out.append(frame(SETTINGS, ACK, 0, b""))

    def _on_ping(self, flags: int, number: int, body: bytes) -> None:
        if not flags & ACK:
            self._out.append(frame(PING, ACK, 0, body))

    def _on_goaway(self, flags: int, number: int, body: bytes) -> None:
        self.leaving = True
        last, _why = struct.unpack_from(">II", body)
        self.farewell = "too_many_pings" if body[8:] == b"too_many_pings" else "goaway"
        for call in [call for call in self.calls.values() if call.number > last & LAST_STREAM]:
            call.refused = True
            self._end(call, Code.UNAVAILABLE, self.farewell, reset=False)

    def _on_window_update(self, flags: int, number: int, body: bytes) -> None:
        if number == 0:  # requests are sent whole: a stream's own window does not matter any more
            self._send_window += NUMBER.unpack(body)[0] & LAST_STREAM

    def _on_push(self, flags: int, number: int, body: bytes) -> None:
        raise Fault("pushed something, though that was declined")

    def _end(
        self, call: Call, code: int, text: str, error: Exception | None = None, *, reset: bool = True
    ) -> None:
        if call.open:
            if reset:
                self.cancel(call)
            self.calls.pop(call.number, None)
            call.open = False
            call.on_end(code, text, error)

    _handlers: Final = {
        DATA: _on_padded_data,
        HEADERS: _on_headers,
        CONTINUATION: _on_continuation,
        RST_STREAM: _on_reset,
        SETTINGS: _on_settings,
        PING: _on_ping,
        GOAWAY: _on_goaway,
        WINDOW_UPDATE: _on_window_update,
        PUSH_PROMISE: _on_push,
    }
