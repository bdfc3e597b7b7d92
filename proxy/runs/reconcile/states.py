"""The last answers of a run's two states, and when each is read next.

While a question is open, its state is read again after growing waits; a new reason starts with the shortest.
"""

from __future__ import annotations

from proxy.core.observations import CoreState, PastState
from proxy.runs.reconcile.timing import (
    ATTEMPT_WAIT,
    AWAY_FIRST,
    AWAY_SLOWEST,
    HISTORY_LAG,
    HISTORY_LAG_MOST,
    LAG_MARGIN,
    LAG_WINDOW,
    POLL_FIRST,
    POLL_NEAREST,
    POLL_SLOWEST,
)


class HistoryLag:
    """How far a team's history is behind: its runs measure it together, by what the answers lack."""

    __slots__ = ("_last", "_recent", "_window_ends")

    def __init__(self) -> None:
        self._recent = self._last = 0.0  # the largest lag in this window, and in the one before
        self._window_ends = float("-inf")

    def lacked(self, since: float, now: float) -> None:
        """An answer lacks what was known for `since` seconds when it was asked for."""
        self._roll(now)
        self._recent = max(self._recent, min(since * LAG_MARGIN, HISTORY_LAG_MOST))

    def seconds(self, now: float) -> float:
        """How many seconds an answer is behind its question now."""
        self._roll(now)
        return max(HISTORY_LAG, self._recent, self._last)

    def _roll(self, now: float) -> None:
        if now >= self._window_ends:
            self._last = self._recent if now < self._window_ends + LAG_WINDOW else 0.0
            self._recent = 0.0
            self._window_ends = now + LAG_WINDOW


class Poll:
    """The reads of one state (the core state, the history) of one run.

    An answer that decides nothing is asked for again after POLL_FIRST, then at doubled distances up to
    POLL_SLOWEST, as long as the question is open. A new reason starts with POLL_FIRST again.
    """

    __slots__ = ("_not_before", "_tries", "asked", "at", "failures")

    def __init__(self) -> None:
        self.at: float | None = None  # when to read next; None: there is no reason to
        self.asked: float | None = None  # when the last read began
        self.failures = 0  # reads in a row that gave no answer
        self._tries = 0
        self._not_before = float("-inf")

    def want(self, now: float) -> None:
        """Read now: there is a new reason."""
        self._tries = 0
        self._not_later_than(now)

    def by(self, at: float) -> None:
        """Read at `at`, or earlier where there is a reason to."""
        self._not_later_than(at)

    def begin(self, now: float) -> None:
        """A read begins: its answer is newer than `now`."""
        self.at = None
        self.asked = now

    def answered(self) -> None:
        """The source gave an answer."""
        self.failures = 0
        self._not_before = float("-inf")

    def held_off(self, now: float) -> bool:
        """Whether the source is left alone for now."""
        return now < self._not_before

    def unavailable(self, now: float, jitter: float = 1.0) -> None:
        """The source gave no answer: leave it alone for a while, longer each time, then ask again."""
        wait = min(AWAY_FIRST * 2**self.failures, AWAY_SLOWEST) * jitter
        self.failures = min(self.failures + 1, 16)
        self._not_before = now + wait
        self.at = self._not_before

    def again(self, now: float) -> None:
        """The question is still open: read again, after a longer wait each time."""
        wait = min(POLL_FIRST * 2**self._tries, POLL_SLOWEST)
        self._tries = min(self._tries + 1, 16)
        self._not_later_than(now + wait)

    def _not_later_than(self, at: float) -> None:
        at = max(at, self._not_before)
        if self.asked is not None:
            at = max(at, self.asked + POLL_NEAREST)
        if self.at is None or at < self.at:
            self.at = at


class EarliestDue:
    """When the run is to be looked at again: the earliest of all times that something waits for."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at: float | None = None

    def by(self, at: float) -> None:
        """Wake up at `at`, or earlier."""
        self.at = at if self.at is None else min(self.at, at)


class States:
    """The last answers of the core state and the history, and their polls."""

    __slots__ = (
        "began",
        "core",
        "core_asked",
        "core_poll",
        "has_history",
        "history_gone",
        "history_poll",
        "lag",
        "past",
        "state_only",
    )

    def __init__(self, *, has_history: bool, lag: HistoryLag) -> None:
        self.has_history = has_history
        self.lag = lag
        self.core_poll = Poll()
        self.history_poll = Poll()
        self.core: CoreState | None = None
        self.past: PastState | None = None
        self.began: float | None = None  # when the first core state came
        self.core_asked = float("-inf")  # when the last core state was asked for
        self.history_gone = False  # the history gave no answer last time
        self.state_only = False  # the run has no subscription, and gets none for now

    @property
    def askable(self) -> bool:
        """Whether the history can be asked, as far as is known."""
        return self.has_history and not (self.history_gone and self.history_poll.failures > 1)

    def attempt_wait(self, now: float) -> float:
        """How many seconds chunks wait for an answer of the history that knows their attempt."""
        return ATTEMPT_WAIT + self.lag.seconds(now) - HISTORY_LAG

    def want_history(self, now: float) -> None:
        """Read the history now, if there is one."""
        if self.has_history:
            self.history_poll.want(now)
