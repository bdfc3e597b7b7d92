"""A real hatchet-sdk worker that runs a script of the embedded engine: the same workflows on a real engine.

    HATCHET_CLIENT_TOKEN=… python tests/support/real_worker.py tests/support/contract.yaml

Each step plays the acts of its script (`proxy.simulator.state.worker`) with the SDK's own means: put_stream,
sleep, raise, return, child runs, cancel, a durable wait. What a script cannot make a real engine do (a death
of its worker, a batch of one) is played as a plain step.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from hatchet_sdk import (
    ConcurrencyExpression,
    ConcurrencyLimitStrategy,
    Context,
    DesiredWorkerLabel,
    DurableContext,
    EvictionPolicy,
    Hatchet,
    NonRetryableException,
    ParentCondition,
)
from pydantic import BaseModel, ConfigDict

from proxy.simulator.script.loader import load_script
from proxy.simulator.script.model import ON_SUCCESS, Script, Step, Workflow
from proxy.simulator.state.worker import (
    Act,
    CancelMyself,
    Evict,
    Put,
    Raise,
    Return,
    Spawn,
    Wait,
    attempt,
)

EVICTED_AFTER = timedelta(seconds=1)  # of waiting


class Anything(BaseModel):
    """An input of any shape."""

    model_config = ConfigDict(extra="allow")


def build(hatchet: Hatchet, script: Script) -> list[Any]:
    """The script's workflows, for a worker."""
    built: dict[str, Any] = {}
    for name, workflow in script.workflows.items():
        build_one = _task if workflow.is_task else _dag
        built[name] = build_one(hatchet, workflow, built)
    return list(built.values())


def _task(hatchet: Hatchet, workflow: Workflow, built: dict[str, Any]) -> Any:
    step = workflow.steps[0]
    options = {"name": workflow.name, "input_validator": Anything, **_options(step)}
    if step.evicts is not None:
        options["eviction_policy"] = EvictionPolicy(ttl=EVICTED_AFTER, allow_capacity_eviction=False)
    declare: Any = hatchet.task if step.evicts is None else hatchet.durable_task
    return declare(**options)(_function(step, {}, built) if step.evicts is None else _durable(step))


def _dag(hatchet: Hatchet, workflow: Workflow, built: dict[str, Any]) -> Any:
    made = hatchet.workflow(
        name=workflow.name, input_validator=Anything, concurrency=_limit(workflow.max_runs)
    )
    tasks: dict[str, Any] = {}
    for step in workflow.steps:
        if step.name.endswith(ON_SUCCESS):
            name = step.name.removesuffix(ON_SUCCESS)
            made.on_success_task(name=name, **_options(step))(_function(step, tasks, built))
            continue
        parents = [tasks[name] for name in step.parents]
        skip: list[Any] = (
            [ParentCondition(parent=parents[0], expression="true")] if step.skipped is True else []
        )
        cancel: list[Any] = (
            [] if step.cancelled is None else [ParentCondition(parent=parents[0], expression="true")]
        )
        tasks[step.name] = made.task(
            name=step.name, parents=parents, skip_if=skip, cancel_if=cancel, **_options(step)
        )(_function(step, tasks, built))
    failure = workflow.on_failure
    if failure is not None:
        made.on_failure_task(name=failure.name, **_options(failure))(_function(failure, {}, built))
    return made


def _limit(most: int | None) -> ConcurrencyExpression | None:
    if most is None:
        return None
    newest = ConcurrencyLimitStrategy.CANCEL_NEWEST
    return ConcurrencyExpression(expression="'all'", max_runs=most, limit_strategy=newest)


def _options(step: Step) -> dict[str, Any]:
    options: dict[str, Any] = {"retries": step.retries, "execution_timeout": timedelta(seconds=step.timeout)}
    options["schedule_timeout"] = timedelta(seconds=step.schedule_timeout)
    if step.no_worker:
        label = DesiredWorkerLabel(key="is-there", value="no", required=True)
        options["desired_worker_labels"] = [label]
    if step.backoff is not None:
        options |= {"backoff_factor": step.backoff.factor, "backoff_max_seconds": int(step.backoff.longest)}
    return options


def _function(step: Step, tasks: dict[str, Any], built: dict[str, Any]) -> Callable[..., Any]:
    async def listening(input: Anything, ctx: Context) -> Any:
        children: dict[str, Any] = {}
        for act in _acts(step, tasks, input, ctx, children):
            match act:
                case Put():
                    await ctx.aio_put_stream(_chunk(act.chunk))
                case Wait():
                    await asyncio.sleep(act.seconds)
                case Spawn():
                    children[act.child.workflow] = await built[act.child.workflow].aio_run(Anything())
                case CancelMyself():
                    await ctx.aio_cancel()
                case _:
                    return _end(act)
        return None

    def deaf(input: Anything, ctx: Context) -> Any:
        for act in _acts(step, tasks, input, ctx, {}):
            match act:
                case Put():
                    ctx.put_stream(_chunk(act.chunk))
                case Wait():
                    time.sleep(act.seconds)
                case Return() | Raise():
                    return _end(act)
        return None

    chosen: Callable[..., Any] = deaf if step.deaf else listening
    chosen.__name__ = step.name.replace("-", "_")
    return chosen


def _durable(step: Step) -> Callable[..., Any]:
    async def durable(input: Anything, ctx: DurableContext) -> Any:
        for act in _acts(step, {}, input, ctx, {}):
            match act:
                case Put():
                    await ctx.aio_put_stream(_chunk(act.chunk))
                case Wait():
                    await asyncio.sleep(act.seconds)
                case Evict():
                    await ctx.aio_sleep_for(timedelta(seconds=act.seconds))
                case Return() | Raise():
                    return _end(act)
        return None

    return durable


def _acts(
    step: Step, tasks: dict[str, Any], input: Anything, ctx: Context, children: dict[str, Any]
) -> Iterator[Act]:
    there = [name for name in step.parents if not ctx.was_skipped(tasks[name])]
    parents = {name: ctx.task_output(tasks[name]) for name in there}
    scope = {
        "input": input.model_dump(),
        "parents": parents,
        "metadata": ctx.additional_metadata,
        "attempt": ctx.attempt_number,
        "run_id": ctx.workflow_run_id,
    }
    return attempt(step, scope, children)


def _chunk(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _end(act: Act) -> Any:
    if isinstance(act, Raise):
        kind, _, message = act.error.partition(": ")
        base = NonRetryableException if act.final else Exception
        raise type(kind, (base,), {})(message)
    assert isinstance(act, Return)
    return None if act.output is None else json.loads(act.output)


if __name__ == "__main__":
    engine = Hatchet()
    workflows = build(engine, load_script(Path(sys.argv[1])))
    engine.worker("contract-worker", slots=100, workflows=workflows).start()
