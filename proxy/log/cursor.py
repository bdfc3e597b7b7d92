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
from typing import Final

from msgspec import Struct

END_PLACE: Final = "end"
SEAL_BYTES: Final = 8  # 64 bits cannot be guessed over HTTP, and ids stay short
_UUID: Final = re.compile("[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
MAX_CURSOR: Final = 128  # characters; the longest cursor has some 60


class Cursor(Struct, frozen=True):
    """A cursor that was parsed but not verified (`Frames.holds`); `place` is None for ``end``.

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
