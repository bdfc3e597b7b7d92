"""Line: one subscription at Hatchet, and which attempt of each step it is telling.

Chunks carry no attempt, and two lines tell at different speeds: so attempts are counted per line. A line
that told a step's beginning or a failure knows. One that did not (it was opened in mid-step, or lifecycle
events are switched off) keeps the step's chunks in `limbo` until a history that was asked for afterwards has
said which attempt runs, or nobody will.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.events import LiveEvent


@dataclass(slots=True)
class Limbo:
    """Chunks of a step whose attempt is not known yet."""

    since: float
    events: list[LiveEvent] = field(default_factory=list)


class Line:
    """One subscription of a run; `ordered` by run id (the engine sorts, and holds), else by metadata."""

    __slots__ = ("attempts", "caught", "limbo", "ordered", "proved", "spoke")

    def __init__(self, *, ordered: bool) -> None:
        self.ordered = ordered
        self.spoke = False
        self.attempts: dict[str, int] = {}  # step run -> the attempt whose chunks come next; absent: unknown
        self.caught: dict[str, int] = {}  # step run -> the last attempt of which it gave a chunk
        self.proved: dict[
            str, int
        ] = {}  # step run -> the attempt that a failure told on this very line proves
        self.limbo: dict[str, Limbo] = {}

    def at_least(self, step_run_id: str, attempt: int) -> None:
        """What comes next of that step is of `attempt`, or a later one."""
        if attempt > self.attempts.get(step_run_id, 0):
            self.attempts[step_run_id] = attempt

    def wait(self, step_run_id: str, event: LiveEvent, now: float, most: int) -> bool:
        """Keep a chunk until its attempt is known; False where there are too many."""
        limbo = self.limbo.get(step_run_id)
        if limbo is None:
            limbo = self.limbo[step_run_id] = Limbo(now)
        if len(limbo.events) >= most:
            return False
        limbo.events.append(event)
        return True
