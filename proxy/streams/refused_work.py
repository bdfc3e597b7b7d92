"""RefusedWork: announces events that the rules could not work on, because the team's allowance was used up.

Whether such an event would have been forwarded is not known, so clients get a gap. Refused events of a step
that follow each other are announced by one gap, with ``missed`` null.
"""

from __future__ import annotations

from proxy.core.events import Event, GapCause, StepGap
from proxy.rules.ruleset import Rules

_Reader = tuple[str | None, int | None, str | None]  # step, attempt, run (in a stream of several runs)


class RefusedWork:
    """The stretches of refused events of one channel."""

    def __init__(self, rules: Rules, *, merged: bool = False) -> None:
        """`merged`: the channel has the items of several runs."""
        self._rules = rules
        self._merged = merged
        self._open: dict[_Reader, None] = {}  # those for which nothing was sent since their gap

    def unannounced(self, event: Event) -> StepGap | None:
        """The gap for `event`, which became no message: None where it was not refused, or has its gap."""
        gap = self.gap(event)
        if gap is None or (gap.step, gap.attempt, gap.run_id) in self._open:
            return None
        self._open[gap.step, gap.attempt, gap.run_id] = None
        return gap

    def gap(self, event: Event) -> StepGap | None:
        """The gap for `event`, which became no message; None where it was not refused."""
        if not self._rules.take_refusal():
            return None
        step, attempt, run_id = self._reader_of(event)
        return StepGap(GapCause.TOO_LARGE, step, attempt, None, event.workflow, run_id=run_id)

    def forwarded(self, event: Event) -> None:
        """`event` became a message: the next refused event of its step gets a new gap."""
        if self._open:
            self._open.pop(self._reader_of(event), None)

    def _reader_of(self, event: Event) -> _Reader:
        """Where the gap belongs; no step and attempt where the stream forwards none of the step's chunks."""
        run_id = event.run_id if self._merged else None
        if event.step is not None and self._rules.forwards_chunks(event.step, event.workflow):
            return event.step, event.attempt, run_id
        return None, None, run_id
