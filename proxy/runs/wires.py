"""Wires: the subscriptions by run id of one run: how many, when again, which one lasts.

A subscription that is opened too early sleeps for a second, and one that was open when a step is tried again
holds its chunks for five: so there are times when a second one is opened, and the one that lasts is chosen
by who speaks first, or after a while. After an end it is opened again: at once where the engine hung up,
else after a jittered, growing, bounded time, because an engine that goes down ends a thousand runs at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Final

from proxy.runs.reconcile.subscription_state import Line

MOST: Final = 3  # subscriptions of one run at the same time, the bridge included
SPREAD: Final = 0.25  # seconds over which runs reconnect after an end that nobody hung up
SLOWEST: Final = 5.0  # seconds between two attempts at most
STEADY: Final = 5.0  # seconds that a subscription has lasted when its end starts the counting anew
CHOICE: Final = 2.0  # seconds after which one of two has to do: the engine's sleep is a second
FRESH_CHOICE: Final = 1.0  # seconds until a fresh one for a new attempt is taken for bound


@dataclass(slots=True, eq=False)
class Wire:
    """One subscription, as a task."""

    opened_at: float
    task: asyncio.Task[None] | None = None
    line: Line | None = None
    hung_up: bool = False  # the engine said so before it ended
    fresh: bool = False  # opened beside another because a step is tried again: it is the one to keep

    @property
    def spoke(self) -> bool:
        return self.line is not None and self.line.spoke


@dataclass(slots=True)
class Backoff:
    """When to try again: the first time at once or nearly, then ever later, jittered, bounded."""

    rng: Random
    tries: int = 0
    at: float = field(default=0.0)

    def ended(self, now: float, *, hung_up: bool, lasted: float) -> None:
        """A subscription is over."""
        if lasted >= STEADY:
            self.tries = 0
        if self.tries == 0:
            wait = 0.0 if hung_up else self.rng.uniform(0.0, SPREAD)
        else:
            wait = min(SPREAD * 2**self.tries, SLOWEST) * self.rng.uniform(0.5, 1.0)
        self.tries = min(self.tries + 1, 16)
        self.at = now + wait

    def spoke(self) -> None:
        """Something of a step was told: all is well."""
        self.tries = 0


def choose(wires: list[Wire], now: float) -> tuple[list[Wire], float | None]:
    """Which of several subscriptions to drop now, and when to choose again."""
    if len(wires) < 2:
        return [], None
    youngest = max(wires, key=lambda wire: wire.opened_at)
    patience = youngest.opened_at + (FRESH_CHOICE if youngest.fresh else CHOICE)
    if youngest.spoke or now >= patience:
        keep = youngest
    else:
        older = [wire for wire in wires if wire.spoke]
        if youngest.fresh or not older:
            return [], patience
        keep = older[0]
    return [wire for wire in wires if wire is not keep], None


def earliest(*times: float | None) -> float | None:
    """The first of those that are."""
    return min((time for time in times if time is not None), default=None)
