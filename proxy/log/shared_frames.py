"""The frames of a stream whose log is shared: their cursors have positions in the log, not numbers of frames.

A channel numbers its frames from 1 in the order in which this replica made them. Another replica that began
later has other numbers for the same frames. So a cursor has the position of the item that a frame was made
of, and which of the item's frames it is; `SharedFrames` translates in both directions.

    item (position)   1      2      3             4
    frames            1      -      2   3         4
    places in cursors 1.0           3.0 3.1       4.0     (written as one number)
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from typing import Final

from proxy.log.cursor import SEAL_BYTES, Cursor, end_cursor, joined_parts, packed_run, seal_text
from proxy.log.fences import Fences

FRAME_BITS: Final = 12  # of a place: which of an item's frames it is
MOST_FRAMES: Final = (1 << FRAME_BITS) - 1


def position_of(cursor: Cursor) -> int:
    """The position in the log that a cursor of a shared log names."""
    return (cursor.place or 0) >> FRAME_BITS


class SharedFrames:
    """Makes the frames of one channel, with cursors that every replica recognises; see `proxy.log.frames`."""

    __slots__ = ("_fence", "_fences", "_key", "_places", "_position", "_prefix", "_run", "_sub", "end")

    def __init__(
        self,
        fences: Fences,
        *,
        team: str,
        stream: str,
        run_id: str,
        value: str,
        rules: str,
        variant: str = "",
    ) -> None:
        """`fences` are the run's, and change as replicas take the lead.

        `variant` distinguishes a channel whose frames depend on items that this replica does not have.
        """
        self._fences = fences
        self._key = joined_parts(team, stream, run_id, value, rules, variant)
        self._run = packed_run(run_id)
        self._places = array("Q")  # of frame 1, 2, 3 …: ascending
        self._position = self._sub = 0
        self._fence = " "  # of `_prefix`: none yet
        self._prefix = b""
        self.end = end_cursor(team, stream, run_id, value).encode()

    @property
    def salt(self) -> str:
        """A few letters and digits: the same on every replica."""
        return self._seal(str(self._fences.first)).replace("-", "0").replace("_", "0")[:6]

    @property
    def created(self) -> int:
        """Unix seconds of the log's beginning: the same on every replica."""
        return self._fences.first // 1000

    def begin(self, position: int, last: int) -> None:
        """The frames after `last` are made of the item at `position`."""
        self._number(last)
        if position > self._position:
            self._position = position
            self._sub = 0

    def _number(self, number: int) -> None:
        """Give frames up to `number` their places, where they have none."""
        while len(self._places) < number:
            self._places.append(self._position << FRAME_BITS | self._sub)
            self._sub = min(self._sub + 1, MOST_FRAMES)

    def _seal(self, fence: str) -> str:
        key = hashlib.blake2b(f"{self._fences.generation}/{fence}".encode(), digest_size=32).digest()
        return seal_text(hashlib.blake2b(self._key, digest_size=SEAL_BYTES, key=key).digest())

    def _place(self, number: int) -> int:
        if number > len(self._places):
            self._number(number)
        return self._places[number - 1] if number else 0

    def at(self, place: int) -> bytes:
        """The cursor of the frame numbered `place`; 0 is before the first."""
        where = self._place(place)
        fence = self._fences.at(where >> FRAME_BITS)
        if fence != self._fence:
            self._fence = fence
            self._prefix = f"{self._run}.{self._seal(fence)}.".encode()
        return b"%b%d" % (self._prefix, where)

    def within(self, place: int, received: int, since: int) -> bytes:
        """The cursor within the piece that leads from `since` to `place`, after `received` of its blocks."""
        piece = b"-%d-%d" % (received, self._place(since)) if since else b"-%d" % received
        return self.at(place) + piece

    def frame(self, place: int, event: str | None, data: bytes) -> bytes:
        """The frame numbered `place`: the bytes of `sse.frame` with that cursor, made in one step."""
        if event is None:
            return b"id: %b\ndata: %b\n\n" % (self.at(place), data)
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (self.at(place), event.encode(), data)

    def holds(self, cursor: Cursor) -> bool:
        """Whether `cursor` is one of this channel's log, stream and rules."""
        return cursor.place is not None and cursor.seal == self._seal(self._fences.at(position_of(cursor)))

    def locate(self, cursor: Cursor) -> Cursor | None:
        """`cursor` with numbers of this channel's frames in place of positions; None where it is unknown."""
        if cursor.place is None or not self.holds(cursor) or position_of(cursor) > self._position:
            return None
        since = bisect_right(self._places, cursor.since) if cursor.since else 0
        place = bisect_right(self._places, cursor.place)
        return Cursor(cursor.run_id, cursor.seal, place, cursor.received, since)
