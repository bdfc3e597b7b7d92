"""The bytes of a message's frame, made together with its cursor.

    id: CURSOR
    event: NAME         where the rule names one
    data: JSON

`proxy.formats.sse` makes control frames, and `proxy.formats.wire` the frames of chat formats.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from proxy.log.cursor import SEAL_BYTES, Cursor, end_cursor, joined_parts, packed_run, seal_text


class Frames(Protocol):
    """Makes the message frames of one channel, with their cursors, and recognises the cursors.

    The cursors of `LocalFrames` are known to this process alone, those of `SharedFrames`
    (`proxy.log.shared_frames`) to every replica.
    """

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


class LocalFrames:
    """Makes the frames of one channel; their cursors are recognised in this process alone."""

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
