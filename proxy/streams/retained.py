"""The items of a run as a run session retains them, and all items so far, for a stream that begins late."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from msgspec import Struct

from proxy.core import json_codec
from proxy.core.events import End, Event, Flush, GapCause, Item, LogItem, Reset, StepGap, without_flushes
from proxy.log.contents import Contents
from proxy.streams.backlog import OVERHEAD, Backlog, Source


class RetainedItem(Struct, frozen=True, gc=False):
    """An item in a backlog; `size` is in bytes. Its identity is computed only when it is evicted."""

    item: LogItem
    size: int

    @property
    def lasting(self) -> bool:
        item = self.item
        return item.lasting if isinstance(item, Event) else not isinstance(item, Flush)

    @property
    def source(self) -> Source | None:
        item = self.item
        return (
            (item.step or "", item.attempt or 1, None)
            if isinstance(item, Event) and not item.lasting
            else None
        )

    @property
    def chunks(self) -> int:
        return 0 if isinstance(self.item, Flush) else 1

    @property
    def identity(self) -> Hashable | None:
        item = self.item
        if isinstance(item, Event):
            return item.identity if item.lasting else None
        return None if isinstance(item, End | Flush) else item


def retain(item: LogItem) -> RetainedItem:
    """Wrap `item` for a backlog, with an estimate of its size in bytes."""
    if not isinstance(item, Event):
        return RetainedItem(item, OVERHEAD)
    payload = item.payload
    size = len(payload) if payload.__class__ is str else json_codec.memory_of(payload)
    return RetainedItem(item, OVERHEAD + size)


class EarlierItems:
    """All items of a run until now, as far as they are known, for a stream that begins late.

    Evicted events are taken from `rebuilt`, the events that the run's state implies; gaps announce the
    others.
    """

    __slots__ = ("_backlog", "_cut")

    def __init__(self, backlog: Backlog[RetainedItem]) -> None:
        """`backlog`: the run's items; the run session appends them."""
        self._backlog = backlog
        self._cut: Contents | None = None  # what was sent before the first item that this replica ever had

    def restarted(self, contents: Contents | None) -> None:
        """The backlog was restarted; `contents`: what was sent before its first item, None: nothing."""
        self._cut = contents

    @property
    def incomplete(self) -> bool:
        """Whether events are missing that the run's state may have."""
        return bool(self._backlog.forgotten(0)) or self._cut is not None

    def numbered(self, after: int) -> list[tuple[int, Item]]:
        """The retained items after number `after`, with their numbers; what was evicted is missing."""
        backlog = self._backlog
        place = max(after, backlog.first - 1)
        numbered = [*backlog.aside(after), *enumerate(backlog.read(place), place + 1)]
        return [(number, entry.item) for number, entry in numbered if not isinstance(entry.item, Flush)]

    def identities(self) -> set[Hashable]:
        """The identities of all lifecycle events that the run has had."""
        backlog = self._backlog
        aside = [entry.identity for _, entry in backlog.aside(0)]
        recent = [entry.identity for entry in backlog.read(backlog.first - 1)]
        return {*aside, *recent, *backlog.forgotten(0)}

    def so_far(self, rebuilt: list[Event]) -> Iterator[Item]:
        """All items until now: retained ones, forgotten ones from `rebuilt`, and gaps for what is lost."""
        backlog = self._backlog
        forgotten = backlog.forgotten(0)
        known = {event.identity: event for event in rebuilt}
        found: list[tuple[int, LogItem]] = [(number, entry.item) for number, entry in backlog.aside(0)]
        complete = True
        for one, number in forgotten.items():
            if isinstance(one, StepGap | Reset):
                found.append((number, one))
            elif one in known:
                found.append((number, known[one]))
            else:
                complete = False
        if not complete:  # the state may be incomplete while the run goes on
            yield StepGap(GapCause.BACKLOG, None, None, None)
        found += [
            (loss.until, StepGap(GapCause.BACKLOG, loss.step, loss.attempt, loss.missed))
            for loss in backlog.losses(0)
        ]
        yield from without_flushes(item for _, item in sorted(found, key=lambda numbered: numbered[0]))
        yield from without_flushes(entry.item for entry in backlog.read(backlog.first - 1))

    def at_positions(self, rebuilt: list[Event]) -> Iterator[tuple[int, LogItem]]:
        """All items until now with their positions in the shared log, for a new channel.

        Chunks that are not kept any more are announced where the last one was. Where that is not known, they
        are announced before the first item that is kept, where no cursor can miss it.
        """
        backlog, cut = self._backlog, self._cut
        forgotten = backlog.forgotten(0)
        known = {event.identity: event for event in rebuilt}
        before = max(0, backlog.first - 2)
        found: list[tuple[int, LogItem]] = [(number, entry.item) for number, entry in backlog.aside(0)]
        gaps: list[Item] = []
        for one, number in forgotten.items():
            if isinstance(one, StepGap | Reset):
                found.append((number, one))
            elif one in known:
                found.append((number, known[one]))
            elif not gaps:  # the state may be incomplete while the run goes on
                gaps.append(StepGap(GapCause.BACKLOG, None, None, None))
        if cut is not None:
            earlier = [event for event in rebuilt if event.identity not in forgotten and cut.holds(event)]
            found += [(before, event) for event in earlier]
            gaps += [
                StepGap(GapCause.BACKLOG, step.name, step.attempt, None) for step in cut.steps_with_chunks
            ]
        found += [(before, gap) for gap in gaps]
        found += [
            (loss.until, StepGap(GapCause.BACKLOG, loss.step, loss.attempt, None))
            for loss in backlog.losses(0)
        ]
        yield from sorted(found, key=lambda numbered: numbered[0])
        yield from enumerate((entry.item for entry in backlog.read(backlog.first - 1)), start=backlog.first)
