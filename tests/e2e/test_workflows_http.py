"""`workflow` on a stream and `workflows` on a rule, over HTTP: a stream keeps to its workflows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from proxy.simulator import Engine
from proxy.simulator.script.model import Step, Workflow, script
from tests.chaos.world import streams
from tests.support.delivery import becomes, config, events, once, status
from tests.support.served import Served, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

DATA: Final = "{type: type, step: step, workflow: workflow, payload: payload}"
YAML: Final = f"""
version: 1
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}"}}
server: {{linger: 5s, drain: {{grace: 3s, spread: 1s}}}}
streams:
  chat:
    path: /chat/{{workflowRunId}}
    workflow: [chat, "support-*"]
    wait_for_run: 1s
    rules:
      - {{events: ["*", step_stream], data: {DATA}}}
  message:
    path: /message/{{metadata.chat}}
    workflow: chat
    wait_for_run: 1s
    rules:
      - {{events: "*", data: {DATA}}}
  awaited:
    path: /awaited/{{metadata.chat}}
    workflow: chat
    wait_for_run: 20s
    rules:
      - {{events: "*", data: {DATA}}}
  any:
    path: /any/{{workflowRunId}}
    rules:
      - {{events: [step_stream, step_completed], steps: answer, workflows: billing, data: "'billing'"}}
      - {{events: [step_completed, run_completed], data: workflow}}
"""


def one(name: str) -> Workflow:
    return Workflow(name, (Step("answer", chunks=streams("answer", 2, 0.02), output={"by": name}),))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    async with Engine(script(one("chat"), one("support-eu"), one("billing")), seed=5) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(config(Path(tmp_path_factory.mktemp("workflows")), YAML), engine.env) as made:
        yield made


async def test_every_event_of_a_streams_own_workflow_has_its_name_from_the_first_on(
    engine: Engine, proxy: Served
) -> None:
    for name in ("chat", "support-eu"):
        run = await engine.trigger(name)
        frames = await once(f"{proxy.url}/chat/{run}")
        assert {event["workflow"] for event in events(frames)} == {name}
        assert events(frames)[0]["type"] == "step_started"
        assert frames[-1].event == "stream.end"


async def test_a_run_of_another_workflow_looks_like_a_run_that_does_not_exist(
    engine: Engine, proxy: Served
) -> None:
    run = await engine.trigger("billing")
    waited = []
    for asked in (run, "00000000-0000-4000-8000-00000000abcd"):
        begun = time.monotonic()
        assert await status(f"{proxy.url}/chat/{asked}") == 404
        waited.append(time.monotonic() - begun)
    assert min(waited) >= 0.99, "both are waited for, so that the time reveals nothing"
    assert await status(f"{proxy.url}/any/{run}") == 200


async def test_on_a_metadata_path_the_newest_run_of_the_streams_workflow_is_meant(
    engine: Engine, proxy: Served
) -> None:
    await engine.trigger("chat", metadata={"chat": "c1"})
    await engine.trigger("billing", metadata={"chat": "c1"})
    frames = await once(f"{proxy.url}/message/c1")
    assert {event["workflow"] for event in events(frames)} == {"chat"}
    await engine.trigger("billing", metadata={"chat": "c2"})
    assert await status(f"{proxy.url}/message/c2") == 404


async def test_rules_take_events_of_their_workflows_alone(engine: Engine, proxy: Served) -> None:
    bill = await once(f"{proxy.url}/any/{await engine.trigger('billing')}")
    assert [frame.value for frame in bill if not frame.event.startswith("stream.")] == [
        *(["billing"] * 3),
        "billing",
    ]
    chat = await once(f"{proxy.url}/any/{await engine.trigger('chat')}")
    assert [frame.value for frame in chat if not frame.event.startswith("stream.")] == ["chat", "chat"]
    assert [frame.event for frame in chat if frame.event == "stream.gap"] == []


async def test_a_client_before_the_trigger_gets_the_first_run_of_the_streams_workflow(
    engine: Engine, proxy: Served
) -> None:
    reading = asyncio.create_task(once(f"{proxy.url}/awaited/c3"))
    await becomes(lambda: engine.streams >= 1)
    await engine.trigger("billing", metadata={"chat": "c3"})
    run = await engine.trigger("chat", metadata={"chat": "c3"})
    assert {event["workflow"] for event in events(await reading)} == {"chat"}
    assert await status(f"{proxy.url}/chat/{run}") == 200
