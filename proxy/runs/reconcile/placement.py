"""Times: what the time of a chunk says of its attempt, where nothing better does.

Within an attempt times grow with indices. Chunks are timed by their worker, failures by the engine: two
clocks, so these are last resorts, except where the history gives the worker's own word for when one began.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from proxy.core.events import GapCause, LiveEvent
from proxy.runs.reconcile.evidence import Facts
from proxy.runs.reconcile.subscription_state import is_later, moment

START_LAG: Final = 0.025  # seconds by which a worker's first chunk may be ahead of its own word that it began


class Times(Facts):
    """A step run's facts, and what times add to them."""

    __slots__ = ()

    def lacks(self, event: LiveEvent) -> bool:
        """Whether that chunk, told after the failure, is the one that is missing before it."""
        if event.index != self.next:
            return False
        later = min(self.held.get(self.told, ()), default=None)
        after = self.held[self.told][later].at if later is not None else None
        return event.at is None or after is None or event.at.rstrip("Z") <= after.rstrip("Z")

    def sent_before_failure(self, event: LiveEvent, attempt: int) -> bool | None:
        """Whether its time is before that attempt's failure (None: unknown): two clocks, so a last resort."""
        failure = self.failures.get(attempt)
        if failure is None or failure.at is None or event.at is None:
            return None
        return event.at.rstrip("Z") < failure.at.rstrip("Z")

    def attempt_of(self, event: LiveEvent, attempt: int) -> int:
        """`attempt`, or the earlier one whose failure that chunk came before."""
        while attempt > 1 and self.sent_before_failure(event, attempt - 1):
            attempt -= 1
        return max(attempt, 1)

    def began_at(self, attempt: int, at: str | None, now: float) -> None:
        """The history says when `attempt` began; its chunks are timed by the same worker's clock."""
        when = moment(at)
        if attempt == 1 or when is None:
            return
        self.began = (attempt, when)
        self._void(attempt, _text(when - timedelta(seconds=START_LAG)), now)

    def behind(self, at: str | None) -> bool:
        """Whether that time seems to be before the last chunk's: it may be of an earlier attempt."""
        last = self.recent[-1][1] if self.recent else None
        return last is not None and at is not None and at < last

    def misfit(self, event: LiveEvent, attempt: int) -> int:
        """Whether a chunk is too old (-1) or too new (1) for `attempt`, where times grow with indices."""
        held = self.held.get(attempt)
        if held:
            index, last = next(reversed(held.items()))
            at = last.at
        elif attempt == self.told and self.recent and 0 < self.next <= (event.index or 0):
            index, at = self.recent[-1]
        else:
            return 0
        if event.index is None or event.index == index or event.at is None or at is None:
            return 0
        if event.index < index:
            return 1 if is_later(event.at, at) else 0
        return -1 if is_later(at, event.at) else 0

    def void_earlier(self, attempt: int, now: float) -> bool:
        """Drop what is held as `attempt`'s and came before, by the failure's time; says if any did."""
        failure = self.failures.get(attempt - 1)
        before = len(self.held.get(attempt, ()))
        if failure is not None and failure.at is not None:
            self._void(attempt, failure.at.rstrip("Z"), now)
        return len(self.held.get(attempt, ())) < before

    def _void(self, attempt: int, began: str, now: float) -> None:
        held = self.held.get(attempt, {})
        for index in [i for i, event in held.items() if event.at and event.at.rstrip("Z") < began]:
            event = held.pop(index)
            self._held_bytes -= len(event.payload)
            self.dropped(event, attempt, now)
        if not held:
            self.held.pop(attempt, None)

    def clashes(self, event: LiveEvent, attempt: int) -> bool:
        """Whether an earlier chunk waits under that index: of one attempt there is one."""
        known = self.held.get(attempt, {}).get(event.index or 0)
        return known is not None and is_later(event.at, known.at)

    def dropped(self, event: LiveEvent, attempt: int, now: float) -> None:
        """A chunk told as `attempt`'s is taken for an earlier one's: if a clock jumped, it was not.

        What follows exactly says that nothing is missing, as after every doubt.
        """
        if attempt == self.told > 1 and (event.index or 0) >= self.next:
            self.suspect(GapCause.UPSTREAM, now)
        elif attempt == self.told + 1 and self.doubt_next is None:
            self.doubt_next = GapCause.UPSTREAM

    def older(self, event: LiveEvent) -> bool:
        """Whether a chunk was sent before the proven attempt began, whichever line told it now."""
        if event.at is None or self.proven == 1:
            return False
        at = event.at.rstrip("Z")
        if self.began is not None and self.began[0] == self.proven:
            return at < _text(self.began[1] - timedelta(seconds=START_LAG))
        last = self.recent[-1][1] if self.recent and self.next == 0 else None
        return last is not None and at <= last.rstrip("Z")

    def newer(self, event: LiveEvent) -> bool:
        """Whether a chunk was sent after the proven attempt had begun, by what the history says."""
        if event.at is None or self.began is None or self.began[0] != self.proven:
            return False
        return event.at.rstrip("Z") > _text(self.began[1])

    def anew(self, event: LiveEvent) -> bool:
        """Whether a chunk whose index was told is no double: within an attempt, times grow with indices.

        Later than all that was told of late: a worker's clock may have been put back meanwhile.
        """
        if event.at is None or (event.index, event.at) in self.recent:
            return False
        if event.index == 0 and self.first_at is not None:
            return event.at != self.first_at
        told = [at.rstrip("Z") for _, at in self.recent if at is not None]
        return bool(told) and event.at.rstrip("Z") > max(told)


def _text(when: datetime) -> str:
    return when.isoformat(timespec="microseconds")
