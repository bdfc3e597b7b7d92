"""Line: one subscription at Hatchet, and which attempt of each step it is telling.

Chunks carry no attempt, and two lines tell at different speeds: so attempts are counted per line. A line
that told a step's beginning or a failure knows. One that did not (it was opened in mid-step, or lifecycle
events are switched off) keeps the step's chunks in `limbo` until a history that was asked for afterwards has
said which attempt runs, or nobody will.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from proxy.core.events import LiveEvent

OVERLAP: Final = 0.5  # seconds after which a line is bound: what comes then it tells, or the engine holds
JITTER: Final = 0.01  # seconds by which threads of one worker may time their chunks in another order


@dataclass(slots=True)
class Limbo:
    """Chunks of a step whose attempt is not known yet."""

    since: float
    events: list[LiveEvent] = field(default_factory=list)
    waits: bool = False  # a history that was asked for since says that the retry waits for a worker

    def series(self) -> list[list[LiveEvent]]:
        """The chunks, divided where indices begin again at a later time: there a later attempt begins."""
        series: list[list[LiveEvent]] = [[]]
        for event in self.events:
            if series[-1] and began_again(max(series[-1], key=_index), event):
                series.append([])
            series[-1].append(event)
        return series


class Line:
    """One subscription of a run; `ordered` by run id (the engine sorts, and holds), else by metadata."""

    __slots__ = ("attempts", "caught", "heard", "limbo", "ordered", "proved", "since", "spoke")

    def __init__(self, *, ordered: bool, since: float = 0.0) -> None:
        self.ordered = ordered
        self.since = since  # when it was on the wire
        self.heard = since  # when it told something last
        self.spoke = False
        self.attempts: dict[str, int] = {}  # step run -> the attempt whose chunks come next; absent: unknown
        self.caught: dict[str, int] = {}  # step run -> the last attempt of which it gave a chunk
        self.proved: dict[
            str, int
        ] = {}  # step run -> the attempt that a beginning or a failure told on this very line proves
        self.limbo: dict[str, Limbo] = {}

    def at_least(self, step_run_id: str, attempt: int) -> None:
        """What comes next of that step is of `attempt`, or a later one."""
        if attempt > self.attempts.get(step_run_id, 0):
            self.attempts[step_run_id] = attempt

    def knows(self, step_run_id: str, attempt: int) -> bool:
        """Whether it has told of that attempt, so that it tells the rest of it, or is dead."""
        told = max(self.caught.get(step_run_id, 0), self.proved.get(step_run_id, 0))
        return told >= attempt or step_run_id in self.limbo

    def wait(self, step_run_id: str, event: LiveEvent, now: float, most: int) -> bool:
        """Keep a chunk until its attempt is known; False where there are too many."""
        limbo = self.limbo.get(step_run_id)
        if limbo is None:
            limbo = self.limbo[step_run_id] = Limbo(now)
        if len(limbo.events) >= most:
            return False
        limbo.events.append(event)
        return True


def began_again(last: LiveEvent, event: LiveEvent) -> bool:
    """Whether a chunk is of a later attempt than `last`: within one, times grow with indices."""
    return _index(event) <= _index(last) and is_later(event.at, last.at)


def is_later(at: str | None, other: str | None) -> bool:
    """Whether a chunk's time is after another's by more than one attempt's threads explain."""
    if at is None or other is None or at.rstrip("Z") <= other.rstrip("Z"):
        return False
    late, early = moment(at), moment(other)
    return late is not None and early is not None and late - early > timedelta(seconds=JITTER)


def moment(at: str | None) -> datetime | None:
    """An engine's time; None where it is none."""
    try:
        return None if at is None else datetime.fromisoformat(at.rstrip("Z"))
    except ValueError:
        return None


def _index(event: LiveEvent) -> int:
    return event.index or 0
