"""The embedded engine from outside: what a client meets in its first seconds."""

from __future__ import annotations

import grpc.aio
import pytest

from proxy.hatchet.protobuf import dispatcher_pb2
from proxy.simulator import NONE, Engine, PortTaken
from proxy.simulator.recordings.client import Client
from tests.support.contract import place
from tests.support.waiting import until


async def test_without_a_script_there_is_the_tutorials_chat() -> None:
    async with Engine(quirks=NONE, speed=20) as engine, Client(place(engine.env)) as client:
        run_id = await client.trigger("chat", {"question": "what is hatchet?"})
        sent = [event async for event in client.subscribe(run_id)]
        text = "".join(event.event_payload for event in sent if event.HasField("event_index"))
        assert text.startswith("You asked: what is hatchet? Hatchet runs durable workflows")
        assert sent[-1].hangup
        assert (await client.details(run_id)).done


async def test_without_quirks_each_event_comes_once_and_in_order() -> None:
    async with Engine(quirks=NONE, speed=20, seed=4) as engine, Client(place(engine.env)) as client:
        run_id = await client.trigger("chat")
        sent = [event async for event in client.subscribe(run_id)]
        kinds = [event.event_type for event in sent if not event.HasField("event_index")]
        started, completed = (
            dispatcher_pb2.RESOURCE_EVENT_TYPE_STARTED,
            dispatcher_pb2.RESOURCE_EVENT_TYPE_COMPLETED,
        )
        assert kinds[-6:] == [completed, started, completed, started, completed, completed]


async def test_a_tenant_does_not_see_anothers_runs() -> None:
    async with Engine(tenants=2, speed=20) as engine:
        run_id = await engine.trigger("chat", metadata={"who": "first"})
        async with Client(place(engine.env_of(1))) as stranger:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stranger.details(run_id)
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND
            assert (await stranger.list_runs([("since", "2020-01-01T00:00:00Z")]))[1]["rows"] == []

            async def in_the_history() -> bool:
                return (await owner.history(run_id))[0] == 200

            async with Client(place(engine.env)) as owner:
                await until(in_the_history)  # before that, the history does not know the run at all
            assert (await stranger.history(run_id))[0] == 403


async def test_a_taken_port_is_reported(unused_tcp_port: int) -> None:
    async with Engine(port=unused_tcp_port):
        with pytest.raises(PortTaken, match=f"127.0.0.1:{unused_tcp_port}"):
            await Engine(port=unused_tcp_port).start()


async def test_a_taken_api_port_is_reported_and_nothing_is_left_open(unused_tcp_port: int) -> None:
    async with Engine(api_port=unused_tcp_port):
        with pytest.raises(PortTaken, match=f"127.0.0.1:{unused_tcp_port}"):
            await Engine(api_port=unused_tcp_port).start()


async def test_the_same_seed_gives_the_same_ids() -> None:
    async with Engine(seed=5) as one, Engine(seed=5) as other:
        assert await one.trigger("chat") == await other.trigger("chat")
