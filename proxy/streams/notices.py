"""Notices: the gaps and resets among a channel's frames, for clients' log lines and spans."""

from __future__ import annotations

import time
from bisect import bisect_right
from typing import Final

from proxy.core.events import Reset, StepGap
from proxy.observability.tracing import Notice

MOST_NOTICES: Final = 4096  # remembered for one channel; the older half is forgotten first


class Notices:
    """The notices of one channel, by the numbers of their frames."""

    __slots__ = ("_notices", "_numbers")

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._notices: list[Notice] = []

    def note(self, number: int, item: StepGap | Reset) -> None:
        """Frame `number`, which is not smaller than the last one, announces `item` to the clients."""
        self._numbers.append(number)
        self._notices.append(Notice(time.time_ns(), None if isinstance(item, Reset) else item.cause.value))
        if len(self._numbers) > MOST_NOTICES:
            del self._numbers[: MOST_NOTICES // 2]
            del self._notices[: MOST_NOTICES // 2]

    def between(self, place: int, to: int) -> list[Notice]:
        """Those with frames after `place` up to `to`."""
        if not self._numbers:
            return []
        return self._notices[bisect_right(self._numbers, place) : bisect_right(self._numbers, to)]
