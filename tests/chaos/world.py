"""The workflows of a chaos run, and the truth of a run, known from the engine's own core.

Each chunk says its step, attempt and index, so a chunk in the wrong place is seen.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.simulator import Engine
from proxy.simulator.script.model import Backoff, Chunks, Failure, Script, Step, Workflow, script
from proxy.simulator.state.entities import Run, StepRun
from tests.chaos.faults import Bad
from tests.support.reference import TrueStep, Truth

SIZES: Final = {"wide": 4000}  # characters of a chunk, where it is padded: what makes a reader slow
LOST: Final = "a chunk that no engine can tell"  # stands where a chunk was not UTF-8
STATUSES: Final = {"COMPLETED": "completed", "FAILED": "failed", "CANCELLED": "cancelled"}


def chunk(step: str, attempt: int, index: int, size: int = 0) -> str:
    """The text of one chunk."""
    return f"{step}/{attempt}/{index};".ljust(size, ".")


def streams(step: str, count: int, every: float, size: int = 0) -> Chunks:
    """A step that streams `count` chunks in each attempt; padded to `size` characters."""

    def texts(scope: Any) -> tuple[bytes, ...]:
        return tuple(chunk(step, scope["attempt"], index, size).encode() for index in range(count))

    return Chunks(texts, every)


def workflows() -> Script:
    """Some of everything that a run can be."""
    return script(
        Workflow(
            "dag",
            (
                Step("start", takes=0.2, output={"a": 1}),
                Step("left", ("start",), chunks=streams("left", 20, 0.06), output={"b": 2}),
                Step(
                    "right",
                    ("start",),
                    chunks=streams("right", 12, 0.05),
                    fails=Failure("ValueError: once", attempts=1),
                    retries=2,
                    output={"c": 3},
                ),
                Step("last", ("left", "right"), chunks=streams("last", 30, 0.03), output={"d": 4}),
            ),
        ),
        Workflow("task", (Step("task", chunks=streams("task", 40, 0.05), output={"done": True}),)),
        Workflow("quick", (Step("quick", output={"quick": True}),)),
        Workflow(
            "broken",
            (
                Step("first", chunks=streams("first", 5, 0.05), output={"e": 5}),
                Step("skipped", ("first",), skipped=True),
                Step(
                    "bad", ("first",), chunks=streams("bad", 5, 0.05), fails=Failure("RuntimeError: always")
                ),
            ),
            Step("cleanup", takes=0.1, output={"cleaned": True}),
        ),
        Workflow(
            "backoff",
            (
                Step(
                    "backoff",
                    chunks=streams("backoff", 15, 0.04),
                    fails=Failure("OSError: twice", attempts=2),
                    retries=3,
                    backoff=Backoff(1.5, 2.0),
                    output={"f": 6},
                ),
            ),
        ),
        Workflow(
            "slow",
            (Step("slow", chunks=streams("slow", 60, 0.1), timeout=3.0, retries=0),),
        ),
        Workflow(
            "late",
            (
                Step(
                    "late",
                    chunks=streams("late", 6, 0.05),
                    fails=Failure("OSError: once", attempts=1),
                    retries=1,
                    backoff=Backoff(8.0, 8.0),
                    output={"g": 7},
                ),
            ),
        ),
        Workflow(
            "wide",
            (Step("wide", chunks=streams("wide", 200, 0.015, SIZES["wide"]), output={"h": 8}),),
        ),
        late_backoff=False,
    )


def truth(engine: Engine, run_id: str, bad: Bad) -> Truth:
    """What really happened in a run that is over."""
    run = engine.run(run_id)
    failed = any(step.ended == "FAILED" for step in run.steps.values())
    status = "cancelled" if run.cancelled else "failed" if failed else "completed"
    return Truth(status, {step.name: _step(run, step, bad) for step in run.steps.values()})


def _step(run: Run, step: StepRun, bad: Bad) -> TrueStep:
    status = "skipped" if step.skipped else STATUSES[step.ended]
    lost = bad[run.id, step.name, step.attempt]
    sent: list[str] = []
    for index in range(step.next_index if _begun(run, step) else 0):
        text = chunk(step.name, step.attempt, index - sent.count(LOST), SIZES.get(step.name, 0))
        sent.append(LOST if index in lost else text)
    while sent and sent[-1] == LOST:
        sent.pop()  # where the step's end overtook it, nothing shows that it was there
    return TrueStep(status, tuple(sent), step.attempt)


def _begun(run: Run, step: StepRun) -> bool:
    """Whether a worker took the step's last attempt; cancelled before, it has streamed nothing."""
    return any(
        line.step_run_id == step.id and line.type == "STARTED" and line.retry_count == step.retry_count
        for line in run.read_model.events
    )
