"""Cursors: the ids of frames. A client sends the last one back, to continue after it.

A cursor is ``RUN.SEAL.PLACE``: the run (22 characters of base64url, so that a cursor on a metadata path
stays with its run), a seal, and a place: a frame's number, or ``end``. In a format whose clients are sent the
message so far in one piece, ``PLACE-RECEIVED`` is a position within that piece: the client has received so
many of its blocks. ``PLACE-RECEIVED-SINCE`` is a position within the piece that leads from the place
``SINCE`` to ``PLACE``.

- The seal of a number is keyed with a secret of this process, and covers the team, the stream, the value in
  the path, the rules and the number of the run session. A cursor of another process, or a forged one, is
  therefore unknown.
- The seal of ``end`` is not keyed: every replica recognises it without a shared state. A client that forges
  one gets a 204 instead of its stream, and harms nobody else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import uuid
from dataclasses import dataclass
from typing import Final, Protocol

END_PLACE: Final = "end"
SEAL_BYTES: Final = 8  # 64 bits cannot be guessed over HTTP, and ids stay short
_UUID: Final = re.compile("[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
MAX_CURSOR: Final = 128  # characters; the longest cursor has some 60


@dataclass(frozen=True, slots=True)
class Cursor:
    """A cursor that was parsed but not verified (`Ids.holds`); `place` is None for ``end``.

    `received` is None for the cursor of a frame; else it counts the blocks of the piece from `since` to
    `place`.
    """

    run_id: str
    seal: str
    place: int | None
    received: int | None = None
    since: int = 0


def read_cursor(text: str) -> Cursor | None:
    """Parse the id that a client sent back; None where it cannot be a cursor."""
    if len(text) > MAX_CURSOR or not text.isascii():
        return None
    parts = text.split(".")
    if len(parts) != 3:
        return None
    run, seal, place = parts
    run_id = _unpack_run(run)
    if run_id is None or len(seal) != len(seal_text(bytes(SEAL_BYTES))):
        return None
    if place == END_PLACE:
        return Cursor(run_id, seal, None)
    numbers = place.split("-")
    if len(numbers) > 3 or not all(map(_is_number, numbers)):
        return None
    at, *piece = map(int, numbers)
    return Cursor(run_id, seal, at, *piece)


def end_cursor(team: str, stream: str, run_id: str, value: str = "") -> str:
    """The cursor of a run's end; `value` is the text in a metadata path, empty for other paths."""
    digest = hashlib.blake2b(
        joined_parts(team, stream, run_id, value), digest_size=SEAL_BYTES, person=b"end"
    ).digest()
    return f"{packed_run(run_id)}.{seal_text(digest)}.{END_PLACE}"


class CursorSource(Protocol):
    """Issues the cursors of one channel, and recognises them: `Ids`, or `proxy.log.positions.LogIds`."""

    end: bytes
    """The cursor of the run's end."""

    @property
    def salt(self) -> str:
        """A few letters and digits that differ between two channels of a run."""

    @property
    def created(self) -> int | None:
        """When the run's frames began, in Unix seconds; None where each channel has its own time."""

    def begin(self, position: int, last: int) -> None:
        """The frames after the one numbered `last` are made of the item at `position` of a shared log."""

    def at(self, place: int) -> bytes:
        """The cursor of the frame numbered `place`; 0 is before the first."""

    def within(self, place: int, received: int, since: int) -> bytes:
        """The cursor within the piece that leads from `since` to `place`, after `received` of its blocks."""

    def frame(self, place: int, event: str | None, data: bytes) -> bytes:
        """The frame numbered `place`."""

    def holds(self, cursor: Cursor) -> bool:
        """Whether `cursor` was issued for a frame of this channel."""

    def locate(self, cursor: Cursor) -> Cursor | None:
        """`cursor` with the numbers of this channel's frames; None where it is unknown."""


class Ids:
    """Issues the cursors of one channel in this process alone, and recognises them."""

    __slots__ = ("_prefix", "_seal", "end")

    def __init__(
        self, secret: bytes, *, team: str, stream: str, run_id: str, value: str, rules: str, session: int
    ) -> None:
        """`rules` is the fingerprint of the stream's rules, `session` the number of the run session."""
        joined = joined_parts(team, stream, run_id, value, rules, str(session))
        self._seal = seal_text(hashlib.blake2b(joined, digest_size=SEAL_BYTES, key=secret).digest())
        self._prefix = f"{packed_run(run_id)}.{self._seal}.".encode()
        self.end = end_cursor(team, stream, run_id, value).encode()

    @property
    def salt(self) -> str:
        """A few letters and digits that differ between two channels of a run, also those of two processes."""
        return self._seal.replace("-", "0").replace("_", "0")[:6]

    @property
    def created(self) -> int | None:
        return None

    def begin(self, position: int, last: int) -> None:
        """Frames have the numbers of this channel: positions in a log are of no use here."""

    def at(self, place: int) -> bytes:
        """The cursor of the frame numbered `place`; 0 is before the first."""
        return b"%b%d" % (self._prefix, place)

    def within(self, place: int, received: int, since: int) -> bytes:
        """The cursor within the piece that leads from `since` to `place`, after `received` of its blocks."""
        piece = b"-%d-%d" % (received, since) if since else b"-%d" % received
        return self.at(place) + piece

    def frame(self, place: int, event: str | None, data: bytes) -> bytes:
        """The frame numbered `place`: the bytes of `sse.frame` with that cursor, made in one step."""
        if event is None:
            return b"id: %b%d\ndata: %b\n\n" % (self._prefix, place, data)
        return b"id: %b%d\nevent: %b\ndata: %b\n\n" % (self._prefix, place, event.encode(), data)

    def holds(self, cursor: Cursor) -> bool:
        """Whether this channel issued `cursor` for a frame."""
        return cursor.place is not None and cursor.seal == self._seal

    def locate(self, cursor: Cursor) -> Cursor | None:
        """`cursor` with the numbers of this channel's frames; None where it is unknown."""
        return cursor if self.holds(cursor) else None


def run_id_of(text: str) -> str | None:
    """The canonical run id (a UUID in lower case) for the text in a path; None where it is not a UUID."""
    return text.lower() if _UUID.fullmatch(text) else None


def _is_number(text: str) -> bool:
    """Whether `text` is a number as cursors write it."""
    return text.isdigit() and len(text) <= 15 and (text[0] != "0" or text == "0")


def joined_parts(*parts: str) -> bytes:
    """The parts in UTF-8, each after its length, so that different parts never give the same bytes."""
    return b"".join(
        b"%d:" % len(raw) + raw for raw in (part.encode("utf-8", "surrogatepass") for part in parts)
    )


def seal_text(raw: bytes) -> str:
    """Bytes as unpadded base64 for URLs."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def packed_run(run_id: str) -> str:
    """A run id (a UUID) in 22 characters."""
    return seal_text(uuid.UUID(run_id).bytes)


def _unpack_run(text: str) -> str | None:
    if len(text) != 22:
        return None
    try:
        raw = base64.b64decode(text + "==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return str(uuid.UUID(bytes=raw)) if seal_text(raw) == text else None
