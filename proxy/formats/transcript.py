"""Transcript: the message that a machine has sent so far, as parts, with the number of each block.

A text part keeps its pieces with the numbers of the blocks that carried them. So the message at any earlier
place, and the difference between two places, can be made again, each text in one piece:

    blocks      1 start A   2 "Hel"   3 start B   4 "x"   5 "lo"   6 end A
    at 6        start A, "Hello", end A, start B, "x"
    from 2 to 6 "lo", end A, start B, "x"

What is void after a reset is gone. Places before such a change cannot be made again (`broken`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from proxy.core.events import GapCause

DATA: Final = "data-"
"""What the kinds of parts with data of the application's own begin with."""
PART_BYTES: Final = 300
"""Bytes that a part takes beside its text and its blocks, roughly."""
PIECE_BYTES: Final = 90
"""Bytes that a piece of text takes beside its characters: the object, its number, two list entries."""


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
        self._broken = 0  # places before it cannot be made again

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
        self._broken = self.place + 1
        self.size -= sum(len(old) for _, old in part.head)
        part.head.clear()
        return self._number(part.head, (block,))

    def remove(self, parts: Iterable[Part]) -> None:
        """`parts` are void."""
        gone = set(map(id, parts))
        if not gone:
            return
        self._broken = self.place + 1
        self.size -= sum(_size(part) for part in self.parts if id(part) in gone)
        self.parts = [part for part in self.parts if id(part) not in gone]

    def repeat(self, part: Part) -> list[bytes]:
        """The whole of `part`, sent again: from now on only these blocks count."""
        self._broken = self.place + 1
        blocks: list[bytes] = []
        heads, tails = [block for _, block in part.head], [block for _, block in part.tail]
        part.head.clear()
        part.tail.clear()
        self.size -= sum(map(len, heads)) + sum(map(len, tails))
        blocks += self._number(part.head, heads)
        text = part.text
        self.size -= len(text) + PIECE_BYTES * len(part.pieces)
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

    # -- what is made again --

    def between(self, after: int, place: int) -> list[bytes] | None:
        """The blocks after `after` up to `place`, each text in one piece; None where that is impossible."""
        if place > self.place or (place < self.place and place < self._broken):
            return None
        blocks: list[bytes] = []
        for part in self.parts:
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
        """Give up the oldest text, and data that chunks brought, until about `size` bytes are left."""
        for part in self.parts:
            if self.size <= size:
                return
            if part.pieces:
                self._give_up(part, part.numbers[-1])
            elif part.kind.startswith(DATA) and part.step is not None and part.head:
                self._give_up(part, part.head[-1][0])

    def _give_up(self, part: Part, lost: int) -> None:
        self._broken = self.place + 1
        part.lost = lost
        self.size -= len(part.text) + PIECE_BYTES * len(part.pieces)
        part.pieces.clear()
        part.numbers.clear()
        if part.kind.startswith(DATA):
            self.size -= sum(len(block) for _, block in part.head)
            part.head.clear()


def _size(part: Part) -> int:
    blocks = sum(len(block) for _, block in (*part.head, *part.tail))
    return PART_BYTES + blocks + len(part.text) + PIECE_BYTES * len(part.pieces)
