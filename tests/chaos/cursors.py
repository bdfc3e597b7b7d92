"""What clients were sent under each cursor: with a shared log every replica sends the same frame."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from tests.support.eventsource import Frame

REPEATING: Final = frozenset({"stream.gap", "stream.drain", "stream.wait", "stream.expired"})
"""Frames that have the cursor of the frame before them."""
RUNS: Final = 200  # whose frames are remembered
SHOWN: Final = 160  # characters of a frame


class Cursors:
    """The frames of the last runs, by their cursors; a cursor names its run and its stream."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, dict[str, tuple[int, str]]] = OrderedDict()

    def note(self, frame: Frame) -> str | None:
        """`frame` was sent; what is wrong where its cursor was sent with other bytes before."""
        if not frame.id or frame.event in REPEATING:
            return None
        run, _, cursor = frame.id.partition(".")
        known = self._runs.get(run)
        if known is None:
            known = self._runs[run] = {}
            if len(self._runs) > RUNS:
                self._runs.popitem(last=False)
        sent = hash((frame.event, frame.data)), f"{frame.event} {frame.data[:SHOWN]}"
        first = known.setdefault(cursor, sent)
        if first[0] == sent[0]:
            return None
        return f"frames differ under {frame.id}: {first[1]} / {sent[1]}"
