"""Kept: an item of a run as its life keeps it in a backlog: weighed, and able to say what it was."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from proxy.core.events import End, Event, Item
from proxy.core.value import value
from proxy.streams.backlog import OVERHEAD


@value
class Kept:
    """An item as the life keeps it; what it was is asked only once it falls out."""

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


def keep(item: Item) -> Kept:
    """Weigh an item for the backlog of events."""
    if not isinstance(item, Event):
        return Kept(item, OVERHEAD)
    payload = item.payload
    return Kept(item, OVERHEAD + (len(payload) if payload.__class__ is str else _weight(payload)))


def _weight(payload: Any) -> int:
    """About how many bytes a payload takes; containers are counted to a depth, not to the last leaf."""
    if isinstance(payload, str):
        return len(payload)
    if isinstance(payload, dict):
        return 64 + sum(len(str(key)) + _weight(value) for key, value in payload.items())
    if isinstance(payload, list):
        return 64 + sum(_weight(value) for value in payload)
    return 16
