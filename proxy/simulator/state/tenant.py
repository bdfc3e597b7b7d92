"""Tenant: the bus and the runs of one tenant, which no other tenant sees."""

from __future__ import annotations

from proxy.simulator.recordings.replayer import RecordedRun
from proxy.simulator.state.entities import Run, StepRun
from proxy.simulator.state.pubsub import Bus
from proxy.simulator.world import World


class Tenant:
    """One tenant's runs, the newest last."""

    def __init__(self, tenant_id: str, world: World) -> None:
        self.id = tenant_id
        self.bus = Bus(world)
        self.runs: dict[str, Run] = {}
        self.recorded: dict[str, RecordedRun] = {}
        self._step_runs: dict[str, tuple[Run, StepRun]] = {}

    def add_step(self, run: Run, step: StepRun) -> None:
        """A step of one of the runs has been created."""
        self._step_runs[step.id] = (run, step)

    def step_run(self, step_run_id: str) -> tuple[Run, StepRun] | None:
        """The run and step with that step run id."""
        return self._step_runs.get(step_run_id)

    def forget_done(self, keep: int) -> None:
        """Drop the oldest done runs beyond `keep`."""
        while len(self.runs) > keep:
            oldest = next(iter(self.runs.values()))
            if not oldest.done:
                return
            del self.runs[oldest.id]
            for step in oldest.steps.values():
                self._step_runs.pop(step.id, None)
