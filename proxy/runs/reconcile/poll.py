"""Look: when a state is to be read next. At once for a new reason, then at growing distances.

A look that decides nothing is repeated 0.1, 0.2, 0.4 … seconds later, up to `SLOWEST`, as long as the
question stays open; a new reason starts from the front. Two looks are never nearer than `NEAREST`.
"""

from __future__ import annotations

from typing import Final

NEAREST: Final = 0.05  # seconds: a storm of reasons is one look each 50 ms; the history lags as much anyway
FIRST: Final = 0.1  # seconds until an answer that decided nothing is asked for again
SLOWEST: Final = 5.0  # seconds: an open question costs no more than a call per 5 s
AWAY_FIRST: Final = 0.3  # seconds that a source which gave no answer is left alone: it may have been one call
AWAY_SLOWEST: Final = 5.0  # seconds; a thousand runs must not keep a source down


class Look:
    """One kind of look (the core state, the history) of one run."""

    __slots__ = ("_not_before", "_tries", "asked", "at", "aways")

    def __init__(self) -> None:
        self.at: float | None = None  # when to read next; None: no reason to
        self.asked: float | None = None  # when the last read began
        self._tries = 0
        self.aways = 0  # how often in a row it gave no answer
        self._not_before = float("-inf")

    def want(self, now: float) -> None:
        """There is a (new) reason to look."""
        self._tries = 0
        self._earlier(now)

    def soon(self, at: float) -> None:
        """Look at `at`, or earlier where there is reason to."""
        self._earlier(at)

    def asking(self, now: float) -> None:
        """A read begins: what it will say is newer than `now`."""
        self.at = None
        self.asked = now

    def answered(self) -> None:
        """The source is there."""
        self.aways = 0
        self._not_before = float("-inf")

    def held_off(self, now: float) -> bool:
        """Whether the source is left alone for now."""
        return now < self._not_before

    def away(self, now: float, jitter: float = 1.0) -> None:
        """The source gave no answer: it is left alone for a while, longer each time, then asked again."""
        wait = min(AWAY_FIRST * 2**self.aways, AWAY_SLOWEST) * jitter
        self.aways = min(self.aways + 1, 16)
        self._not_before = now + wait
        self.at = self._not_before

    def again(self, now: float) -> None:
        """The answer (or its absence) left the question open."""
        wait = min(FIRST * 2**self._tries, SLOWEST)
        self._tries = min(self._tries + 1, 16)
        self._earlier(now + wait)

    def _earlier(self, at: float) -> None:
        at = max(at, self._not_before)
        if self.asked is not None:
            at = max(at, self.asked + NEAREST)
        if self.at is None or at < self.at:
            self.at = at
