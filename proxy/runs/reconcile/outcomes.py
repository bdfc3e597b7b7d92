"""Reading: what the core state and the history say, made into facts about steps; and whether to ask again.

The core state names steps, and says who runs; the history counts attempts and knows outcomes before the end.
FAILED in the history is not final until the step's Retries are used up, or it has said so for a second.
"""

from __future__ import annotations

from typing import Final

from proxy.core.events import (
    STEP_CANCELLED,
    STEP_COMPLETED,
    STEP_SKIPPED,
    CoreState,
    GapCause,
    LiveEvent,
    PastState,
    PastStep,
    PastTaskEvent,
    Status,
)
from proxy.runs.reconcile.evidence import Outcome
from proxy.runs.reconcile.hearing import Hearing
from proxy.runs.reconcile.known import RESTING
from proxy.runs.reconcile.sequencer import Step

LIVE_PATIENCE: Final = 0.25  # seconds that a state's news waits for the same news live, which says more
PAST_PATIENCE: Final = (
    0.25  # seconds that the first telling waits for the history: it knows the order and the outputs
)
CONFIRMING: Final = (
    0.08  # seconds after a done state in which a second one is no proof: a replay's are that long
)
ALONE: Final = (
    1.0  # seconds for which the core state must say done where nothing else can say that a replay goes on
)
YOUNG: Final = 0.25  # seconds after the first state in which a silent run is looked at again: twice
FAILED_PATIENCE: Final = 1.0  # seconds that the history must have said FAILED to be believed


FAILURES: Final = frozenset({"FAILED", "TIMED_OUT"})
REPLAYED: Final = "RETRIED_BY_USER"  # told of all steps at once; what is not tried again yet reads as before


class Reading(Hearing):
    """States, one at a time."""

    def _read_core(self, state: CoreState, now: float) -> None:
        """A core state, asked for when `core_look.asking` was called."""
        asked = self.core_look.asked
        first = self._core is None
        self._core = state
        self._story.metadata = state.metadata
        if first:
            self._began = self._checked = now
            self._heard = now if self._heard is None else self._heard
            if self.has_past and not state.done:
                self._want_past(now)
        for known in state.steps:
            step = self._step(known.step_run_id)
            self._named(step, known.name, now)
            step.running = known.status is Status.RUNNING
            if step.running and step.undecided and step.proven + 1 in step.held:
                step.begun(step.proven + 1, now)  # a chunk after the failure, and it runs: it was tried again
        if state.done:
            if self._closing is None:
                self._closing = now
                self._confirmed = False
                self._want_past(now)
                if self._core_alone:
                    self.core_look.want(now)  # however long the looks were apart
            elif asked is not None and asked >= max(self._closing, self._stirred_at) + self._proof:
                self._confirmed = True
            self.core_look.again(now)  # until the end is told: a replay's state says done in between
        else:
            self._not_done(state, asked, now)

    @property
    def _proof(self) -> float:
        """Seconds after which a done state that still stands is none between two steps of a replay."""
        return ALONE if self._core_alone else CONFIRMING

    def _read_past(self, state: PastState | None, now: float) -> None:
        """The history's answer (None: the run is unknown), asked for when `past_look.asking` was called."""
        asked = self.past_look.asked if self.past_look.asked is not None else now
        self._past_gone = False
        self.past_look.answered()
        if state is not None and self._stale(state, now):
            self.past_look.again(now)
            return
        self._past_asked = True
        self._checked = now
        if state is not None:
            self._past = state
            for known in sorted(state.steps, key=lambda p: p.created_at or ""):
                self._past_step(known, now)
            for line in self._lines:
                for step_id in [key for key, limbo in line.limbo.items() if limbo.since <= asked]:
                    limbo = line.limbo[step_id]
                    step = self._step(step_id)
                    behind = self._behind(state, step, limbo.events[0])
                    limbo.waits = behind and step.proven > 1
                    if not behind:
                        self._place(line, step_id, now)
        if state is None or self._open_question() or self._unheard(now):
            self.past_look.again(now)

    def _stale(self, state: PastState, now: float) -> bool:
        """Whether a first history speaks of an end that the core does not know: it is older than a replay."""
        if self._telling or self._core is None or self._core.done or self._began is None:
            return False
        return state.status in RESTING and now < self._began + PAST_PATIENCE

    @staticmethod
    def _behind(state: PastState, step: Step, chunk: LiveEvent) -> bool:
        """Whether the history is behind that chunk: no attempt streams while it waits for a worker."""
        waits = any(p.step_run_id == step.id and p.status is Status.QUEUED for p in state.steps)
        return waits and not step.sent_before_failure(chunk, step.proven - 1)

    def _named(self, step: Step, name: str, now: float) -> None:
        if step.name is None:
            step.name = name
            if self._telling and not step.start_live:
                step.missed_start(GapCause.UPSTREAM, now)
                if self._lines:
                    step.start_tell_at = now + LIVE_PATIENCE

    def _not_done(self, state: CoreState, asked: float | None, now: float) -> None:
        self._closing = None
        running = any(step.status is Status.RUNNING for step in state.steps)
        if running and asked is not None and asked >= self._ended_at:
            self._goes_on()
        if self._end_looks:
            self._end_looks -= 1
        if self._end_looks and running:
            self._end_looks = min(self._end_looks, 1)
        unnamed = any(step.name is None for step in self._steps.values())
        waiting = any(step.undecided and step.proven + 1 in step.held for step in self._steps.values())
        unheard = self._unheard(now) and not self._askable
        if self._end_looks or unnamed or waiting or unheard:
            self.core_look.again(now)

    def _unheard(self, now: float) -> bool:
        """Whether the run is young and silent: what began before the lines were bound is held back from them.

        Once a state says that it runs, there is a bridge.
        """
        young = self._began is not None and now < self._began + YOUNG
        silent = bool(self._lines) and not any(line.spoke for line in self._lines)
        return young and silent and not any(step.running or step.ended for step in self._steps.values())

    def _open_question(self) -> bool:
        if self._closing is not None or any(line.limbo for line in self._lines):
            return True
        return any(step.undecided or any(a > step.proven for a in step.held) for step in self._steps.values())

    def _past_step(self, known: PastStep, now: float) -> None:
        step = self._step(known.step_run_id)
        self._named(step, known.name, now)
        if known.created_at is not None:
            step.place = step.place if step.start_live else known.created_at
            step.start_at = step.start_at or known.created_at
        if known.retries is not None:
            step.retries = known.retries
        attempt = known.retry_count + 1
        for told in known.events:
            if told.type in FAILURES and told.retry_count < known.retry_count:
                step.failed(told.retry_count + 1, _words(told), told.at, False, now)
        replayed = any(
            told.type == REPLAYED and told.retry_count >= known.retry_count for told in known.events
        )
        step.begun(attempt + replayed, now)
        if attempt < step.proven:
            return
        if known.status is not Status.QUEUED:
            step.began_at(attempt, known.started_at, now)
        if known.status is Status.RUNNING and not step.undecided:
            step.running = True
        if known.status is Status.FAILED:
            self._says_failed(step, known, attempt, now)
            return
        step.failed_since = None
        if known.status is Status.COMPLETED:
            self._says_completed(step, known, attempt, now)
        elif known.status is Status.CANCELLED:
            at = self._patience(now)
            step.ends(Outcome(STEP_CANCELLED, attempt, None, known.finished_at, False, at), now)

    def _says_completed(self, step: Step, known: PastStep, attempt: int, now: float) -> None:
        kind = STEP_SKIPPED if any(told.type == "SKIPPED" for told in known.events) else STEP_COMPLETED
        payload = known.output or None if kind == STEP_COMPLETED else None  # {} is also "returned nothing"
        step.ends(Outcome(kind, attempt, payload, known.finished_at, False, self._patience(now)), now)

    def _says_failed(self, step: Step, known: PastStep, attempt: int, now: float) -> None:
        error = known.error or next(
            (
                words
                for told in reversed(known.events)
                if told.retry_count == attempt - 1 and (words := _words(told))
            ),
            None,
        )
        step.failed(attempt, error, known.finished_at, False, now)
        if step.failed_since is None or step.failed_since[0] != attempt:
            step.failed_since = (attempt, now)
        if step.untold and error:
            step.fails(now)
        if step.undecided and not self._decide(step, now) and now >= step.failed_since[1] + FAILED_PATIENCE:
            self._fails(step, now)
        if step.untold:
            self._smells_of_end(now)
        if step.undecided:
            self.past_look.soon(step.failed_since[1] + FAILED_PATIENCE)

    def _patience(self, now: float) -> float:
        live = self._lines or self._ended_live is not None
        return now + LIVE_PATIENCE if self._telling and live else now


def _words(told: PastTaskEvent) -> str | None:
    """What a task event says of a failure."""
    return told.error or ("Task exceeded its timeout" if told.type == "TIMED_OUT" else None)
