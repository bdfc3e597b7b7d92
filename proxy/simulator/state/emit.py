"""Telling: what happens is told on the bus and written into the journal; the read side concludes the rest.

The false ends are made here, as in the engine: each change of the read side's status is published as "the run
has finished", and a status that the dispatcher does not know is called COMPLETED.
(internal/services/controllers/olap/process_dag_status_updates.go and process_task_status_updates.go)
"""

from __future__ import annotations

import json

from proxy.simulator import messages
from proxy.simulator.messages import Message
from proxy.simulator.state.entities import Run, StepRun
from proxy.simulator.state.pubsub import ENDED_LATE, STARTED_LATE
from proxy.simulator.state.read_model import Line, run_status
from proxy.simulator.statuses import CANCELLED, FAILED, OVER
from proxy.simulator.world import World

READ_SIDE_LEARNS_RUN = (0.045, 0.065)  # after the trigger
READ_SIDE = (0.015, 0.045)
AFTER_STEP_ENDS = ENDED_LATE[1] + 0.001  # without any lag a run still ends after its steps
RUN_ENDS = {FAILED: messages.FAILED, CANCELLED: messages.CANCELLED}


def tell(world: World, run: Run, message: Message, late: tuple[float, float] | None) -> None:
    """Tell a lifecycle event, unless the engine was told to keep them to itself."""
    if world.quirks.lifecycle_events:
        run.tenant.bus.tell(message, run.metadata, late, world.quirks.late_large_payloads)


def tell_started(world: World, run: Run, step: StepRun) -> None:
    """The step has been created."""
    message = Message(run.id, messages.STARTED, step.id, b"", step.created_at, 0)
    tell(world, run, message, STARTED_LATE if world.quirks.late_started else None)


def tell_end(world: World, run: Run, step: StepRun, kind: messages.Kind, payload: str) -> None:
    """An attempt is over."""
    tell(world, run, Message(run.id, kind, step.id, payload.encode(), None, step.retry_count), ENDED_LATE)


def tell_chunk(world: World, run: Run, step: StepRun, chunk: bytes, *, index: int | None, at: float) -> None:
    """A chunk; nothing asks whether the step still runs."""
    message = Message(run.id, messages.STREAM, step.id, chunk, at, None, index)
    run.tenant.bus.tell(message, run.metadata, None, world.quirks.late_large_payloads)


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
    visible = max(world.agenda.now() + lag, run.journal.created_visible_at)
    for type_ in types:
        line = Line(step.id, type_, world.agenda.wall(), step.retry_count, visible, output, error)
        line.message = message
        run.journal.write(line)
    wait = max(run.journal.lines[-1].visible_at - world.agenda.now(), AFTER_STEP_ENDS)
    world.agenda.after(wait, _read_side_changes, world, run)


def in_history(world: World, output: str | None) -> str:
    """An output as the history gives it: of equal value, with its keys in another order."""
    if output is None or not world.quirks.reordered_outputs:
        return output or ""
    return json.dumps(json.loads(output), sort_keys=True, ensure_ascii=False)


def _read_side_changes(world: World, run: Run) -> None:
    steps = run.journal.steps(world.agenda.now() + 1e-6)
    before = run.past_status
    status = run.past_status = run_status(before, steps, run.total, run.workflow.is_task)
    if status == before or (run.workflow.is_task and status not in OVER):
        return
    if status not in OVER and not world.quirks.false_end_of_dag:
        return
    if status in OVER and not run.settled and not world.quirks.false_end_of_attempt:
        return
    tell(world, run, Message(run.id, RUN_ENDS.get(status, messages.COMPLETED)), None)
