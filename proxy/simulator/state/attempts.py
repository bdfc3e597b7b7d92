"""Attempts: a step's life on its worker: begun, played act by act, finished, failed, tried again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from proxy.simulator import messages
from proxy.simulator.state.emit import in_history, tell_chunk, tell_end, write
from proxy.simulator.state.entities import Run, StepRun
from proxy.simulator.state.worker import Act, CancelMyself, Put, Raise, Return, Spawn, Wait, attempt
from proxy.simulator.statuses import CANCELLED, COMPLETED, FAILED
from proxy.simulator.world import World

DISPATCH = (0.015, 0.045)  # from a step's creation to its worker
RETRY_SEEN = 0.06  # for so long the history calls a failed attempt FAILED
BACKOFF_LATE = (25.0, 35.0)
TIMEOUT_LATE = (0.1, 1.0)

Ended = Callable[[Run], None]
Spawned = Callable[[Run, StepRun, Spawn], None]


class Attempts:
    """Plays attempts; calls `ended` when a step is over for good, `spawned` when it wants child runs."""

    def __init__(self, world: World, ended: Ended, spawned: Spawned) -> None:
        self._world, self._ended, self._spawned = world, ended, spawned

    def queue(self, run: Run, step: StepRun) -> None:
        """The step waits for a worker, and then has one."""
        write(self._world, run, step, "QUEUED")
        self._later(step, self._world.random.between(DISPATCH), self._begin, run, step)

    def _begin(self, run: Run, step: StepRun) -> None:
        step.on_worker, step.next_index = True, 0
        write(self._world, run, step, "ASSIGNED", "SENT_TO_WORKER", "STARTED")
        step.children, step.due = {}, self._world.scheduler.now()
        step.acts = attempt(step.step, run.scope(step), step.children)
        late = self._world.random.between(TIMEOUT_LATE) if self._world.quirks.late_timeout else 0.0
        self._later(step, step.step.timeout / self._world.speed + late, self._time_out, run, step)
        self.go_on(run, step)

    def go_on(self, run: Run, step: StepRun) -> None:
        """The worker's next acts, up to one that takes time or ends the attempt."""
        if step.acts is None:
            return
        for act in step.acts:
            match act:
                case Put():
                    now = self._world.scheduler.wall()
                    tell_chunk(self._world, run, step, act.chunk, index=step.next_index, at=now)
                    step.next_index += 1
                case Wait():
                    step.due += act.seconds / self._world.speed  # a late timer makes no later one late
                    step.work = self._world.scheduler.after(
                        max(step.due - self._world.scheduler.now(), 0.0), self.go_on, run, step
                    )
                    return
                case _:
                    self._act(run, step, act)
                    return

    def _act(self, run: Run, step: StepRun, act: Act) -> None:
        match act:
            case Spawn():
                self._spawned(run, step, act)
            case Return() if not step.ended:
                self._finish(run, step, act.output)
            case Raise() if not step.ended:
                self.fail(run, step, act.error, act.final)
            case CancelMyself():
                self.cancel(run, step)
                self._ended(run)

    def _finish(self, run: Run, step: StepRun, output: str | None) -> None:
        step.output, step.error = output, ""
        run.outputs[step.name] = None if output is None else json.loads(output)
        tell_end(self._world, run, step, messages.COMPLETED, output or "")
        write(self._world, run, step, "FINISHED", output=in_history(self._world, output))
        self._over(run, step, COMPLETED)

    def fail(self, run: Run, step: StepRun, error: str, final: bool) -> None:
        """The attempt raised."""
        text = error_text(error, step.id)
        tell_end(self._world, run, step, messages.FAILED, text)
        write(self._world, run, step, "FAILED", error=text)
        self._retry_or_fail(run, step, text, final)

    def _time_out(self, run: Run, step: StepRun) -> None:
        text = f"Task exceeded timeout of {go_duration(step.step.timeout)}"
        if not self._world.quirks.silent_timeout:
            tell_end(self._world, run, step, messages.TIMED_OUT, text)
        write(self._world, run, step, "TIMED_OUT", message=text)
        self._retry_or_fail(run, step, text, False)

    def _retry_or_fail(self, run: Run, step: StepRun, error: str, final: bool) -> None:
        step.stop()
        step.on_worker = False
        retried = step.retry_count - step.replayed_from
        if final or retried >= step.step.retries:
            step.error = error
            run.failed = True
            self._over(run, step, FAILED)
            return
        step.retry_count += 1
        wait = self._world.random.between(DISPATCH)
        if step.step.backoff is not None:
            wait += step.step.backoff.before(retried + 1) / self._world.speed
            wait += self._world.random.between(BACKOFF_LATE) if self._world.quirks.late_backoff else 0.0
        write(self._world, run, step, "RETRYING", "QUEUED", after=RETRY_SEEN)
        self._later(step, wait, self._begin, run, step)

    def skip(self, run: Run, step: StepRun) -> None:
        """The step is over without having run."""
        step.skipped, step.output = True, '{"skipped":true}'
        run.outputs[step.name] = {"skipped": True}
        write(self._world, run, step, "SKIPPED")
        if not self._world.quirks.silent_skip:
            tell_end(self._world, run, step, messages.COMPLETED, step.output)
        self._over(run, step, COMPLETED)

    def cancel(self, run: Run, step: StepRun) -> None:
        """The step is cancelled; a deaf worker does not notice."""
        if step.step.deaf and self._world.quirks.chunks_after_cancel:
            step.forget_plans()
        else:
            step.stop()
        write(self._world, run, step, "CANCELLED")
        if not self._world.quirks.silent_cancel:
            tell_end(self._world, run, step, messages.CANCELLED, "")
        step.on_worker, step.ended, step.output, step.error = False, CANCELLED, None, ""

    def _over(self, run: Run, step: StepRun, status: str) -> None:
        step.stop()
        step.on_worker, step.ended = False, status
        self._ended(run)

    def _later(self, step: StepRun, seconds: float, call: Callable[..., None], *args: Any) -> None:
        step.timers.append(self._world.scheduler.after(seconds, call, *args))


def error_text(error: str, step_run_id: str) -> str:
    """An error as the SDK sends it: `Type: message`, a traceback, and a line of JSON."""
    trace = f'Traceback (most recent call last):\n  File "worker.py", line 1, in step\n{error}'
    metadata = json.dumps({"__hatchet_error_metadata__": {"task_run_external_id": step_run_id}})
    return f"{error}\n{trace}\n\n{metadata}"


def go_duration(seconds: float) -> str:
    """A duration as the engine writes a step's timeout."""
    return f"{seconds / 60:g}m" if seconds >= 60 and seconds % 60 == 0 else f"{seconds:g}s"
