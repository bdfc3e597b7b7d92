"""RefusedWork: announces events that the rules could not work on, because the team's allowance was used up.

Whether such an event would have been forwarded is not known, so clients get a gap. While a step's events are
refused one after the other, they get one gap, with ``missed`` null.
"""

from __future__ import annotations

from proxy.core.events import Event, GapCause, StepGap
from proxy.rules.ruleset import Rules


class RefusedWork:
    """The stretches of refused events of one channel."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._open: set[tuple[str | None, int | None]] = set()  # (step, attempt) whose gap was the last news

    def unannounced(self, event: Event) -> StepGap | None:
        """The gap for `event`, which became no message: None where it was not refused, or has its gap."""
        gap = self.gap(event)
        if gap is None or (gap.step, gap.attempt) in self._open:
            return None
        self._open.add((gap.step, gap.attempt))
        return gap

    def gap(self, event: Event) -> StepGap | None:
        """The gap for `event`, which became no message; None where it was not refused."""
        return (
            StepGap(GapCause.TOO_LARGE, *self._reader_of(event), None) if self._rules.take_refusal() else None
        )

    def forwarded(self, event: Event) -> None:
        """`event` became a message: what is refused after it is a new gap."""
        if self._open:
            self._open.discard(self._reader_of(event))

    def _reader_of(self, event: Event) -> tuple[str | None, int | None]:
        """Step and attempt; both null where the stream forwards none of the step's chunks."""
        if event.step is not None and self._rules.forwards_chunks(event.step, event.workflow):
            return event.step, event.attempt
        return None, None
