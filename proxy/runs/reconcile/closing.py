"""Closing: when the verified end can be told, and its telling.

A done state is believed once nothing more can come of it: lines are told the same a moment later, the history
knows details, and between two steps of a replay it is done for a moment only.
"""

from __future__ import annotations

from typing import Final

from proxy.runs.reconcile import run_end
from proxy.runs.reconcile.losses import Leaving
from proxy.runs.reconcile.outcomes import LIVE_PATIENCE
from proxy.runs.reconcile.sequencer import DONE_LAG

CLOSE_PATIENCE: Final = 1.0  # seconds that a verified end waits for the history's details


class Closing(Leaving):
    """The end."""

    def _withdraw(self) -> None:
        """A line that ended because the run did has missed nothing."""
        closing = self._closing
        if self._ended_live is not None and closing is not None and closing < self._ended_at + DONE_LAG:
            for step in self._steps.values():
                if step.hung_up and step.doubted_at is not None and closing < step.doubted_at + DONE_LAG:
                    step.sure()

    def _may_close(self, now: float) -> bool:
        """Whether the verified end can be told: all is known, or has been waited for."""
        assert self._core is not None and self._closing is not None
        unseen = run_end.unseen(self._core, self._steps)
        if self._doubtful(unseen) and not self._confirmed:
            if self._core_alone and unseen:
                return False
            if now < self._closing + CLOSE_PATIENCE:
                self._due(self._closing + CLOSE_PATIENCE)
                return False
        if not unseen:
            return True
        if self._lines and self._telling and now < self._closing + LIVE_PATIENCE:
            self._due(self._closing + LIVE_PATIENCE)
            return False
        if not self.has_past or self._past_gone or run_end.caught_up(self._past, self._core, self._steps):
            return True
        if now < self._closing + CLOSE_PATIENCE:
            self._due(self._closing + CLOSE_PATIENCE)
            return False
        return True

    def _doubtful(self, unseen: bool) -> bool:
        """Whether a done state may be of a moment between two steps of a replay: it is read twice then."""
        if unseen and (not self.has_past or self._past_gone):
            return True
        return any(
            step.retries is not None and step.proven > step.retries + 1 for step in self._steps.values()
        )

    def _close(self, now: float) -> None:
        assert self._core is not None
        for line in self._lines:
            for step_id in list(line.limbo):
                self._place(line, step_id, now)
        self._withdraw()
        run_end.tried_again(self._core, self._steps, now)
        for step in self._steps.values():
            if not (step.ended or step.end_told(step.proven)):
                self._ask_of_stop(step, now)
            if step.question is not None and step.question.alive_at is not None:
                step.question.answered = True
        run_end.tell(
            self._story,
            self._core,
            self._past,
            self._in_order(),
            now=now,
            ended_live=self._ended_live,
            failed_order=self._failed_order,
        )
        self.over = True
        self.due = None
        self.core_look.at = self.past_look.at = None
