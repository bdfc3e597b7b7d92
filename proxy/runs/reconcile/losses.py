"""Leaving: what a line that is gone leaves untold, by why it went and who is left beside it."""

from __future__ import annotations

from typing import Final

from proxy.core.events import GapCause
from proxy.runs.reconcile.outcomes import Reading
from proxy.runs.reconcile.sequencer import Step
from proxy.runs.reconcile.subscription_state import OVERLAP, Line

ALIVE: Final = 0.25  # seconds by which what a line told last may be before another was opened beside it


class Leaving(Reading):
    """Lines that break, or are given up for others."""

    def _under_way(self) -> list[Step]:
        return [
            step
            for step in self._steps.values()
            if not step.ended and (step.started or step.running or step.start_live or step.held)
        ]

    def _broke(self, cause: GapCause | None) -> bool:
        """Whether a line that is over for `cause` broke: neither given up by us, nor after the run's end."""
        return cause is not None and self._ended_live is None

    def _left_untold(self, line: Line, cause: GapCause | None, now: float) -> list[Step]:
        """The steps whose chunks may be missing now that `line` is gone.

        Lines that break together are told of one after the other, and each may be replaced before the next:
        so what counts is not whether any line is left, but whether one is that tells the same step.
        """
        steps, broke = self._under_way(), self._broke(cause)
        if broke and not self._lines:
            return [step for step in self._steps.values() if not step.ended]  # one may begin unheard
        if not self._lines or cause is GapCause.TOO_LARGE:
            return steps
        steps = [step for step in steps if not any(_tells(other, step) for other in self._lines)]
        if broke:
            return steps
        # no harm was seen: only what this line alone told, or alone was about to tell
        told = [step for step in steps if step.next > 0 or step.held]
        alone = [step for step in told if line.caught.get(step.id, 0) >= step.told]
        if cause is None and any(self._takes_over(other, line, now) for other in self._lines):
            alone = [step for step in alone if step.told > 1]
        return alone + [step for step in steps if self._held_back(line, step)]

    def _takes_over(self, other: Line, line: Line, now: float) -> bool:
        """Whether `line` was well while `other` was bound beside it: that one tells what it would have."""
        well = line.since > self._broke_at and line.heard >= other.since - ALIVE
        return well and now >= other.since + OVERLAP

    def _held_back(self, line: Line, step: Step) -> bool:
        """Whether the engine may hold back all that the step streams from `line`, and from it alone.

        So it is where the step's first chunk was sent just before the line was bound, while a history that
        lags called the step QUEUED: nobody has told of it, and nothing has been in doubt.
        """
        if not (line.ordered and line.spoke) or step.start_live or step.told > 1 or step.next or step.held:
            return False
        return step.id not in line.caught and not any(other.since <= line.since for other in self._lines)


def _tells(line: Line, step: Step) -> bool:
    """Whether a line brings a step's chunks as they are sent: by run id, those of a retry are held."""
    if line.ordered and step.told > 1:
        return line.caught.get(step.id, 0) >= step.told
    return line.attempts.get(step.id, 0) >= step.told
