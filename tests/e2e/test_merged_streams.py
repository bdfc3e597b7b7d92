"""Streams of several runs over HTTP: a run with its children, and a conversation of many runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from proxy.simulator import Engine
from proxy.simulator.script.model import Child, Step, Workflow, script
from proxy.streams import run_queries
from tests.chaos.world import streams
from tests.support.delivery import RecordingClient, becomes, chunks, config, events, gaps, once, status
from tests.support.eventsource import Frame
from tests.support.served import Served, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

DATA: Final = (
    "{type: type, step: step, run: run_id, workflow: workflow, parent: parent, index: index,"
    " attempt: attempt, payload: payload, recovered: recovered}"
)
YAML: Final = f"""
version: 1
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}" TAP}}
server: {{linger: 5s, drain: {{grace: 3s, spread: 1s}}}}
streams:
  family:
    path: /family/{{workflowRunId}}
    include: [children]
    retry: 1s
    wait_for_run: 2s
    rules:
      - {{events: ["*", step_stream], data: {DATA}}}
  leaves:
    path: /leaves/{{workflowRunId}}
    include: [children]
    rules:
      - {{events: ["*", step_stream], workflows: leaf, data: {DATA}}}
  alone:
    path: /alone/{{workflowRunId}}
    rules:
      - {{events: ["*", step_stream], data: {DATA}}}
  talk:
    path: /talk/{{metadata.chat}}
    runs: all
    retry: 1s
    wait_for_run: 2s
    rules:
      - {{events: ["*", step_stream], data: {DATA}}}
"""
FAN: Final = 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    leaf = Workflow("leaf", (Step("work", chunks=streams("work", 4, 0.02), output={"leaf": 1}),))
    quick = Workflow("quick", (Step("quick", output={"quick": 1}),))
    middle = Workflow(
        "middle",
        (
            Step("begin", children=(Child("leaf"),), output={"m": 1}),
            Step("work", ("begin",), output={"w": 1}),
        ),
    )
    fan = Workflow(
        "fan",
        (
            Step("plan", takes=0.3, chunks=streams("plan", 3, 0.02), output={"p": 1}),
            Step(
                "spread",
                ("plan",),
                takes=0.05,
                children=(Child("leaf", count=FAN // 2), Child("middle", count=FAN // 2)),
                output={"s": 1},
            ),
            Step("sum", ("spread",), chunks=streams("sum", 3, 0.02), output={"z": 1}),
        ),
    )
    hasty = Workflow("hasty", (Step("spawn", children=(Child("quick"),), output={"h": 1}),))
    turn = Workflow("turn", (Step("answer", chunks=streams("answer", 5, 0.03), output={"t": 1}),))
    made_of = script(leaf, quick, middle, fan, hasty, turn, metadata_hangup=False)
    async with Engine(made_of, seed=3) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tapped(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A proxy whose tap brings all runs."""
    yaml = YAML.replace(" TAP", ', tap: {stream: "on"}')
    async with served(config(Path(tmp_path_factory.mktemp("tapped")), yaml), engine.env) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traced(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A proxy without a tap: one subscription for all runs of a stream brings them."""
    yaml = YAML.replace(" TAP", "")
    async with served(config(Path(tmp_path_factory.mktemp("traced")), yaml), engine.env) as made:
        yield made


BY: Final = pytest.mark.parametrize("by", ["tap", "trace"])


def runs(frames: list[Frame]) -> dict[str, list[dict[str, Any]]]:
    """The events by run, in the order of their first events."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events(frames):
        found.setdefault(event["run"], []).append(event)
    return found


def is_whole(of_run: list[dict[str, Any]]) -> bool:
    """Whether the events of a run are complete: each step from its start to its end, each chunk once."""
    steps: dict[str, list[dict[str, Any]]] = {}
    for event in of_run:
        if event["step"] is not None:
            steps.setdefault(event["step"], []).append(event)
    return of_run[-1]["type"] == "run_completed" and all(
        step[0]["type"] == "step_started"
        and step[-1]["type"] == "step_completed"
        and [event["index"] for event in step[1:-1]] == list(range(len(step) - 2))
        for step in steps.values()
    )


@BY
async def test_a_run_and_everything_that_it_started_is_one_stream_with_the_roots_end(
    engine: Engine, tapped: Served, traced: Served, by: str
) -> None:
    proxy = tapped if by == "tap" else traced
    root = await engine.trigger("fan", metadata={"stream": "on"})
    frames = await once(f"{proxy.url}/family/{root}")
    found = runs(frames)
    lost = {gap["run_id"] for gap in gaps(frames)}  # a loaded machine may lose chunks: then that is said
    assert len(found) == 1 + FAN + FAN // 2
    assert [run for run, of_run in found.items() if not is_whole(of_run) and run not in lost] == []
    assert frames[-1].event == "stream.end"
    assert [frame.event for frame in frames].count("stream.end") == 1
    assert events(frames)[-1]["run"] == root
    assert {event["workflow"] for event in events(frames)} == {"fan", "leaf", "middle"}
    assert all((event["parent"] is None) == (event["run"] == root) for event in events(frames))
    parents = {run: of_run[0]["parent"] for run, of_run in found.items() if run != root}
    of_root = {"run_id": root, "step": "spread", "workflow": "fan"}
    assert sum(parent == of_root for parent in parents.values()) == FAN
    middles = [run for run, of_run in found.items() if of_run[0]["workflow"] == "middle"]
    below = [parent for parent in parents.values() if parent["run_id"] != root]
    assert sorted(parent["run_id"] for parent in below) == sorted(middles)
    assert {(parent["step"], parent["workflow"]) for parent in below} == {("begin", "middle")}
    assert await status(f"{proxy.url}/family/{root}", cursor=frames[-1].id) == 204


async def test_a_client_after_the_end_gets_the_root_first_every_run_whole_and_the_end(
    engine: Engine, tapped: Served
) -> None:
    root = await engine.trigger("fan", metadata={"stream": "on"})
    await becomes(lambda: engine.run(root).done)
    frames = await once(f"{tapped.url}/family/{root}")
    found = runs(frames)
    assert len(found) == 1 + FAN + FAN // 2
    assert next(iter(found)) == root
    assert all(of_run[-1]["type"] == "run_completed" for of_run in found.values())
    assert frames[-1].event == "stream.end"
    assert events(frames)[-1]["run"] == root


async def test_each_frame_resumes_the_stream_exactly(engine: Engine, tapped: Served) -> None:
    root = await engine.trigger("fan", metadata={"stream": "on"})
    whole = await once(f"{tapped.url}/family/{root}")
    for at in range(0, len(whole) - 1, 17):
        rest = await once(f"{tapped.url}/family/{root}", cursor=whole[at].id)
        assert frames_of_stream(rest) == frames_of_stream(whole[at + 1 :])


async def test_a_client_with_a_cursor_reads_the_old_stream_to_its_end_although_its_root_was_replayed(
    engine: Engine, tapped: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_queries, "REPLAY_CHECK", 0.0)
    root = await engine.trigger("turn", metadata={"stream": "on"})
    whole = await once(f"{tapped.url}/family/{root}")
    await engine.replay(root)
    assert (await once(f"{tapped.url}/alone/{root}"))[-1].event == "stream.end"  # it follows the run again
    rest = await once(f"{tapped.url}/family/{root}", cursor=whole[1].id)
    assert frames_of_stream(rest) == frames_of_stream(whole[2:])
    replayed = await once(f"{tapped.url}/family/{root}")
    assert {chunk["attempt"] for chunk in chunks(replayed)} == {2}


@BY
async def test_a_child_that_is_over_before_the_history_lists_it_comes_before_the_end(
    engine: Engine, tapped: Served, traced: Served, by: str
) -> None:
    proxy = tapped if by == "tap" else traced
    for _ in range(3):
        root = await engine.trigger("hasty", metadata={"stream": "on"})
        frames = await once(f"{proxy.url}/family/{root}")
        assert {event["workflow"] for event in events(frames)} == {"hasty", "quick"}
        assert all(is_whole(of_run) for of_run in runs(frames).values())


@BY
async def test_a_conversation_is_all_its_turns_the_oldest_first_and_new_ones_without_a_reconnect(
    engine: Engine, tapped: Served, traced: Served, by: str
) -> None:
    proxy = tapped if by == "tap" else traced
    chat = f"c-{by}"
    metadata = {"stream": "on", "chat": chat}
    turns = []
    for _ in range(2):
        turns.append(await engine.trigger("turn", metadata=metadata))
        await becomes(lambda: engine.run(turns[-1]).done)
    turns.append(await engine.trigger("turn", metadata=metadata))
    async with RecordingClient(f"{proxy.url}/talk/{chat}") as reloaded:
        await reloaded.until(lambda client: ended(client.frames) == turns)
        turns.append(await engine.trigger("turn", metadata=metadata))
        await reloaded.until(lambda client: ended(client.frames) == turns)
        assert list(runs(reloaded.frames)) == turns
        assert reloaded.source.connections == 1, "no reconnect"
        assert [frame for frame in reloaded.frames if frame.event == "stream.end"] == []
        assert is_whole(runs(reloaded.frames)[turns[-1]]) or gaps(reloaded.frames)
        cut = next(at for at, frame in enumerate(reloaded.frames) if frame.value.get("run") == turns[2])
        rest = reloaded.frames[cut + 1 :]
        last = rest[-1].data
        cursor = reloaded.frames[cut].id
        again = await once(f"{proxy.url}/talk/{chat}", cursor=cursor, until=lambda frame: frame.data == last)
        assert frames_of_stream(again) == frames_of_stream(rest)


async def test_a_conversation_without_a_turn_is_waited_for(engine: Engine, tapped: Served) -> None:
    chat = "early"
    async with RecordingClient(f"{tapped.url}/talk/{chat}") as early:
        first = await engine.trigger("turn", metadata={"stream": "on", "chat": chat})
        await early.until(lambda client: ended(client.frames) == [first])
        assert is_whole(runs(early.frames)[first]) or gaps(early.frames)


async def test_children_that_no_rule_forwards_are_not_followed(engine: Engine, tapped: Served) -> None:
    root = await engine.trigger("fan", metadata={"stream": "on"})
    frames = await once(f"{tapped.url}/leaves/{root}")
    assert {event["workflow"] for event in events(frames)} == {"leaf"}
    assert len(runs(frames)) == FAN // 2 + FAN // 2, "those of the middle runs too, which are not forwarded"
    middles = [run.id for run in engine.core.tenants[0].runs.values() if run.workflow.name == "middle"]
    assert not [run for run in middles if tapped.hub.teams["default"].runs.leases(run)]


async def test_a_run_with_too_many_children_is_refused_in_words(
    engine: Engine, tapped: Served, tmp_path: Path
) -> None:
    root = await engine.trigger("fan", metadata={"stream": "on"})
    await becomes(lambda: engine.run(root).done)
    limited = YAML.replace(" TAP", "") + "limits: {runs: 5}\n"
    async with served(config(tmp_path, limited), engine.env) as small:
        [wait] = await once(f"{small.url}/family/{root}")
        assert (wait.event, wait.value) == ("stream.wait", {"cause": "limit"})
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"{small.url}/family/{root}", headers={"Accept": "application/json"})
            assert answer.status == 429
            assert "too many runs belong to this stream" in (await answer.json())["detail"]


async def test_a_client_that_comes_after_its_frames_were_evicted_gets_each_lifecycle_event_and_a_gap(
    engine: Engine, tmp_path: Path
) -> None:
    root = await engine.trigger("fan", metadata={"stream": "on"})
    small = YAML.replace(" TAP", ', tap: {stream: "on"}').replace(
        "    include: [children]\n    retry", "    backlog: {events: 40}\n    include: [children]\n    retry"
    )
    async with served(config(tmp_path, small), engine.env) as proxy:
        whole = await once(f"{proxy.url}/family/{root}")
        late = await once(f"{proxy.url}/family/{root}")
    lifecycle = [key(event) for event in events(whole) if event["type"] != "step_stream"]
    assert sorted(key(event) for event in events(late) if event["type"] != "step_stream") == sorted(lifecycle)
    assert len(chunks(late)) < len(chunks(whole))
    assert "backlog" in {gap["cause"] for gap in gaps(late)}
    assert late[-1].event == "stream.end"


async def test_a_drain_takes_leave_of_the_clients_of_merged_streams(engine: Engine, tmp_path: Path) -> None:
    yaml = YAML.replace(" TAP", ', tap: {stream: "on"}')
    metadata = {"stream": "on", "chat": "drained"}
    root = await engine.trigger("fan", metadata=metadata)
    await engine.trigger("turn", metadata=metadata)
    async with served(config(tmp_path, yaml), engine.env) as proxy:
        urls = [f"{proxy.url}/family/{root}", f"{proxy.url}/talk/drained"]
        async with RecordingClient(urls[0]) as family, RecordingClient(urls[1]) as talk:
            for client in (family, talk):
                await client.until(lambda client: events(client.frames))
            await proxy.stop()
            for client in (family, talk):
                assert "stream.drain" in [frame.event for frame in client.frames]


def key(event: dict[str, Any]) -> tuple[str, ...]:
    """The identity of a lifecycle event."""
    return tuple(str(event[name]) for name in ("run", "step", "type", "attempt"))


def frames_of_stream(frames: list[Frame]) -> list[str]:
    """The data of all frames but gaps: a gap repeats the id before it, so it may be sent twice."""
    return [frame.data for frame in frames if frame.event != "stream.gap"]


def ended(frames: list[Frame]) -> list[str]:
    """The runs whose end was sent, in order."""
    return [event["run"] for event in events(frames) if event["type"] == "run_completed"]
