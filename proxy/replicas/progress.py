"""How far this replica has served a run's log, and the summaries with which other readers can begin."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, Final, Protocol

from proxy.core import json_codec
from proxy.core.events import LogItem
from proxy.log.base import Record
from proxy.log.contents import Contents
from proxy.log.entries import ItemCodec, NotAnEntry
from proxy.log.fences import Fence, Fences

NOWHERE: Final = (-1, 0)  # an id before every other


class Receiver(Protocol):
    """The run session that gets the items; `last` is the position of the newest one."""

    def publish(self, items: Sequence[LogItem]) -> None:
        """Serve `items`."""

    def begin_after(self, position: int, cut: Contents | None) -> None:
        """The first item will have the position after `position`; `cut`: what was sent before it."""


class Step(Enum):
    """The result of applying records."""

    FINE = auto()
    HOLE = auto()  # records in between are missing: the log must be read
    APART = auto()  # the log has other items than this replica has served


class Progress:
    """One run's progress on this replica.

    `position` is the last position that was served, `contents` what the log holds up to there. `fence` is the
    highest fence that was seen and `leader` the replica that wrote it; an empty text: nobody leads. `last_id`
    is the id of the last record that was read.
    """

    def __init__(self, codec: ItemCodec, receiver: Receiver) -> None:
        self.codec = codec
        self.position = 0
        self.contents = Contents()
        self.fences = Fences("0~")
        self.fence = 0
        self.leader = ""
        self.last_id = NOWHERE
        self._receiver = receiver

    @property
    def over(self) -> bool:
        """Whether the verified end was served."""
        return self.contents.status is not None

    def serve(self, items: Sequence[LogItem]) -> None:
        """Serve the next items."""
        note = self.contents.note
        for item in items:
            note(item)
        self.position += len(items)
        self._receiver.publish(items)

    # -- a generation begins --

    def begin(self, generation: str, fence: int, replica: str) -> None:
        """A new generation, led by `replica` from its first position on."""
        self.fences = Fences(generation, [Fence(fence, 1, replica)])
        self.fence, self.leader = fence, replica

    def lead(self, fence: int, replica: str, start: int) -> None:
        """`replica` leads from position `start` on."""
        self.fences.add(Fence(fence, start, replica))
        self.fence, self.leader = fence, replica

    def load(self, records: Sequence[Record]) -> Step:
        """Serve a whole log that was just read for the first time. Anything but FINE: it cannot be used."""
        generation = records[-1].generation
        records = [record for record in records if record.generation == generation]
        base = next((number for number, record in enumerate(records) if record.summary), None)
        if base is None:
            return Step.APART
        first = records[base]
        try:
            fences, contents = self._summary(first)
        except NotAnEntry:
            return Step.APART
        self.fences, self.contents = fences, contents
        self.position = first.position
        self._receiver.begin_after(first.position, contents.copy() if first.position else None)
        self.last_id = (first.fence, first.position)
        self.fence, self.leader = first.fence, first.replica
        return self.apply(records[base + 1 :])

    # -- records --

    def apply(self, records: Sequence[Record]) -> Step:
        """Serve what is new in `records`."""
        items: list[LogItem] = []
        step = Step.FINE
        for record in records:
            step = self._apply(record, items)
            if step is not Step.FINE:
                break
            self.last_id = max(self.last_id, (record.fence, record.position))
        if items:
            self.serve(items)
        return step

    def _apply(self, record: Record, items: list[LogItem]) -> Step:
        if record.generation != self.fences.generation:
            return Step.APART if record.fence > self.fence else Step.FINE
        if record.fence < self.fence:
            return Step.FINE  # it was published before another replica took the lead
        reached = self.position + len(items)
        if record.is_fence:
            return self._fenced(record, reached)
        if (record.fence, record.replica) != (self.fence, self.leader):
            return Step.HOLE  # its fence was not seen
        if record.position <= reached:
            return Step.FINE
        if record.position != reached + 1:
            return Step.HOLE
        try:
            items.append(self.codec.decode(record.body))
        except NotAnEntry:
            return Step.APART
        return Step.FINE

    def _fenced(self, record: Record, reached: int) -> Step:
        if (record.fence, record.replica) == (self.fence, self.leader):
            return Step.FINE
        if record.position > reached:
            return Step.HOLE
        try:
            fences, _ = self._summary(record)
        except NotAnEntry:
            return Step.APART
        if reached and fences.at(reached) != self.fences.at(reached):
            return Step.APART  # it was sent with another item
        self.fences.replace(fences)
        self.fence, self.leader = record.fence, record.replica
        return Step.FINE

    # -- summaries --

    def summary(self, contents: Contents, fences: Fences | None = None) -> bytes:
        """What a reader needs that begins at this position."""
        return json_codec.encode({"fences": (fences or self.fences).plain, "contents": contents.plain})

    @staticmethod
    def _summary(record: Record) -> tuple[Fences, Contents]:
        try:
            plain: Any = json_codec.decode(record.summary.decode())
            return Fences.of(record.generation, plain["fences"]), Contents.of(plain["contents"])
        except (ValueError, TypeError, KeyError) as error:
            raise NotAnEntry(f"a summary cannot be read ({type(error).__name__})") from None
