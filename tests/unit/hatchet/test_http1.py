"""The HTTP client: what it reads, when it uses a connection again, and what ends a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from proxy.hatchet import http1
from proxy.hatchet.http1 import HttpClient, NotHttp, ServerDisconnected, TooLarge

LIMIT = 1000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers each request with the next of `answers`; None closes the connection instead."""

    def __init__(self) -> None:
        self.answers: list[bytes | None] = []
        self.default: bytes | None = OK
        self.requests: list[bytes] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.close_after = False
        self.held: asyncio.Event | None = None
        self.arrived = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                self.arrived.set()
                if self.held is not None:
                    await self.held.wait()
                answer = self.answers.pop(0) if self.answers else self.default
                if answer is None:
                    break
                writer.write(answer)
                if self.close_after:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


Open = Callable[..., HttpClient]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    yield Server()


@pytest.fixture
async def connect(server: Server) -> AsyncIterator[Callable[..., Awaitable[HttpClient]]]:
    clients: list[HttpClient] = []
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]

    async def make(path: str = "", **given: Any) -> HttpClient:
        settings = {"connections": 2, "limit": LIMIT, "timeout": 5.0, "connect_timeout": 5.0, "trust": None}
        headers = given.pop("headers", {"Authorization": "Bearer x"})
        clients.append(HttpClient(f"http://127.0.0.1:{port}{path}", headers, **{**settings, **given}))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()
    listener.close()
    for writer in server.writers:
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status", "body"),
    [
        (OK, 200, b"{}"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200, b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"{}"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}"),
    ],
)
async def test_an_answer_is_read_and_its_connection_is_used_again(
    server: Server, connect: Any, sent: bytes, status: int, body: bytes
) -> None:
    client = await connect()
    server.default = sent
    for _ in range(2):
        answer = await client.get("/x")
        assert (answer.status, answer.body) == (status, body)
    assert server.connections == 1


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\n{}"])
async def test_an_answer_without_a_length_ends_with_its_connection(
    server: Server, connect: Any, sent: bytes
) -> None:
    client = await connect()
    server.default, server.close_after = sent, True
    assert (await client.get("/x")).body == b"{}"
    assert (await client.get("/x")).body == b"{}"
    assert server.connections == 2


async def test_a_connection_that_the_server_wants_closed_is_not_used_again(
    server: Server, connect: Any
) -> None:
    client = await connect()
    server.default = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    await client.get("/x")
    await client.get("/x")
    assert server.connections == 2


async def test_the_request_has_the_roots_path_its_host_and_the_headers(server: Server, connect: Any) -> None:
    client = await connect("/bäse/")
    await client.get("/a?b=c")
    line, *headers = server.requests[0].decode().split("\r\n")
    assert line == "GET /b%C3%A4se/a?b=c HTTP/1.1"
    assert headers[0].startswith("Host: 127.0.0.1:")
    assert "Authorization: Bearer x" in headers


async def test_a_connection_that_vanished_while_it_was_unused_is_replaced(
    server: Server, connect: Any
) -> None:
    client = await connect()
    server.answers = [OK, None, OK]
    await client.get("/x")
    assert (await client.get("/x")).status == 200
    assert server.connections == 2


async def test_a_new_connection_that_ends_is_an_error(server: Server, connect: Any) -> None:
    client = await connect()
    server.default = None
    with pytest.raises(ServerDisconnected):
        await client.get("/x")
    assert server.connections == 1


async def test_an_answer_that_breaks_off_is_not_asked_for_again(server: Server, connect: Any) -> None:
    client = await connect()
    server.answers = [OK]
    await client.get("/x")
    server.default, server.close_after = OK[:-1], True
    with pytest.raises(ServerDisconnected):
        await client.get("/x")
    assert len(server.requests) == 2


async def test_an_old_connection_is_not_used_again(
    server: Server, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await connect()
    await client.get("/x")
    monkeypatch.setattr(http1, "IDLE", -1.0)
    await client.get("/x")
    assert server.connections == 2


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, TooLarge),
        (b"\x16\x03\x01\x00\x00", NotHttp),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", NotHttp),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", NotHttp),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", NotHttp),
    ],
)
async def test_what_cannot_be_read_is_an_error_and_closes_the_connection(
    server: Server, connect: Any, sent: bytes, error: type[Exception]
) -> None:
    client = await connect()
    server.answers = [sent]
    with pytest.raises(error):
        await client.get("/x")
    assert (await client.get("/x")).status == 200
    assert server.connections == 2


@pytest.mark.parametrize("part", [b"X: y\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_a_head_without_end_is_cut_off(server: Server, connect: Any, part: bytes) -> None:
    """Whether it is one answer's head, or the heads of interim answers."""
    start = b"" if part.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n"
    client = await connect()
    server.default = start + part * (http1.MAX_HEAD // len(part) + 1)
    with pytest.raises(TooLarge):
        await client.get("/x")


async def test_bytes_that_nobody_asked_for_close_the_connection(server: Server, connect: Any) -> None:
    client = await connect()
    server.default = OK + OK
    assert (await client.get("/x")).body == b"{}"
    server.default = OK
    assert (await client.get("/x")).body == b"{}"
    assert server.connections == 2


async def test_there_are_at_most_so_many_connections(server: Server, connect: Any) -> None:
    client = await connect()
    server.held = asyncio.Event()
    asking = [asyncio.create_task(client.get("/x")) for _ in range(5)]
    while server.connections < 2:
        server.arrived.clear()
        await server.arrived.wait()
    server.held.set()
    assert {answer.status for answer in await asyncio.gather(*asking)} == {200}
    assert server.connections == 2


async def test_a_request_that_is_cancelled_closes_its_connection(server: Server, connect: Any) -> None:
    client = await connect()
    server.held = asyncio.Event()
    asking = asyncio.create_task(client.get("/x"))
    await server.arrived.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    server.held.set()
    assert (await client.get("/x")).status == 200
    assert server.connections == 2


async def test_a_request_has_its_time(server: Server, connect: Any) -> None:
    client = await connect(timeout=0.05)
    server.held = asyncio.Event()
    with pytest.raises(TimeoutError):
        await client.get("/x")


async def test_requests_that_are_under_way_fail_when_it_is_closed(server: Server, connect: Any) -> None:
    client = await connect()
    server.held = asyncio.Event()
    asking = asyncio.create_task(client.get("/x"))
    await server.arrived.wait()
    await client.close()
    with pytest.raises(ServerDisconnected):
        await asking


@pytest.mark.parametrize("root", ["http://", "http://h:x", "http://" + "a" * 64 + ".example"])
async def test_a_root_that_is_no_url_is_refused(root: str) -> None:
    with pytest.raises(ValueError):
        HttpClient(root, {}, connections=1, limit=1, timeout=1, connect_timeout=1, trust=None)


async def test_a_header_cannot_add_another(connect: Any) -> None:
    with pytest.raises(ValueError):
        await connect(headers={"Authorization": "Bearer x\r\nX: y"})
