"""A network that swallows everything, connections that are dropped, peers that never answer."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.hatchet.client import HatchetClient
from proxy.hatchet.errors import HatchetAway
from proxy.hatchet.grpc.base import CONNECT_TIMEOUT, KEEPALIVE_TIME, KEEPALIVE_TIMEOUT
from tests.support.relay import relay
from tests.support.stage import RUN, config, stage
from tests.unit.hatchet.test_client import TRANSPORTS, answered, first_event

SLACK = 3.0  # seconds for a busy machine


async def test_a_partition_is_noticed_within_the_keepalives_times() -> None:
    """Both transports side by side, at their real times; neither sooner than a healthy silence may last."""
    async with stage() as engine, relay(engine.port) as between:
        address = f"127.0.0.1:{between.port}"
        doors = [HatchetClient(config(host_port=address), env) for env in TRANSPORTS.values()]
        tasks = [(await first_event(door))[0] for door in doors]
        between.silent = True
        began = time.monotonic()
        for task in tasks:
            with pytest.raises(HatchetAway, match="keepalives"):
                await task
            took = time.monotonic() - began
            assert KEEPALIVE_TIMEOUT < took < KEEPALIVE_TIME + KEEPALIVE_TIMEOUT + SLACK
        for door in doors:
            await door.close()


@pytest.mark.parametrize("env", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_a_dropped_connection_ends_its_calls_and_the_next_call_makes_a_new_one(
    env: dict[str, str],
) -> None:
    async with stage() as engine, relay(engine.port) as between:
        door = HatchetClient(config(host_port=f"127.0.0.1:{between.port}"), env)
        task, _ = await first_event(door)
        await between.close()
        with pytest.raises(HatchetAway):
            await task
        await answered(door)
        await door.close()


async def test_a_peer_that_accepts_and_never_speaks_is_given_up() -> None:
    async with stage() as engine, relay(engine.port) as between:
        between.silent = True
        door = HatchetClient(config(host_port=f"127.0.0.1:{between.port}"), {})
        began = time.monotonic()
        with pytest.raises(HatchetAway):
            await door.core(RUN)
        assert time.monotonic() - began < CONNECT_TIMEOUT
        waiting = asyncio.create_task(door.follow(RUN, lambda event: None))
        with pytest.raises(HatchetAway):
            await waiting
        assert time.monotonic() - began < CONNECT_TIMEOUT + SLACK
        await door.close()


async def test_a_server_that_speaks_http_1_is_named_as_such() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        door = HatchetClient(config(host_port=f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), {})
        with pytest.raises(HatchetAway, match="does not speak gRPC"):
            await door.core(RUN)
        await door.close()
