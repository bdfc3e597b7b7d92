"""Which addresses the connection pool can reach, and how calls share connections."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from proxy.hatchet import codec
from proxy.hatchet.client import transport
from proxy.hatchet.endpoint import endpoint
from proxy.hatchet.errors import HatchetAway
from proxy.hatchet.grpc import pool as pool_module
from proxy.hatchet.grpc.base import KEEPALIVE_TIME
from proxy.hatchet.grpc.connection import CALLS_PER_CONNECTION
from proxy.hatchet.grpc.frames import DATA, END_STREAM, GOAWAY, LAST_STREAM, SETTINGS, TOO_MANY_PINGS, frame
from proxy.hatchet.grpc.grpcio import GrpcioTransport
from proxy.hatchet.grpc.pool import REQUEST_BYTES, ConnectionPool, can_reach, split_host_port
from proxy.hatchet.protobuf import RUN_DETAILS
from tests.support.hatchet_server import RUN, config, hatchet_server

PROXY = {"http_proxy": "http://proxy:3128"}


@pytest.mark.parametrize(
    ("host_port", "parts"),
    [
        ("engine:7070", ("engine", "7070")),
        ("127.0.0.1:7070", ("127.0.0.1", "7070")),
        ("[::1]:7070", ("::1", "7070")),
        ("[::1]", ("::1", "443")),
        ("engine", ("engine", "443")),
        ("dns:///engine:7070", ("", "")),
        ("unix:/tmp/engine.sock", ("", "")),
    ],
)
def test_an_address_is_a_host_and_a_port(host_port: str, parts: tuple[str, str]) -> None:
    assert split_host_port(host_port) == parts


@pytest.mark.parametrize(
    ("host_port", "env", "made"),
    [
        ("engine:7070", {}, ConnectionPool),
        ("engine:7070", {"STREAM_PROXY_GRPC": "grpcio"}, GrpcioTransport),
        ("dns:///engine:7070", {}, GrpcioTransport),
        ("engine:7070", PROXY, GrpcioTransport),
        ("engine:7070", PROXY | {"no_proxy": "localhost, engine"}, ConnectionPool),
        ("engine.cluster.local:7070", PROXY | {"no_proxy": ".cluster.local"}, ConnectionPool),
        ("engine:7070", PROXY | {"no_proxy": "other"}, GrpcioTransport),
    ],
)
async def test_addresses_that_the_pool_cannot_reach_are_grpcios(
    host_port: str, env: dict[str, str], made: type
) -> None:
    pool = transport(endpoint(config(), {"HATCHET_CLIENT_HOST_PORT": host_port}), env)
    assert type(pool) is made
    assert can_reach(host_port, env) is (made is ConnectionPool) or "STREAM_PROXY_GRPC" in env
    await pool.close()


DATA_FRAME = struct.pack(">BBI", DATA, END_STREAM, 1)  # of the first call, whatever its length


async def ask(pool: ConnectionPool) -> bytes:
    return await pool.unary(RUN_DETAILS, codec.run_details(RUN), "GetRunDetails", 10)


async def test_calls_that_wait_for_a_connection_share_it() -> None:
    peers: set[str] = set()

    async def who(request: Any, context: Any) -> bytes:
        peers.add(context.peer())
        return b""

    async with hatchet_server() as engine:
        engine.details = who
        pool = ConnectionPool(endpoint(config(host_port=engine.host_port), {}))
        await asyncio.gather(*(ask(pool) for _ in range(CALLS_PER_CONNECTION)))
        await pool.close()
    assert len(peers) == 1


async def test_calls_share_a_failed_attempt_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "RECONNECT_PAUSES", (60.0,))  # longer than the test takes
    attempts = 0

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.close()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        pool = ConnectionPool(endpoint(config(host_port=f"127.0.0.1:{port}"), {}))
        for _ in range(20):
            answers = await asyncio.gather(*(ask(pool) for _ in range(50)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {HatchetAway}
        await pool.close()
    assert attempts == 1


async def test_cancelling_a_call_while_it_connects_does_not_cancel_the_attempt_of_the_others() -> None:
    async with hatchet_server() as engine:
        pool = ConnectionPool(endpoint(config(host_port=engine.host_port), {}))
        first = asyncio.create_task(ask(pool))
        second = asyncio.create_task(ask(pool))
        await asyncio.sleep(0)
        first.cancel()
        assert await second
        await pool.close()


async def test_closing_while_it_connects_ends_the_waiting_calls() -> None:
    connected = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        pool = ConnectionPool(endpoint(config(host_port=f"127.0.0.1:{port}"), {}))
        call = asyncio.create_task(ask(pool))
        await connected.wait()
        await pool.close()
        with pytest.raises(HatchetAway, match="closed"):
            await call


async def test_a_request_that_could_never_be_sent_is_refused() -> None:
    async with hatchet_server() as engine:
        pool = ConnectionPool(endpoint(config(host_port=engine.host_port), {}))
        with pytest.raises(HatchetAway, match=str(REQUEST_BYTES)):
            await pool.unary(RUN_DETAILS, b"x" * (REQUEST_BYTES + 1), "GetRunDetails", 1)
        await pool.close()


async def test_a_server_that_allows_no_calls_is_an_error() -> None:
    async with hatchet_server(options=[("grpc.max_concurrent_streams", 0)]) as engine:
        pool = ConnectionPool(endpoint(config(host_port=engine.host_port), {}))
        with pytest.raises(HatchetAway):
            await ask(pool)
        await pool.close()


async def test_a_call_that_the_server_did_not_begin_is_made_again() -> None:
    """The first connection sends GOAWAY at once, as a server does that is being replaced."""
    async with hatchet_server() as engine:

        async def goodbye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if served:
                back, forth = await asyncio.open_connection("127.0.0.1", engine.port)
                pumps.extend(
                    (asyncio.create_task(pump(reader, forth)), asyncio.create_task(pump(back, writer)))
                )
                return
            served.append(True)
            writer.write(bytes.fromhex("000000040000000000"))
            await reader.read(1024)  # the preface and settings
            await reader.read(1024)  # the call
            writer.write(bytes.fromhex("0000080700000000000000000000000000"))
            writer.close()

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
            target.close()

        served: list[bool] = []
        pumps: list[asyncio.Task[None]] = []
        server = await asyncio.start_server(goodbye, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            pool = ConnectionPool(endpoint(config(host_port=f"127.0.0.1:{port}"), {}))
            assert await ask(pool)
            await pool.close()
            await asyncio.gather(*pumps)


async def test_a_server_that_refuses_keepalives_is_reported_and_pinged_less_often() -> None:
    async def strict(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(SETTINGS, 0, 0, b""))
        received = b""
        while DATA_FRAME not in received:  # the preface, then the call
            received += await reader.read(4096)
        writer.write(frame(GOAWAY, 0, 0, struct.pack(">II", LAST_STREAM, 11) + TOO_MANY_PINGS.encode()))
        writer.close()

    server = await asyncio.start_server(strict, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        pool = ConnectionPool(endpoint(config(host_port=f"127.0.0.1:{port}"), {}))
        assert pool.keepalive == KEEPALIVE_TIME
        with pytest.raises(HatchetAway, match="keepalives"):
            await ask(pool)
        assert pool.keepalive == 2 * KEEPALIVE_TIME
        await pool.close()
