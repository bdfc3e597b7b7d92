"""Hearing: what lines tell, made into facts: which attempt a chunk is of, what is a double, what is late.

A chunk alone never begins an attempt. One that cannot be of the attempt being told (its index was told, its
time is newer) waits until a history, a failure or an end has proven the next.
"""

from __future__ import annotations

from typing import Final

from proxy.core.events import STEP_CANCELLED, STEP_COMPLETED, GapCause, Kind, LiveEvent
from proxy.runs.reconcile.completeness import STRAGGLERS, Vouching
from proxy.runs.reconcile.evidence import MAX_HELD, Outcome
from proxy.runs.reconcile.payloads import output
from proxy.runs.reconcile.sequencer import Step
from proxy.runs.reconcile.subscription_state import Line

LOST_PATIENCE: Final = 1.0  # seconds after which a line that did not tell a proven failure has lost it


class Hearing(Vouching):
    """Live events, one at a time."""

    @staticmethod
    def _double(line: Line, step: Step, event: LiveEvent) -> bool:
        """Whether that chunk was told on another line: where there are two, every second one is."""
        told = event.index is not None and event.index < step.next
        if told and line.attempts.get(step.id) == step.told and not step.anew(event):
            line.caught[step.id] = step.told
            line.spoke = True
            return True
        return False

    def _run_event(self, line: Line, event: LiveEvent, now: float) -> None:
        self._ended_live = event
        self._ended_at = now
        self._told_run_end[line] = (event, now)
        self._smells_of_end(now)

    def _step_event(self, line: Line, step: Step, event: LiveEvent, now: float) -> None:
        kind, retry = event.kind, event.retry_count
        attempt = retry + 1 if retry is not None else max(line.attempts.get(step.id, 1), 1)
        self._goes_on()
        self._confirmed = False
        self._stirred_at = now
        if kind is Kind.STARTED:
            step.running = True
            if not step.start_live:
                step.start_live, step.start_at = True, event.at
                step.place = step.place or event.at or ""
            if step.proven == 1 and step.next == 0:
                step.sure()
            self._unlimbo(line, step.id, 1, now)
            line.at_least(step.id, 1)
            line.proved.setdefault(step.id, 1)
        elif kind is Kind.COMPLETED:
            self._reached(line, step, attempt, now)
            tell_at = now + self._straggling(line, step)
            end = Outcome(STEP_COMPLETED, attempt, output(event.payload), event.at, True, tell_at)
            step.ends(end, now)
        elif kind in {Kind.FAILED, Kind.TIMED_OUT}:
            self._reached(line, step, attempt, now)
            step.failed(attempt, event.payload, event.at, True, now)
            line.at_least(step.id, attempt + 1)
            line.proved[step.id] = attempt + 1
            step.running = False
            if step.undecided:
                self._decide(step, now, wait=self._straggling(line, step))
                self._want_past(now)
                self.core_look.want(now)
        elif kind is Kind.CANCELLED:
            self._reached(line, step, attempt, now)
            step.ends(Outcome(STEP_CANCELLED, attempt, None, event.at, True, now), now)
        if step.name is None:
            self.core_look.want(now)

    @staticmethod
    def _straggling(line: Line, step: Step) -> float:
        """How long an end waits for chunks that it may have overtaken."""
        return 0.0 if line.ordered or not (step.next or step.held) else STRAGGLERS

    def _reached(self, line: Line, step: Step, attempt: int, now: float) -> None:
        """That line tells how `attempt` ended."""
        self._unlimbo(line, step.id, attempt, now)
        self._told_end(line, step, attempt, now)
        line.at_least(step.id, attempt)
        if step.questioned is None or line.knows(step.id, attempt):
            line.caught[step.id] = attempt
        step.begun(attempt, now)

    def _chunk(self, line: Line, step: Step, event: LiveEvent, now: float) -> None:
        if not step.ended:
            self._goes_on()
        if step.name is None:
            self.core_look.want(now)
        attempt = line.attempts.get(step.id)
        if attempt is None:
            self._want_past(now)
            if not line.wait(step.id, event, now, MAX_HELD):
                step.overflowed = True
        else:
            self._place_chunk(line, step, event, attempt, now)

    def _place_chunk(self, line: Line, step: Step, event: LiveEvent, attempt: int, now: float) -> None:
        if event.index is None:  # an old SDK: in the order of coming
            event = _numbered(event, step.next + len(step.held.get(attempt, ())))
        if attempt < step.proven and self._lost_failure(line, step, event, now):
            if self._askable:
                self._ask(line, step, event, now)
                return
            attempt = step.proven
            line.attempts[step.id] = attempt
        proved = line.proved.get(step.id, 1)
        misfit = step.misfit(event, attempt)
        if misfit < 0 or (attempt == step.proven > proved and step.older(event)):
            step.dropped(event, attempt, now)
            attempt = max(attempt - 1, 1)  # held back meanwhile: the line was taken to be further than it is
        elif misfit > 0 and not step.void_earlier(attempt, now):
            self._of_another(line, step, event, attempt, now)
            return
        line.caught[step.id] = max(attempt, line.caught.get(step.id, 0))
        self._hold(line, step, event, attempt, now)

    def _hold(self, line: Line, step: Step, event: LiveEvent, attempt: int, now: float) -> None:
        """A chunk whose attempt is known: its place is before what is told, among it, or after."""
        index = event.index or 0
        if step.ended or attempt < step.told:
            seen = attempt < step.told or index < step.next
            self._too_late(step, event, attempt, seen=seen)
            if step.ended:
                step.next = max(step.next, index + 1)  # said once, however many lines tell it
        elif attempt > step.told:
            self._early(step, event, attempt, now)
        elif step.next == 0 and event.at is not None and (index, event.at) in step.recent:
            pass  # a double of the attempt before
        elif index and step.next == 0 and attempt not in step.held and self._strays(step, event):
            self.late += 1  # the failure overtook it: it is of the attempt before, which is void
            step.dropped(event, attempt, now)
        elif index < step.next:
            self._again(line, step, event, attempt, now)
        elif step.clashes(event, attempt):
            self._of_another(line, step, event, attempt, now)
        else:
            step.hold(event, attempt)

    @staticmethod
    def _strays(step: Step, event: LiveEvent) -> bool:
        sent = step.sent_before_failure(event, step.told - 1)
        return sent if sent is not None else event.index == step.past_next

    def _lost_failure(self, line: Line, step: Step, event: LiveEvent, now: float) -> bool:
        """Whether a line that has not told a proven failure tells of the attempt after it nonetheless."""
        if line.attempts.get(step.id, 0) >= step.proven or step.older(event):
            return False
        if step.sent_before_failure(event, step.proven - 1):
            return False
        again = event.index == 0 and step.id in line.caught
        return again or step.newer(event) or now > step.proven_at + LOST_PATIENCE

    def _too_late(self, step: Step, event: LiveEvent, attempt: int, *, seen: bool) -> None:
        if seen:
            return
        self.late += 1
        end = step.end
        if self.over or end is None or step.name is None:
            return
        # Who was stopped, by a user or a timeout, may go on: what it sends then was nobody's.
        before = end.at is not None and event.at is not None and event.at.rstrip("Z") < end.at.rstrip("Z")
        if before or not end.stopped:
            self._story.gap(GapCause.UPSTREAM, step.name, attempt, 1)

    def _early(self, step: Step, event: LiveEvent, attempt: int, now: float) -> None:
        """A chunk of an attempt that is not told yet: held; and where it is not proven, a reason to look."""
        if (event.index, event.at) in step.recent and event.at is not None:
            return
        sent = step.sent_before_failure(event, step.told)
        before = sent if sent is not None else step.lacks(event)
        if before and event.index and attempt == step.told + 1 and attempt not in step.held:
            if step.sent_before_failure(event, step.told - 1):  # so did the one before
                self.late += 1
            elif event.index >= step.next:  # the failure overtook it
                step.hold(event, step.told)
            else:
                self.late += 1
            return
        skips = event.index and attempt > step.told + 1 and attempt not in step.held
        if skips and step.sent_before_failure(event, attempt - 1):
            self.late += 1  # of an attempt between, or before: it is void
            return
        step.hold(event, attempt)
        if attempt > step.proven:
            self._want_past(now)
            self.core_look.want(now)

    def _again(self, line: Line, step: Step, event: LiveEvent, attempt: int, now: float) -> None:
        """An index that was told: a double, unless its time says that it is another attempt's chunk."""
        if step.anew(event):
            self._of_another(line, step, event, attempt, now)

    def _of_another(self, line: Line, step: Step, event: LiveEvent, attempt: int, now: float) -> None:
        """A chunk of a later attempt than `attempt`: the history says which, where it can be asked."""
        if self._askable and attempt == step.proven:
            self._ask(line, step, event, now)
        else:
            line.attempts[step.id] = attempt + 1
            self._early(step, event, attempt + 1, now)

    def _ask(self, line: Line, step: Step, event: LiveEvent, now: float) -> None:
        """Which attempt that line tells is not known any more."""
        del line.attempts[step.id]
        self._chunk(line, step, event, now)

    def _unlimbo(self, line: Line, step_id: str, attempt: int, now: float) -> None:
        """The chunks that waited there are of `attempt`; before indices began again, of earlier ones."""
        limbo = line.limbo.pop(step_id, None)
        if limbo is None:
            return
        step = self._step(step_id)
        series = limbo.series()
        for n, events in enumerate(series, start=1):
            counted = attempt - (len(series) - n)
            line.attempts[step_id] = step.attempt_of(events[0], counted)
            if line.attempts[step_id] < counted:
                step.dropped(events[-1], counted, now)
            for event in events:
                self._chunk(line, step, event, now)

    def _ambiguous(self, line: Line, step_id: str) -> bool:
        """Whether chunks in limbo are of before a failure or after it: a history told of it as they came."""
        step = self._step(step_id)
        failure = step.failures.get(step.proven) if step.undecided else None
        return failure is not None and not failure.live and failure.known_at >= line.limbo[step_id].since

    def _place(self, line: Line, step_id: str, now: float) -> None:
        """Nothing better is known: the chunks in limbo are of the attempt that ran when they came."""
        step = self._step(step_id)
        limbo = line.limbo.get(step_id)
        over = step.ended or (step.end is not None and step.end.live)
        if limbo is not None and limbo.waits and not over:
            del line.limbo[step_id]  # of an attempt that is over, or of the next: who knows?
            step.suspect(GapCause.UPSTREAM, now)
        elif limbo is not None:
            after = int(step.undecided and step.failures[step.proven].known_at < limbo.since)
            if step.proven == step.told and limbo.events[0].index in range(step.next):
                after = after or int(step.anew(limbo.events[0]))
            if step.began is not None and step.began[0] == step.proven:  # more may have begun since
                after = max(after, sum(not step.older(events[0]) for events in limbo.series()) - 1)
            self._unlimbo(line, step_id, step.proven + after, now)


def _numbered(event: LiveEvent, index: int) -> LiveEvent:
    return LiveEvent(
        event.run_id,
        event.kind,
        event.step_run_id,
        event.payload,
        event.at,
        event.retry_count,
        index,
        event.hangup,
    )
