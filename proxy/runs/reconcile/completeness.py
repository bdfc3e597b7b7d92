"""Vouching: an end says that nothing more comes; whether all that came before was heard, a line has to say.

Who tells an end need not know: it may have been bound too late, and who streamed the step until then may be
dead without our knowing. And a step that was stopped (cancelled, timed out) ends without any line being told.
So such an end waits until a line that knows the step vouches for it: by telling the end too, or by being
alive later than the loss could be. If none does in time, the end is told with a gap.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from proxy.core.events import Kind
from proxy.runs.reconcile.evidence import Question
from proxy.runs.reconcile.flow import Flow
from proxy.runs.reconcile.sequencer import Step
from proxy.runs.reconcile.subscription_state import OVERLAP, Line

VOUCHING: Final = 0.3  # seconds that an end waits for a line that knows more than the one that told it
STOPPED: Final = 1.0  # seconds that the end of a step that was stopped waits for a sign of life
ASLEEP: Final = 1.25  # seconds after which a line by run id is bound, however early it was opened
STRAGGLERS: Final = 0.05  # seconds for chunks that an end, or a sign of life, may have overtaken


class Vouching(Flow):
    """Questions to lines that may be dead."""

    def awaits_others(self, now: float) -> bool:
        """Whether an end waits for other lines than the one that told it: none is to be given up now."""
        questions = [step.questioned for step in self._steps.values() if step.question is not None]
        return any(question is not None and now < question.until for question in questions)

    def _told_end(self, line: Line, step: Step, attempt: int, now: float) -> None:
        """`line` tells how an attempt ended."""
        if line.knows(step.id, attempt):
            if step.questioned is not None and step.questioned.line is not line:
                step.questioned.answered = True
        elif not step.end_told(attempt):
            bound = line.since + (ASLEEP if line.ordered else OVERLAP)
            question = Question(attempt, line, bound, now + VOUCHING)
            if self._in_question(step, question):
                step.question = question

    def _ask_of_stop(self, step: Step, now: float) -> None:
        """A state tells that the step was stopped: is one of the lines that streamed it known to be alive?

        Who told the run's end was, and so is who tells anything afterwards.
        """
        if step.doubt is not None:
            return  # a gap comes anyway, unless a chunk says that there is none: then it is asked
        attempt = step.proven if step.end is None else step.end.attempt
        if step.question is None or step.question.attempt < attempt:
            step.question = Question(attempt, None, now, now + STOPPED)
        question = step.questioned
        if question is None or question.line is not None or now >= question.until:
            return
        asked = self._asked(step, question)
        if not asked or any(self._tells_stop(line, step, question) for line in self._told_run_end):
            question.answered = True
        elif any(line.heard >= question.since for line in asked):
            question.alive_at = now if question.alive_at is None else question.alive_at
            question.answered = now >= question.alive_at + STRAGGLERS  # what was held back with the sign
            self._due(question.alive_at + STRAGGLERS)

    def _tells_stop(self, line: Line, step: Step, question: Question) -> bool:
        """Whether the run's end, as that line told it, came after the step was stopped.

        A run that goes on is called completed, or failed where an attempt did.
        """
        event, told_at = self._told_run_end[line]
        if event.kind is Kind.COMPLETED:
            return False
        attempt = question.attempt
        if not line.knows(step.id, attempt) and (attempt == 1 or self._knowing(step, question)):
            return False
        at = step.end.at if step.end is not None else None
        if at is not None and event.at is not None:
            return event.at.rstrip("Z") >= at.rstrip("Z")
        return event.kind is Kind.CANCELLED or told_at >= step.proven_at

    def _vouches_no_more(self, line: Line, now: float) -> None:
        """`line` is gone: ends that waited for it alone wait no longer."""
        for step in self._steps.values():
            question = step.questioned
            if question is None or line is question.line or not line.knows(step.id, question.attempt):
                continue
            if line.heard >= question.since:
                question.answered = True
            elif not self._knowing(step, question):
                question.until = now

    def _knowing(self, step: Step, question: Question) -> list[Line]:
        others = self._lines - {question.line}
        return [line for line in others if line.knows(step.id, question.attempt)]

    def _asked(self, step: Step, question: Question) -> Collection[Line]:
        """Who would know of a stop; a retry that nobody has told of may have been told to anyone."""
        return self._knowing(step, question) or (self._lines if question.attempt > 1 else ())

    def _in_question(self, step: Step, question: Question) -> bool:
        """Whether there are lines that would know, and none of them is known to be alive."""
        knowing = self._knowing(step, question)
        return bool(knowing) and not any(line.heard >= question.since for line in knowing)
