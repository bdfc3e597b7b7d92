"""RESP2, the protocol of Redis: commands to bytes, bytes to replies. Anything else is a ProtocolError."""

from __future__ import annotations

from typing import Any, Final

MOST_BYTES: Final = 512 * 1024 * 1024  # of one bulk string: Redis allows no longer ones
MOST_DEPTH: Final = 8  # arrays in arrays; what the proxy asks for has 4
MOST_DIGITS: Final = 20  # of a length or an integer
KINDS: Final = b"$:+-*"  # the first byte of a reply
MESSAGE: Final = b"*3\r\n$7\r\nmessage\r\n"  # how a message on a channel begins
MOST_SHORT: Final = 12  # bytes of a length with its `$` and its end: any longer one is read with care


class ProtocolError(Exception):
    """The other side does not speak RESP2."""


class ErrorReply:
    """An error that Redis answered a command with; `text` begins with a code like ``ERR``."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def code(self) -> str:
        """Its first word."""
        return self.text.partition(" ")[0]

    def __repr__(self) -> str:
        return f"ErrorReply({self.text!r})"


Reply = bytes | int | None | ErrorReply | list[Any]


def command(*words: bytes) -> bytes:
    """The bytes of a command."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


class _Incomplete(Exception):
    """More bytes are needed."""


class Parser:
    """Turns received bytes into replies."""

    __slots__ = ("_data", "_needed")

    def __init__(self) -> None:
        self._data = b""
        self._needed = 0  # bytes that must be there before it is worth trying again

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that are complete with `data`. Raises ProtocolError."""
        self._data = data = self._data + data if self._data else data
        if len(data) < self._needed:
            return []
        self._needed = 0
        replies: list[Reply] = []
        place, length = 0, len(data)
        try:
            while place < length:
                reply, after = _common(data, place)
                if after < 0:
                    reply, after = self._reply(data, place, 0)
                replies.append(reply)
                place = after
        except _Incomplete:
            pass
        self._data = data[place:]
        if self._needed:
            self._needed -= place
        return replies

    def _reply(self, data: bytes, place: int, depth: int) -> tuple[Reply, int]:  # noqa: PLR0912 - by kinds
        end = data.find(b"\r\n", place)
        if end < 0:
            if len(data) - place > 64 * 1024:
                raise ProtocolError("a line of a reply is too long")
            if data[place : place + 1] not in KINDS:
                raise ProtocolError("a reply begins with an unknown byte")
            raise _Incomplete
        kind = data[place]
        after = end + 2
        if kind == 0x24:  # $: a bulk string
            length = _number(data, place + 1, end)
            if length == -1:
                return None, after
            if not 0 <= length <= MOST_BYTES:
                raise ProtocolError("a length is impossible")
            stop = after + length
            if len(data) < stop + 2:
                self._needed = stop + 2
                raise _Incomplete
            if data[stop : stop + 2] != b"\r\n":
                raise ProtocolError("a bulk string does not end where it should")
            return data[after:stop], stop + 2
        if kind == 0x3A:  # :
            return _number(data, place + 1, end), after
        if kind == 0x2B:  # +
            return data[place + 1 : end], after
        if kind == 0x2D:  # -
            return ErrorReply(data[place + 1 : end].decode("utf-8", "replace")), after
        if kind != 0x2A:  # *
            raise ProtocolError("a reply begins with an unknown byte")
        count = _number(data, place + 1, end)
        if count == -1:
            return None, after
        if depth >= MOST_DEPTH or count < 0:
            raise ProtocolError("an array is impossible")
        items: list[Any] = []
        for _ in range(count):
            item, after = self._reply(data, after, depth + 1)
            items.append(item)
        return items, after


def _common(data: bytes, place: int) -> tuple[Reply, int]:
    """The reply at `place`, if it is a complete short bulk string or message on a channel; else -1.

    Nearly all replies are of these two kinds, and this takes a third of the time of reading any reply.
    """
    if data[place] == 0x24:
        return _bulk(data, place)
    if data.startswith(MESSAGE, place):
        channel, after = _bulk(data, place + len(MESSAGE))
        if after > 0:
            payload, after = _bulk(data, after)
            return [b"message", channel, payload], after
    return None, -1


def _bulk(data: bytes, place: int) -> tuple[bytes, int]:
    """The bulk string at `place`, and where it ends; -1: it is something else, or not whole, or long."""
    start = data.find(b"\r\n", place, place + MOST_SHORT) + 2
    length = data[place + 1 : start - 2]
    if start < 2 or data[place] != 0x24 or not length.isdigit():
        return b"", -1
    stop = start + int(length)
    if data[stop : stop + 2] != b"\r\n":
        return b"", -1
    return data[start:stop], stop + 2


def _number(data: bytes, start: int, end: int) -> int:
    text = data[start:end]
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > MOST_DIGITS:
        raise ProtocolError("a number is none")
    return int(text)
