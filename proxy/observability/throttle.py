"""Limits how often a line is written. Pure: the time is passed in.

A key is admitted at once the first time, then at most once per `period`, with the number of times that it was
suppressed in between. `take_due` returns what was suppressed and did not happen again, so nothing is lost.
However many different keys there are, at most `max_keys` + 1 are remembered: the others share one (`OTHERS`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

PERIOD: Final = 60.0  # seconds: an upstream that is down for hours is one line a minute
MAX_KEYS: Final = 1000  # different errors at once: more than a person can read
OTHERS: Final = "others"


class _Window:
    """Until when a key is suppressed, and how often it was."""

    __slots__ = ("suppressed", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.suppressed = 0


class Throttle:
    """Decides whether a line with a key may be written now; times are seconds of one clock."""

    def __init__(self, period: float = PERIOD, max_keys: int = MAX_KEYS) -> None:
        self._period = period
        self._max_keys = max_keys
        self._windows: dict[Hashable, _Window] = {}

    def admit(self, key: Hashable, now: float) -> int | None:
        """How often `key` was suppressed since it was last admitted; None: suppress it now too."""
        window = self._windows.get(key)
        if window is None and len(self._windows) >= self._max_keys:
            key = OTHERS
            window = self._windows.get(key)
        if window is None:
            self._windows[key] = _Window(now + self._period)
            return 0
        if now < window.until:
            window.suppressed += 1
            return None
        suppressed, window.suppressed = window.suppressed, 0
        window.until = now + self._period
        return suppressed

    def take_due(self, now: float) -> list[tuple[Hashable, int]]:
        """Keys whose period is over, with how often each was suppressed; others are forgotten."""
        due = []
        for key, window in list(self._windows.items()):
            if now < window.until:
                continue
            if window.suppressed:
                due.append((key, window.suppressed))
                window.suppressed, window.until = 0, now + self._period
            else:
                del self._windows[key]
        return due
