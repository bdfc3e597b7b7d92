"""The items of a run as a run session retains them: with their size, and an identity to rebuild them by."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from proxy.core.events import End, Event, Item
from proxy.core.value import value
from proxy.streams.backlog import OVERHEAD


@value
class RetainedItem:
    """An item in a backlog; `size` is in bytes. Its identity is computed only when it is evicted."""

    item: Item
    size: int

    @property
    def lasting(self) -> bool:
        return not isinstance(self.item, Event) or self.item.lasting

    @property
    def source(self) -> tuple[str, int] | None:
        item = self.item
        return (item.step or "", item.attempt or 1) if isinstance(item, Event) and not item.lasting else None

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
    return RetainedItem(item, OVERHEAD + (len(payload) if payload.__class__ is str else _size(payload)))


def _size(payload: Any) -> int:
    """Estimate the bytes that a decoded JSON value takes."""
    if isinstance(payload, str):
        return len(payload)
    if isinstance(payload, dict):
        return 64 + sum(len(str(key)) + _size(value) for key, value in payload.items())
    if isinstance(payload, list):
        return 64 + sum(_size(value) for value in payload)
    return 16
