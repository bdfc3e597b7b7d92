"""The embedded engine from outside: what a client meets in its first second."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc.aio
import pytest

from proxy.simulator import NONE, Engine
from proxy.stubs import RUN_DETAILS, SUBSCRIBE, dispatcher_pb2, workflows_pb2


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(seed=1, speed=20) as engine:
        yield engine


@pytest.fixture
async def channel(engine: Engine) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(engine.host_port) as channel:
        yield channel


async def events(
    engine: Engine, channel: grpc.aio.Channel, run_id: str
) -> list[dispatcher_pb2.WorkflowEvent]:
    request = dispatcher_pb2.SubscribeToWorkflowEventsRequest(workflow_run_id=run_id)
    call = channel.unary_stream(SUBSCRIBE)(
        request.SerializeToString(), metadata=(("authorization", f"bearer {engine.token}"),)
    )
    return [dispatcher_pb2.WorkflowEvent.FromString(raw) async for raw in call]


async def details(
    engine: Engine, channel: grpc.aio.Channel, run_id: str
) -> workflows_pb2.GetRunDetailsResponse:
    request = workflows_pb2.GetRunDetailsRequest(external_id=run_id)
    raw = await channel.unary_unary(RUN_DETAILS)(
        request.SerializeToString(), metadata=(("authorization", f"bearer {engine.token}"),)
    )
    return workflows_pb2.GetRunDetailsResponse.FromString(raw)


async def test_an_honest_engine_tells_a_whole_run(channel: grpc.aio.Channel, engine: Engine) -> None:
    engine.core.world.quirks = NONE
    run_id = await engine.trigger("chat", {"question": "what is hatchet?"})
    told = await events(engine, channel, run_id)
    assert told[-1].hangup
    assert "".join(one.event_payload for one in told if one.HasField("event_index")).startswith(
        "You asked: what"
    )
    assert (await details(engine, channel, run_id)).done


async def test_a_wrong_token_is_unauthenticated(channel: grpc.aio.Channel, engine: Engine) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await channel.unary_unary(RUN_DETAILS)(b"", metadata=(("authorization", "bearer nonsense"),))
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
