"""A real hatchet-sdk worker with the workflows of `tests.e2e.test_real_cases`; it logs each chunk it sends.

    HATCHET_CLIENT_TOKEN=… python -m tests.support.case_worker LOG [WORKFLOW…]

Without names it serves all workflows but those of DEDICATED. LOG gets one JSON object a line: what a step's
code did, when (seconds since 1970), in which run, step and attempt. The text of a chunk names its step,
attempt and index, so a reader sees whether a chunk came under its own attempt and index.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Final

from hatchet_sdk import (
    ConcurrencyExpression,
    ConcurrencyLimitStrategy,
    Context,
    DurableContext,
    EmptyModel,
    EvictionPolicy,
    Hatchet,
    NonRetryableException,
    ParentCondition,
)
from hatchet_sdk.labels import DesiredWorkerLabel

from tests.support.case_judge import Sent, text

DEDICATED: Final = frozenset({"worker_lost"})  # workflows whose worker a test kills
FLOOD: Final = 3_000  # chunks: the engine passes on some 500 a second
BIG_ERROR: Final = 200_000  # characters
SILENCE: Final = 8.0  # seconds without a chunk: longer than the engine's five-second hold
BEFORE_ITS_CHUNKS: Final = 0.3  # seconds: a replay is noticed meanwhile


class SendLog:
    """The log of one worker process."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._executions: Counter[tuple[str, str]] = Counter()

    def begin(self, ctx: Context, step: str) -> Execution:
        """An execution of a step begins."""
        self._executions[ctx.workflow_run_id, step] += 1
        execution = Execution(self, ctx, step, self._executions[ctx.workflow_run_id, step])
        execution.note("began")
        return execution

    def write(self, line: Sent) -> None:
        """Append one line; it is in the file when this returns, whoever kills the process."""
        fields = {name: getattr(line, name) for name in Sent.__slots__}
        self._file.write(json.dumps(fields) + "\n")
        self._file.flush()


class Execution:
    """One execution of a step's code."""

    def __init__(self, log: SendLog, ctx: Context, step: str, number: int) -> None:
        self.number = number
        self._log = log
        self._ctx = ctx
        self._step = step
        self._next = 0

    def note(self, what: str, index: int | None = None) -> None:
        """Log what it does."""
        ctx = self._ctx
        self._log.write(
            Sent(
                ctx.workflow_run_id,
                self._step,
                ctx.attempt_number,
                self.number,
                what,
                time.time(),
                os.getpid(),
                index,
            )
        )

    def _chunk(self) -> str:
        index, self._next = self._next, self._next + 1
        self.note("chunk", index)
        return text(self._step, self._ctx.attempt_number, index)

    async def stream(self, count: int, pause: float) -> None:
        """Send `count` chunks, `pause` seconds apart."""
        for number in range(count):
            if number and pause:
                await asyncio.sleep(pause)
            await self._ctx.aio_put_stream(self._chunk())

    def stream_deaf(self, count: int, pause: float) -> None:
        """The same in a thread, which no cancellation stops."""
        for _ in range(count):
            self._ctx.put_stream(self._chunk())
            time.sleep(pause)

    def returns(self, output: Any = None) -> Any:
        """Return, with what the step puts out."""
        self.note("returned")
        return {"done": self._step} if output is None else output

    def fails(self, error: Exception) -> Exception:
        """Raise it."""
        self.note("raised")
        return error


def build(hatchet: Hatchet, log: SendLog) -> dict[str, Any]:
    """The workflows, by their names."""
    built: dict[str, Any] = {}
    for declare in (_dags, _tasks, _never_run):
        built |= declare(hatchet, log)
    return built


def _streaming(log: SendLog, step: str, count: int, pause: float) -> Callable[..., Any]:
    """A step that streams and returns right after its last chunk, as one that calls a language model does."""

    async def stream(input: EmptyModel, ctx: Context) -> Any:
        execution = log.begin(ctx, step)
        await execution.stream(count, pause)
        return execution.returns()

    return stream


def _dags(hatchet: Hatchet, log: SendLog) -> dict[str, Any]:
    built: dict[str, Any] = {}

    def dag(name: str, *steps: tuple[str, int, float]) -> Any:
        """Steps in a row."""
        made = built[name] = hatchet.workflow(name=name)
        before: list[Any] = []
        for step, count, pause in steps:
            before = [made.task(name=step, parents=before)(_streaming(log, step, count, pause))]
        return made

    dag("two_steps", ("one", 20, 0.005), ("two", 20, 0.005))
    dag("paced", ("one", 20, 0.03), ("two", 20, 0.03), ("three", 20, 0.03))
    dag("just_before", ("early", 10, 0.02), ("slow", 20, 0.1))

    silent = built["silent"] = hatchet.workflow(name="silent")

    @silent.task(name="talks")
    async def talks(input: EmptyModel, ctx: Context) -> Any:
        execution = log.begin(ctx, "talks")
        await execution.stream(5, 0.05)
        await asyncio.sleep(SILENCE)
        await execution.stream(5, 0.05)
        return execution.returns()

    skipped = built["says_skipped"] = hatchet.workflow(name="says_skipped")

    @skipped.task(name="mine")
    async def mine(input: EmptyModel, ctx: Context) -> Any:
        execution = log.begin(ctx, "mine")
        await execution.stream(3, 0.02)
        return execution.returns({"skipped": True})

    skipped.task(name="after", parents=[mine])(_streaming(log, "after", 3, 0.3))
    return built


def _tasks(hatchet: Hatchet, log: SendLog) -> dict[str, Any]:
    built: dict[str, Any] = {}

    @hatchet.task(name="replayed", retries=1)
    async def replayed(input: EmptyModel, ctx: Context) -> Any:
        execution = log.begin(ctx, "replayed")
        await asyncio.sleep(BEFORE_ITS_CHUNKS)
        await execution.stream(8, 0.02)
        if execution.number == 2:
            raise execution.fails(ValueError("fails once after the replay"))
        return execution.returns()

    @hatchet.task(name="worker_lost", retries=1, execution_timeout=timedelta(minutes=5))
    async def worker_lost(input: EmptyModel, ctx: Context) -> Any:
        execution = log.begin(ctx, "worker_lost")
        await execution.stream(30, 0.1)
        return execution.returns()

    @hatchet.task(name="zombie", retries=1, execution_timeout=timedelta(seconds=2))
    def zombie(input: EmptyModel, ctx: Context) -> Any:
        execution = log.begin(ctx, "zombie")
        if ctx.attempt_number == 1:
            execution.stream_deaf(60, 0.08)
        else:
            execution.stream_deaf(25, 0.05)
        return execution.returns()

    @hatchet.durable_task(
        name="evicted",
        execution_timeout=timedelta(minutes=2),
        eviction_policy=EvictionPolicy(ttl=timedelta(seconds=1)),
    )
    async def evicted(input: EmptyModel, ctx: DurableContext) -> Any:
        execution = log.begin(ctx, "evicted")
        await execution.stream(5, 0.05)
        await ctx.aio_sleep_for(timedelta(seconds=6))
        await execution.stream(5, 0.05)
        return execution.returns()

    @hatchet.task(name="flood")
    async def flood(input: EmptyModel, ctx: Context) -> Any:
        execution = log.begin(ctx, "flood")
        await execution.stream(FLOOD, 0)
        return execution.returns()

    @hatchet.task(name="big_error", retries=1)
    async def big_error(input: EmptyModel, ctx: Context) -> Any:
        execution = log.begin(ctx, "big_error")
        await execution.stream(4, 0.02)
        if ctx.attempt_number == 1:
            raise execution.fails(ValueError("x" * BIG_ERROR))
        await execution.stream(4, 0.02)
        return execution.returns()

    built |= {"replayed": replayed, "worker_lost": worker_lost, "zombie": zombie}
    return built | {"evicted": evicted, "flood": flood, "big_error": big_error}


def _never_run(hatchet: Hatchet, log: SendLog) -> dict[str, Any]:
    nowhere = [DesiredWorkerLabel(key="place", value="nowhere", required=True)]

    below_failure = hatchet.workflow(name="below_failure")
    good = below_failure.task(name="good")(_streaming(log, "good", 3, 0.02))

    @below_failure.task(name="bad", parents=[good])
    async def bad(input: EmptyModel, ctx: Context) -> Any:
        execution = log.begin(ctx, "bad")
        await execution.stream(3, 0.02)
        raise execution.fails(NonRetryableException("no"))

    below_failure.task(name="child", parents=[bad])(_streaming(log, "child", 3, 0.02))

    conditions = hatchet.workflow(name="conditions")
    first = conditions.task(name="first")(_streaming(log, "first", 3, 0.3))
    unwanted: list[Any] = [ParentCondition(parent=first, expression="true")]
    conditions.task(name="skipped", parents=[first], skip_if=unwanted)(_streaming(log, "skipped", 3, 0.02))
    refused: list[Any] = [ParentCondition(parent=first, expression="true")]
    conditions.task(name="cancelled", parents=[first], cancel_if=refused)(
        _streaming(log, "cancelled", 3, 0.02)
    )

    newest = ConcurrencyExpression(
        expression="'all'", max_runs=1, limit_strategy=ConcurrencyLimitStrategy.CANCEL_NEWEST
    )
    one_at_a_time = hatchet.task(name="one_at_a_time", concurrency=newest)(
        _streaming(log, "one_at_a_time", 20, 0.2)
    )

    unscheduled = hatchet.workflow(name="unscheduled")
    fine = unscheduled.task(name="fine")(_streaming(log, "fine", 3, 0.3))
    stuck = unscheduled.task(
        name="stuck", parents=[fine], schedule_timeout=timedelta(seconds=3), desired_worker_labels=nowhere
    )(_streaming(log, "stuck", 3, 0.02))
    unscheduled.task(name="below", parents=[stuck])(_streaming(log, "below", 3, 0.02))
    return {
        "below_failure": below_failure,
        "conditions": conditions,
        "one_at_a_time": one_at_a_time,
        "unscheduled": unscheduled,
    }


def main(path: Path, names: list[str]) -> None:
    """Serve workflows until a signal ends the process."""
    hatchet = Hatchet()
    with path.open("a") as file:
        built = build(hatchet, SendLog(file))
        served = names or sorted(built.keys() - DEDICATED)
        worker = hatchet.worker(f"cases-{os.getpid()}", slots=60, workflows=[built[name] for name in served])
        worker.start()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
