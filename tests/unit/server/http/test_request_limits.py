"""The guard: what a request may not be, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from proxy.server.http.protocol import EXTENSION, StreamProtocol
from proxy.server.http.request_limits import (
    BODY_BYTES,
    HEAD_BYTES,
    HEAD_COUNT,
    LINE_BYTES,
    PIPELINED,
    GuardedProtocol,
)

OK = b"HTTP/1.1 200 OK"


class Echo:
    """Answers each request with the length of its body; ``/stream`` begins and goes on for ever.

    ``/taken`` takes the connection over and is a stream for three times a request's time.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        begin = {"type": "http.response.start", "status": 200, "headers": []}
        if scope["path"] == "/stream":
            await send(begin)
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if scope["path"] == "/taken":
            sink = scope["extensions"][EXTENSION]["sink"]
            assert sink.take_over(scope, begin["headers"], b"begun")
            sink.begun()
            await asyncio.sleep(0.3)
            sink.finish()
            return
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        await send(begin)
        await send({"type": "http.response.body", "body": b"%d" % size})


class House:
    """A listening socket with the guard at the door."""

    def __init__(self, port: int, app: Echo, state: ServerState) -> None:
        self.port = port
        self.app = app
        self.state = state

    async def says(self, *pieces: bytes) -> bytes:
        """What is answered to `pieces`, up to the end of the connection."""
        reader, writer = await self.enter()
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def enter(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def house(**limits: Any) -> AsyncIterator[House]:
    app, state = Echo(), ServerState()
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    config.load()
    make: Callable[[], GuardedProtocol] = lambda: StreamProtocol(config, state, {}, **limits)  # noqa: E731
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    yield House(server.sockets[0].getsockname()[1], app, state)
    server.close()
    for connection in tuple(state.connections):
        connection.transport.abort()
    await asyncio.sleep(0)


def get(path: str = "/", *headers: str, close: bool = True) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: h", *headers, *(["Connection: close"] if close else [])]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def post(body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return (
        f"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n".encode() + body
    )


async def test_ordinary_requests_pass() -> None:
    async with house() as door:
        assert (await door.says(get("/", "Cookie: " + "c" * 8000))).startswith(OK)
        assert (await door.says(*(bytes([byte]) for byte in get()))).startswith(OK)
        assert (await door.says(post(b"x" * 4096))).endswith(b"4096\r\n0\r\n\r\n")


@pytest.mark.parametrize("in_one_piece", [True, False])
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/" + "a" * LINE_BYTES), b"414"),
        (get("/?ticket=" + "a" * 200_000), b"414"),
        (get("/", "Cookie: " + "c" * HEAD_BYTES), b"431"),
        (get("/", "Cookie: " + "c" * 200_000), b"431"),
        (get("/", *(f"X-{n}: {n}" for n in range(HEAD_COUNT + 1))), b"431"),
        (post(b"x" * (BODY_BYTES + 1)), b"413"),
        (get("/", "Broken header"), b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),  # TLS at the wrong door
        (get("/", "X: a\x00b"), b"400"),
        (get("/", "Content-Length: 5", "Transfer-Encoding: chunked"), b"400"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\n\tb\r\n\r\n", b"400"),
    ],
)
async def test_what_is_too_much_or_no_http_is_refused(
    request_bytes: bytes, status: bytes, in_one_piece: bool
) -> None:
    async with house() as door:
        half = len(request_bytes) // 2
        pieces = [request_bytes] if in_one_piece else [request_bytes[:half], request_bytes[half:]]
        answer = await door.says(*pieces)
        assert answer[:12] in (b"HTTP/1.1 " + status, b"")  # a reset may overtake the answer to a flood
        if status != b"413":  # a body comes after its request was begun
            assert door.app.asked == []


async def test_a_refusal_is_a_problem_in_json() -> None:
    async with house() as door:
        head, _, body = (await door.says(get("/" + "a" * LINE_BYTES))).partition(b"\r\n\r\n")
        assert b"content-type: application/problem+json" in head
        assert body == b'{"type":"about:blank","title":"Request-URI Too Long","status":414}' or b"414" in body


async def test_a_header_without_end_is_cut_off() -> None:
    async with house() as door:
        answer = await door.says(b"GET / HTTP/1.1\r\nX: ", *(b"x" * 4096 for _ in range(40)))
        assert answer[:12] in (b"HTTP/1.1 431", b"")


@pytest.mark.parametrize(
    "beginning",
    [
        b"G",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: ",
        b"\r\n",
        post(b"", length=10),
    ],
)
async def test_a_request_that_does_not_come_to_its_end_is_told_so(beginning: bytes) -> None:
    async with house(seconds=0.1) as door:
        answer = await door.says(beginning)
        assert answer[:12] in (b"HTTP/1.1 408", b"")
        assert not door.state.connections


async def test_a_byte_now_and_then_does_not_buy_more_time() -> None:
    async with house(seconds=0.3) as door:
        reader, writer = await door.enter()
        began = asyncio.get_running_loop().time()
        answer = asyncio.create_task(reader.read())
        writer.write(b"GET / HTTP/1.1\r\n")
        while not answer.done():
            writer.write(b"X-a: b\r\n")
            await asyncio.wait([answer], timeout=0.05)
        assert asyncio.get_running_loop().time() - began < 2
        writer.close()


async def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async with house(seconds=0.05) as door:
        assert await door.says() == b""


async def test_empty_lines_do_not_keep_an_idle_connection() -> None:
    async with house(seconds=0.1) as door:
        assert (await door.says(get(close=False), b"\r\n")).startswith(OK)
        assert not door.state.connections


async def test_a_stream_is_not_held_to_the_time_of_a_request() -> None:
    async with house(seconds=0.05) as door:
        reader, writer = await door.enter()
        writer.write(get("/stream"))
        await reader.readuntil(b"begun\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        writer.close()


async def test_half_a_body_that_never_comes_does_not_spoil_the_stream() -> None:
    async with house(seconds=0.1) as door:
        answer = await door.says(get("/taken", "Content-Length: 10", close=False) + b"half")
        assert answer.startswith(OK)
        assert answer.endswith(b"5\r\nbegun\r\n0\r\n\r\n")


async def test_nothing_is_written_into_an_answer_that_is_under_way() -> None:
    async with house() as door:
        reader, writer = await door.enter()
        writer.write(get("/stream", close=False))
        await reader.readuntil(b"begun")
        await reader.readuntil(b"\r\n")
        writer.write(b"\x00 this is no request \r\n\r\n")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


async def test_a_flood_behind_one_request_is_cut_off() -> None:
    async with house() as door:
        assert (await door.says(get("/stream", close=False) + get(close=False) * (PIPELINED + 5)))[:12] in (
            b"",
            b"HTTP/1.1 200",
        )
        assert len(door.app.asked) <= 1


async def test_over_the_ceiling_a_connection_is_closed_at_once_and_others_live() -> None:
    async with house(ceiling=2) as door:
        first, second = await door.enter(), await door.enter()
        assert await door.says(get()) == b""
        first[1].write(get())
        assert (await first[0].read()).startswith(OK)
        first[1].close()
        assert (await door.says(get())).startswith(OK)
        second[1].close()
