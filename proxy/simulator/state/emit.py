"""Telling: what happens is told on the bus and written into the read_model; the read side concludes the rest.

The false ends are made here, as in the engine: each change of the read side's status is published as "the run
has finished", and a status that the dispatcher does not know is called COMPLETED.
(internal/services/controllers/olap/process_dag_status_updates.go and process_task_status_updates.go)
"""

from __future__ import annotations

import json

from proxy.simulator import messages
from proxy.simulator.messages import Message
from proxy.simulator.state.entities import Run, StepRun
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


def tell(world: World, run: Run, message: Message, late: tuple[float, float] | None) -> None:
    """Tell a lifecycle event, unless the engine was told to keep them to itself."""
    if world.quirks.lifecycle_events:
        run.tenant.bus.publish(message, run.metadata, late)


def tell_started(world: World, run: Run, step: StepRun) -> None:
    """The step has been created."""
    message = Message(run.id, messages.STARTED, step.id, b"", step.created_at, 0)
    late = BUFFERED_STARTED_DELAY if world.quirks.flush_buffers else STARTED_DELAY
    tell(world, run, message, late if world.quirks.late_started else None)


def tell_end(world: World, run: Run, step: StepRun, kind: messages.Kind, payload: str) -> None:
    """An attempt is over."""
    tell(world, run, Message(run.id, kind, step.id, payload.encode(), None, step.retry_count), END_DELAY)


def tell_chunk(world: World, run: Run, step: StepRun, chunk: bytes, *, index: int | None, at: float) -> None:
    """A chunk; nothing asks whether the step still runs."""
    message = Message(run.id, messages.STREAM, step.id, chunk, at, None, index)
    run.tenant.bus.publish(message, run.metadata)


def write(
    world: World,
    run: Run,
    step: StepRun,
    *types: str,
    output: str = "",
    error: str = "",
    message: str = "",
    after: float = 0.0,
) -> None:
    """Write task events; they reach the read side after its lag, and `after` if there is one."""
    lag = world.lag(READ_SIDE) + (after if world.quirks.history_lag else 0.0)
    visible = max(world.scheduler.now() + lag, run.read_model.created_visible_at)
    for type_ in types:
        line = TaskEvent(step.id, type_, world.scheduler.wall(), step.retry_count, visible, output, error)
        line.message = message
        run.read_model.write(line)
    least = AFTER_CHUNKS if world.quirks.flush_buffers else AFTER_STEP_ENDS
    wait = max(run.read_model.lines[-1].visible_at - world.scheduler.now(), least)
    world.scheduler.after(wait, _read_side_changes, world, run)


def in_history(world: World, output: str | None) -> str:
    """An output as the history gives it: of equal value, with its keys in another order."""
    if output is None or not world.quirks.reordered_outputs:
        return output or ""
    return json.dumps(json.loads(output), sort_keys=True, ensure_ascii=False)


def _read_side_changes(world: World, run: Run) -> None:
    steps = run.read_model.steps(world.scheduler.now() + 1e-6)
    before = run.history_status
    status = run.history_status = run_status(before, steps, run.total, run.workflow.is_task)
    if status == before or (run.workflow.is_task and status not in OVER):
        return
    if status not in OVER and not world.quirks.false_end_of_dag:
        return
    if status in OVER and not run.settled and not world.quirks.false_end_of_attempt:
        return
    tell(world, run, Message(run.id, RUN_ENDS.get(status, messages.COMPLETED)), None)
