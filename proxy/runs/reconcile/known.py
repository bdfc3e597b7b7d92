"""Known: what is known of one run, and what follows from it; `History` stands on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy.core.events import CoreState, Item, LiveEvent, PastState, Status
from proxy.runs.reconcile.emitter import Story
from proxy.runs.reconcile.poll import Look
from proxy.runs.reconcile.sequencer import Step
from proxy.runs.reconcile.subscription_state import Line

END_LOOKS: Final = 6  # looks after something that smelled of the end: 0, 0.1, 0.3, 0.7, 1.5, 3.1 s

RESTING: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class Known:
    """A run's steps, lines and states."""

    def __init__(self, run_id: str, *, has_past: bool = True, check_after: float = 15.0) -> None:
        self.run_id = run_id
        self.has_past = has_past
        self.check_after = check_after
        self.core_look = Look()
        self.past_look = Look()
        self.over = False
        self.due: float | None = None
        self.late = 0  # chunks that came after their attempt or their step was over, unseen
        self.false_ends = 0
        self.breaks = 0  # how often lines went away that alone told of a step
        self._broke_at = float("-inf")  # when a line broke last, and not because it told of an end
        self._story = Story(run_id)
        self._steps: dict[str, Step] = {}
        self._lines: set[Line] = set()
        self._core: CoreState | None = None
        self._past: PastState | None = None
        self._past_asked = False  # whether the first answer (or none) has come
        self._began: float | None = None  # when the first core state came
        self._telling = False
        self._heard: float | None = None
        self._ended_live: LiveEvent | None = None  # the last event about the run's end, if not yet disproved
        self._ended_at = 0.0
        self._told_run_end: dict[Line, tuple[LiveEvent, float]] = {}  # by whom, and when, last
        self._past_gone = False  # the history gave no answer last time
        self.stirred = (
            False  # something else than a chunk in order happened: look at `due` and the looks again
        )
        self._end_looks = 0
        self._closing: float | None = None  # since when the core state says done
        self._confirmed = False  # and has said so ever since, for so long that no replay's pause was it
        self._stirred_at = float("-inf")  # when something of a step was told last that is no chunk
        self._checked = 0.0  # when the states were last read because it was time to
        self._rested: float | None = None  # since when every step that is known has ended
        self._failed_order: list[str] = []

    def take(self) -> list[Item]:
        """What is to be told, in order, each once."""
        return self._story.take()

    @property
    def core_state(self) -> CoreState | None:
        """The last core state."""
        return self._core

    @property
    def young(self) -> bool:
        """Whether the run may have just begun: the engine may put a subscription to sleep for a second."""
        if self._core is None:
            return True
        past = self._past
        if self._core.done or len(self._core.steps) > 1:
            return False
        return past is None or not any(p.status in RESTING or p.retry_count for p in past.steps)

    @property
    def needs(self) -> frozenset[tuple[str, int, int]]:
        """Steps whose next chunks the engine holds back from lines by run id: (step run, attempt, break)."""
        return frozenset(
            (step.id, step.proven + step.undecided, self.breaks)
            for step in self._steps.values()
            if self._held_up(step)
        )

    @property
    def caught_up(self) -> bool:
        """Whether a line by run id tells the chunks of all steps that are streaming."""
        ordered = [line for line in self._lines if line.ordered and line.spoke]
        streaming = [
            step for step in self._steps.values() if not step.ended and (step.next > 0 or step.undecided)
        ]
        return bool(ordered) and all(
            any(line.caught.get(step.id, 0) >= step.told for line in ordered) for step in streaming
        )

    def _held_up(self, step: Step) -> bool:
        if step.ended or step.end is not None or self._closing is not None:
            return False
        attempt = step.proven + step.undecided
        again = attempt > 1
        silent = step.running and (step.doubt is not None or not step.start_live)
        joined = step.next > 0 or bool(step.held) or silent
        if not again and not joined:
            return False
        return not any(line.ordered and line.caught.get(step.id, 0) >= attempt for line in self._lines)

    def _step(self, step_run_id: str) -> Step:
        step = self._steps.get(step_run_id)
        if step is None:
            step = self._steps[step_run_id] = Step(step_run_id)
        return step

    def _in_order(self) -> Sequence[Step]:
        steps = list(self._steps.values())
        if len(steps) > 1:
            steps.sort(key=lambda step: (step.place == "", step.place))
        return steps

    @property
    def _askable(self) -> bool:
        """Whether the history can be asked, as far as is known."""
        return self.has_past and not self._past_gone

    @property
    def _core_alone(self) -> bool:
        """Whether the core alone says that this is the end, and it may be one between a replay's steps.

        A task has no such pauses; and who heard a step begin is in the run's first telling.
        """
        if self._askable or self._core is None or len(self._core.steps) < 2:
            return False
        return not any(step.start_live for step in self._steps.values())

    @property
    def _several(self) -> bool:
        """Whether more than one step is under way: the chunks of one say nothing of the others."""
        return sum(step.started and not step.ended for step in self._steps.values()) > 1

    @property
    def _resting(self) -> bool:
        """Whether every step that is known has ended."""
        return bool(self._steps) and all(step.ended for step in self._steps.values())

    def _want_past(self, now: float) -> None:
        if self.has_past:
            self.past_look.want(now)

    def _smells_of_end(self, now: float) -> None:
        self._end_looks = END_LOOKS
        self.core_look.want(now)

    def _goes_on(self) -> None:
        """What was told of the run's end is not true (any more)."""
        self._end_looks = 0
        if self._ended_live is not None:
            self._ended_live = None
            self.false_ends += 1
            for step in self._steps.values():
                step.hung_up = False

    def _decide(self, step: Step, now: float, wait: float = 0.0) -> bool:
        """Whether the failed attempt is known to be the last: the step's Retries are used up."""
        if step.retries is not None and step.proven == step.retries + 1:
            self._fails(step, now, wait)
            return True
        return False

    def _fails(self, step: Step, now: float, wait: float = 0.0) -> None:
        if step.id not in self._failed_order:
            self._failed_order.append(step.id)
        step.fails(now, wait=wait)

    def _due(self, at: float) -> None:
        self.due = at if self.due is None else min(self.due, at)
