"""Transcript: the message that a machine has sent so far, as parts, with the number of each block.

A text part keeps its pieces with the numbers of the blocks that carried them. So the message at any earlier
place, and the difference between two places, can be made again, each text in one piece:

    blocks      1 start A   2 "Hel"   3 start B   4 "x"   5 "lo"   6 end A
    at 6        start A, "Hello", end A, start B, "x"
    from 2 to 6 "lo", end A, start B, "x"

A reset makes parts void, and newer data takes the place of older. What the message was before such a
change is kept as an old edition, so that a client whose connection broke within a piece gets the rest of that
piece. The newest few are kept, and they are the first to go when room is needed. Places before them cannot be
made again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.core.events import GapCause

DATA: Final = "data-"
"""What the kinds of parts with data of the application's own begin with."""
PART_BYTES: Final = 300
"""Bytes that a part takes beside its text and its blocks, roughly."""
PIECE_BYTES: Final = 90
"""Bytes that a piece of text takes beside its characters: the object, its number, two list entries."""
ENTRY_BYTES: Final = 8
"""Bytes that an old edition takes for each part."""
MAX_EDITIONS: Final = 16
"""Old editions that are kept: more than the retries that happen while a client reconnects."""


@dataclass(slots=True, eq=False)
class Part:
    """One part of the message.

    `step` is the name of the step whose chunks made it, None for what comes from other events. `attempt`
    is that of the first chunk. With `once` it is only for clients that were there: a joiner does not get it.
    """

    kind: str
    id: str = ""
    step: str | None = None
    attempt: int | None = None
    once: bool = False
    head: list[tuple[int, bytes]] = field(default_factory=list)
    tail: list[tuple[int, bytes]] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    lost: int = 0  # number of the last block whose text was given up

    @property
    def text(self) -> str:
        """Its whole text, as far as it is kept."""
        return "".join(self.pieces)


@dataclass(slots=True)
class _Edition:
    """What the message was up to the place `until`.

    `size` has the bytes of those `parts` that only this edition and older ones still need.
    """

    until: int
    parts: list[Part]
    size: int = 0


class Transcript:
    """The parts of one message in the order in which they began."""

    def __init__(
        self, delta: Callable[[Part, str], bytes], gap: Callable[[GapCause, Part], bytes | None]
    ) -> None:
        """`delta` makes the block for a piece of a part's text, `gap` the one for text that was given up."""
        self.place = 0  # the number of blocks so far
        self.size = 0  # bytes that are held, also by a machine that holds text back
        self.parts: list[Part] = []
        self._delta = delta
        self._gap = gap
        self._editions: list[_Edition] = []  # what the message was before its changes, the oldest first
        self._first = 0  # places before it cannot be made again
        self._edited = 0  # the current parts are those of this place and later ones

    # -- what is sent --

    def add(self, part: Part, *blocks: bytes, at: int | None = None) -> list[bytes]:
        """Add a part that begins with `blocks`: after all others, or as number `at` of the parts."""
        self.parts.insert(len(self.parts) if at is None else at, part)
        self.size += PART_BYTES
        return self._number(part.head, blocks)

    def close(self, part: Part, *blocks: bytes) -> list[bytes]:
        """`blocks` end `part`."""
        return self._number(part.tail, blocks)

    def append(self, part: Part, text: str) -> bytes:
        """One more piece of the text of `part`."""
        self.place += 1
        self.size += len(text) + PIECE_BYTES
        part.pieces.append(text)
        part.numbers.append(self.place)
        return self._delta(part, text)

    def replace(self, part: Part, block: bytes) -> list[bytes]:
        """`block` takes the place of all that `part` was."""
        self._edit([part])
        part.head.clear()
        return self._number(part.head, (block,))

    def remove(self, parts: Iterable[Part], *, repeated: Iterable[Part] = ()) -> None:
        """`parts` are void; `repeated` are going to be sent again (`repeat`)."""
        gone = {id(part): part for part in parts}
        if not gone:
            return
        self._edit(repeated).size += sum(map(_size, gone.values()))
        self.parts = [part for part in self.parts if id(part) not in gone]

    def repeat(self, part: Part) -> list[bytes]:
        """The whole of `part`, sent again: from now on only these blocks count."""
        self._edited = self.place + 1
        blocks: list[bytes] = []
        heads, tails = [block for _, block in part.head], [block for _, block in part.tail]
        part.head.clear()
        part.tail.clear()
        blocks += self._number(part.head, heads)
        text = part.text
        part.pieces.clear()
        part.numbers.clear()
        if part.lost:
            part.lost = self.place + 1
            lost = self._gap(GapCause.BACKLOG, part)
            if lost is not None:
                self.place += 1
                blocks.append(lost)
        if text:
            blocks.append(self.append(part, text))
        return blocks + self._number(part.tail, tails)

    def _number(self, to: list[tuple[int, bytes]], blocks: Iterable[bytes]) -> list[bytes]:
        sent = list(blocks)
        for block in sent:
            self.place += 1
            self.size += len(block)
            to.append((self.place, block))
        return sent

    # -- old editions --

    def _edit(self, emptied: Iterable[Part] = ()) -> _Edition:
        """The edition that ends at this place; `emptied` are parts that are going to be made anew."""
        if not self._editions or self._editions[-1].until != self.place:
            if len(self._editions) == MAX_EDITIONS:
                self._forget()
            size = ENTRY_BYTES * len(self.parts)
            self._editions.append(_Edition(self.place, list(self.parts), size))
            self.size += size
        edition = self._editions[-1]
        self._edited = self.place + 1
        kept = {id(part): _copied(part) for part in emptied}
        if kept:
            edition.size += sum(map(_size, kept.values()))
            self.size += PART_BYTES * len(kept)
            for each in self._editions:
                each.parts = [kept.get(id(part), part) for part in each.parts]
        return edition

    def _forget(self) -> None:
        """Let the oldest edition go."""
        oldest = self._editions.pop(0)
        self.size -= oldest.size
        self._first = oldest.until + 1

    def _parts_at(self, place: int) -> list[Part] | None:
        """The parts of the edition that `place` belongs to; None where that is not kept."""
        if place >= self._edited or place == self.place < self._first:
            return self.parts
        if place < self._first:
            return None
        return next((edition.parts for edition in self._editions if place <= edition.until), None)

    # -- what is made again --

    def between(self, after: int, place: int) -> list[bytes] | None:
        """The blocks after `after` up to `place`, each text in one piece; None where that is impossible."""
        parts = None if place > self.place else self._parts_at(place)
        if parts is None:
            return None
        blocks: list[bytes] = []
        for part in parts:
            if part.once and not after:
                continue
            blocks += [block for number, block in part.head if after < number <= place]
            if after < part.lost <= place:
                lost = self._gap(GapCause.BACKLOG, part)
                blocks += [] if lost is None else [lost]
            first, last = bisect_right(part.numbers, after), bisect_right(part.numbers, place)
            if first < last:
                blocks.append(self._delta(part, "".join(part.pieces[first:last])))
            blocks += [block for number, block in part.tail if after < number <= place]
        return blocks

    def trim(self, size: int) -> None:
        """Give up old editions, then the oldest text and chunks' data, until about `size` bytes are left."""
        while self._editions and self.size > size:
            self._forget()
        for part in self.parts:
            if self.size <= size:
                return
            if part.pieces:
                self._give_up(part, part.numbers[-1])
            elif part.kind.startswith(DATA) and part.step is not None and part.head:
                self._give_up(part, part.head[-1][0])

    def _give_up(self, part: Part, lost: int) -> None:
        self._first = self._edited = self.place + 1
        part.lost = lost
        self.size -= len(part.text) + PIECE_BYTES * len(part.pieces)
        part.pieces.clear()
        part.numbers.clear()
        if part.kind.startswith(DATA):
            self.size -= sum(len(block) for _, block in part.head)
            part.head.clear()


def _copied(part: Part) -> Part:
    """A copy that stays as it is when `part` is emptied."""
    return replace(
        part,
        head=list(part.head),
        tail=list(part.tail),
        pieces=list(part.pieces),
        numbers=list(part.numbers),
    )


def _size(part: Part) -> int:
    blocks = sum(len(block) for _, block in (*part.head, *part.tail))
    return PART_BYTES + blocks + len(part.text) + PIECE_BYTES * len(part.pieces)
