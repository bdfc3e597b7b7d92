"""The tap, over HTTP: one upstream for a team, and late clients get every token from the first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from proxy.simulator import Engine
from tests.support.delivery import RecordingClient, becomes, chunks, config, once, own_gaps, workflows, yaml
from tests.support.served import Served, served

PAIR: Final = {"stream": "on"}
TAPPED: Final = ', tap: {stream: "on"}'
OUTAGE: Final = 0.5  # seconds: some ten chunks are sent meanwhile
LIMITED: Final = 300 * 1024  # bytes
SAMPLING: Final = 0.01  # seconds between two looks at a figure whose maximum counts


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(workflows(metadata_hangup=False), seed=11) as one:
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(config(tmp_path, yaml(hatchet=TAPPED)), engine.env) as one:
        await becomes(lambda: engine.streams == 1)
        yield one


async def test_a_client_two_seconds_late_gets_everything_from_the_first_token(
    engine: Engine, proxy: Served
) -> None:
    run = await engine.trigger("long", metadata=PAIR)
    await becomes(
        lambda: engine.run(run).steps.get("write") and engine.run(run).steps["write"].next_index > 20
    )
    async with RecordingClient(f"{proxy.url}/run/{run}") as client:
        await client.end()
    assert [event["index"] for event in chunks(client.frames) if event["step"] == "write"] == list(range(120))
    assert client.gaps == []
    assert not [event for event in chunks(client.frames) if event["recovered"]]
    assert client.judge(engine, run) == []


async def test_a_client_after_the_end_gets_every_token(engine: Engine, proxy: Served) -> None:
    run = await engine.trigger("dag", metadata=PAIR)
    await becomes(lambda: engine.run(run).settled)
    received = await once(f"{proxy.url}/run/{run}")
    assert [event["index"] for event in chunks(received)] == [*range(40), *range(5)]
    assert received[-1].event == "stream.end"


async def test_a_whole_team_costs_one_subscription(engine: Engine, proxy: Served) -> None:
    runs = [await engine.trigger("talk", metadata=PAIR) for _ in range(15)]
    most = 0
    async with asyncio.TaskGroup() as group:
        reading = [group.create_task(once(f"{proxy.url}/run/{run}")) for run in runs for _ in range(2)]
        while not all(task.done() for task in reading):
            most = max(most, engine.streams)
            await asyncio.sleep(SAMPLING)
    assert most == 1
    assert engine.calls["SubscribeToWorkflowEvents"] == 1
    whole = 0
    for task in reading:
        received = task.result()
        indices = [event["index"] for event in chunks(received)]
        assert indices == list(range(len(indices)))
        assert received[-1].event == "stream.end"
        whole += len(indices) == 40
        # the engine hangs up when the last run ends, and then the last chunks of that run may be lost
        assert len(indices) == 40 or any(frame.event == "stream.gap" for frame in received)
    assert whole >= len(reading) - 2, "two clients watch the run that ends last"


async def test_a_run_without_the_pair_is_served_by_a_subscription_of_its_own(
    engine: Engine, proxy: Served
) -> None:
    tapped, plain = await engine.trigger("talk", metadata=PAIR), await engine.trigger("talk")
    one, two = await asyncio.gather(once(f"{proxy.url}/run/{tapped}"), once(f"{proxy.url}/run/{plain}"))
    assert [event["index"] for event in chunks(one)] == list(range(40))
    assert one[-1].event == two[-1].event == "stream.end"
    assert len(chunks(two)) > 30
    assert {event["payload"] for event in chunks(two)} <= {event["payload"] for event in chunks(one)}
    assert engine.calls["SubscribeToWorkflowEvents"] > 1


async def test_runs_kept_without_clients_are_bounded_and_the_newest_are_kept(
    engine: Engine, tmp_path: Path
) -> None:
    text = yaml(hatchet=TAPPED, more=f"limits: {{backlog_bytes: {LIMITED}B}}")
    async with served(config(tmp_path, text, "limited.yaml"), engine.env) as proxy:
        await becomes(lambda: engine.streams == 1)
        team = proxy.hub.counters.team("default")
        runs = [await engine.trigger("wide", metadata=PAIR) for _ in range(12)]
        most = 0
        while not all(engine.run(run).settled for run in runs):
            most = max(most, team.backlog_bytes)
            await asyncio.sleep(SAMPLING)
        assert 0 < most <= LIMITED * 1.1
        last = await engine.trigger("talk", metadata=PAIR)
        await becomes(lambda: engine.run(last).settled)
        received = await once(f"{proxy.url}/run/{last}")
        assert [event["index"] for event in chunks(received)] == list(range(40))
        first = await once(f"{proxy.url}/run/{runs[0]}")
        assert first[-1].event == "stream.end"


async def test_a_tap_that_ends_between_runs_is_opened_again_and_misses_nothing(tmp_path: Path) -> None:
    path = config(tmp_path, yaml(hatchet=TAPPED))
    async with Engine(workflows(), seed=12) as engine, served(path, engine.env) as proxy:
        for _ in range(3):
            await becomes(lambda: engine.streams == 1)
            run = await engine.trigger("brief", metadata=PAIR)
            await becomes(lambda run=run: engine.run(run).settled)  # type: ignore[misc]
            received = await once(f"{proxy.url}/run/{run}")
            assert received[-1].event == "stream.end"
            assert [event["index"] for event in chunks(received)] == list(range(8)), own_gaps(received)


async def test_chunks_that_the_tap_missed_are_announced(engine: Engine, proxy: Served) -> None:
    run = await engine.trigger("long", metadata=PAIR)
    async with RecordingClient(f"{proxy.url}/run/{run}") as client:
        await client.until(lambda client: len(client.chunks) > 5)
        await engine.faults.stop_grpc()
        await asyncio.sleep(OUTAGE)
        await engine.faults.start_grpc()
        await client.end()
    assert client.judge(engine, run) == []
    assert "upstream" in {gap["cause"] for gap in client.gaps}
    assert own_gaps(client.frames) == []
