"""Bus: a tenant's stream of messages, and who hears them.

Small messages are told at once or after the delay that their kind has. Those over 8 KB do not fit into a
Postgres notification and come up to a second later, behind the run's end if that is told meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from proxy.simulator.messages import Message
from proxy.simulator.random_source import Dice
from proxy.simulator.scheduler import Agenda

LARGE = 8000  # bytes: what pg_notify takes
LARGE_LATE = (0.5, 1.0)
STARTED_LATE = (0.015, 0.035)
ENDED_LATE = (0.002, 0.012)


class Feed(Protocol):
    """One subscription, as the bus sees it."""

    def hear(self, message: Message) -> None:
        """A message that concerns it."""


class Bus:
    """Who hears what in one tenant."""

    def __init__(self, agenda: Agenda, dice: Dice) -> None:
        self._agenda = agenda
        self._dice = dice
        self._by_run: dict[str, list[Feed]] = {}
        self._by_pair: dict[tuple[str, str], list[Feed]] = {}
        self._large_at: dict[str, float] = {}
        self.muted = False
        self.told = 0

    def join_run(self, run_id: str, feed: Feed) -> None:
        self._by_run.setdefault(run_id, []).append(feed)

    def join_pair(self, key: str, value: str, feed: Feed) -> None:
        self._by_pair.setdefault((key, value), []).append(feed)

    def leave_run(self, run_id: str, feed: Feed) -> None:
        _leave(self._by_run, run_id, feed)

    def leave_pair(self, key: str, value: str, feed: Feed) -> None:
        _leave(self._by_pair, (key, value), feed)

    def tell(
        self, message: Message, metadata: Mapping[str, Any], late: tuple[float, float] | None, large: bool
    ) -> None:
        """Tell a message: at once, or within `late` seconds; `large`: over 8 KB means much later."""
        if large and len(message.payload) > LARGE:
            at = max(
                self._agenda.now() + self._dice.between(LARGE_LATE), self._large_at.get(message.run_id, 0.0)
            )
            self._large_at[message.run_id] = at
            self._agenda.after(at - self._agenda.now(), self._tell, message, metadata)
        elif late is None:
            self._tell(message, metadata)
        else:
            self._agenda.after(self._dice.between(late), self._tell, message, metadata)

    def _tell(self, message: Message, metadata: Mapping[str, Any]) -> None:
        self.told += 1
        if self.muted:
            return
        for feed in tuple(self._by_run.get(message.run_id, ())):
            feed.hear(message)
        if self._by_pair:
            for (key, value), feeds in tuple(self._by_pair.items()):
                if metadata.get(key) == value:
                    for feed in tuple(feeds):
                        feed.hear(message)


def _leave(feeds: dict[Any, list[Feed]], key: Any, feed: Feed) -> None:
    mine = feeds.get(key)
    if mine and feed in mine:
        mine.remove(feed)
        if not mine:
            del feeds[key]
