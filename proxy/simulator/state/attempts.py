"""Attempts: each step's attempts on their workers: begun, played act by act, ended, retried."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from proxy.simulator import messages
from proxy.simulator.state.emit import Emitter
from proxy.simulator.state.entities import Invocation, Run, StepRun
from proxy.simulator.state.worker import (
    Act,
    CancelMyself,
    Evict,
    Put,
    Raise,
    Return,
    Spawn,
    Wait,
    attempt,
)
from proxy.simulator.statuses import CANCELLED, COMPLETED, FAILED
from proxy.simulator.world import World

DISPATCH = (0.015, 0.045)  # seconds from a step's creation to its worker
RETRY_SEEN = 0.06  # seconds that the history calls a failed attempt FAILED
BACKOFF_LATE = (25.0, 35.0)
TIMEOUT_LATE = (0.1, 1.0)
CONCURRENCY = "Cancelled due to concurrency strategy"

Ended = Callable[[Run], None]
Spawned = Callable[[Run, StepRun, Spawn], None]


class Attempts:
    """Plays attempts; calls `ended` when a step is over for good, `spawned` when it wants child runs."""

    def __init__(self, world: World, emitter: Emitter, ended: Ended, spawned: Spawned) -> None:
        self._world, self._emitter, self._ended, self._spawned = world, emitter, ended, spawned

    def queue(self, run: Run, step: StepRun) -> None:
        """The step waits for a worker, and gets one."""
        self._emitter.record(run, step, "QUEUED")
        if step.step.no_worker:
            wait = step.step.schedule_timeout / self._world.speed
            self._later(step, wait, self._schedule_timeout, run, step)
        else:
            self._later(step, self._world.random.between(DISPATCH), self._begin, run, step)

    def _begin(self, run: Run, step: StepRun) -> None:
        if step.step.batch is None:
            self._emitter.record(run, step, "ASSIGNED", "SENT_TO_WORKER", "STARTED")
            self._invoke(run, step)
        else:
            self._emitter.record(run, step, "WAITING_FOR_BATCH")
            self._later(step, step.step.batch / self._world.speed, self._flush_batch, run, step)

    def _flush_batch(self, run: Run, step: StepRun) -> None:
        self._emitter.record(run, step, "BATCH_FLUSHED")
        self._invoke(run, step)

    def _invoke(self, run: Run, step: StepRun) -> None:
        step.on_worker, step.children = True, {}
        acts = attempt(step.step, run.scope(step), step.children)
        step.invocation = Invocation(acts, self._world.scheduler.now())
        late = self._world.random.between(TIMEOUT_LATE) if self._world.quirks.late_timeout else 0.0
        self._later(step, step.step.timeout / self._world.speed + late, self._time_out, run, step)
        death = step.step.dies
        if death is not None and step.deaths < death.attempts:
            self._later(step, death.at / self._world.speed, self._die, run, step)
        self._play(run, step, step.invocation)

    def go_on(self, run: Run, step: StepRun) -> None:
        """The child runs that the step waited for are over."""
        if step.invocation is not None:
            step.invocation.due = self._world.scheduler.now()
            self._play(run, step, step.invocation)

    def _play(self, run: Run, step: StepRun, invocation: Invocation) -> None:
        """The worker's next acts, up to one that takes time or ends the attempt."""
        while not invocation.stopped:
            scheduler = self._world.scheduler
            if invocation.ends_at is not None and scheduler.now() >= invocation.ends_at:
                return
            match act := next(invocation.acts):
                case Put():
                    index, invocation.next_index = invocation.next_index, invocation.next_index + 1
                    self._emitter.chunk(run, step, act.chunk, index, scheduler.wall())
                case Wait():
                    invocation.due += act.seconds / self._world.speed  # lateness does not add up
                    wait = max(invocation.due - scheduler.now(), 0.0)
                    invocation.timer = scheduler.after(wait, self._play, run, step, invocation)
                    return
                case Evict() if step.evictions:
                    pass  # the durable wait is over
                case _:
                    if invocation.ends_at is None:
                        self._act(run, step, act)
                    return

    def _act(self, run: Run, step: StepRun, act: Act) -> None:
        match act:
            case Spawn():
                self._spawned(run, step, act)
            case Evict() if not step.ended:
                self._evict(run, step, act)
            case Return() if not step.ended:
                self._finish(run, step, act.output)
            case Raise() if not step.ended:
                self.fail(run, step, act.error, act.final)
            case CancelMyself():
                self.cancel(run, step)
                self._ended(run)

    # -- ends of attempts ------------------------------------------------------------------------

    def _finish(self, run: Run, step: StepRun, output: str | None) -> None:
        step.output, step.error = output, ""
        run.outputs[step.name] = None if output is None else json.loads(output)
        self._emitter.ended(run, step, messages.COMPLETED, output or "")
        self._emitter.record(run, step, "FINISHED", output=self._emitter.in_history(output))
        self._over(run, step, COMPLETED)

    def fail(self, run: Run, step: StepRun, error: str, final: bool) -> None:
        """The attempt raised; `final`: it is not retried."""
        text = error_text(error, step.id)
        self._emitter.ended(run, step, messages.FAILED, text)
        self._emitter.record(run, step, "FAILED", error=text)
        self._retry_or_fail(run, step, text, final)

    def _time_out(self, run: Run, step: StepRun) -> None:
        text = f"Task exceeded timeout of {go_duration(step.step.timeout)}"
        if not self._world.quirks.silent_timeout:
            self._emitter.ended(run, step, messages.TIMED_OUT, text)
        self._emitter.record(run, step, "TIMED_OUT", message=text)
        if step.step.lingers and step.invocation is not None:
            step.invocation.ends_at = self._world.scheduler.now() + step.step.lingers / self._world.speed
            step.invocation = None
        self._retry_or_fail(run, step, text, False)

    def _retry_or_fail(self, run: Run, step: StepRun, error: str, final: bool) -> None:
        step.stop()
        step.on_worker = False
        step.failures += 1
        if final or step.failures > step.step.retries:
            step.error = error
            run.failed = True
            self._over(run, step, FAILED)
            return
        wait = self._world.random.between(DISPATCH)
        if step.step.backoff is not None:
            wait += step.step.backoff.before(step.failures) / self._world.speed
            wait += self._world.random.between(BACKOFF_LATE) if self._world.quirks.late_backoff else 0.0
        self._next_attempt(step)
        self._emitter.record(run, step, "RETRYING", "QUEUED", after=RETRY_SEEN)
        self._later(step, wait, self._begin, run, step)

    def _die(self, run: Run, step: StepRun) -> None:
        death = step.step.dies
        assert death is not None
        step.stop()
        step.deaths += 1
        self._later(step, death.noticed / self._world.speed, self._reassign, run, step)

    def _reassign(self, run: Run, step: StepRun) -> None:
        """The engine's own retry: it counts in the history, and not against the step's `retries`."""
        step.on_worker = False
        text = "Worker did not send a heartbeat for 30 seconds"
        self._emitter.record(run, step, "REASSIGNED", message=text)
        self._next_attempt(step)
        self.queue(run, step)

    def _next_attempt(self, step: StepRun) -> None:
        step.retry_count += 1
        step.evictions = 0

    def _evict(self, run: Run, step: StepRun, act: Evict) -> None:
        step.stop()
        step.on_worker, step.evicted = False, True
        step.evictions += 1
        self._emitter.record(run, step, "DURABLE_EVICTED")
        self._later(step, act.seconds / self._world.speed, self._restore, run, step)

    def _restore(self, run: Run, step: StepRun) -> None:
        """The same attempt again, from the top: its indexes begin at 0."""
        step.evicted = False
        self._emitter.record(run, step, "DURABLE_RESTORING")
        self._later(step, self._world.random.between(DISPATCH), self._begin, run, step)

    # -- ends without an attempt -----------------------------------------------------------------

    def skip(self, run: Run, step: StepRun) -> None:
        """The step is over without having run."""
        step.skipped, step.output = True, '{"skipped":true}'
        run.outputs[step.name] = {"skipped": True}
        self._emitter.record(run, step, "SKIPPED")
        if not self._world.quirks.silent_skip:
            self._emitter.ended(run, step, messages.COMPLETED, step.output)
        self._over(run, step, COMPLETED)

    def cancel(self, run: Run, step: StepRun) -> None:
        """The step is cancelled by a user, itself or its parents; a deaf worker does not notice."""
        if step.step.deaf and self._world.quirks.chunks_after_cancel:
            step.forget_plans()
        else:
            step.stop()
        self._emitter.record(run, step, "CANCELLED")
        if not self._world.quirks.silent_cancel:
            self._emitter.ended(run, step, messages.CANCELLED, "")
        self._cancelled(step)

    def cancel_by_limit(self, run: Run, step: StepRun) -> None:
        """The scheduler cancels the step of a run that is one too many: that gives a step event."""
        self._emitter.record(run, step, "CANCELLED", message=CONCURRENCY)
        self._emitter.ended(run, step, messages.CANCELLED, "")
        self._cancelled(step)

    def _schedule_timeout(self, run: Run, step: StepRun) -> None:
        """CANCELLED in the core, FAILED in the history, and no reason in either."""
        self._emitter.record(run, step, "SCHEDULING_TIMED_OUT")
        self._emitter.ended(run, step, messages.CANCELLED, "")
        self._cancelled(step)
        self._ended(run)

    def _cancelled(self, step: StepRun) -> None:
        step.on_worker = step.evicted = False
        step.ended, step.output, step.error = CANCELLED, None, ""

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
