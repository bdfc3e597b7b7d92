"""What the log of a run holds so far, and how a replica that takes over continues without repeating it.

A replica that takes a run over follows it at Hatchet from scratch: it reads the states, subscribes, and gets
items from the run's beginning. `Continuation` passes on only what the log does not hold yet:

    contents  started  chunk 0  chunk 1  chunk 2
    items     started                     gap(joined_late, 3)  chunk 3  chunk 4  completed
    pass                                                       chunk 3  chunk 4  completed

Chunks that are missing between the last item of the log and the next one become a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from proxy.core.events import (
    RUN_EVENTS,
    STEP_ENDS,
    STEP_RETRYING,
    STEP_STARTED,
    STEP_STREAM,
    End,
    Event,
    GapCause,
    Item,
    LogItem,
    Reset,
    StepGap,
)

ALL: Final = 1 << 50  # more chunks than an attempt has


class StepContents(Struct):
    """What the log holds of one step: of attempt `attempt` all chunks before `next`."""

    name: str
    started: bool = False
    attempt: int = 1
    next: int = 0
    ended: bool = False
    retried: int = 0  # the last attempt whose failure it holds

    def began(self, attempt: int) -> None:
        """Attempt `attempt` begins."""
        if attempt > self.attempt:
            self.attempt = attempt
            self.next = 0


class Contents:
    """What the log holds of one run."""

    __slots__ = ("_ids", "run_event", "status", "steps")

    def __init__(self) -> None:
        self.steps: dict[str, StepContents] = {}
        self.run_event: str | None = None
        self.status: str | None = None  # of the verified end
        self._ids: dict[str, str] = {}  # a step's name -> its id

    def note(self, item: LogItem) -> None:
        """The log holds `item` now."""
        if isinstance(item, Event):
            if item.step_run_id is None:
                self.run_event = item.type if item.type in RUN_EVENTS else self.run_event
                return
            step = self.steps.get(item.step_run_id)
            if step is None:
                step = self._add(item.step_run_id, StepContents(item.step or ""))
            if item.type == STEP_STREAM:
                if item.attempt is not None and item.attempt != step.attempt:
                    step.began(item.attempt)
                step.next = max(step.next, (item.index or 0) + 1)
            elif item.type == STEP_STARTED:
                step.started = True
            elif item.type == STEP_RETRYING:
                step.retried = max(step.retried, item.attempt or step.attempt)
            elif item.type in STEP_ENDS:
                step.ended = True
        elif isinstance(item, Reset):
            reset = self.named(item.step)
            if reset is not None:
                reset.began(item.attempt)
        elif isinstance(item, End):
            self.status = item.status

    @property
    def steps_with_chunks(self) -> list[StepContents]:
        """The steps of whose last attempt the log holds chunks."""
        return [step for step in self.steps.values() if step.next]

    def named(self, name: str | None) -> StepContents | None:
        """What the log holds of the step with that name."""
        step_id = self.id_of(name)
        return None if step_id is None else self.steps.get(step_id)

    def id_of(self, name: str | None) -> str | None:
        """The id of the step with that name."""
        return None if name is None else self._ids.get(name)

    def holds(self, event: Event) -> bool:
        """Whether the log holds `event`, which is no chunk, maybe with another payload."""
        if event.step_run_id is None:
            return self.run_event == event.type
        step = self.steps.get(event.step_run_id)
        if step is None:
            return False
        if event.type == STEP_STARTED:
            return step.started
        if event.type == STEP_RETRYING:
            return step.ended or (event.attempt or 1) < step.attempt or (event.attempt or 1) <= step.retried
        return step.ended

    def _add(self, step_id: str, step: StepContents) -> StepContents:
        self.steps[step_id] = step
        self._ids[step.name] = step_id
        return step

    @property
    def plain(self) -> dict[str, Any]:
        """The contents as JSON values."""
        steps = [
            [step_id, step.name, step.started, step.attempt, step.next, step.ended, step.retried]
            for step_id, step in self.steps.items()
        ]
        return {"steps": steps, "run": self.run_event, "status": self.status}

    @classmethod
    def of(cls, plain: Any) -> Contents:
        """The contents that `plain` describes. Raises ValueError, TypeError or KeyError."""
        contents = cls()
        contents.run_event, contents.status = plain["run"], plain["status"]
        for step_id, name, *fields in plain["steps"]:
            contents._add(step_id, StepContents(name, *fields))
        return contents

    def before(self, items: Iterable[LogItem]) -> Contents:
        """What the log held before `items`, which are its last ones."""
        before, seen = self.copy(), set()
        for item in items:
            if isinstance(item, End):
                before.status = None
            elif isinstance(item, Event) and item.step_run_id is None:
                before.run_event = None
            step_id = before.id_of(item.step) if isinstance(item, Reset) else None
            step_id = item.step_run_id if isinstance(item, Event) else step_id
            if step_id is not None and step_id not in seen:
                seen.add(step_id)
                before._rewind(step_id, item)
        return before

    def _rewind(self, step_id: str, first: LogItem) -> None:
        """The log does not hold the item `first` of a step, nor any after it."""
        step = self.steps[step_id]
        if isinstance(first, Reset):  # the log holds all chunks of the attempt before it
            step.ended, step.attempt, step.next = False, first.attempt - 1, ALL
            return
        assert isinstance(first, Event)
        if first.type == STEP_STARTED:
            del self.steps[step_id]
            return
        step.ended = False
        if first.attempt is not None:
            step.attempt = first.attempt
            step.retried = min(step.retried, first.attempt - 1)
        if first.type == STEP_STREAM:
            step.next = first.index or 0

    def copy(self) -> Contents:
        """A copy."""
        return Contents.of(self.plain)


class Continuation:
    """Passes on the items of a run that `contents` does not hold yet, and notes them there."""

    __slots__ = ("_held", "_inherited", "contents")

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self._inherited = frozenset(contents.steps)  # all others are followed from their beginning
        self._held: list[StepGap] = []  # gaps whose next item decides what is missing

    def news(self, items: Iterable[Item]) -> list[Item]:
        """The items that the log does not hold, in order."""
        passed: list[Item] = []
        for item in items:
            if isinstance(item, StepGap):
                self._gap(item, passed)
            else:
                self._other(item, passed)
        return passed

    def _gap(self, gap: StepGap, passed: list[Item]) -> None:
        step_id = self.contents.id_of(gap.step)
        step = self.contents.steps.get(step_id or "")
        if step is None or step_id not in self._inherited:
            passed.append(gap)
        elif not step.ended and (gap.attempt is None or gap.attempt >= step.attempt):
            self._held.append(gap)

    def _other(self, item: Item, passed: list[Item]) -> None:
        contents = self.contents
        if isinstance(item, Event):
            if item.type == STEP_STREAM:
                self._chunk(item, passed)
                return
            if contents.holds(item):
                self._held.clear()
                return
        elif isinstance(item, Reset):
            step = contents.named(item.step)
            if step is not None and (step.ended or item.attempt <= step.attempt):
                return
        elif isinstance(item, End) and contents.status is not None:
            return
        passed += self._release()
        passed.append(item)
        contents.note(item)

    def _chunk(self, chunk: Event, passed: list[Item]) -> None:
        contents = self.contents
        step_id = chunk.step_run_id or ""
        if step_id not in self._inherited:
            passed.append(chunk)
            contents.note(chunk)
            return
        step = contents.steps.get(step_id)
        attempt, index = chunk.attempt or 1, chunk.index or 0
        if step is not None and (step.ended or attempt < step.attempt):
            self._held.clear()
            return
        if step is not None and attempt == step.attempt:
            held, self._held = self._held, []
            if index < step.next:
                return
            if index > step.next:
                cause = held[-1].cause if held else GapCause.UPSTREAM
                if cause is GapCause.JOINED_LATE:
                    cause = GapCause.UPSTREAM
                passed.append(StepGap(cause, chunk.step, attempt, index - step.next))
        else:
            passed += self._release()
        passed.append(chunk)
        contents.note(chunk)

    def _release(self) -> Sequence[StepGap]:
        """The held gaps: their chunks were sent after the log's last item, while nobody followed the run."""
        held, self._held = self._held, []
        return [
            StepGap(GapCause.UPSTREAM, gap.step, gap.attempt, None)
            if gap.cause is GapCause.JOINED_LATE
            else gap
            for gap in held
        ]
