"""Run and StepRun: the state that the engine's core holds of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.simulator.scheduler import Cancellable
from proxy.simulator.script.model import ON_FAILURE, Step, Workflow
from proxy.simulator.state.read_model import ReadModel
from proxy.simulator.state.worker import Act
from proxy.simulator.statuses import QUEUED


@dataclass(slots=True)
class Invocation:
    """A worker that plays one attempt. After a timeout it may go on beside the next one."""

    acts: Iterator[Act]
    due: float  # the scheduler's time of its next act
    next_index: int = 0
    ends_at: float | None = (
        None  # set when the engine has given it up: it streams until then, and only streams
    )
    timer: Cancellable | None = None
    stopped: bool = False

    def stop(self) -> None:
        """It does nothing any more."""
        self.stopped = True
        if self.timer is not None:
            self.timer.cancel()


@dataclass(slots=True)
class StepRun:
    """One step of one run, in the core."""

    id: str
    step: Step
    name: str
    created_at: float
    number: int
    generation: int  # of the run, when this step last began
    reset_planned: int = 0  # the generation in which its reset was planned
    retry_count: int = 0  # what the history shows: grows with each retry, replay and reassignment
    failures: int = 0  # the application's own, since the latest replay: what `retries` limits
    deaths: int = 0  # of its workers
    evicted: bool = False  # it waits off its worker
    evictions: int = 0  # in this attempt
    on_worker: bool = False
    ended: str = ""  # COMPLETED, FAILED or CANCELLED once it is over for good
    skipped: bool = False
    output: str | None = None  # JSON text
    error: str = ""
    invocation: Invocation | None = None
    timers: list[Cancellable] = field(default_factory=list)
    children: dict[str, Any] = field(default_factory=dict)  # results of child runs, by workflow

    @property
    def attempt(self) -> int:
        """Counted from 1."""
        return self.retry_count + 1

    @property
    def next_index(self) -> int:
        """The index that the next chunk of the current attempt gets."""
        return 0 if self.invocation is None else self.invocation.next_index

    @next_index.setter
    def next_index(self, index: int) -> None:
        if self.invocation is not None:
            self.invocation.next_index = index

    def reset(self, generation: int) -> None:
        """Begin again, in a replay."""
        self.stop()
        self.generation = self.reset_planned = generation
        self.retry_count += 1
        self.failures = self.evictions = 0
        self.ended, self.skipped, self.output, self.error = "", False, None, ""

    def forget_plans(self) -> None:
        """Cancel what the engine planned for this step; its worker goes on."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

    def stop(self) -> None:
        """Cancel what the engine planned, and stop the worker."""
        self.forget_plans()
        if self.invocation is not None:
            self.invocation.stop()


@dataclass(slots=True)
class Run:
    """One run of a workflow, in the core."""

    id: str
    tenant_id: str
    workflow: Workflow
    input: Any
    metadata: dict[str, Any]
    created_at: float
    read_model: ReadModel
    parent_step_run_id: str | None = None
    steps: dict[str, StepRun] = field(default_factory=dict)  # by name, in the order of creation
    outputs: dict[str, Any] = field(default_factory=dict)  # of finished steps, by name
    planned: set[str] = field(default_factory=set)  # steps that will be created in a moment
    failed: bool = False
    cancelled: bool = False  # by a user
    over_limit: bool = False  # begun while as many runs went on as the workflow allows
    generation: int = 0  # grows with each replay
    settling: int = -1  # the generation that is about to be done
    done: bool = False  # what GetRunDetails says
    history_status: str = QUEUED  # the read side's

    def is_visible(self, now: float) -> bool:
        """Whether the read side has the run."""
        return self.read_model.is_visible(now)

    def plan(self) -> Iterator[tuple[str, Step, tuple[str, ...]]]:
        """Every step there will be: its name, script and parents; the on-failure task comes last."""
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
        """Whether every step has an end, perhaps one from before the replay."""
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
