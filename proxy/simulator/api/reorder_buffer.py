"""ReorderBuffer: how the engine orders the chunks of a subscription by run id, and why they come 5 s late.

It expects index 0 of each step first.

- A chunk with another index waits until the gap is filled, the step ends, or 5 s have passed. After the 5 s
  the next index that comes is the expected one.
- The end of a step releases what waits, and then index 0 is expected again. Where nothing waits, the
  expected index stays: the chunks of a next attempt, from 0 again, wait too.
- So a chunk that its step's end has overtaken passes at once if nothing waited, and else waits.
- Two seconds after a step's end its state is dropped, with the chunks that wait. The end of a run releases
  none.

(internal/services/dispatcher/server.go, StreamEventBuffer)
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.simulator.messages import ENDS, Message
from proxy.simulator.scheduler import Scheduler

HOLD = 5.0
FORGET = 2.0
SWEEP = 1.0  # seconds between two clean-ups of ended steps
FRESH = -1  # the next index that comes is the expected one


class ReorderBuffer:
    """Takes messages and passes them on in the engine's order."""

    def __init__(self, scheduler: Scheduler, pass_on: Callable[[Message], None]) -> None:
        self._scheduler = scheduler
        self._pass_on = pass_on
        self._waiting: dict[str, list[Message]] = {}
        self._expected: dict[str, int] = {}
        self._ended: dict[str, float] = {}
        self._open = True

    def close(self) -> None:
        """Pass nothing on any more."""
        self._open = False

    def add(self, message: Message) -> None:
        """One message of the run."""
        step = message.step_run_id
        if step is None or not message.is_chunk:
            if step is not None and message.kind in ENDS:
                self._step_ended(step)
            self._pass_on(message)
            return
        if message.index is None:
            self._pass_on(message)
            return
        self._chunk(step, message.index, message)

    def _chunk(self, step: str, index: int, message: Message) -> None:
        expected = self._expected.setdefault(step, 0)
        if expected == FRESH:
            self._expected[step] = expected = index
        waiting = self._waiting.get(step)
        if index == expected and not waiting:
            self._expected[step] = expected + 1
            self._pass_on(message)
            return
        self._waiting.setdefault(step, []).append(message)
        self._waiting[step].sort(key=lambda one: one.index or 0)
        self._release(step)
        if step in self._waiting and index != expected:
            self._scheduler.after(HOLD, self._held_too_long, step)

    def _release(self, step: str) -> None:
        waiting = self._waiting[step]
        while waiting and waiting[0].index == self._expected[step]:
            self._expected[step] += 1
            self._pass_on(waiting.pop(0))
        if not waiting:
            del self._waiting[step]

    def _held_too_long(self, step: str) -> None:
        if self._open and step in self._waiting:
            for message in self._waiting.pop(step):
                self._pass_on(message)
            self._expected[step] = FRESH

    def _step_ended(self, step: str) -> None:
        waiting = self._waiting.pop(step, None)
        if waiting:
            self._expected.pop(step, None)
            for message in waiting:
                self._pass_on(message)
        self._ended[step] = self._scheduler.now()
        self._scheduler.after(FORGET + SWEEP / 2, self._forget, step)

    def _forget(self, step: str) -> None:
        if self._scheduler.now() - self._ended[step] < FORGET:
            return  # it has ended again since
        self._waiting.pop(step, None)
        self._expected.pop(step, None)
