"""The chat transport against the real server, read by the `ai` majors that people have: each text once."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Failure, Script, Step, Workflow, script
from tests.support.processes import free_port, running, serving
from tests.support.tools import ROOT, TOOLS, missing, need
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(120)]

CLIENT: Final = ROOT / "tests" / "e2e" / "js" / "transport_client.mjs"
THOUGHTS: Final = tuple(f"thought{n} ".encode() for n in range(20))
WORDS: Final = tuple(f"word{n} ".encode() for n in range(12))
WHOLE: Final = [
    ["reasoning", b"".join(THOUGHTS).decode(), "done"],
    ["text", b"".join(WORDS).decode(), "done"],
]
STREAM: Final = """
  {name}:
    path: /{name}/{{metadata.chat}}
    format: ai-sdk
    retry: {retry}
    rules:
      - {{events: step_stream, steps: think, as: reasoning, whole: payload.text}}
      - {{events: step_stream, steps: answer, as: text, whole: payload.text}}
"""
STREAMS: Final = (
    'version: 1\nhatchet: {token: "${HATCHET_CLIENT_TOKEN}", tap: {stream: "on"}}\nstreams:'
    + STREAM.format(name="resets", retry="500ms")
    + STREAM.format(name="held", retry="hold")
)
CHAT: Final = {"stream": "on", "chat": "7"}
MAJORS: Final = {"ai5": "held", "ai6": "held", "ai700": "held", "ai7": "resets"}


def workflows() -> Script:
    """Two steps stream at once; one of them fails in mid-stream and is tried again."""
    think = Step("think", chunks=Chunks(THOUGHTS, 0.1), output={"text": WHOLE[0][1]})
    torn = Chunks(WORDS, 0.1)
    answer = Step("answer", chunks=torn, output={"text": WHOLE[1][1]}, fails=Failure(attempts=1), retries=1)
    return script(Workflow("chat", (think, answer)))


async def read(
    clients: Sequence[Mapping[str, Any]], ready: asyncio.Event | None = None
) -> list[dict[str, Any]]:
    """What each client has in the end; `ready` is set when they begin."""
    for client in clients:
        if not (TOOLS / "frontends" / "node_modules" / client["ai"]).is_dir():
            missing(f"npm's {client['ai']}")
    async with running(json.dumps(clients), program=(need("node"), str(CLIENT))) as node:
        await node.wait_for_output("ready\n", within=60)
        if ready is not None:
            ready.set()
        await node.ended(60)
        return list(json.loads(node.output.partition("ready\n")[2]))


def wrong(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The clients that have an error, or other texts than the steps' outputs, each once."""
    return [one for one in found if one.get("errors") or sorted(one.get("texts", [])) != WHOLE]


async def test_each_major_shows_each_text_once_from_the_start_in_mid_run_and_after_the_end(
    tmp_path: Path,
) -> None:
    file, ready = tmp_path / "streams.yaml", asyncio.Event()
    file.write_text(STREAMS)
    async with Engine(workflows(), seed=1) as engine, serving(file, engine.env) as (_, url):
        clients = [
            {"ai": ai, "url": f"{url}/{stream}/7", "after": after}
            for ai, stream in MAJORS.items()
            for after in (0, 1000, 6000)  # a run takes some three seconds
        ]
        resuming = [{**client, "resumes": True} for client in clients if client["after"] == 1000]
        reading = asyncio.create_task(read([*clients, *resuming], ready))
        await ready.wait()
        await engine.trigger("chat", {}, CHAT)
        assert wrong(await reading) == []
        assert await read([{**clients[0], "after": 0, "resumes": True}]) == [{"ai": "ai5", "nothing": True}]


async def test_each_major_shows_each_text_once_although_the_proxy_is_killed_in_mid_stream(
    tmp_path: Path,
) -> None:
    file, port, ready = tmp_path / "streams.yaml", free_port(), asyncio.Event()
    file.write_text(STREAMS)
    async with Engine(workflows(), seed=1) as engine:
        async with serving(file, engine.env, port) as (first, url):
            clients = [{"ai": ai, "url": f"{url}/{stream}/7"} for ai, stream in MAJORS.items()]
            reading = asyncio.create_task(read(clients, ready))
            await ready.wait()
            run = engine.run(await engine.trigger("chat", {}, CHAT))
            await until(lambda: run.steps["think"].next_index > 5, "the run is in mid-stream")
            await first.stop(signal.SIGKILL)
        async with serving(file, engine.env, port):
            assert wrong(await reading) == []
