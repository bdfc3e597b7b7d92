"""Cursors to and from ids: a place in the frames of one run.

A cursor is ``RUN.SEAL.PLACE``: the run (22 characters of base64url, so that a cursor on a metadata path
stays with its run), a seal, and a place: a frame's number, or ``end``.

- The seal of a number is keyed with a secret of this process and binds team, stream, path value, rules
  and the run's life in this process: a number from elsewhere, or a forged one, is simply unknown.
- The seal of ``end`` is not keyed: every replica knows the verified end of a run without asking anyone,
  and whoever forges one only shuts his own door (204).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import uuid
from dataclasses import dataclass
from typing import Final

END_PLACE: Final = "end"
SEAL_BYTES: Final = 8  # 64 bits: guessing one against a live process is hopeless, and ids stay short
_UUID: Final = re.compile("[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
MAX_CURSOR: Final = 128  # characters; ours have at most 60, anything longer was never ours


@dataclass(frozen=True, slots=True)
class Cursor:
    """A cursor as it was read: whose it is remains to be seen. `place` is None at the end."""

    run_id: str
    seal: str
    place: int | None


def read_cursor(text: str) -> Cursor | None:
    """Parse an id that came back; None where it cannot be one of ours."""
    if len(text) > MAX_CURSOR or not text.isascii():
        return None
    parts = text.split(".")
    if len(parts) != 3:
        return None
    run, seal, place = parts
    run_id = _unpack_run(run)
    if run_id is None or len(seal) != len(_text(bytes(SEAL_BYTES))):
        return None
    if place == END_PLACE:
        return Cursor(run_id, seal, None)
    if not place.isdigit() or len(place) > 15 or (place[0] == "0" and place != "0"):
        return None
    return Cursor(run_id, seal, int(place))


def end_cursor(team: str, stream: str, run_id: str, value: str = "") -> str:
    """The cursor of the verified end; `value` is what stood in a metadata path."""
    digest = hashlib.blake2b(
        _join(team, stream, run_id, value), digest_size=SEAL_BYTES, person=b"end"
    ).digest()
    return f"{_pack_run(run_id)}.{_text(digest)}.{END_PLACE}"


class Ids:
    """The ids of one channel: place to cursor, and whether a cursor is one of them."""

    __slots__ = ("_prefix", "_seal", "end")

    def __init__(
        self, secret: bytes, *, team: str, stream: str, run_id: str, value: str, rules: str, life: int
    ) -> None:
        joined = _join(team, stream, run_id, value, rules, str(life))
        self._seal = _text(hashlib.blake2b(joined, digest_size=SEAL_BYTES, key=secret).digest())
        self._prefix = f"{_pack_run(run_id)}.{self._seal}.".encode()
        self.end = end_cursor(team, stream, run_id, value).encode()

    def at(self, place: int) -> bytes:
        """The cursor of the frame numbered `place`; 0 is before the first."""
        return b"%b%d" % (self._prefix, place)

    def frame(self, place: int, event: str | None, data: bytes) -> bytes:
        """The frame numbered `place`; the same bytes as `frame` with its cursor gives, in one go."""
        if event is None:
            return b"id: %b%d\ndata: %b\n\n" % (self._prefix, place, data)
        return b"id: %b%d\nevent: %b\ndata: %b\n\n" % (self._prefix, place, event.encode(), data)

    def holds(self, cursor: Cursor) -> bool:
        """Whether `cursor` is a numbered one of this very channel."""
        return cursor.place is not None and cursor.seal == self._seal


def run_id_of(text: str) -> str | None:
    """The canonical run id (lower-case UUID) of what stood in a path, or None where it is not a UUID."""
    return text.lower() if _UUID.fullmatch(text) else None


def _join(*parts: str) -> bytes:
    return b"".join(
        b"%d:" % len(raw) + raw for raw in (part.encode("utf-8", "surrogatepass") for part in parts)
    )


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _pack_run(run_id: str) -> str:
    return _text(uuid.UUID(run_id).bytes)


def _unpack_run(text: str) -> str | None:
    if len(text) != 22:
        return None
    try:
        raw = base64.b64decode(text + "==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return str(uuid.UUID(bytes=raw)) if _text(raw) == text else None
