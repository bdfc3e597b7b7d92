"""Flow: the fast path of a run's order: a chunk that continues exactly what is being told is told at once.

The law: it tells what the general way (`History.live`) would tell at once, and changes nothing but the step's
own place, and when it and its line were heard. So it holds only in the middle of a step, where nothing waits
and nothing follows: the step flows (told, in no doubt, nothing held back), the chunk's index is the next, its
line tells that very attempt and has told of it before, its time is not before the last one's, and nobody said
that the run was over. In all other cases it changes nothing, and the general way decides.
`tests/laws/test_history_flow.py` plays generated runs with it and without.
"""

from __future__ import annotations

from typing import Final

from proxy.core.events import STEP_STREAM, Event, Kind, LiveEvent
from proxy.runs.reconcile.known import Known
from proxy.runs.reconcile.subscription_state import Line

STREAM: Final = Kind.STREAM  # looking a member up takes ten times as long


class Flow(Known):
    """Chunks in order."""

    def flow(self, line: Line, event: LiveEvent, now: float) -> Event | None:
        """The chunk as it is to be told now; None where it is not as plain as that."""
        step = self._steps.get(event.step_run_id or "")
        if step is None or not step.flowing or event.kind is not STREAM:
            return None
        index, at, attempt, recent = event.index, event.at, step.told, step.recent
        if index != step.next or not line.attempts.get(step.id) == attempt == line.caught.get(step.id):
            return None
        if self._end_looks or self._ended_live is not None or event.hangup or self._story.items:
            return None
        if at is not None and recent and (last := recent[-1][1]) is not None and at < last:
            return None
        self._heard = line.heard = now
        recent.append((index, at))
        step.next = index + 1
        return Event(
            STEP_STREAM,
            self.run_id,
            step.name or "",
            step.id,
            event.payload,
            attempt,
            index,
            at,
            self._story.metadata,
            False,
        )
