"""The items of a run as a run session retains them: with their size, and an identity to rebuild them by."""

from __future__ import annotations

from collections.abc import Hashable

from proxy.core import json_codec
from proxy.core.events import End, Event, Item
from proxy.core.value import value
from proxy.streams.backlog import OVERHEAD, Source


@value
class RetainedItem:
    """An item in a backlog; `size` is in bytes. Its identity is computed only when it is evicted."""

    item: Item
    size: int

    @property
    def lasting(self) -> bool:
        return not isinstance(self.item, Event) or self.item.lasting

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
        return 1

    @property
    def identity(self) -> Hashable | None:
        item = self.item
        if isinstance(item, Event):
            return item.identity if item.lasting else None
        return None if isinstance(item, End) else item


def retain(item: Item) -> RetainedItem:
    """Wrap `item` for a backlog, with an estimate of its size in bytes."""
    if not isinstance(item, Event):
        return RetainedItem(item, OVERHEAD)
    payload = item.payload
    size = len(payload) if payload.__class__ is str else json_codec.memory_of(payload)
    return RetainedItem(item, OVERHEAD + size)
