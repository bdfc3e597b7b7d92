"""Buffers the events of a run that has no follower yet, with their times and the subscription's breaks.

A follower that begins later gets them with the times at which they came, so it does not wait again for an end
whose settling time has passed already.
"""

from __future__ import annotations

from typing import Final, Protocol

from msgspec import Struct

from proxy.core.observations import LiveEvent
from proxy.runs.reconcile.subscription_state import Pulse

OVERHEAD: Final = 400  # bytes that an event costs beside its payload, about


class _Closed(Struct, frozen=True):
    """The subscription was over; `hung_up`: the engine said so in its last event."""

    hung_up: bool


class FedRun(Protocol):
    """A run that gets events from a subscription that is not its own; times in seconds of its clock."""

    def feed(self, source: str, pulse: Pulse, since: float, *, at: float | None = None) -> None:
        """The subscription has brought its events since `since`."""

    def deliver(self, event: LiveEvent, source: str, *, at: float | None = None) -> None:
        """An event, that came at `at`; None: now."""

    def unfeed(
        self,
        source: str,
        *,
        broken: bool = True,
        hung_up: bool = False,
        at: float | None = None,
    ) -> None:
        """The subscription is over."""


def size_of(event: LiveEvent) -> int:
    """How many bytes an event takes in memory, about."""
    return OVERHEAD + len(event.payload)


class EventBuffer:
    """One run's events from one subscription, which was open, without a dropped event, from `since` on."""

    __slots__ = ("_entries", "_since", "bytes", "run_is_over", "used_at")

    def __init__(self, since: float) -> None:
        self.bytes = 0
        self.used_at = since
        self.run_is_over = False  # the last event says so; it may be a false end
        self._since = since
        self._entries: list[tuple[float, LiveEvent | _Closed | None]] = []  # None: it was opened again

    def received(self, event: LiveEvent, now: float) -> int:
        """Keep an event; returns how many bytes that takes."""
        size = size_of(event)
        self._entries.append((now, event))
        self.bytes += size
        self.used_at = now
        self.run_is_over = event.step_run_id is None
        return size

    def opened(self, now: float) -> None:
        """The subscription was opened again."""
        self._entries.append((now, None))

    def closed(self, now: float, *, hung_up: bool) -> None:
        """The subscription was over; noted even if the run seemed over, since that may be a false end."""
        self._entries.append((now, _Closed(hung_up)))

    def give_to(self, run: FedRun, source: str, pulse: Pulse) -> None:
        """Give `run` all events and breaks, in order, with the times at which they came."""
        run.feed(source, pulse, self._since, at=self._since)
        for at, entry in self._entries:
            if entry is None:
                run.feed(source, pulse, at, at=at)
            elif isinstance(entry, _Closed):
                run.unfeed(source, hung_up=entry.hung_up, at=at)
            else:
                run.deliver(entry, source, at=at)
