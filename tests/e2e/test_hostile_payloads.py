"""Payloads that nothing honest sends: the rule fails in words at most, and the run goes on to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.core.observations import CoreState, CoreStep, Status
from proxy.hatchet.errors import HistoryAway
from proxy.simulator import Engine
from proxy.simulator.script.model import Step, Workflow, script
from tests.support.fakes import FakeUpstream
from tests.support.hatchet_server import token
from tests.support.served import Served, served

YAML = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}
streams:
  all: {path: "/all/{workflowRunId}", rules: [{events: "*"}]}
  text: {path: "/text/{workflowRunId}", rules: [{events: "*", data: {type: type, text: to_string(payload)}}]}
"""


def nested(levels: int) -> Any:
    value: Any = "core"
    for _ in range(levels):
        value = {"a": value}
    return value


DEPTHS = (100, 500, 900)  # the embedded engine itself can write no more
RUN = "8ff4f149-099e-4c16-a8d1-0535f8c79b83"


def workflow(levels: int) -> Workflow:
    dig = Step("dig", takes=0.2, output=nested(levels))
    return Workflow(f"deep-{levels}", (dig, Step("next", parents=("dig",), takes=0.1, output={"ok": True})))


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(script(*map(workflow, DEPTHS)), seed=7) as one:
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    file = tmp_path / "streams.yaml"
    file.write_text(YAML)
    async with served(file, engine.env) as one:
        yield one


async def whole_stream(url: str) -> str:
    async with httpx.AsyncClient(timeout=30) as client:
        return (await client.get(url)).text


@pytest.mark.parametrize("stream", ["all", "text"])
@pytest.mark.parametrize("levels", DEPTHS)
async def test_a_run_whose_output_is_nested_deeply_is_sent_to_its_end(
    engine: Engine, proxy: Served, levels: int, stream: str
) -> None:
    run = await engine.trigger(f"deep-{levels}", {})
    text = await whole_stream(f"{proxy.url}/{stream}/{run}")
    assert "event: stream.end" in text
    failed = [line for line in proxy.log if line["event"] == "rule failed"]
    assert text.count('"step_completed"') == 2 or failed, "it is sent, or the rule fails in words"
    assert not [line for line in proxy.log if line["event"] == "unforeseen error"]


@pytest.mark.parametrize("stream", ["all", "text"])
@pytest.mark.parametrize("levels", [1_100, 3_000, 100_000])
async def test_an_output_that_no_json_library_reads_does_not_keep_the_end_back(
    tmp_path: Path, levels: int, stream: str
) -> None:
    """Beyond 1,024 levels neither orjson nor the standard library reads a text, of the history's neither."""
    output = '{"a":' * levels + "1" + "}" * levels
    upstream = FakeUpstream()
    steps = (CoreStep("dig", "22222222-2222-4222-8222-222222222222", Status.COMPLETED, output),)
    upstream.cores[RUN] = CoreState(RUN, Status.COMPLETED, True, steps)
    upstream.pasts[RUN] = HistoryAway("an answer is nested too deeply to be read")
    (tmp_path / "streams.yaml").write_text(YAML)
    env = {"HATCHET_CLIENT_TOKEN": token()}
    async with served(tmp_path / "streams.yaml", env, connect=lambda config: upstream) as proxy:
        text = await whole_stream(f"{proxy.url}/{stream}/{RUN}")
        assert "event: stream.end" in text
        assert not [line for line in proxy.log if line["event"] == "unforeseen error"]
