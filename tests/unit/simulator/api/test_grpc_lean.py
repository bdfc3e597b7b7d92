"""The lean engine, for benchmarks: what it says is what the grpcio one says, as far as it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from proxy.simulator import NONE, Engine
from proxy.simulator.recordings.client import Client
from proxy.simulator.script.model import Chunks, Step, Workflow, script
from tests.support.contract import NOBODY, place, refusal
from tests.support.waiting import until

LARGE = Workflow("large", (Step("large", takes=0.1, chunks=Chunks((b"x" * 1_000_000,) * 3, 0.0), output={}),))
CONTRACT = Path(__file__).parents[3] / "support" / "contract.yaml"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(CONTRACT, quirks=NONE, speed=4, lean=True) as engine:
        yield engine


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[Client]:
    async with Client(place(engine.env)) as client:
        yield client


async def test_a_whole_run_is_sent_and_ends(client: Client) -> None:
    run_id = await client.trigger("contract_dag")
    sent = [event async for event in client.subscribe(run_id)]
    assert [one.event_payload for one in sent if one.HasField("event_index")] == [
        "the",
        "quick",
        "brown",
        "fox",
    ]
    assert sent[-1].hangup
    assert (await client.details(run_id)).done


async def test_refusals_have_their_statuses_and_details(client: Client) -> None:
    assert await refusal(client.details(NOBODY)) == "NOT_FOUND"
    assert await refusal(anext(client.subscribe("nonsense"))) == "INVALID_ARGUMENT"
    assert await refusal(client.ask("/no.Service/Method", b"")) == "UNIMPLEMENTED"


async def test_messages_larger_than_every_window_arrive_whole() -> None:
    async with Engine(script(LARGE), quirks=NONE, lean=True) as engine, Client(place(engine.env)) as client:
        run_id = await client.trigger("large")
        sent = [event async for event in client.subscribe(run_id)]
        assert [len(one.event_payload) for one in sent if one.HasField("event_index")] == [1_000_000] * 3


async def test_a_client_that_leaves_is_forgotten(client: Client, engine: Engine) -> None:
    run_id = await client.trigger("contract_slow")
    stream = client.subscribe(run_id)
    await anext(stream)
    assert engine.streams == 1
    await stream.aclose()  # type: ignore[attr-defined]
    await until(lambda: not engine.streams)


async def test_compressed_requests_are_read(engine: Engine) -> None:
    options = (("grpc.default_compression_algorithm", grpc.Compression.Gzip.value),)
    at = place(engine.env)
    async with Client(at) as client, grpc.aio.insecure_channel(engine.host_port, options) as channel:
        client._channel = channel
        run_id = await client.trigger("contract_task", {"text": "x" * 10_000})
        assert (await client.details(run_id)).task_runs
