"""``serve --workers``: one address, several processes, and every promise as with one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
import pytest
import pytest_asyncio

from proxy.server.workers.placement import worker_of_run
from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Script, Step, Workflow, script
from tests.support.processes import Running, free_port, serving
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

WORKERS: Final = 3
SECRET: Final = "3f9c1b7a5d2e8046b1c3d5e7f9a0b2c4"
YAML: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}", tap: {stream: "on"}}
server: {drain: {grace: 8s, spread: 1s}, admin_port: PORT, console: {token: SECRET}}
streams:
  chat:
    rules:
      - {events: step_stream, data: {n: index, text: payload}}
      - {events: step_completed, event: done}
"""
TEXT: Final = tuple(f"{number} ".encode() for number in range(12))


def talks() -> Script:
    """A step that streams, and one that goes on until it is cancelled."""
    talk = Step("talk", chunks=Chunks(TEXT, 0.02), output={"ok": True})
    endless = Step("wait", chunks=Chunks((b"x",), 0.01), then=600.0, timeout=900.0)
    return script(Workflow("talks", (talk,)), Workflow("endless", (endless,)))


def _yaml(admin: int | None = None) -> str:
    return YAML.replace("PORT", str(admin or free_port())).replace("SECRET", SECRET)


class Deployment:
    """A proxy of several workers, with an engine."""

    def __init__(self, engine: Engine, proxy: Running, url: str, yaml: Path) -> None:
        self.engine, self.proxy, self.url, self.yaml = engine, proxy, url, yaml
        self.client = httpx.AsyncClient(timeout=30)
        self.admin = int(re.findall(r"admin_port: (\d+)", yaml.read_text())[0])
        self.admin_url = f"http://127.0.0.1:{self.admin}"

    async def run(self, workflow: str = "talks", worker: int | None = None) -> str:
        """A run, of the worker that is asked for."""
        while True:
            run = await self.engine.trigger(workflow, {}, {"stream": "on"})
            if worker is None or worker_of_run(run, WORKERS) == worker:
                return run

    async def is_ready(self, worker: int) -> bool:
        """Whether a run of a worker is read without a gap: the tap of that worker is open."""
        run = await self.run(worker=worker)
        return "stream.gap" not in (await self.client.get(f"{self.url}/streams/chat/{run}")).text

    def pids(self) -> dict[int, int]:
        """The process of each worker, by its index: children are forked in that order."""
        children = Path(f"/proc/{self.proxy.process.pid}/task/{self.proxy.process.pid}/children")
        return dict(enumerate(sorted(int(pid) for pid in children.read_text().split())))

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = (await self.client.get(f"{self.admin_url}/metrics")).text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    yaml = tmp_path_factory.mktemp("workers") / "streams.yaml"
    yaml.write_text(_yaml())
    async with (
        Engine(talks(), speed=2, quirks={"metadata-hangup": False}) as engine,
        serving(yaml, engine.env, 0, "--workers", str(WORKERS)) as (proxy, url),
    ):
        one = Deployment(engine, proxy, url, yaml)
        for worker in range(WORKERS):
            await until(lambda worker=worker: one.is_ready(worker), "its tap is open")  # type: ignore[misc]
        yield one
        await one.client.aclose()


def frames_of(text: str) -> list[tuple[str, str, str]]:
    """(id, event, data) of each whole frame but gaps, which repeat the id before them and may come twice."""
    found = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in fields and fields.get("event") != "stream.gap":
            found.append((fields.get("id", ""), fields.get("event", ""), fields["data"]))
    return found


async def hop(deployment: Deployment, run: str, *, fresh: bool) -> list[tuple[str, str]]:
    """What a client gets that reconnects after each frame, with new connections or one that is kept."""
    got: list[tuple[str, str]] = []
    cursor = ""
    async with httpx.AsyncClient(timeout=30) as kept:
        while not got or got[-1][0] != "stream.end":
            headers = {"last-event-id": cursor} if cursor else {}
            text = ""
            async with contextlib.AsyncExitStack() as stack:
                client = await stack.enter_async_context(httpx.AsyncClient(timeout=30)) if fresh else kept
                url = f"{deployment.url}/streams/chat/{run}"
                async with client.stream("GET", url, headers=headers) as answer:
                    async for piece in answer.aiter_text():
                        text += piece
                        if frames_of(text):
                            break
            assert "unknown_cursor" not in text
            for cursor_, event, data in frames_of(text):
                got.append((event, data))
                cursor = cursor_ or cursor
    return got


async def test_clients_that_reconnect_after_every_frame_get_each_frame_once(deployment: Deployment) -> None:
    runs = [await deployment.run() for _ in range(2 * WORKERS)]
    results = await asyncio.gather(*(hop(deployment, run, fresh=bool(at % 2)) for at, run in enumerate(runs)))
    assert {worker_of_run(run, WORKERS) for run in runs} != {0}
    for run, got in zip(runs, results, strict=True):
        whole = (await deployment.client.get(f"{deployment.url}/streams/chat/{run}")).text
        assert got == [(event, data) for _, event, data in frames_of(whole)]


async def test_one_connection_reads_runs_of_every_worker(deployment: Deployment) -> None:
    runs = [await deployment.run(worker=worker) for worker in range(WORKERS)]
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(timeout=30, limits=limits) as client:
        for run in (*runs, *reversed(runs)):
            text = (await client.get(f"{deployment.url}/streams/chat/{run}")).text
            assert frames_of(text)[-1][1] == "stream.end"
            assert text.count("event: done") == 1
        assert (await client.get(f"{deployment.url}/streams/chat/nothing")).status_code == 400
        assert (await client.post(f"{deployment.url}/streams/chat/{runs[1]}")).status_code == 405


async def test_the_console_shows_the_runs_of_every_worker(deployment: Deployment) -> None:
    headers = {"authorization": f"Bearer {SECRET}"}
    runs = [await deployment.run(worker=worker) for worker in range(WORKERS)]
    for run in runs:
        await deployment.client.get(f"{deployment.url}/streams/chat/{run}")
    api = f"{deployment.admin_url}/console/api"
    listed = (await deployment.client.get(f"{api}/runs", headers=headers)).json()["runs"]
    assert {run["run"] for run in listed} >= set(runs)
    for run in runs:
        shown = (await deployment.client.get(f"{api}/teams/default/runs/{run}", headers=headers)).json()
        assert shown["followed"]
        last = shown["items"][-1]
        item = await deployment.client.get(
            f"{api}/teams/default/runs/{run}/items/{last['n']}", headers=headers
        )
        assert (item.json()["kind"], item.json()["streams"][0]["sent"]) == ("end", True)
    unknown = f"{api}/teams/default/runs/00000000-0000-4000-8000-000000000000"
    assert (await deployment.client.get(unknown, headers=headers)).status_code == 404


async def test_a_worker_that_is_killed_is_replaced_and_no_counter_goes_back(deployment: Deployment) -> None:
    victim = deployment.pids()[1]
    quiet = await deployment.run("endless", worker=2)
    hurt = await deployment.run(worker=1)
    await deployment.client.get(f"{deployment.url}/streams/chat/{hurt}")
    async with deployment.client.stream("GET", f"{deployment.url}/streams/chat/{quiet}") as undisturbed:
        pieces = undisturbed.aiter_text()
        assert "retry" in await anext(pieces)
        frames = await deployment.metric("stream_proxy_frames_total")
        assert frames > 0
        os.kill(victim, signal.SIGKILL)
        await deployment.proxy.wait_for_output('"event":"worker died","worker":1,"status":-9')
        text = (
            await deployment.client.get(f"{deployment.url}/streams/chat/{hurt}")
        ).text  # it waits for the new one
        assert "stream.end" in text
        assert await deployment.metric("stream_proxy_frames_total") > frames

        async def all_answer() -> bool:
            answer = await deployment.client.get(f"{deployment.admin_url}/readyz")
            return bool(answer.json()["workers"] == {"count": 3, "answering": 3})

        await until(all_answer, "every worker answers")
    assert victim not in deployment.pids().values()


async def test_a_reload_reaches_every_worker(deployment: Deployment) -> None:
    deployment.yaml.write_text(_yaml(deployment.admin).replace("event: done", "event: finished"))
    deployment.proxy.process.send_signal(signal.SIGHUP)
    for worker in range(WORKERS):

        async def is_new(worker: int = worker) -> bool:
            run = await deployment.run(worker=worker)
            return (
                "event: finished"
                in (await deployment.client.get(f"{deployment.url}/streams/chat/{run}")).text
            )

        await until(is_new, "the new version is served")


async def test_sigterm_drains_every_worker_and_the_exit_status_is_0(deployment: Deployment) -> None:
    runs = [await deployment.run("endless", worker=worker) for worker in range(WORKERS)]
    opened = asyncio.Semaphore(0)

    async def read(run: str) -> str:
        text = ""
        async with deployment.client.stream("GET", f"{deployment.url}/streams/chat/{run}") as answer:
            async for piece in answer.aiter_text():
                text += piece
                if '"text"' in text:
                    opened.release()
        return text

    reading = [asyncio.create_task(read(run)) for run in runs]
    for _ in runs:
        await opened.acquire()
    pids = deployment.pids().values()
    deployment.proxy.process.send_signal(signal.SIGTERM)
    for text in await asyncio.gather(*reading):
        assert "event: stream.drain" in text
    assert await deployment.proxy.ended() == 0
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


async def test_workers_drain_when_their_parent_is_killed(tmp_path: Path) -> None:
    yaml = tmp_path / "streams.yaml"
    yaml.write_text(_yaml())
    async with Engine(talks()) as engine, serving(yaml, engine.env, 0, "--workers", "2") as (proxy, url):
        one = Deployment(engine, proxy, url, yaml)
        pids = list(one.pids().values())
        assert len(pids) == 2
        await one.client.aclose()
        proxy.process.send_signal(signal.SIGKILL)
        await until(
            lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "the workers are gone"
        )
