"""Network partitions, connections that are lost, peers that never answer."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.hatchet.client import HatchetClient
from proxy.hatchet.errors import HatchetAway
from proxy.hatchet.grpc.base import KEEPALIVE_TIMEOUT
from tests.support.hatchet_server import RUN, config, hatchet_server
from tests.support.relay import relay
from tests.unit.hatchet.test_client import TRANSPORTS, answered, first_event


async def test_a_partition_is_noticed_by_keepalives() -> None:
    """Both transports at their real times, 18 s; neither before the answer to a ping is overdue."""
    async with hatchet_server() as engine, relay(engine.port) as between:
        address = f"127.0.0.1:{between.port}"
        clients = [HatchetClient(config(host_port=address), env) for env in TRANSPORTS.values()]
        tasks = [(await first_event(client))[0] for client in clients]
        between.silent = True
        began = time.monotonic()
        for task in tasks:
            with pytest.raises(HatchetAway, match="keepalives"):
                await task
            assert time.monotonic() - began > KEEPALIVE_TIMEOUT
        for client in clients:
            await client.close()


@pytest.mark.parametrize("env", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_a_dropped_connection_ends_its_calls_and_the_next_call_makes_a_new_one(
    env: dict[str, str],
) -> None:
    async with hatchet_server() as engine, relay(engine.port) as between:
        client = HatchetClient(config(host_port=f"127.0.0.1:{between.port}"), env)
        task, _ = await first_event(client)
        await between.close()
        with pytest.raises(HatchetAway):
            await task
        await answered(client)
        await client.close()


async def test_a_peer_that_accepts_and_never_sends_is_an_error() -> None:
    async with hatchet_server() as engine, relay(engine.port) as between:
        between.silent = True
        client = HatchetClient(config(host_port=f"127.0.0.1:{between.port}"), {})
        call, subscription = await asyncio.gather(
            client.core(RUN), client.follow(RUN, lambda event: None), return_exceptions=True
        )
        assert isinstance(call, HatchetAway)
        assert "DEADLINE_EXCEEDED" in str(call)
        assert isinstance(subscription, HatchetAway)
        assert "UNAVAILABLE: timed out" in str(subscription)
        await client.close()


async def test_a_server_that_speaks_http_1_is_named_as_such() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        client = HatchetClient(config(host_port=f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), {})
        with pytest.raises(HatchetAway, match="does not speak gRPC"):
            await client.core(RUN)
        await client.close()
