"""Line: one subscription at Hatchet, and which attempt of each step it is telling.

Chunks carry no attempt, and two lines tell at different speeds: so attempts are counted per line. A line
that was opened in mid-run does not know at which attempt it joined; it is `placed` once a history that was
asked for afterwards has said so (or nobody will). Until then its chunks wait in `limbo`, except those of
steps whose beginning or failure it told itself.
"""

from __future__ import annotations

from proxy.events import LiveEvent


class Line:
    """One subscription of a run; `ordered` by run id (the engine sorts, and holds), else by metadata."""

    __slots__ = ("attempts", "caught", "fresh", "limbo", "opened_at", "ordered", "placed", "spoke", "trying")

    def __init__(self, now: float, *, ordered: bool, fresh: bool) -> None:
        self.opened_at = now
        self.ordered = ordered
        self.fresh = fresh  # opened before anything was known: what it tells is the run's beginning, maybe
        self.placed = False
        self.spoke = False
        self.attempts: dict[str, int] = {}  # step run -> the attempt whose chunks come next
        self.trying: dict[str, int] = {}  # step run -> the attempt before chunks started again unproven
        self.caught: dict[str, int] = {}  # step run -> the last attempt of which it gave a chunk
        self.limbo: dict[str, list[LiveEvent]] = {}

    def at_least(self, step_run_id: str, attempt: int) -> None:
        """What comes next of that step is of `attempt`, or a later one."""
        if attempt > self.attempts.get(step_run_id, 0):
            self.attempts[step_run_id] = attempt
            self.trying.pop(step_run_id, None)

    def wait(self, step_run_id: str, event: LiveEvent, most: int) -> bool:
        """Keep a chunk until the line is placed; False where there are too many."""
        waiting = self.limbo.setdefault(step_run_id, [])
        if len(waiting) >= most:
            return False
        waiting.append(event)
        return True
