"""One step's items in their order.

    started (once)  ->  for each attempt: its chunks by index, retrying, reset  ->  the step's end (once)

An attempt is over when a later one is known to have begun, or when the step has ended. The sequencer waits
HOLE_WAIT for a missing index, then emits a gap. Before it goes on to the next attempt, `completeness.tail`
says whether all chunks of this one were received.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, ValuesView
from typing import Final

from proxy.core import payloads
from proxy.core.events import STEP_RETRYING, STEP_STARTED, GapCause
from proxy.runs.reconcile.completeness import NOT_PROVEN, WHOLE, AttemptEnd, Verdict, covers, tail
from proxy.runs.reconcile.emitter import Emitter
from proxy.runs.reconcile.evidence import Evidence, Outcome
from proxy.runs.reconcile.placement import Execution, Executions
from proxy.runs.reconcile.states import EarliestDue, States
from proxy.runs.reconcile.subscription_state import Subscriptions, SubscriptionState
from proxy.runs.reconcile.timing import HOLE_WAIT, PARENT_WAIT

MOST_RETRIES: Final = 100  # attempts emitted one by one; a jump of more is one retrying and one reset


class Sequencer:
    """What was emitted of one step, and what can be emitted next."""

    __slots__ = (
        "_emitter",
        "_evidence",
        "_executions",
        "_hole_since",
        "_settle",
        "_subscriptions",
        "attempt",
        "due",
        "ended",
        "flowing",
        "gap_emitted",
        "started",
        "too_large",
    )

    def __init__(
        self,
        evidence: Evidence,
        executions: Executions,
        subscriptions: Sequence[SubscriptionState],
        emitter: Emitter,
        settle: Callable[[], float],
    ) -> None:
        """`settle`: how many seconds chunks may lag behind an end now."""
        self._evidence = evidence
        self._executions = executions
        self._subscriptions = subscriptions
        self._emitter = emitter
        self._settle = settle
        self._hole_since: float | None = None
        self.attempt = 1  # the attempt whose chunks are emitted now
        self.started = False
        self.ended = False
        self.gap_emitted = False  # a gap without a number was emitted at this attempt's end
        self.too_large = False  # a subscription ended at a message that was too large: the next gap says so
        self.flowing: Execution | None = None  # its next chunk in order can be emitted at once
        self.due: float | None = None  # when more can be emitted, seconds of the run's clock

    def advance(self, now: float, *, last: bool = False) -> None:
        """Emit all that can be emitted now; `last`: nothing more will come, so it waits for nothing."""
        self.due = None
        self.flowing = None
        evidence = self._evidence
        if self.ended or evidence.name is None or not self._start(now, last):
            return
        while True:
            if not self._chunks(now, last):
                return
            if self._executions.unplaced and not last:
                return  # their chunks may belong to this attempt
            if self.attempt < evidence.proven:
                if not self._leave(now, last):
                    return
                continue
            end = evidence.end
            if end is not None:
                self._end(end, now, last)
            elif not evidence.undecided:
                self.flowing = self._executions.of(self.attempt)
            return

    def _start(self, now: float, last: bool) -> bool:
        if self.started:
            return True
        evidence = self._evidence
        early = now < evidence.emit_start_at and not (
            last or evidence.started_live or evidence.end is not None
        )
        if early and not self._executions.all:
            self._later(evidence.emit_start_at)
            return False
        self.started = True
        self._emitter.step(
            STEP_STARTED,
            evidence.name or "",
            evidence.id,
            1,
            at=evidence.started_at,
            recovered=not evidence.started_live,
        )
        return True

    def _chunks(self, now: float, last: bool) -> bool:
        """Emit the attempt's chunks by index; False while it waits for a missing one."""
        one = self._executions.of(self.attempt)
        name = self._evidence.name
        while one is not None and one.held:
            first = one.next if one.next in one.held else min(one.held)
            if first != one.next:
                if self._hole_since is None:
                    self._hole_since = now
                if now < self._hole_since + HOLE_WAIT and not last and not self._known_missing(one, first):
                    self._later(self._hole_since + HOLE_WAIT)
                    return False
                self._emitter.gap(self._cause(one), name, self.attempt, first - one.next)
            self._hole_since = None
            while first in one.held:
                event = self._executions.take(one, first)
                self._emitter.items.append(self._emitter.chunk(name or "", event, self.attempt))
                one.emitted(first, event.at)
                first += 1
        self._hole_since = None
        return True

    def _known_missing(self, one: Execution, first: int) -> bool:
        """Whether the chunks missing before `first` cannot come.

        They were sent before the first subscription was open, or were dropped because too many waited.
        """
        return self._joined_late(one) or self._executions.overflowed

    def _joined_late(self, one: Execution | None) -> bool:
        """Whether missing chunks may have been sent before the first subscription was open."""
        return (one is None or one.next == 0) and self.attempt <= self._evidence.joined_in

    def _cause(self, one: Execution | None) -> GapCause:
        """Why chunks of the attempt are missing."""
        if self.too_large:
            self.too_large = False
            return GapCause.TOO_LARGE
        return GapCause.JOINED_LATE if self._joined_late(one) else GapCause.UPSTREAM

    def _leave(self, now: float, last: bool) -> bool:
        """Go on to the next attempt; False while the tail of this one may still come, or be proven."""
        evidence = self._evidence
        failure = evidence.failures.get(self.attempt)
        known_at = evidence.proven_at if failure is None else failure.known_at
        live = failure is not None and failure.live
        settle = self._settle()
        settled_at = known_at + (settle if live else 0.0)
        end = AttemptEnd(known_at, settled_at, settle, live, followed=True, guessed=False, at=None)
        verdict = self._verdict(end, now, last)
        if verdict.whole is None:
            self._later(verdict.until)
            return False
        self._emit_gap(verdict)
        text = failure.text if failure is not None else None
        self._emitter.step(
            STEP_RETRYING,
            evidence.name or "",
            evidence.id,
            self.attempt,
            payload=payloads.failure(text) if text is not None else None,
            at=failure.at if failure is not None else None,
            recovered=not live,
        )
        next_attempt = self.attempt + 1
        if evidence.proven - next_attempt > MOST_RETRIES:
            next_attempt = evidence.proven
        self.attempt = next_attempt
        for one in self._executions.all:
            if one.attempt is not None and one.attempt < next_attempt:
                self._executions.drop(one)
        self.gap_emitted = self.too_large = self._executions.overflowed = False
        self._emitter.reset(evidence.name or "", next_attempt)
        return True

    def _end(self, end: Outcome, now: float, last: bool) -> None:
        if not last and now < end.emit_at:
            self._later(end.emit_at)
            return
        if end.ran or self._executions.all:
            received = self._executions.of(self.attempt) is not None
            settle = self._settle()
            settled_at = end.known_at + (settle if end.live or received else 0.0)
            fact = AttemptEnd(
                end.known_at,
                settled_at,
                settle,
                not end.stopped,
                followed=False,
                guessed=end.guessed,
                at=end.at,
            )
            verdict = self._verdict(fact, now, last)
            if verdict.whole is None:
                self._later(verdict.until)
                return
            self._emit_gap(verdict)
        self.ended = True
        for one in self._executions.all:
            self._executions.drop(one)
        evidence = self._evidence
        self._emitter.step(
            end.type,
            evidence.name or "",
            evidence.id,
            end.attempt,
            payload=end.payload,
            at=end.at,
            recovered=not end.live,
        )

    def _verdict(self, end: AttemptEnd, now: float, last: bool) -> Verdict:
        verdict = tail(
            self._evidence.id, self.attempt, self._executions.all, end, self._subscriptions, now=now
        )
        if verdict.whole is None and last:
            return NOT_PROVEN
        executions = self._executions
        if verdict is WHOLE and (executions.overflowed or executions.contested or self._has_more()):
            return NOT_PROVEN
        return verdict

    def _has_more(self) -> bool:
        """Whether other executions may have chunks of the attempt.

        They have the one that would be its next, or began after it (an attempt ran whose end is not known, or
        a clock was put back). Of an attempt without chunks: they have one that was sent after it had begun.
        """
        own = self._executions.of(self.attempt)
        others = [
            one for one in self._executions.all if one.attempt is not None and one.attempt < self.attempt
        ]
        if own is not None:
            return own.last_index + 1 in own.elsewhere or any(one.number > own.number for one in others)
        began = self._evidence.began.get(self.attempt)
        return began is not None and any(one.last_at is not None and one.last_at >= began for one in others)

    def _emit_gap(self, verdict: Verdict) -> None:
        if verdict.whole or self.gap_emitted:
            return
        self.gap_emitted = True
        cause = self._cause(self._executions.of(self.attempt))
        self._emitter.gap(cause, self._evidence.name, self.attempt, None)

    def _later(self, at: float) -> None:
        self.due = at if self.due is None else min(self.due, at)


class Step:
    """One step run: its evidence, its executions, and the order of its items."""

    __slots__ = ("evidence", "executions", "sequencer")

    def __init__(
        self,
        step_run_id: str,
        now: float,
        subscriptions: Sequence[SubscriptionState],
        emitter: Emitter,
        settle: Callable[[], float],
    ) -> None:
        self.evidence = Evidence(step_run_id, now)
        self.executions = Executions()
        self.sequencer = Sequencer(self.evidence, self.executions, subscriptions, emitter, settle)

    @property
    def has_open_question(self) -> bool:
        """Whether the history may have facts about it that no other source has."""
        evidence, end = self.evidence, self.evidence.end
        if evidence.undecided or self.executions.unplaced or not self.sequencer.started:
            return True
        return not (self.sequencer.ended or end is None or end.confirmed)

    def note_running(self, now: float, *, running: bool) -> None:
        """A core state says whether it runs."""
        evidence = self.evidence
        evidence.running = running
        if running and evidence.undecided and self.executions.of(evidence.proven + 1) is not None:
            evidence.attempt_began(evidence.proven + 1, now)

    def is_covered_by(self, subscriptions: Iterable[SubscriptionState]) -> bool:
        """Whether one of them has brought all of its attempt since the last chunk, if it is under way."""
        if self.sequencer.ended or not self.sequencer.started:
            return True
        attempt, executions = self.sequencer.attempt, self.executions.all
        return any(covers(one, self.evidence.id, attempt, executions) for one in subscriptions)

    def named(self, name: str, emit_start_at: float) -> None:
        """A state says its name; before `emit_start_at` its beginning is not emitted."""
        evidence = self.evidence
        if evidence.name is None:
            evidence.name = name
            if not evidence.started_live:
                evidence.emit_start_at = emit_start_at


class Steps:
    """The steps of a run, by id; which of them may begin."""

    __slots__ = ("_by_id", "_earliest_due", "_emitter", "_states", "_subscriptions", "all", "get", "settle")

    def __init__(
        self,
        states: States,
        subscriptions: Subscriptions,
        emitter: Emitter,
        earliest_due: EarliestDue,
        *,
        settle: Callable[[], float],
    ) -> None:
        """`settle`: how many seconds chunks may lag behind an end now."""
        self.settle = settle
        self._by_id: dict[str, Step] = {}
        # A step that is known already, else None. The dictionary's own method, because every chunk asks.
        self.get: Final[Callable[[str], Step | None]] = self._by_id.get
        self.all: Final[ValuesView[Step]] = self._by_id.values()  # follows the dictionary
        self._states = states
        self._subscriptions = subscriptions
        self._emitter = emitter
        self._earliest_due = earliest_due

    def get_or_add(self, step_run_id: str, now: float) -> Step:
        """The step with this id, which is added if it is new."""
        step = self._by_id.get(step_run_id)
        if step is None:
            step = self._by_id[step_run_id] = Step(
                step_run_id, now, self._subscriptions.all, self._emitter, self.settle
            )
            if self._states.core is not None:  # it was not there when the last core state was asked for
                for one in self._subscriptions.open:
                    if one.opened_at <= self._states.core_asked:
                        one.starts.add((step_run_id, 1))
        return step

    def in_order(self) -> list[Step]:
        """All steps, those that were created first first."""
        steps = list(self.all)
        if len(steps) > 1:
            steps.sort(key=_created)
        return steps

    def waits_for_another(self, step: Step, now: float) -> bool:
        """Whether a step must not begin yet: a parent's end, or another earlier one, is still to be emitted.

        The engine publishes ends and beginnings apart from each other, so a child's beginning may come first.
        """
        evidence = step.evidence
        if step.sequencer.started:
            return False
        for other in self.all:
            end = other.evidence.end
            if other is step or other.sequencer.ended:
                continue
            if evidence.name in other.evidence.children:
                if end is not None or self._awaits_parent(evidence, other.evidence, now):
                    return True
            elif (
                end is not None and end.live and other.sequencer.started and end.known_at <= evidence.known_at
            ):
                return True
        return False

    def _awaits_parent(self, evidence: Evidence, parent: Evidence, now: float) -> bool:
        """Whether a parent's end, which no event has brought, may still come in time."""
        until = evidence.known_at + PARENT_WAIT
        if now >= until:
            return False
        self._earliest_due.by(until)
        if self._states.askable and parent.history_as_of < evidence.known_at:
            self._states.history_poll.by(evidence.known_at + self._states.lag.seconds(now))
        return True


def _created(step: Step) -> tuple[bool, int]:
    created = step.evidence.created_at
    return (created is None, created or 0)
