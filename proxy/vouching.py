"""Vouching: an end says that nothing more comes; whether all that came before was heard, a line has to say.

Who tells an end need not know: it may have been bound too late, and who streamed the step until then may be
dead without our knowing. And a step that was stopped (cancelled, timed out) ends without any line being told.
So such an end waits until a line that knows the step vouches for it: by telling the end too, or by being
alive later than the loss could be. If none does in time, the end is told with a gap.
"""

from __future__ import annotations

from typing import Final

from proxy.facts import Question
from proxy.flow import Flow
from proxy.line import OVERLAP, Line
from proxy.step import Step

VOUCHING: Final = 0.3  # seconds that an end waits for a line that knows more than the one that told it
STOPPED: Final = 1.0  # seconds that the end of a step that was stopped waits for a sign of life
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
            question = Question(attempt, line, line.since + OVERLAP, now + VOUCHING)
            if self._in_question(step, question):
                step.question = question

    def _ask_of_stop(self, step: Step, now: float) -> None:
        """A state tells that the step was stopped: is one of the lines that streamed it known to be alive?

        Who told the run's end was, and so is who tells anything afterwards.
        """
        attempt = step.proven if step.end is None else step.end.attempt
        if step.question is None or step.question.attempt < attempt:
            step.question = Question(attempt, None, now, now + STOPPED)
        question, teller = step.questioned, self._ended_by
        if question is None or question.line is not None or now >= question.until:
            return
        told = self._ended_live is not None and teller is not None and teller.knows(step.id, attempt)
        if told or not self._knowing(step, question):
            question.answered = True
        elif not self._in_question(step, question):  # alive; what was held back with the sign comes now
            question.alive_at = now if question.alive_at is None else question.alive_at
            question.answered = now >= question.alive_at + STRAGGLERS
            self._due(question.alive_at + STRAGGLERS)

    def _vouches_no_more(self, line: Line, now: float) -> None:
        """`line` is gone: ends that waited for it alone wait no longer."""
        for step in self._steps.values():
            question = step.questioned
            if question is None or line is question.line or not line.knows(step.id, question.attempt):
                continue
            if line.heard >= question.since:
                question.answered = True
            elif not self._in_question(step, question):
                question.until = now

    def _knowing(self, step: Step, question: Question) -> list[Line]:
        others = self._lines - {question.line}
        return [line for line in others if line.knows(step.id, question.attempt)]

    def _in_question(self, step: Step, question: Question) -> bool:
        """Whether there are lines that would know, and none of them is known to be alive."""
        knowing = self._knowing(step, question)
        return bool(knowing) and not any(line.heard >= question.since for line in knowing)
