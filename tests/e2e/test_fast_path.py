"""The fast path: its responses are byte for byte those of uvicorn and ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from uvicorn.server import ServerState

from proxy.server.http.fast_path import ConnectionFactory, FastPath
from proxy.server.http.request_limits import LimitedProtocol
from proxy.server.http.request_parser import MAX_BYTES
from proxy.simulator import Engine
from proxy.streams.session import Session
from proxy.streams.subscriber import Subscriber
from tests.e2e.test_front import NOBODY, YAML
from tests.support.served import Served, served
from tests.support.waiting import until

FAST, BY_UVICORN = "fast path", "by uvicorn"
WAYS = (FAST, BY_UVICORN)
FOR_UVICORN = "Content-Length: 0"  # a header that the fast path leaves to uvicorn
EPOCH = {"date": b"date: now", "retry": b"retry: soon"}


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(speed=20.0, seed=7) as one:
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    path = tmp_path / "streams.yaml"
    path.write_text(YAML.replace("streams:\n", "limits: {connections: 3}\nstreams:\n", 1))
    async with served(path, engine.env) as one:
        yield one


class Client:
    """A client on a socket whose requests take one of the two paths."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self, proxy: Served, path: str, *headers: str, way: str = FAST) -> None:
        extra = [] if way == FAST else [FOR_UVICORN]
        request = "\r\n".join([f"GET {path} HTTP/1.1", "Host: h", *headers, *extra, "", ""])
        self.writer.write(request.encode("latin-1"))
        await self.writer.drain()

    async def receive(self, end: bytes = b"") -> bytes:
        """The bytes up to `end` or the end of the connection, with dates and retry times replaced."""
        async with asyncio.timeout(20):
            received = await (self.reader.readuntil(end) if end else self.reader.read())
        received = re.sub(rb"date: [^\r]+", EPOCH["date"], received)
        return re.sub(rb"retry: \d{4}", EPOCH["retry"], received)

    def close(self) -> None:
        self.writer.close()


Connect = Callable[[], Awaitable[Client]]


async def connections(proxy: Served) -> tuple[Any, ...]:
    """The connections of the proxy, once there are any."""
    await until(lambda: bool(proxy.server.server_state.connections))
    return tuple(proxy.server.server_state.connections)


@pytest.fixture
async def connect(proxy: Served) -> AsyncIterator[Connect]:
    clients: list[Client] = []

    async def one() -> Client:
        host, _, port = proxy.url.removeprefix("http://").partition(":")
        clients.append(Client(*await asyncio.open_connection(host, int(port))))
        return clients[-1]

    yield one
    for client in clients:
        client.close()
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()


def by_uvicorn(connection: object) -> bool:
    return isinstance(connection, LimitedProtocol)


async def ended(engine: Engine, proxy: Served, connect: Connect, path: str = "/message/") -> str:
    """A run that is over, and known to the proxy."""
    run = await engine.trigger("chat", {"message": "hi"})
    one = await connect()
    await one.request(proxy, path + run)
    await one.receive(b"0\r\n\r\n")
    one.close()
    await until(lambda: not proxy.hub.sessions)
    return run


def unchunked(response: bytes) -> bytes:
    """The response with its body in one piece: where a chunk ends means nothing."""
    head, _, rest = response.partition(b"\r\n\r\n")
    body, last = b"", False
    while not last:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, rest, last = body + rest[:length], rest[length + 2 :], length == 0
    assert rest == b""
    return head + b"\r\n\r\n" + body


async def both(proxy: Served, connect: Connect, path: str, *headers: str) -> list[bytes]:
    responses = []
    for way in WAYS:
        one = await connect()
        await one.request(proxy, path, *headers, way=way)
        responses.append(unchunked(await one.receive(b"0\r\n\r\n")))
        ways = {by_uvicorn(each) for each in proxy.server.server_state.connections}
        assert ways <= {way == BY_UVICORN}
        one.close()
        await until(lambda: not proxy.server.server_state.connections)
    return responses


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", ()),
        ("?a=b&a=c", ("Accept: text/event-stream", "Cookie: a=b; c=d", "Accept-Language: de")),
        ("", ("Connection: keep-alive",)),
        ("", ("Connection: close",)),
        ("", ("Last-Event-ID: nonsense",)),
        ("?last_event_id=AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAA.7", ()),
        ("", ("Origin: http://h",)),
    ],
)
async def test_both_paths_send_the_same_bytes(
    engine: Engine, proxy: Served, connect: Connect, query: str, headers: tuple[str, ...]
) -> None:
    run = await ended(engine, proxy, connect)
    one, other = await both(proxy, connect, f"/message/{run}{query}", *headers)
    assert one == other
    assert one.startswith(b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: text/event-stream")
    assert (b"connection: close" in one) == ("Connection: close" in headers)
    assert b"reading hatchet docs" in one


async def test_both_paths_send_cors_headers_to_listed_origins(
    engine: Engine, proxy: Served, connect: Connect
) -> None:
    run = await ended(engine, proxy, connect, "/all/")
    one, other = await both(proxy, connect, f"/all/{run}", "Origin: https://app.example.com")
    assert one == other
    assert b"access-control-allow-origin: https://app.example.com\r\n" in one
    plain, _ = await both(proxy, connect, f"/all/{run}")
    assert b"access-control-allow-origin" not in plain


async def test_a_cursor_resumes_on_both_paths(engine: Engine, proxy: Served, connect: Connect) -> None:
    run = await ended(engine, proxy, connect)
    whole, _ = await both(proxy, connect, f"/message/{run}")
    ids = re.findall(rb"id: (\S+)", whole)
    one, other = await both(proxy, connect, f"/message/{run}", f"Last-Event-ID: {ids[1].decode()}")
    assert one == other
    assert re.findall(rb"id: (\S+)", one) == ids[2:]


@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_is_used_for_several_streams(
    engine: Engine, proxy: Served, connect: Connect, way: str
) -> None:
    run = await ended(engine, proxy, connect)
    one = await connect()
    first = b""
    for _ in range(3):
        await one.request(proxy, f"/message/{run}", way=way)
        received = await one.receive(b"0\r\n\r\n")
        assert received == (first or received)
        first = received
    one.writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert (await one.receive()).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_asks_for_it_has_its_connection_closed(
    engine: Engine, proxy: Served, connect: Connect, way: str
) -> None:
    run = await ended(engine, proxy, connect)
    one = await connect()
    await one.request(proxy, f"/message/{run}", "Connection: close", way=way)
    assert (await one.receive()).endswith(b"0\r\n\r\n")


async def test_a_request_during_a_stream_is_answered_after_it_on_the_fast_path(
    engine: Engine, proxy: Served, connect: Connect
) -> None:
    run = await engine.trigger("chat", {"message": "hi"})
    one = await connect()
    await one.request(proxy, f"/message/{run}")
    await one.receive(b"\r\n\r\n")
    one.writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"HTTP/1.1" not in await one.receive(b"0\r\n\r\n")
    assert (await one.receive(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")


async def test_what_a_client_sends_during_a_stream_is_bounded_on_the_fast_path(
    engine: Engine, proxy: Served, connect: Connect
) -> None:
    run = await engine.trigger("chat", {"message": "hi"})
    one = await connect()
    await one.request(proxy, f"/message/{run}")
    await one.receive(b"\r\n\r\n")
    one.writer.write(b"x" * (MAX_BYTES + 1))
    rest = await one.receive()
    assert rest.endswith(b"0\r\n\r\n"), "the connection is closed after the stream"
    assert b"HTTP/1.1" not in rest


async def test_a_request_may_come_in_pieces(engine: Engine, proxy: Served, connect: Connect) -> None:
    run = await ended(engine, proxy, connect)
    whole, _ = await both(proxy, connect, f"/message/{run}")
    one = await connect()
    request = f"GET /message/{run} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    (connection,) = await connections(proxy)
    for piece in (request[:9], request[9:60]):
        one.writer.write(piece)
        await until(lambda piece=piece: connection._received.endswith(piece))  # type: ignore[misc]
    one.writer.write(request[60:])
    assert unchunked(await one.receive(b"0\r\n\r\n")) == whole
    one.close()


async def test_a_run_that_must_be_looked_up_is_waited_for_on_the_fast_path(
    engine: Engine, proxy: Served, connect: Connect
) -> None:
    run = await engine.trigger("chat", {"message": "hi"})
    one = await connect()
    await one.request(proxy, f"/message/{run}")
    assert b"reading hatchet docs" in await one.receive(b"0\r\n\r\n")
    assert {by_uvicorn(each) for each in proxy.server.server_state.connections} == {False}
    assert proxy.hub.counters.team("default").stream("simple").opened == 1
    one.close()


async def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(
    engine: Engine, proxy: Served, connect: Connect
) -> None:
    team = proxy.hub.teams["default"]
    one = await connect()
    await one.request(proxy, f"/mine/{NOBODY}")  # the proxy waits for it for two seconds
    await until(lambda: len(proxy.hub.waiting) == 1 and team.limits.connections == 1)
    one.close()
    await until(lambda: not proxy.hub.waiting and team.limits.connections == 0)
    assert not len(team.runs)


@pytest.mark.parametrize(
    ("path", "headers", "status", "refusal"),
    [
        ("/message/nonsense", (), b"400", "400"),
        ("/message/{run}", ("Origin: https://foreign.example.com",), b"403", "403"),
        (f"/message/{NOBODY}", (), b"404", "404"),
        ("/nowhere", (), b"404", None),
    ],
)
async def test_a_refusal_is_counted_once_and_equally_on_both_paths(
    engine: Engine,
    proxy: Served,
    connect: Connect,
    *,
    path: str,
    headers: tuple[str, ...],
    status: bytes,
    refusal: str | None,
) -> None:
    run, team = await ended(engine, proxy, connect), proxy.hub.teams["default"]
    received = []
    for way in WAYS:
        one = await connect()
        await one.request(proxy, path.replace("{run}", run), *headers, "Connection: close", way=way)
        received.append(await one.receive())
    assert received[0] == received[1]
    assert received[0][9:12] == status
    assert dict(team.counters.refusals) == ({} if refusal is None else {refusal: 2})
    assert team.limits.connections == 0


async def test_the_limit_covers_both_paths_together(engine: Engine, proxy: Served, connect: Connect) -> None:
    run = await engine.trigger("chat", {"message": "hi"})
    inside = [await connect() for _ in range(3)]
    for one, way in zip(inside, (FAST, FAST, BY_UVICORN), strict=True):
        await one.request(proxy, f"/all/{run}", way=way)
        await one.receive(b"\r\n\r\n")
    late = await connect()
    await late.request(proxy, f"/all/{run}", "Connection: close")
    assert b"event: stream.wait" in await late.receive()
    assert proxy.hub.teams["default"].limits.connections == len(proxy.hub.sessions)
    for one in inside:
        one.close()
    await until(lambda: proxy.hub.teams["default"].limits.connections == 0)


async def test_a_drain_ends_the_streams_of_both_paths(
    engine: Engine, proxy: Served, connect: Connect
) -> None:
    run = await engine.trigger(
        "chat",
        {"message": "hi"},
    )
    clients = [await connect() for _ in range(3)]
    for one, way in zip(clients, (FAST, FAST, BY_UVICORN), strict=True):
        await one.request(proxy, f"/all/{run}", way=way)
        await one.receive(b"\r\n\r\n")
    assert any(isinstance(each, FastPath) for each in proxy.server.server_state.connections)
    spare = await connect()
    await until(lambda: len(proxy.server.server_state.connections) == 4)
    await proxy.stop()
    for one in clients:
        assert re.search(rb"event: stream\.(drain|end)\n.*\n\n\r\n0\r\n\r\n$", await one.receive(), re.DOTALL)
    assert await spare.receive() == b""


async def test_the_log_line_names_the_client_on_both_paths(
    engine: Engine, proxy: Served, connect: Connect
) -> None:
    run = await ended(engine, proxy, connect)
    await both(proxy, connect, f"/message/{run}")
    lines = [line for line in proxy.log if line["event"] == "stream over"]
    assert len(lines) == 3
    received = [{k: v for k, v in line.items() if k not in ("timestamp", "seconds")} for line in lines]
    assert received[0] == received[1] == received[2]
    assert received[0]["client"] == "127.0.0.1"


async def test_a_client_that_left_leaves_nothing_for_the_garbage_collector(
    engine: Engine, proxy: Served, connect: Connect
) -> None:
    run = await engine.trigger("chat", {"message": "hi"})
    first = await connect()
    await first.request(proxy, f"/all/{run}")
    await first.receive(b"\r\n\r\n")
    one = await connect()
    await one.request(proxy, f"/all/{run}")
    await until(lambda: len(proxy.hub.sessions) == 2)

    def around() -> int:
        return sum(isinstance(each, FastPath | Subscriber | Session) for each in gc.get_objects())

    gc.collect()
    gc.disable()  # from here on only reference counts free objects
    try:
        before = around()
        one.close()
        await until(lambda: len(proxy.hub.sessions) == 1)
        await until(lambda: around() == before - 3)
    finally:
        gc.enable()


@contextlib.asynccontextmanager
async def strict_listener(proxy: Served, **strict: Any) -> AsyncIterator[tuple[Connect, ServerState]]:
    """Another listener of the same hub, with other limits."""
    state, config = ServerState(), proxy.server.config
    connections = ConnectionFactory(proxy.hub, **strict)
    server = await asyncio.get_running_loop().create_server(
        lambda: connections.accepted(config, state, {}), "127.0.0.1", 0
    )
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection(*server.sockets[0].getsockname())))
        return clients[-1]

    yield connect, state
    server.close()
    for client in clients:
        client.close()
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()
    await until(lambda: not state.connections)


async def test_a_silent_connection_is_closed_and_half_a_request_is_answered_with_408(proxy: Served) -> None:
    loop = asyncio.get_running_loop()
    async with strict_listener(proxy, request_seconds=0.3) as (connect, _):
        came = loop.time()
        silent, slow = await connect(), await connect()
        slow.writer.write(b"GET /message/x HTT")
        assert (await slow.receive()).startswith(b"HTTP/1.1 408 ")
        assert await silent.receive() == b""
        assert loop.time() - came >= 0.3, "not before its time"


async def test_a_connection_that_is_not_used_again_is_closed(
    engine: Engine, proxy: Served, connect: Connect
) -> None:
    run = await ended(engine, proxy, connect)
    async with strict_listener(proxy, keep_alive=0.1) as (come_strictly, state):
        one = await come_strictly()
        await one.request(proxy, f"/message/{run}")
        assert (await one.receive()).endswith(b"0\r\n\r\n")
        await until(lambda: not state.connections)


async def test_more_connections_than_the_process_holds_are_closed_at_once(proxy: Served) -> None:
    async with strict_listener(proxy, ceiling=1) as (connect, state):
        await connect()
        await until(lambda: len(state.connections) == 1)
        second = await connect()
        with contextlib.suppress(ConnectionError):
            assert await second.receive() == b""
        assert len(state.connections) == 1


async def test_a_connection_is_handed_over_even_when_the_ceiling_is_reached_since(proxy: Served) -> None:
    async with strict_listener(proxy, ceiling=1) as (connect, state):
        one = await connect()
        await until(lambda: len(state.connections) == 1)
        aborted: Any = object()  # aborted and not removed yet
        state.connections.add(aborted)
        await one.request(proxy, "/healthz", "Connection: close")
        assert (await one.receive()).startswith(b"HTTP/1.1 200 OK")
        state.connections.discard(aborted)
