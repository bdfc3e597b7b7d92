"""What can be broken on command, over the wire and over the control port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest

from proxy.hatchet.protobuf import dispatcher_pb2
from proxy.simulator import Engine
from proxy.simulator.recordings.client import Client
from tests.support.contract import place, refusal
from tests.support.waiting import until

SCRIPT = Path(__file__).parent.parent.parent / "support" / "contract.yaml"
QUIRKS = {"early_subscription_waits": False, "five_second_hold": False, "metadata_disorder": False}


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(SCRIPT, quirks=QUIRKS, seed=1) as engine:
        yield engine


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[Client]:
    async with Client(place(engine.env)) as client:
        yield client


class Listening:
    """A subscription in the background."""

    def __init__(self, client: Client, run_id: str) -> None:
        self.events: list[dispatcher_pb2.WorkflowEvent] = []
        self.received = asyncio.Event()
        self._task = asyncio.create_task(self._listen(client, run_id))

    async def _listen(self, client: Client, run_id: str) -> str:
        try:
            async for event in client.subscribe(run_id):
                self.events.append(event)
                if event.HasField("event_index"):
                    self.received.set()
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "OK"

    async def end(self) -> str:
        return await asyncio.wait_for(self._task, 10)

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def slow_run(engine: Engine, client: Client) -> tuple[str, Listening]:
    run_id = await client.trigger("contract_slow")
    listening = Listening(client, run_id)
    await asyncio.wait_for(listening.received.wait(), 5)
    return run_id, listening


async def test_streams_end_with_ok_and_without_hangup(engine: Engine, client: Client) -> None:
    _, listening = await slow_run(engine, client)
    engine.faults.end_streams()
    assert await listening.end() == "OK"
    assert not any(event.hangup for event in listening.events)


async def test_an_outage_ends_streams_with_ok_refuses_connections_and_passes(
    engine: Engine, client: Client
) -> None:
    run_id, listening = await slow_run(engine, client)
    port = engine.host_port
    await engine.faults.outage(0.5)
    assert await listening.end() == "OK"
    async with Client(place(engine.env)) as fresh:
        assert await refusal(fresh.details(run_id)) == "UNAVAILABLE"

    async def answers() -> bool:
        async with Client(place(engine.env)) as fresh:  # one that has not learned to back off
            try:
                return bool((await fresh.details(run_id)).task_runs)
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE
                return False

    await until(answers, "the outage is over")
    assert engine.host_port == port


async def test_a_crash_ends_streams_with_an_error(engine: Engine, client: Client) -> None:
    _, listening = await slow_run(engine, client)
    engine.switch(graceful_restart=False)
    await engine.faults.stop_grpc()
    assert (await listening.end()).partition(":")[0] in ("UNAVAILABLE", "CANCELLED")


async def test_tokens_are_refused_and_accepted_again(engine: Engine, client: Client) -> None:
    run_id = await client.trigger("contract_task")
    engine.faults.refuse_tokens()
    assert await refusal(client.details(run_id)) == "UNAUTHENTICATED"
    engine.faults.refuse_tokens(False)
    assert (await client.details(run_id)).task_runs


async def test_a_call_over_the_limit_is_resource_exhausted_for_a_while(
    engine: Engine, client: Client
) -> None:
    run_id = await client.trigger("contract_task")
    engine.faults.limit_calls(0)
    with pytest.raises(grpc.aio.AioRpcError, match="admin rate limit exceeded") as refused:
        await client.details(run_id)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    engine.faults.limit_calls()
    assert (await client.details(run_id)).task_runs


async def test_the_history_goes_away_alone(engine: Engine, client: Client) -> None:
    run_id = await client.trigger("contract_task")
    engine.faults.hide_history()
    assert (await client.history(run_id))[0] == 503
    assert (await client.details(run_id)).task_runs


async def test_a_bad_chunk_ends_the_stream_with_internal(engine: Engine, client: Client) -> None:
    run_id, listening = await slow_run(engine, client)
    assert engine.faults.bad_chunk(run_id) == 1
    assert (
        await listening.end() == "INTERNAL: grpc: error while marshaling: string field contains invalid UTF-8"
    )


async def test_a_mute_engine_answers_nothing_and_loses_what_is_published(
    engine: Engine, client: Client
) -> None:
    run_id, listening = await slow_run(engine, client)
    engine.faults.mute()
    asked = asyncio.create_task(client.details(run_id))
    (step,) = engine.run(run_id).steps.values()
    before, lost = len(listening.events), step.next_index
    # The fourth may still be on its way when the engine speaks again; the first three were dropped by then.
    await until(lambda: step.next_index >= lost + 4, "four chunks were published meanwhile")
    assert not asked.done()
    engine.faults.mute(False)
    assert (await asked).task_runs
    last = step.next_index
    await until(lambda: any(event.event_index >= last for event in listening.events), "chunks come again")
    indexes = {event.event_index for event in listening.events[before:] if event.HasField("event_index")}
    assert not indexes & set(range(lost, lost + 3)), "what was published meanwhile is lost"
    await listening.leave()


async def test_a_client_that_has_left_has_no_subscription(engine: Engine, client: Client) -> None:
    _, listening = await slow_run(engine, client)
    assert engine.streams == 1
    await listening.leave()
    await until(lambda: not engine.streams)


# -- the control port ------------------------------------------------------------------------------


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


async def control(http: aiohttp.ClientSession, engine: Engine, act: str, **body: Any) -> tuple[int, Any]:
    async with http.post(f"{engine.api_url}/control/{act}", json=body) as answer:
        return answer.status, await answer.json()


async def test_the_control_port_gives_an_overview(engine: Engine, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{engine.api_url}/control") as answer:
        sent = await answer.json()
    assert sent["quirks"]["traceparent"] is True
    assert "contract_task" in sent["workflows"]
    assert {"trigger", "cancel", "replay", "outage", "quirks"} <= set(sent["acts"])


async def test_the_control_port_triggers_cancels_and_replays_runs(
    engine: Engine, http: aiohttp.ClientSession
) -> None:
    status, sent = await control(http, engine, "trigger", workflow="contract_slow", metadata={"a": "b"})
    assert status == 200
    run = engine.run(sent["run_id"])
    assert run.metadata["a"] == "b"
    await control(http, engine, "chunk", run_id=run.id, step="contract_slow", text="hello")
    await control(http, engine, "cancel", run_id=run.id)
    assert run.cancelled
    await control(http, engine, "replay", run_id=run.id)
    assert run.steps["contract_slow"].retry_count == 1


async def test_the_control_port_makes_faults_and_switches_quirks(
    engine: Engine, http: aiohttp.ClientSession
) -> None:
    assert await control(http, engine, "quirks", **{"traceparent": False}) == (200, {})
    assert engine.quirks.traceparent is False
    assert await control(http, engine, "refuse-tokens", on=True) == (200, {})
    assert engine.gate.refusing
    assert await control(http, engine, "limit", per_second=5) == (200, {})
    assert engine.gate.rate == 5
    assert await control(http, engine, "history", on=False) == (200, {})
    assert engine.rest.away
    assert await control(http, engine, "end-streams") == (200, {"ended": 0})
    assert await control(http, engine, "silence", seconds=0.01) == (200, {})
    assert await control(http, engine, "outage", seconds=0.01) == (200, {})


@pytest.mark.parametrize(
    ("act", "body", "status", "message"),
    [
        ("nonsense", {}, 404, "there is no act 'nonsense'"),
        ("trigger", {"workflow": "nonsense"}, 400, "there is no workflow 'nonsense'"),
        ("cancel", {}, 400, "missing or unknown: 'run_id'"),
        ("cancel", {"run_id": "nonsense"}, 400, "missing or unknown: 'nonsense'"),
        ("quirks", {"five-seconds-hold": True}, 400, "there is no quirk 'five-seconds-hold'"),
        ("quirks", {"five-second-hold": "on"}, 400, "a quirk is switched by true or false"),
        ("outage", {"seconds": -1}, 400, "seconds must be between 0 and a day's"),
    ],
)
async def test_an_invalid_control_request_is_refused_with_the_reason(  # noqa: PLR0917 - a row of the table
    engine: Engine, http: aiohttp.ClientSession, act: str, body: dict[str, Any], status: int, message: str
) -> None:
    answered, sent = await control(http, engine, act, **body)
    assert answered == status
    assert sent["message"].startswith(message)
