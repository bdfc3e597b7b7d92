"""When a state is to be read next: at once for a new reason, then at growing distances."""

from __future__ import annotations

from proxy.runs.reconcile.timing import AWAY_FIRST, AWAY_SLOWEST, POLL_FIRST, POLL_NEAREST, POLL_SLOWEST


class Poll:
    """The reads of one state (the core state, the history) of one run.

    An answer that decides nothing is asked for again after POLL_FIRST, then at doubled distances up to
    POLL_SLOWEST, as long as the question is open. A new reason starts from the front.
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
