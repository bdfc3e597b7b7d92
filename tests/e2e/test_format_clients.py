"""The formats with the real clients from npm: whenever they join, the text is the step's output, once.

Two steps stream in parallel; one of them fails in mid-stream and is tried again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Failure, Script, Step, Workflow, script
from tests.support.chat_clients import FrontEnds, front_ends
from tests.support.processes import serving
from tests.support.tools import need

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

THOUGHTS: Final = tuple(f"thought{n} ".encode() for n in range(20))
WORDS: Final = tuple(f"word{n} ".encode() for n in range(12))
THINKING: Final = b"".join(THOUGHTS).decode()
ANSWER: Final = b"".join(WORDS).decode()
JOINS: Final = (0.0, 0.3, 1.0, 3.0)
AFTER_THE_END: Final = None
STREAM: Final = """
  {name}:
    path: /{name}/{{workflowRunId}}
    format: {format}
    unknown: {unknown}
    finished: replay
    {retry}
    rules:
      - {{events: step_stream, steps: think, as: {thinking}, whole: payload.text}}
      - {{events: step_stream, steps: answer, as: text, whole: payload.text}}
"""


def streams(*named: tuple[str, str, str, str]) -> str:
    """The YAML of streams: name, format, more keys, and what thoughts are."""
    written = "".join(
        STREAM.format(
            name=name, format=form, unknown="204" if form == "ai-sdk" else "wait", retry=retry, thinking=part
        )
        for name, form, retry, part in named
    )
    return 'version: 1\nhatchet: {token: "${HATCHET_CLIENT_TOKEN}", tap: {stream: "on"}}\nstreams:' + written


def workflow() -> Script:
    plan = Step("plan", takes=0.1, output={"steps": 2})
    think = Step("think", ("plan",), chunks=Chunks(THOUGHTS, 0.1), output={"text": THINKING})
    answer = Step(
        "answer",
        ("plan",),
        chunks=Chunks(WORDS, 0.1),
        output={"text": ANSWER},
        fails=Failure(attempts=1),
        retries=1,
    )
    return script(Workflow("chat", (plan, think, answer)))


async def read_joining(
    clients: FrontEnds, engine: Engine, url: str, names: tuple[str, ...]
) -> list[tuple[str, float | None, dict[str, Any]]]:
    """What each client has in the end that joins one run after each of JOINS, and after its end."""
    run_id = await engine.trigger("chat", {}, metadata={"stream": "on"})

    async def one(name: str, after: float) -> tuple[str, float | None, dict[str, Any]]:
        await asyncio.sleep(after)
        client, _, stream = name.partition(":")
        return name, after, await clients.read(client, f"{url}/{stream}/{run_id}")

    found = list(await asyncio.gather(*(one(name, after) for name in names for after in JOINS)))
    return found + [(name, AFTER_THE_END, (await one(name, 0))[2]) for name in names]


def texts(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The texts of a UI message that are not empty."""
    parts = found["message"]["parts"]
    return sorted((part["type"], part["text"]) for part in parts if part.get("text"))


async def test_the_ai_sdk_shows_the_steps_outputs_once_whenever_it_joins(tmp_path: Path) -> None:
    need("node")
    file = tmp_path / "streams.yaml"
    file.write_text(
        streams(("chat", "ai-sdk", "", "reasoning"), ("held", "ai-sdk", "retry: hold", "reasoning"))
    )
    names = ("ai7:chat", "ai7:held", "ai700:held", "ai6:held", "ai5:held")
    async with (
        front_ends(tmp_path / "clients") as clients,
        Engine(workflow(), seed=3) as engine,
        serving(file, engine.env) as (_, url),
    ):
        found = await read_joining(clients, engine, url, names)
        unknown = await clients.read("ai7", f"{url}/chat/00000000-0000-4000-8000-000000000000")
    wrong = [
        (name, after, each)
        for name, after, each in found
        if "thrown" in each
        or each["errors"]
        or each["kinds"][-1] != "finish"
        or texts(each) != [("reasoning", THINKING), ("text", ANSWER)]
    ]
    assert wrong == []
    assert any("reset-step" in each["kinds"] for name, _, each in found if name == "ai7:chat")
    assert not any("reset-step" in each["kinds"] for name, _, each in found if name != "ai7:chat")
    assert unknown["nothing"]
