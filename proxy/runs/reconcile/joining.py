"""The first items of a run: when they can be emitted, and which attempts may have begun before.

Nothing is emitted before the core state has come and, within JOIN_SETTLE, a history that agrees with it: the
history has what ended before any subscription was open, and that comes first.
"""

from __future__ import annotations

from proxy.core.observations import Status
from proxy.runs.reconcile import outcomes
from proxy.runs.reconcile.sequencer import Step, Steps
from proxy.runs.reconcile.states import EarliestDue, States
from proxy.runs.reconcile.subscription_state import Subscriptions
from proxy.runs.reconcile.timing import JOIN_SETTLE, JOIN_WAIT, SILENT_YOUNG, WAITING_PROOF


class Joining:
    """Whether items are emitted already."""

    __slots__ = ("_earliest_due", "_states", "_steps", "_subscriptions", "history_asked", "joined")

    def __init__(
        self, states: States, steps: Steps, subscriptions: Subscriptions, earliest_due: EarliestDue
    ) -> None:
        self.joined = False  # the first items were emitted
        self.history_asked = False  # whether the first answer of the history has come, or an error instead
        self._states = states
        self._steps = steps
        self._subscriptions = subscriptions
        self._earliest_due = earliest_due

    @property
    def young(self) -> bool:
        """Whether the run may have just begun.

        The engine may delay a subscription by the id of such a run for a second.
        """
        core, past = self._states.core, self._states.past
        if core is None:
            return True
        if core.done or len(core.steps) > 1:
            return False
        return past is None or not any(
            one.status in outcomes.AT_REST or one.retry_count for one in past.steps
        )

    def may_join(self, now: float) -> bool:
        began = self._states.began if self._states.began is not None else now
        if not self._states.has_history or self.history_asked:
            return True
        until = began + (JOIN_SETTLE if self._states.past is not None else JOIN_WAIT)
        if now >= until:
            return True
        self._earliest_due.by(until)
        return False

    def join(self, now: float) -> None:
        """Begin to emit; note the attempts that may have begun before any subscription was open."""
        self.joined = True
        for step in self._steps.all:
            self.note_joined(step)

    def note_joined(self, step: Step) -> None:
        """Note that the attempt may have begun before any subscription was open, unless one was."""
        evidence = step.evidence
        if not any((evidence.id, evidence.proven) in one.starts for one in self._subscriptions.all):
            evidence.joined_in = evidence.proven

    def note_waiting(self, step: Step, now: float) -> None:
        """Note which subscriptions were open before an attempt began.

        That is known where the history says that the attempt still waits for a worker, and the core state,
        asked since the subscription was opened, does not say that it runs.
        """
        evidence = step.evidence
        if evidence.history_status is not Status.QUEUED or evidence.running or evidence.end is not None:
            return
        if evidence.undecided or evidence.history_attempt != evidence.proven:
            return
        if step.executions.of(evidence.proven) is not None:
            return
        key = (evidence.id, evidence.proven)
        for one in self._subscriptions.open:
            if one.opened_at <= evidence.history_as_of - WAITING_PROOF:
                if self._states.core_asked >= one.opened_at:
                    one.waited.add(key)
                evidence.joined_in = min(evidence.joined_in, evidence.proven - 1)
            elif key not in one.starts | one.waited:
                self._states.history_poll.by(one.opened_at + self._states.lag.seconds(now) + WAITING_PROOF)

    def history_is_behind(self, now: float) -> bool:
        """Whether the history, at a join, does not agree yet with the core state about what runs."""
        core, past = self._states.core, self._states.past
        if (
            self.joined
            or core is None
            or core.done
            or self._states.began is None
            or now >= self._states.began + JOIN_SETTLE
        ):
            return False
        if past is None:
            return False
        # The history has an end and the core state has none: the history's answer is older than a replay.
        if past.status in outcomes.AT_REST:
            return True
        known = {step.step_run_id: step.status for step in past.steps}
        for step in core.steps:
            status = known.get(step.step_run_id)
            runs = step.status is Status.RUNNING
            if status is None or runs != (status is Status.RUNNING):
                return runs or status not in outcomes.AT_REST
        return False

    def silent_so_far(self, now: float) -> bool:
        """Whether the run is young, and its subscriptions have brought nothing yet.

        They cannot bring what began before they were open.
        """
        began = self._states.began
        if began is None or now >= began + SILENT_YOUNG:
            return False
        opened = self._subscriptions.open
        if not opened or not all(one.silent for one in opened):
            return False
        return not any(step.evidence.running or step.sequencer.ended for step in self._steps.all)
