"""Core: the true state of all runs: which steps there are, which of them begins next, when a run is done.

Synchronous, on a scheduler. Its "done" is wrong in one case: while a DAG is replayed its steps are reset one
by one. Between the end of one step and the reset of the next every step has an end, so the run reads done,
with the results of before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from proxy.simulator.quirks import Quirks
from proxy.simulator.random_source import RandomSource
from proxy.simulator.recordings.parser import Recording
from proxy.simulator.recordings.replayer import RecordedRun
from proxy.simulator.scheduler import Scheduler
from proxy.simulator.script.model import Script, Step
from proxy.simulator.state.attempts import Attempts
from proxy.simulator.state.emit import READ_SIDE_LEARNS_RUN, Emitter
from proxy.simulator.state.entities import Run, StepRun
from proxy.simulator.state.read_model import ReadModel
from proxy.simulator.state.tenant import Tenant
from proxy.simulator.state.worker import Spawn
from proxy.simulator.statuses import CANCELLED, FAILED
from proxy.simulator.world import World

DONE = (0.05, 0.27)  # after the last step; the hangup comes some 50 ms after it
DONE_AT_ONCE = (0.0, 0.0)
CREATE_DELAY = (0.013, 0.03)  # from the end of a step's parents to its creation
RESET_DELAY = (0.04, 0.08)  # from the end of its parents to the reset of a replayed step
CHILD_RESULT_DELAY = (0.02, 0.05)
MAX_RUNS = 20_000  # the oldest done ones beyond it are forgotten: an engine may run for weeks


class UnknownWorkflow(Exception):
    """A trigger for a workflow that the script does not have."""


class Core:
    """All runs of all tenants."""

    def __init__(self, script: Script, world: World, *, tenants: int = 1) -> None:
        self.script = script
        self.world = world
        self.tenants = [Tenant(world.random.uuid(), world) for _ in range(tenants)]
        self.recordings: dict[str, tuple[Recording, float]] = {}  # by workflow, with their speed
        self.on_done: list[Callable[[Run], None]] = []
        self._by_id = {tenant.id: tenant for tenant in self.tenants}
        self._emitter = Emitter(world, {tenant.id: tenant.bus for tenant in self.tenants})
        self._attempts = Attempts(world, self._emitter, self._go_on, self._spawn)
        self._parents: dict[str, tuple[Run, StepRun, set[str]]] = {}

    @property
    def scheduler(self) -> Scheduler:
        return self.world.scheduler

    @property
    def random(self) -> RandomSource:
        return self.world.random

    @property
    def quirks(self) -> Quirks:
        return self.world.quirks

    def stop(self) -> None:
        """Cancel what is planned for each step, and publish nothing more."""
        for tenant in self.tenants:
            tenant.bus.muted = True
            for run in tenant.runs.values():
                for step in run.steps.values():
                    step.stop()

    def trigger(
        self,
        tenant: Tenant,
        workflow: str,
        input: Any = None,
        metadata: Mapping[str, Any] | None = None,
        parent_step_run_id: str | None = None,
    ) -> Run | RecordedRun:
        """Begin a run, or a replay of a recorded one. Raises UnknownWorkflow.

        `parent_step_run_id`: the step that starts it; the run inherits the metadata of that step's run.
        """
        if workflow in self.recordings:
            return self.play_recording(tenant, workflow, metadata or {})
        if workflow not in self.script.workflows:
            raise UnknownWorkflow(workflow)
        run = Run(
            id=self.random.uuid(),
            tenant_id=tenant.id,
            workflow=self.script.workflows[workflow],
            input={} if input is None else input,
            metadata=self._metadata(self._inherited(tenant, parent_step_run_id, metadata or {})),
            created_at=self.scheduler.wall(),
            read_model=ReadModel(self.scheduler.now() + self.world.lag(READ_SIDE_LEARNS_RUN)),
            parent_step_run_id=parent_step_run_id,
        )
        most = run.workflow.max_runs
        run.over_limit = most is not None and self._going_on(tenant, workflow) >= most
        tenant.runs[run.id] = run
        self._go_on(run)
        return run

    @staticmethod
    def _going_on(tenant: Tenant, workflow: str) -> int:
        return sum(run.workflow.name == workflow and not run.settled for run in tenant.runs.values())

    def play_recording(
        self, tenant: Tenant, name: str, metadata: Mapping[str, Any] | None = None
    ) -> RecordedRun:
        """Play a recorded run again: with new ids where `metadata` is given, else under its recorded id."""
        recording, speed = self.recordings[name]
        run = RecordedRun(self.world, tenant.id, tenant.bus.publish_recorded, name, recording, speed)
        if metadata is not None:
            run.renamed(self.random, metadata)
        tenant.recorded[run.id] = run
        return run.begin()

    def put_chunk(
        self, run: Run, step: StepRun, chunk: bytes, index: int | None, at: float | None = None
    ) -> None:
        """A chunk that a foreign worker sends."""
        self._emitter.chunk(run, step, chunk, index, self.scheduler.wall() if at is None else at)

    def put_next_chunk(self, run: Run, step: StepRun, chunk: bytes) -> None:
        """A chunk with the next index of the step's attempt."""
        index, step.next_index = step.next_index, step.next_index + 1
        self.put_chunk(run, step, chunk, index)

    def run(self, run_id: str) -> Run:
        """The run with that id, of any tenant. Raises KeyError."""
        for tenant in self.tenants:
            if run_id in tenant.runs:
                return tenant.runs[run_id]
        raise KeyError(run_id)

    def cancel(self, run: Run) -> None:
        """A user's cancellation; finished steps of a DAG read CANCELLED in the core from then on."""
        if run.settled:
            return
        run.cancelled = True
        for step in list(run.steps.values()):
            if step.ended and self.quirks.cancel_forgets_results:
                self._emitter.record(run, step, "CANCELLED")
                step.ended, step.output, step.error = CANCELLED, None, ""
            elif not step.ended:
                self._attempts.cancel(run, step)
        self._go_on(run)

    def replay(self, run: Run) -> None:
        """A user's replay of a run that is over: the same ids, the next retry count, and it goes on."""
        if run.settled:
            for step in run.steps.values():
                self._emitter.record(run, step, "RETRIED_BY_USER")
            run.generation += 1
            run.done = run.failed = run.cancelled = False
            self._go_on(run)

    # -- which step begins next --------------------------------------------------------------------------

    def _go_on(self, run: Run) -> None:
        for name, step, parents in run.plan():
            known = run.steps.get(name)
            if name in run.planned or (
                known is not None and run.generation in (known.generation, known.reset_planned)
            ):
                continue
            if not all(run.is_over(parent) for parent in parents):
                continue
            if known is None and not parents:
                self._create(run, step, name)
            elif known is None:
                run.planned.add(name)
                self.scheduler.after(self.random.between(CREATE_DELAY), self._create, run, step, name)
            elif parents:
                known.reset_planned = run.generation
                self.scheduler.after(
                    self.random.between(RESET_DELAY), self._reset, run, known, run.generation
                )
            else:
                self._reset(run, known, run.generation)
        self._settle(run)

    def _create(self, run: Run, step: Step, name: str) -> None:
        step_run_id = run.id if run.workflow.is_task else self.random.uuid()
        run.planned.discard(name)
        made = StepRun(step_run_id, step, name, self.scheduler.wall(), len(run.steps) + 1, run.generation)
        run.steps[name] = made
        self._by_id[run.tenant_id].add_step(run, made)
        self._emitter.started(run, made)
        self._start(run, made)
        self._settle(run)

    def _reset(self, run: Run, step: StepRun, generation: int) -> None:
        if run.generation != generation:
            return
        run.done = False
        step.reset(generation)
        self._emitter.record(run, step, "RETRYING")
        self._start(run, step)
        self._settle(run)

    def _start(self, run: Run, step: StepRun) -> None:
        parents = [run.steps[name] for name in step.step.parents]
        cleanup = step.step is run.workflow.on_failure
        if run.over_limit and not parents:
            self._attempts.cancel_by_limit(run, step)
            self._go_on(run)
        elif (
            run.cancelled
            or any(parent.ended in (FAILED, CANCELLED) for parent in parents)
            or step.step.is_cancelled(run.scope(step))
        ):
            self._attempts.cancel(run, step)
            self._go_on(run)
        elif (
            any(_reads_skipped(run, parent) for parent in parents)
            or (cleanup and not run.failed)
            or step.step.is_skipped(run.scope(step))
        ):
            self._attempts.skip(run, step)
        else:
            self._attempts.queue(run, step)

    # -- child runs ----------------------------------------------------------------------------------

    def _spawn(self, run: Run, step: StepRun, act: Spawn) -> None:
        runs = [
            self.trigger(self._by_id[run.tenant_id], act.child.workflow, act.input, {}, step.id)
            for _ in range(act.child.count)
        ]
        waiting = {one.id for one in runs}  # children are of the script, never recorded
        for one in runs:
            self._parents[one.id] = (run, step, waiting)

    def _child_settled(self, child: Run) -> None:
        run, step, waiting = self._parents.pop(child.id)
        if step.ended or step.invocation is None or step.invocation.stopped:
            return
        waiting.discard(child.id)
        outputs = child.outputs
        step.children[child.workflow.name] = (
            next(iter(outputs.values()), None) if child.workflow.is_task else dict(outputs)
        )
        if child.failed:
            error = f"FailedTaskRunExceptionGroup: Workflow run {child.id} failed."
            self._attempts.fail(run, step, error, False)
        elif not waiting:
            self._attempts.go_on(run, step)

    # -- ends ----------------------------------------------------------------------------------------

    def _settle(self, run: Run) -> None:
        if run.settled:
            if run.settling != run.generation:
                run.settling = run.generation
                late = DONE if self.quirks.done_after_hangup else DONE_AT_ONCE
                self.scheduler.after(self.random.between(late), self._done, run, run.generation)
                if run.id in self._parents:
                    self.scheduler.after(self.random.between(CHILD_RESULT_DELAY), self._child_settled, run)
        elif run.generation and self.quirks.false_done_of_replay and run.seems_settled:
            run.done = True

    def _done(self, run: Run, generation: int) -> None:
        if run.generation == generation:
            run.done = True
            for call in tuple(self.on_done):
                call(run)
            self._by_id[run.tenant_id].forget_done(MAX_RUNS)

    def _metadata(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        if "traceparent" in metadata or not self.quirks.traceparent:
            return dict(metadata)
        return {**metadata, "traceparent": f"00-{self.random.hex(32)}-{self.random.hex(16)}-01"}

    @staticmethod
    def _inherited(
        tenant: Tenant, parent_step_run_id: str | None, metadata: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """A child's metadata: its parent's, its own over it, and what started it (``injectParentIDs``)."""
        found = None if parent_step_run_id is None else tenant.step_run(parent_step_run_id)
        if found is None:
            return metadata
        parent, step = found
        own = {key: value for key, value in parent.metadata.items() if not key.startswith("hatchet__")}
        ids = {"hatchet__parent_workflow_run_id": parent.id, "hatchet__parent_step_run_id": step.id}
        return {**own, **metadata, **ids}

    def running(self) -> Iterator[Run]:
        """The runs of all tenants that are not done."""
        return (run for tenant in self.tenants for run in tenant.runs.values() if not run.done)


def _reads_skipped(run: Run, step: StepRun) -> bool:
    """Whether the engine takes a step for skipped: it goes by the output, also one that the step returned."""
    output = run.outputs.get(step.name)
    return isinstance(output, dict) and output.get("skipped") is True
