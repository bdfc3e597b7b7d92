"""Run and StepRun: the state that the engine's core holds of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.simulator.scheduler import Cancellable
from proxy.simulator.script.model import Step, Workflow
from proxy.simulator.state.read_model import ReadModel
from proxy.simulator.statuses import QUEUED

if TYPE_CHECKING:
    from proxy.simulator.state.tenant import Tenant

ON_FAILURE = "-on-failure"


@dataclass(slots=True)
class StepRun:
    """One step of one run, in the core."""

    id: str
    step: Step
    name: str
    created_at: float
    number: int
    generation: int  # of the run, when this step last began
    turn: int = 0  # the generation in which it was told that its turn will come
    retry_count: int = 0
    on_worker: bool = False
    ended: str = ""  # COMPLETED, FAILED or CANCELLED once it is over for good
    skipped: bool = False
    output: str | None = None  # JSON text
    error: str = ""
    next_index: int = 0
    acts: Iterator[Any] | None = None
    timers: list[Cancellable] = field(default_factory=list)
    due: float = 0.0  # when the worker's next act is, on the scheduler
    work: Cancellable | None = None  # the worker's own timer: outlives a cancellation it does not notice
    children: dict[str, Any] = field(default_factory=dict)  # results of child runs, by workflow
    replayed_from: int = 0  # the retry count with which the latest replay began

    @property
    def attempt(self) -> int:
        """Counted from 1."""
        return self.retry_count + 1

    def reset(self, generation: int) -> None:
        """Begin again, in a replay."""
        self.stop()
        self.generation = self.turn = generation
        self.retry_count += 1
        self.replayed_from = self.retry_count
        self.ended, self.skipped, self.output, self.error = "", False, None, ""

    def forget_plans(self) -> None:
        """What the engine planned for this step does not happen; its worker goes on."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

    def stop(self) -> None:
        """Neither what was planned happens, nor does the worker go on."""
        self.forget_plans()
        if self.work is not None:
            self.work.cancel()
        self.acts = None


@dataclass(slots=True)
class Run:
    """One run of a workflow, in the core."""

    id: str
    tenant: Tenant
    workflow: Workflow
    input: Any
    metadata: dict[str, Any]
    created_at: float
    read_model: ReadModel
    parent_step_run_id: str | None = None
    steps: dict[str, StepRun] = field(default_factory=dict)  # by name, in the order of creation
    outputs: dict[str, Any] = field(default_factory=dict)  # of finished steps, by name
    coming: set[str] = field(default_factory=set)  # steps that will be created in a moment
    failed: bool = False
    cancelled: bool = False  # by a user
    generation: int = 0  # grows with each replay
    settling: int = -1  # the generation that is about to be done
    done: bool = False  # what GetRunDetails says
    history_status: str = QUEUED  # the read side's

    def known(self, now: float) -> bool:
        """Whether the read side has the run."""
        return self.read_model.known(now)

    def plan(self) -> Iterator[tuple[str, Step, tuple[str, ...]]]:
        """Every step there will be: its name, script and parents; the one on failure after all others."""
        for step in self.workflow.steps:
            yield step.name, step, step.parents
        failure = self.workflow.on_failure
        if failure is not None:
            yield failure.name + ON_FAILURE, failure, tuple(step.name for step in self.workflow.steps)

    @property
    def total(self) -> int:
        """How many steps there will be."""
        return len(self.workflow.steps) + (self.workflow.on_failure is not None)

    def is_over(self, name: str) -> bool:
        """Whether a step has ended, in this generation."""
        step = self.steps.get(name)
        return step is not None and bool(step.ended) and step.generation == self.generation

    @property
    def settled(self) -> bool:
        """Whether every step there will be is over."""
        return len(self.steps) == self.total and all(self.is_over(name) for name in self.steps)

    @property
    def seems_settled(self) -> bool:
        """Whether every step has an end, be it from before the replay."""
        return len(self.steps) == self.total and all(step.ended for step in self.steps.values())

    def scope(self, step: StepRun) -> Mapping[str, Any]:
        """What the formulas of a step's script see."""
        return {
            "input": self.input,
            "parents": {name: self.outputs.get(name) for name in step.step.parents},
            "metadata": self.metadata,
            "attempt": step.attempt,
            "run_id": self.id,
        }

    def step_by_id(self, step_run_id: str) -> StepRun | None:
        """The step with that id."""
        return next((one for one in self.steps.values() if one.id == step_run_id), None)
