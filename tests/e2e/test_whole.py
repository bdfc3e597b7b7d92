"""`whole` in a real process: whenever a client joins, its final text is complete, without a gap."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Script, Step, Workflow, script
from tests.support.eventsource import EventSource, Frame
from tests.support.processes import serving
from tests.support.reference import RunPicture

WORDS: Final = tuple(f"word{n} ".encode() for n in range(12))
TEXT: Final = b"".join(WORDS).decode()
YAML: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}
streams:
  live:
    rules:
      - events: step_stream
        steps: answer
        whole: payload.text
        event: token
        data: {step: step, attempt: attempt, index: index, recovered: recovered, text: payload}
      - events: step_*
        event: step
        data: {type: type, step: step, attempt: attempt, recovered: recovered}
"""


def workflow() -> Script:
    answer = Step("answer", takes=0.2, chunks=Chunks(WORDS, 0.05), output={"text": TEXT})
    return script(Workflow("chat", (answer,)))


async def followed(url: str, picture: RunPicture) -> list[Frame]:
    frames = []
    async with EventSource(url, patience=0.1) as source:
        async for frame in source.frames():
            frames.append(frame)
            picture.frame(frame)
            if picture.ended:
                break
    return frames


@pytest.mark.parametrize("after", [0.0, 0.5, None], ids=["at the trigger", "in mid-step", "after the end"])
async def test_the_text_is_complete_in_the_end_whenever_a_client_joins(
    tmp_path: Path, after: float | None
) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(YAML)
    async with Engine(workflow(), seed=3) as engine, serving(file, engine.env) as (_, url):
        run_id = await engine.trigger("chat", {})
        if after is None:
            await followed(f"{url}/streams/live/{run_id}", RunPicture())
        else:
            await asyncio.sleep(after)
        picture = RunPicture()
        frames = await followed(f"{url}/streams/live/{run_id}", picture)
    assert picture.status == "completed"
    assert picture.steps["answer"].text == TEXT
    assert picture.steps["answer"].complete
    assert [frame for frame in frames if frame.event == "stream.gap"] == []
