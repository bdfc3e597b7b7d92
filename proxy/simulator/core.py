"""Core: plays the runs of all tenants; synchronous, on an agenda.

It holds the truth (which steps exist, which attempt is on a worker, what they gave), tells it on the tenant's
bus and writes it into each run's journal, from which the lagging read side makes its own, false, idea of the
end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from proxy.simulator import messages
from proxy.simulator.agenda import Agenda
from proxy.simulator.bus import ENDED_LATE, STARTED_LATE
from proxy.simulator.dice import Dice
from proxy.simulator.journal import CANCELLED, COMPLETED, FAILED, OVER, Journal, Line, run_status
from proxy.simulator.messages import Message
from proxy.simulator.model import ON_FAILURE, Run, StepRun
from proxy.simulator.quirks import Quirks
from proxy.simulator.script import Script, Step
from proxy.simulator.tenant import Tenant
from proxy.simulator.worker import Act, CancelMyself, Put, Raise, Return, Spawn, Wait, attempt

READ_SIDE_LEARNS_RUN = (0.045, 0.065)
READ_SIDE = (0.015, 0.045)
RETRY_SEEN = 0.06  # for so long the history calls a failed attempt FAILED
DISPATCH = (0.02, 0.05)  # from a step's creation to its worker
DONE = (0.03, 0.25)
DONE_AT_ONCE = (0.0, 0.0)
BACKOFF_LATE = (25.0, 35.0)
TIMEOUT_LATE = (0.1, 1.0)
KEPT_RUNS = 20_000  # done ones included, so that an engine that runs for weeks does not grow


class UnknownWorkflow(Exception):
    """A trigger for a workflow that the script does not have."""


class Core:
    """All runs of all tenants."""

    def __init__(
        self,
        script: Script,
        agenda: Agenda,
        dice: Dice,
        quirks: Quirks,
        *,
        tenants: int = 1,
        speed: float = 1.0,
    ) -> None:
        self.script = script
        self.agenda = agenda
        self.dice = dice
        self.quirks = quirks
        self.speed = speed
        self.tenants = [Tenant(dice.uuid(), agenda, dice) for _ in range(tenants)]
        self.stopped = False
        self.done_told: list[Callable[[Run], None]] = []
        self._parents: dict[str, tuple[Run, StepRun, set[str]]] = {}

    def stop(self) -> None:
        """Nothing that was planned for any run happens any more."""
        self.stopped = True
        for tenant in self.tenants:
            tenant.bus.muted = True
            for run in tenant.runs.values():
                for step in run.steps.values():
                    step.stop()

    # -- what may be asked ---------------------------------------------------------------------

    def trigger(
        self,
        tenant: Tenant,
        workflow: str,
        input: Any = None,
        metadata: Mapping[str, Any] | None = None,
        parent_step_run_id: str | None = None,
    ) -> Run:
        """Begin a run. Raises UnknownWorkflow."""
        if workflow not in self.script.workflows:
            raise UnknownWorkflow(workflow)
        now = self.agenda.now()
        run = Run(
            id=self.dice.uuid(),
            tenant=tenant,
            workflow=self.script.workflows[workflow],
            input={} if input is None else input,
            metadata=self._metadata(metadata or {}),
            created_at=self.agenda.wall(),
            journal=Journal(now + self._read_lag(READ_SIDE_LEARNS_RUN)),
            parent_step_run_id=parent_step_run_id,
        )
        tenant.runs[run.id] = run
        self._create_ready(run)
        return run

    def put_chunk(
        self, run: Run, step: StepRun, chunk: bytes, index: int | None, at: float | None = None
    ) -> None:
        """A chunk, of the script's worker or a foreign one; nothing asks whether the step still runs."""
        at = self.agenda.wall() if at is None else at
        message = Message(run.id, messages.STREAM, step.id, chunk, at, None, index)
        run.tenant.bus.tell(message, run.metadata, None, self.quirks.late_large_payloads)

    def cancel(self, run: Run) -> None:
        """A user's cancellation: of everything that is not over."""
        if run.done or run.settled:
            return
        run.cancelled = True
        for step in list(run.steps.values()):
            if not step.ended:
                self._cancel_step(run, step)
        self._create_ready(run)

    def replay(self, run: Run) -> None:
        """A user's replay: the same ids, the next retry count, and the run goes on."""
        run.generation += 1
        run.done = run.failed = run.cancelled = False
        for name, step in list(run.steps.items()):
            step.stop()
            if name.endswith(ON_FAILURE) and run.workflow.on_failure is not None:
                del run.steps[name]
                continue
            step.retry_count += 1
            step.replayed_from = step.retry_count
            step.ended, step.skipped, step.output, step.error, step.waits = "", False, None, "", True
            run.outputs.pop(name, None)
            self._write(run, step, "RETRYING", "QUEUED")
        self._create_ready(run)

    # -- steps come into being -------------------------------------------------------------------

    def _create_ready(self, run: Run) -> None:
        for step in run.workflow.steps:
            known = run.steps.get(step.name)
            if (known is None or known.waits) and all(self._is_over(run, parent) for parent in step.parents):
                self._create(run, step, step.name)
        failure = run.workflow.on_failure
        if (
            failure is not None
            and run.failed
            and len(run.steps) == len(run.workflow.steps)
            and self._all_over(run)
        ):
            self._create(run, failure, failure.name + ON_FAILURE)
        self._settle(run)

    def _is_over(self, run: Run, name: str) -> bool:
        step = run.steps.get(name)
        return step is not None and bool(step.ended) and not step.waits

    def _all_over(self, run: Run) -> bool:
        return all(one.ended and not one.waits for one in run.steps.values())

    def _create(self, run: Run, scripted: Step, name: str) -> None:
        step = run.steps.get(name)
        if step is None:
            step_run_id = run.id if run.workflow.is_task else self.dice.uuid()
            step = StepRun(step_run_id, scripted, name, self.agenda.wall(), len(run.steps) + 1)
            run.steps[name] = step
            run.tenant.add_step(run, step)
            late = STARTED_LATE if self.quirks.late_started else None
            self._tell(run, Message(run.id, messages.STARTED, step.id, b"", step.created_at, 0), late)
        step.waits = False
        if run.cancelled or any(
            run.steps[parent].ended in (FAILED, CANCELLED) for parent in scripted.parents
        ):
            self._cancel_step(run, step)
            self._create_ready(run)
        elif scripted.is_skipped(run.scope(step)):
            self._skip(run, step)
        else:
            self._write(run, step, "QUEUED")
            self._later(step, self.dice.between(DISPATCH), self._begin, run, step)

    def _skip(self, run: Run, step: StepRun) -> None:
        step.skipped, step.output = True, '{"skipped": true}'
        run.outputs[step.name] = {"skipped": True}
        self._write(run, step, "SKIPPED")
        if not self.quirks.silent_skip:
            self._tell_end(run, step, messages.COMPLETED, step.output)
        self._end_step(run, step, COMPLETED)

    # -- an attempt ------------------------------------------------------------------------------

    def _begin(self, run: Run, step: StepRun) -> None:
        step.on_worker, step.next_index = True, 0
        self._write(run, step, "ASSIGNED", "SENT_TO_WORKER", "STARTED")
        children: dict[str, Any] = {}
        step.acts = attempt(step.step, run.scope(step), children)
        step.children = children
        late = TIMEOUT_LATE if self.quirks.late_timeout else (0.0, 0.0)
        self._later(step, step.step.timeout / self.speed + self.dice.between(late), self._time_out, run, step)
        self._go_on(run, step)

    def _go_on(self, run: Run, step: StepRun) -> None:
        if step.acts is None:
            return
        for act in step.acts:
            match act:
                case Put():
                    self.put_chunk(run, step, act.chunk, step.next_index)
                    step.next_index += 1
                case Wait():
                    step.work = self.agenda.after(act.seconds / self.speed, self._go_on, run, step)
                    return
                case _:
                    self._act(run, step, act)
                    return

    def _act(self, run: Run, step: StepRun, act: Act) -> None:
        match act:
            case Spawn():
                self._spawn(run, step, act)
            case Return() if not step.ended:
                self._finish(run, step, act.output)
            case Raise() if not step.ended:
                self._fail_attempt(run, step, act.error, act.final)
            case CancelMyself():
                self._cancel_step(run, step)
                self._create_ready(run)

    def _spawn(self, run: Run, step: StepRun, act: Spawn) -> None:
        tenant = run.tenant
        runs = [
            self.trigger(tenant, act.child.workflow, act.input, run.metadata, parent_step_run_id=step.id)
            for _ in range(act.child.count)
        ]
        waiting = {one.id for one in runs}
        for one in runs:
            self._parents[one.id] = (run, step, waiting)

    def _child_settled(self, child: Run) -> None:
        run, step, waiting = self._parents.pop(child.id)
        if step.ended or step.acts is None:
            return
        waiting.discard(child.id)
        outputs = child.outputs
        result = next(iter(outputs.values()), None) if child.workflow.is_task else dict(outputs)
        step.children[child.workflow.name] = result
        if child.failed:
            self._fail_attempt(
                run, step, f"FailedTaskRunExceptionGroup: Workflow run {child.id} failed.", False
            )
        elif not waiting:
            self._go_on(run, step)

    def _finish(self, run: Run, step: StepRun, output: str | None) -> None:
        step.output = output
        run.outputs[step.name] = None if output is None else json.loads(output)
        step.error = ""
        self._tell_end(run, step, messages.COMPLETED, output or "")
        self._write(run, step, "FINISHED", output=self._in_history(output))
        self._end_step(run, step, COMPLETED)

    def _fail_attempt(self, run: Run, step: StepRun, error: str, final: bool) -> None:
        text = _error_text(error, step.id)
        self._tell_end(run, step, messages.FAILED, text)
        self._write(run, step, "FAILED", error=text)
        self._retry_or_fail(run, step, text, final)

    def _time_out(self, run: Run, step: StepRun) -> None:
        text = f"Task exceeded timeout of {_go_duration(step.step.timeout)}"
        if not self.quirks.silent_timeout:
            self._tell_end(run, step, messages.TIMED_OUT, text)
        self._write(run, step, "TIMED_OUT")
        self._retry_or_fail(run, step, text, False)

    def _retry_or_fail(self, run: Run, step: StepRun, error: str, final: bool) -> None:
        step.stop()
        step.on_worker = False
        retried = step.retry_count - step.replayed_from
        if final or retried >= step.step.retries:
            step.error = error
            run.failed = True
            self._end_step(run, step, FAILED)
            return
        step.retry_count += 1
        wait = self.dice.between(DISPATCH)
        if step.step.backoff is not None:
            wait += step.step.backoff.before(retried + 1) / self.speed
            wait += self.dice.between(BACKOFF_LATE) if self.quirks.late_backoff else 0.0
        self._write(run, step, "RETRYING", "QUEUED", after=RETRY_SEEN)
        self._later(step, wait, self._begin, run, step)

    # -- ends --------------------------------------------------------------------------------------

    def _cancel_step(self, run: Run, step: StepRun) -> None:
        if step.step.deaf and self.quirks.chunks_after_cancel:
            step.forget_plans()
        else:
            step.stop()
        step.waits = False
        run.cancelled = True
        self._write(run, step, "CANCELLED")
        if not self.quirks.silent_cancel:
            self._tell_end(run, step, messages.CANCELLED, "")
        step.on_worker, step.ended = False, CANCELLED

    def _end_step(self, run: Run, step: StepRun, status: str) -> None:
        step.stop()
        step.on_worker, step.ended = False, status
        self._create_ready(run)

    def _settle(self, run: Run) -> None:
        if run.done or run.settling == run.generation or not run.settled or not self._all_over(run):
            return
        run.settling = run.generation
        late = DONE if self.quirks.done_after_hangup else DONE_AT_ONCE
        self.agenda.after(self.dice.between(late), self._done, run, run.generation)
        if run.id in self._parents:
            self.agenda.after(self.dice.between(DISPATCH), self._child_settled, run)

    def _done(self, run: Run, generation: int) -> None:
        if run.generation == generation:
            run.done = True
            for told in self.done_told:
                told(run)
            run.tenant.forget_done(KEPT_RUNS)

    # -- telling and writing -------------------------------------------------------------------------

    def _tell_end(self, run: Run, step: StepRun, kind: messages.Kind, payload: str) -> None:
        self._tell(run, Message(run.id, kind, step.id, payload.encode(), None, step.retry_count), ENDED_LATE)

    def _tell(self, run: Run, message: Message, late: tuple[float, float] | None) -> None:
        if self.quirks.lifecycle_events:
            run.tenant.bus.tell(message, run.metadata, late, self.quirks.late_large_payloads)

    def _write(
        self, run: Run, step: StepRun, *types: str, output: str = "", error: str = "", after: float = 0.0
    ) -> None:
        lag = self._read_lag(READ_SIDE) + (after if self.quirks.history_lag else 0.0)
        visible = max(self.agenda.now() + lag, run.journal.created_visible_at)
        for type_ in types:
            line = Line(step.id, type_, self.agenda.wall(), step.retry_count, visible, output, error)
            run.journal.write(line)
        wait = run.journal.lines[-1].visible_at - self.agenda.now()
        self.agenda.after(wait, self._read_side_changes, run)

    def _read_side_changes(self, run: Run) -> None:
        steps = run.journal.steps(self.agenda.now() + 1e-6)
        before = run.past_status
        status = run.past_status = run_status(before, steps, run.total, run.workflow.is_task)
        if status == before or (run.workflow.is_task and status not in OVER):
            return
        if status not in OVER and not self.quirks.false_end_of_dag:
            return
        if status == FAILED and not run.settled and not self.quirks.false_end_of_attempt:
            return
        kind = {FAILED: messages.FAILED, CANCELLED: messages.CANCELLED}.get(status, messages.COMPLETED)
        self._tell(run, Message(run.id, kind), None)

    def _read_lag(self, span: tuple[float, float]) -> float:
        return self.dice.between(span) if self.quirks.history_lag else 0.0

    def _in_history(self, output: str | None) -> str:
        if output is None or not self.quirks.reordered_outputs:
            return output or ""
        return json.dumps(json.loads(output), sort_keys=True, ensure_ascii=False)

    def _metadata(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        if "traceparent" in metadata or not self.quirks.traceparent:
            return dict(metadata)
        return {**metadata, "traceparent": f"00-{self.dice.hex(32)}-{self.dice.hex(16)}-01"}

    def _later(self, step: StepRun, seconds: float, call: Callable[..., None], *args: Any) -> None:
        step.timers.append(self.agenda.after(seconds, call, *args))


def _error_text(error: str, step_run_id: str) -> str:
    trace = f'Traceback (most recent call last):\n  File "worker.py", line 1, in step\n{error}'
    metadata = json.dumps({"__hatchet_error_metadata__": {"task_run_external_id": step_run_id}})
    return f"{error}\n{trace}\n\n{metadata}"


def _go_duration(seconds: float) -> str:
    return f"{seconds:g}s" if seconds < 60 or seconds % 60 else f"{seconds / 60:g}m"
