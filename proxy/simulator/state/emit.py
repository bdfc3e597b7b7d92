"""Emitter: publishes what happens to a run, and records it in the run's read model.

The false ends are made here, as in the engine: each change of the read side's status is published as "the run
has finished", and the dispatcher calls a status that it does not know COMPLETED.
(internal/services/controllers/olap/process_dag_status_updates.go and process_task_status_updates.go)
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from proxy.simulator import messages
from proxy.simulator.messages import Message
from proxy.simulator.state.entities import Run, StepRun
from proxy.simulator.state.pubsub import Bus, Span
from proxy.simulator.state.read_model import TaskEvent, run_status
from proxy.simulator.statuses import CANCELLED, FAILED, OVER
from proxy.simulator.world import World

# Delays in seconds. With flush buffers the 20 ms of an idle buffer come on top.
STARTED_DELAY = (0.015, 0.035)
BUFFERED_STARTED_DELAY = (0.0, 0.030)
END_DELAY = (0.001, 0.008)  # the engine stores the result of a step before it publishes its end
READ_SIDE_LEARNS_RUN = (0.045, 0.065)  # after the trigger
READ_SIDE = (0.015, 0.045)
AFTER_STEP_ENDS = END_DELAY[1] + 0.001  # without any lag a run still ends after its steps
AFTER_CHUNKS = 0.026  # an idle engine flushes the last chunk (40 ms at most) before the run's end (20 ms)
RUN_ENDS = {FAILED: messages.FAILED, CANCELLED: messages.CANCELLED}


class Emitter:
    """Publishes events on the buses of the tenants, by their ids, and writes task events."""

    def __init__(self, world: World, buses: Mapping[str, Bus]) -> None:
        self._world, self._buses = world, buses

    def started(self, run: Run, step: StepRun) -> None:
        """The step has been created."""
        quirks = self._world.quirks
        delay = BUFFERED_STARTED_DELAY if quirks.flush_buffers else STARTED_DELAY
        message = Message(run.id, messages.STARTED, step.id, b"", step.created_at, 0)
        self._lifecycle(run, message, delay if quirks.late_started else None)

    def ended(self, run: Run, step: StepRun, kind: messages.Kind, payload: str) -> None:
        """An attempt is over."""
        message = Message(run.id, kind, step.id, payload.encode(), None, step.retry_count)
        self._lifecycle(run, message, END_DELAY)

    def chunk(self, run: Run, step: StepRun, chunk: bytes, index: int | None, at: float) -> None:
        """A chunk, whether the step still runs or not; `at`: the worker's wall clock."""
        message = Message(run.id, messages.STREAM, step.id, chunk, at, None, index)
        self._buses[run.tenant_id].publish(message, run.metadata)

    def record(
        self,
        run: Run,
        step: StepRun,
        *types: str,
        output: str = "",
        error: str = "",
        message: str = "",
        after: float = 0.0,
    ) -> None:
        """Record task events; they reach the read side after its lag, if it has one plus `after` seconds."""
        world = self._world
        lag = world.lag(READ_SIDE) + (after if world.quirks.history_lag else 0.0)
        visible = max(world.scheduler.now() + lag, run.read_model.created_visible_at)
        for kind in types:
            event = TaskEvent(step.id, kind, world.scheduler.wall(), step.retry_count, visible, output, error)
            event.message = message
            run.read_model.add(event)
        least = AFTER_CHUNKS if world.quirks.flush_buffers else AFTER_STEP_ENDS
        wait = max(run.read_model.events[-1].visible_at - world.scheduler.now(), least)
        world.scheduler.after(wait, self._read_side_changes, run)

    def in_history(self, output: str | None) -> str:
        """An output as the history gives it: of equal value, with its keys in another order."""
        if output is None or not self._world.quirks.reordered_outputs:
            return output or ""
        return json.dumps(json.loads(output), sort_keys=True, ensure_ascii=False)

    def _lifecycle(self, run: Run, message: Message, delay: Span | None) -> None:
        if self._world.quirks.lifecycle_events:
            self._buses[run.tenant_id].publish(message, run.metadata, delay)

    def _read_side_changes(self, run: Run) -> None:
        quirks = self._world.quirks
        steps = run.read_model.steps(self._world.scheduler.now() + 1e-6)
        before = run.history_status
        status = run.history_status = run_status(before, steps, run.total, run.workflow.is_task)
        if status == before or (run.workflow.is_task and status not in OVER):
            return
        if status not in OVER and not quirks.false_end_of_dag:
            return
        if status in OVER and not run.settled and not quirks.false_end_of_attempt:
            return
        self._lifecycle(run, Message(run.id, RUN_ENDS.get(status, messages.COMPLETED)), None)
