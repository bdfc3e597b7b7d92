"""The YAML that `init` writes, served to the clients: each step's status, text and end reach a page."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Failure, Script, Step, Workflow, script
from tests.support.eventsource import EventSource, Frame
from tests.support.processes import serving
from tests.support.tools import ROOT, need, need_npm

COMMAND: Final = Path(sys.executable).parent / "stream-proxy"
PICTURES: Final = ROOT / "tests/e2e/js/pictures.mjs"
FOLLOW: Final = ROOT / "tests/e2e/js/follow.mjs"
WORDS: Final = (b"All", b" is", b" well")
NAMES: Final = ("start", "answer", "mail")
EVENTS: Final = ("token", "result", "problem")
PAIR: Final = {"stream": "on"}  # the pair of the tap in the YAML that `init` writes


def workflows() -> Script:
    start = Step("start", takes=0.1, output={"ready": True})
    answer = Step("answer", ("start",), takes=0.1, chunks=Chunks(WORDS, 0.02), output={"text": "All is well"})
    mail = Step("mail", ("answer",), takes=0.1, output={"sent": 1})
    fails = Step("mail", ("answer",), takes=0.1, fails=Failure("SMTPError: a secret"))
    return script(Workflow("good", (start, answer, mail)), Workflow("bad", (start, answer, fails)))


def init(folder: Path, env: dict[str, str], workflow: str) -> Path:
    """Runs `stream-proxy init` for a workflow of the engine; the file."""
    file = folder / f"{workflow}.yaml"
    words = (COMMAND, "init", "--workflow", workflow, "--tokens", "answer", "-o", file)
    subprocess.run(words, env=env, check=True, capture_output=True)
    return file


async def frames_of(url: str) -> list[Frame]:
    frames = []
    async with EventSource(url) as source:
        async for frame in source.frames():
            frames.append(frame)
            if frame.event == "stream.end":
                break
    return frames


def picture_of(frames: list[Frame]) -> dict[str, Any]:
    """The picture that clients/js/stream-proxy.js computes from the frames."""
    given = json.dumps([[frame.event, frame.value] for frame in frames]) + "\n"
    result = subprocess.run([need("node"), PICTURES], input=given, capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout))


async def test_a_page_with_the_file_of_init_sees_every_step_end_and_no_gap_where_nothing_streams(
    tmp_path: Path,
) -> None:
    async with Engine(workflows(), seed=1) as engine:
        file = await asyncio.to_thread(init, tmp_path, dict(engine.env), "good")
        async with serving(file, engine.env) as (_, url):
            run_id = await engine.trigger("good", {}, PAIR)
            frames = await frames_of(f"{url}/good/{run_id}")
    picture = await asyncio.to_thread(picture_of, frames)
    assert picture["status"] == "completed"
    assert {frame.value["step"] for frame in frames if frame.event == "stream.gap"} <= {"answer"}
    steps = {step["name"]: step for step in picture["steps"]}
    assert {name: step["status"] for name, step in steps.items()} == dict.fromkeys(NAMES, "completed")
    assert {name: step["attempt"] for name, step in steps.items()} == dict.fromkeys(NAMES, 1)
    assert steps["start"]["complete"] and steps["mail"]["complete"]
    assert steps["answer"]["text"] == "All is well" or not steps["answer"]["complete"]


async def test_a_page_that_follows_the_file_of_init_sees_the_failure_and_no_error_text(
    tmp_path: Path,
) -> None:
    async with Engine(workflows(), seed=1) as engine:
        file = await asyncio.to_thread(init, tmp_path, dict(engine.env), "bad")
        async with serving(file, engine.env) as (_, url):
            run_id = await engine.trigger("bad", {}, PAIR)
            frames = await frames_of(f"{url}/bad/{run_id}")
    picture = await asyncio.to_thread(picture_of, frames)
    assert picture["status"] == "failed"
    statuses = {step["name"]: step["status"] for step in picture["steps"]}
    assert statuses == {"start": "completed", "answer": "completed", "mail": "failed"}
    assert "secret" not in str(frames)


async def test_follow_run_reaches_the_end_with_the_event_names_of_init(tmp_path: Path) -> None:
    need_npm("eventsource")
    async with Engine(workflows(), seed=1) as engine:
        file = await asyncio.to_thread(init, tmp_path, dict(engine.env), "good")
        async with serving(file, engine.env) as (_, url):
            run_id = await engine.trigger("good", {}, PAIR)
            words = (need("node"), FOLLOW, f"{url}/good/{run_id}", *EVENTS)
            result = json.loads(await asyncio.to_thread(subprocess.check_output, words, timeout=60))
    assert (result["state"], result["status"]) == ("ended", "completed")
    assert {name: step["status"] for name, step in result["steps"].items()} == dict.fromkeys(
        NAMES, "completed"
    )
