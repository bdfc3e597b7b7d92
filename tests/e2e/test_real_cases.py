"""The cases in which a real engine behaves differently, through the whole proxy: every loss has a gap.

Each case is a workflow of `tests.support.case_worker`. Runs of it are joined at the trigger, 50 ms and 1 s
later, in mid-step and after the end, through a proxy with the team's tap and through one without;
what each client received is compared with the worker's own log (`tests.support.case_judge`).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from config.model.files import HatchetConfig
from proxy.hatchet.endpoint import endpoint
from proxy.simulator.recordings.client import Client
from tests.support.case_judge import Expected, Sent, Verdict, judge
from tests.support.contract import is_done
from tests.support.eventsource import EventSource, Frame
from tests.support.processes import free_port
from tests.support.real_engine import RealWorker, run_worker

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(240),
    pytest.mark.skipif("HATCHET_CLIENT_TOKEN" not in os.environ, reason="HATCHET_CLIENT_TOKEN is not set"),
]

ROOT: Final = Path(__file__).parent.parent.parent
YAML: Final = """
version: 1
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}"{tap}}}
auth: none
streams:
  all:
    path: /all/{{workflowRunId}}
    wait_for_run: 5s
    rules:
      - events: ["*", step_stream]
        data: {{type: type, step: step, attempt: attempt, index: index, payload: payload, at: at,
               recovered: recovered}}
"""
TAP: Final = ', tap: {stream: "on"}'
PAIR: Final = {"stream": "on"}
AFTER: Final = float("inf")  # a join after the end
JUST_BEFORE: Final = 0.05  # seconds between a step's end and the join
POLL: Final = 0.02  # seconds between two looks at what has no event; the test's timeout bounds the wait
COMPLETED, FAILED, CANCELLED, SKIPPED = "step_completed", "step_failed", "step_cancelled", "step_skipped"


@dataclass(frozen=True, slots=True)
class Case:
    """A workflow, what its clients must get, and `mid`: seconds after the trigger in the middle of a step."""

    workflow: str
    expected: Expected
    mid: float
    joins: Sequence[float] = (0.0, 0.05, 1.0)

    @property
    def moments(self) -> list[float]:
        """Seconds after the trigger at which clients join, each a run of its own."""
        return [*self.joins, self.mid, AFTER]


CASES: Final = {
    "ends overtake chunks": Case(
        "two_steps",
        Expected("completed", {"one": COMPLETED, "two": COMPLETED}, {"two": ["one"]}),
        0.15,
        joins=(0.0, 0.0, 0.0, 0.05, 1.0),
    ),
    "silent for eight seconds": Case("silent", Expected("completed", {"talks": COMPLETED}), 3.0),
    "a timeout, and the old code streams on": Case(
        "zombie", Expected("completed", {"zombie": COMPLETED}), 2.0
    ),
    "evicted and run again": Case("evicted", Expected("completed", {"evicted": COMPLETED}), 3.0),
    "below a failure": Case(
        "below_failure",
        Expected("failed", {"good": COMPLETED, "bad": FAILED, "child": CANCELLED}, {"bad": ["good"]}),
        0.15,
    ),
    "conditions": Case(
        "conditions",
        Expected("cancelled", {"first": COMPLETED, "skipped": SKIPPED, "cancelled": CANCELLED}),
        0.5,
    ),
    "an output that looks like a skipped step's": Case(
        "says_skipped",
        Expected("completed", {"mine": COMPLETED, "after": SKIPPED}, {"after": ["mine"]}),
        0.5,
    ),
    "a schedule timeout": Case(
        "unscheduled",
        Expected("cancelled", {"fine": COMPLETED, "stuck": FAILED, "below": CANCELLED}, {"stuck": ["fine"]}),
        2.0,
    ),
    "a first attempt fails with a large error": Case(
        "big_error", Expected("completed", {"big_error": COMPLETED}), 0.1
    ),
}


@dataclass(slots=True)
class Listener:
    """What one client got, and when (seconds since 1970)."""

    joined_at: float
    frames: list[Frame] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def when(self, kind: str, step: str | None) -> float:
        """When the first event of a kind came."""
        for at, frame in zip(self.times, self.frames, strict=True):
            if frame.event == "message" and (frame.value["type"], frame.value["step"]) == (kind, step):
                return at
        return float("inf")

    def event(self, kind: str, step: str | None) -> Any:
        """The first event of a kind."""
        for frame in self.frames:
            if frame.event == "message" and (frame.value["type"], frame.value["step"]) == (kind, step):
                return frame.value
        return None


class Setup:
    """The engine, its worker's log, and two proxies in front of it."""

    def __init__(self, env: Mapping[str, str], namespace: str, log: Path, urls: Mapping[str, str]) -> None:
        self.urls = urls
        self.log = log
        self._namespace = namespace
        at = endpoint(HatchetConfig.model_validate({"token": env["HATCHET_CLIENT_TOKEN"]}), env)
        self.client = Client(at)

    async def trigger(self, workflow: str) -> str:
        """A new run, with the tap's pair."""
        return await self.client.trigger(f"{self._namespace}_{workflow}", {}, PAIR)

    def sent(self, run_id: str) -> list[Sent]:
        """The worker's log of a run."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if run_id in line)
        return [Sent(**line) for line in lines]

    async def until_sent(self, run_id: str, true: Callable[[list[Sent]], bool]) -> list[Sent]:
        """Wait for something in the worker's log of a run."""
        while not true(sent := self.sent(run_id)):
            await asyncio.sleep(POLL)
        return sent

    async def done(self, run_id: str) -> None:
        """Wait until the run is over."""
        while not await is_done(self.client, run_id):
            await asyncio.sleep(POLL)

    async def listen(self, proxy: str, run_id: str) -> Listener:
        """Read a run's stream through a proxy up to its end."""
        listener = Listener(time.time())
        async with EventSource(f"{self.urls[proxy]}/all/{run_id}") as source:
            async for frame in source.frames():
                listener.frames.append(frame)
                listener.times.append(time.time())
        return listener

    def judge(self, listener: Listener, run_id: str, proxy: str, expected: Expected) -> Verdict:
        """The errors in what a client got."""
        since = 0.0 if proxy == "tap" else listener.joined_at
        return judge(listener.frames, self.sent(run_id), expected, since)


@contextmanager
def process(command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes to a file, and is ended at the end."""
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=env) as made,
    ):
        try:
            yield made
        finally:
            made.terminate()


def wait_for_line(log: Path, text: str, made: subprocess.Popen[bytes]) -> None:
    """Wait until a process has written something."""
    while text not in log.read_text():
        assert made.poll() is None, log.read_text()[-2000:]
        time.sleep(POLL)


def worker_command(log: Path, *workflows: str) -> list[str]:
    """The command of a worker that logs to a file."""
    return [sys.executable, "-m", "tests.support.case_worker", str(log), *workflows]


@pytest.fixture(scope="module")
def namespace() -> str:
    """Before the names of our workflows: other workers of the tenant do not get their runs."""
    return f"cases{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes log to."""
    return tmp_path_factory.mktemp("cases")


@pytest.fixture(scope="module")
def worker_env(namespace: str) -> dict[str, str]:
    """What a worker's process needs."""
    return {**os.environ, "HATCHET_CLIENT_NAMESPACE": namespace}


@pytest.fixture(scope="module")
def worker(folder: Path, worker_env: dict[str, str]) -> Iterator[RealWorker]:
    """The worker that runs all workflows but those of which a test kills the worker."""
    with run_worker(worker_command(folder / "sent.jsonl"), folder / "worker.out", worker_env) as worker:
        yield worker


@pytest.fixture(scope="module")
def urls(folder: Path) -> Iterator[dict[str, str]]:
    """The addresses of both proxies."""
    with ExitStack() as stack:
        found = {}
        for name, tap in (("tap", TAP), ("trace", "")):
            config, port = folder / f"{name}.yaml", free_port()
            config.write_text(YAML.format(tap=tap))
            out = folder / f"{name}.out"
            serve = [str(Path(sys.executable).parent / "stream-proxy"), "serve"]
            command = [*serve, "--config", str(config), "--port", str(port)]
            wait_for_line(out, "listening", stack.enter_context(process(command, os.environ, out)))
            found[name] = f"http://127.0.0.1:{port}"
        yield found


@pytest.fixture
async def setup(
    urls: dict[str, str], worker: RealWorker, namespace: str, folder: Path
) -> AsyncIterator[Setup]:
    """The engine and all that stands around it."""
    env = {name: value for name, value in os.environ.items() if name.startswith("HATCHET_CLIENT_")}
    made = Setup(env, namespace, folder / "sent.jsonl", urls)
    async with made.client:
        await worker.takes_runs(made.client, f"{namespace}_two_steps")
        yield made


async def joined(setup: Setup, case: Case, moment: float) -> tuple[str, dict[str, Listener]]:
    """One run, joined at a moment through both proxies."""
    run_id = await setup.trigger(case.workflow)
    if moment == AFTER:
        await setup.done(run_id)
    else:
        await asyncio.sleep(moment)
    got = await asyncio.gather(*(setup.listen(proxy, run_id) for proxy in setup.urls))
    return run_id, dict(zip(setup.urls, got, strict=True))


def report(name: str, proxy: str, moment: float, verdict: Verdict) -> None:
    """A line of the table that `pytest -s` shows."""
    print(f"\n{name} | {proxy} | joined {moment:g} s | {verdict} {verdict.wrong or ''}", end="", flush=True)


@pytest.mark.parametrize("name", CASES)
async def test_every_loss_is_announced_whenever_a_client_joins(setup: Setup, name: str) -> None:
    case = CASES[name]
    runs = await asyncio.gather(*(joined(setup, case, moment) for moment in case.moments))
    wrong = []
    for moment, (run_id, got) in zip(case.moments, runs, strict=True):
        for proxy, listener in got.items():
            verdict = setup.judge(listener, run_id, proxy, case.expected)
            report(name, proxy, moment, verdict)
            wrong += [f"{proxy}, joined {moment:g} s, {run_id}: {what}" for what in verdict.wrong]
    assert not wrong


async def watched(setup: Setup, workflow: str, expected: Expected) -> list[str]:
    """Trigger a run, watch it from its start through both proxies; the errors in what they sent."""
    return await followed(setup, await setup.trigger(workflow), workflow, expected)


async def followed(
    setup: Setup, run_id: str, name: str, expected: Expected, moment: float = 0.0
) -> list[str]:
    """Watch a run from now on through both proxies; the errors in what they sent."""
    wrong = []
    got = await asyncio.gather(*(setup.listen(proxy, run_id) for proxy in setup.urls))
    for proxy, listener in zip(setup.urls, got, strict=True):
        verdict = setup.judge(listener, run_id, proxy, expected)
        report(name, proxy, moment, verdict)
        wrong += [f"{proxy}, {run_id}: {what}" for what in verdict.wrong]
    return wrong


async def test_a_failure_after_a_replay_is_not_final_while_it_is_tried_again(setup: Setup) -> None:
    expected = Expected("completed", {"replayed": COMPLETED})
    run_id = await setup.trigger("replayed")
    await setup.done(run_id)
    await setup.client.act("replay", run_id)
    await setup.until_sent(run_id, lambda sent: any(line.execution == 2 for line in sent))
    assert not await followed(setup, run_id, "replayed", expected)


async def test_an_attempt_whose_worker_was_killed_is_not_a_failure(
    setup: Setup, folder: Path, worker_env: dict[str, str]
) -> None:
    expected = Expected("completed", {"worker_lost": COMPLETED})
    command = worker_command(folder / "sent.jsonl", "worker_lost")
    with ExitStack() as stack:
        workers = {}
        for name in ("first", "second"):
            out = folder / f"{name}.out"
            made = stack.enter_context(process(command, worker_env, out))
            await asyncio.to_thread(wait_for_line, out, "waiting for tasks", made)
            workers[made.pid] = made
        run_id = await setup.trigger("worker_lost")
        clients = asyncio.create_task(followed(setup, run_id, "worker lost", expected))
        sent = await setup.until_sent(run_id, lambda sent: any(line.index == 5 for line in sent))
        os.kill(sent[-1].pid, signal.SIGKILL)
        assert not await clients


async def test_while_one_run_sends_thousands_of_chunks_every_loss_of_another_is_announced(
    setup: Setup,
) -> None:
    flood = await setup.trigger("flood")
    flooded = asyncio.create_task(
        followed(setup, flood, "the flood itself", Expected("completed", {"flood": COMPLETED}))
    )
    await setup.until_sent(flood, lambda sent: len(sent) > 200)
    wrong = await watched(setup, "two_steps", CASES["ends overtake chunks"].expected)
    assert not wrong + await flooded


async def test_a_run_that_its_concurrency_limit_cancels_has_no_gap(setup: Setup) -> None:
    first = await setup.trigger("one_at_a_time")
    await setup.until_sent(first, lambda sent: len(sent) > 2)
    second = await setup.trigger("one_at_a_time")
    wrong = await followed(
        setup, second, "cancelled as the newest", Expected("cancelled", {"one_at_a_time": CANCELLED})
    )
    wrong += await followed(
        setup, first, "the run that was first", Expected("completed", {"one_at_a_time": COMPLETED}), 1.0
    )
    assert not wrong


async def test_steps_that_finished_just_before_a_join_are_sent_at_once_and_in_order(setup: Setup) -> None:
    expected = Expected("completed", {"early": COMPLETED, "slow": COMPLETED}, {"slow": ["early"]})
    wrong = []
    for _ in range(3):
        run_id = await setup.trigger("just_before")
        await setup.until_sent(run_id, lambda sent: any(line.what == "returned" for line in sent))
        await asyncio.sleep(JUST_BEFORE)
        got = await asyncio.gather(*(setup.listen(proxy, run_id) for proxy in setup.urls))
        for proxy, listener in zip(setup.urls, got, strict=True):
            verdict = setup.judge(listener, run_id, proxy, expected)
            report("just before the join", proxy, JUST_BEFORE, verdict)
            wait = listener.when(COMPLETED, "early") - listener.joined_at
            print(f" sent after {wait:.3f} s", end="", flush=True)
            wrong += verdict.wrong
    assert not wrong
