"""Run and StepRun: the state that the engine's core holds of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.simulator.agenda import Cancellable
from proxy.simulator.journal import QUEUED, Journal
from proxy.simulator.script import Step, Workflow

if TYPE_CHECKING:
    from proxy.simulator.tenant import Tenant

ON_FAILURE = "-on-failure"


@dataclass(slots=True)
class StepRun:
    """One step of one run, in the core."""

    id: str
    step: Step
    name: str
    created_at: float
    number: int
    retry_count: int = 0
    on_worker: bool = False
    ended: str = ""  # COMPLETED, FAILED or CANCELLED once it is over for good
    skipped: bool = False
    output: str | None = None  # JSON text
    error: str = ""
    next_index: int = 0
    acts: Iterator[Any] | None = None
    timers: list[Cancellable] = field(default_factory=list)
    work: Cancellable | None = None  # the worker's own timer: outlives a cancellation that it does not notice
    children: dict[str, Any] = field(default_factory=dict)  # results of child runs, by workflow
    waits: bool = False  # replayed, and its parents are not over yet
    replayed_from: int = 0  # the retry count with which the latest replay began

    @property
    def attempt(self) -> int:
        return self.retry_count + 1

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
    journal: Journal
    parent_step_run_id: str | None = None
    steps: dict[str, StepRun] = field(default_factory=dict)  # by name, in the order of creation
    outputs: dict[str, Any] = field(default_factory=dict)  # of finished steps, by name
    failed: bool = False
    cancelled: bool = False
    generation: int = 0  # grows with each replay
    settling: int = -1  # the generation that is about to be done
    done: bool = False  # what GetRunDetails says
    past_status: str = QUEUED  # the read side's

    @property
    def settled(self) -> bool:
        """Whether every step there will be is over."""
        return len(self.steps) == self.total and all(one.ended for one in self.steps.values())

    @property
    def total(self) -> int:
        """How many steps there will be."""
        steps = len(self.workflow.steps)
        return steps + 1 if self.workflow.on_failure is not None and self.failed else steps

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
