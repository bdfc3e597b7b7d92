"""The limits on requests, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from proxy.server.http import request_limits
from proxy.server.http.request_limits import (
    ABORT,
    BODY_BYTES,
    HEAD_BYTES,
    HEAD_COUNT,
    LINE_BYTES,
    PIPELINED,
    LimitedProtocol,
)
from tests.support.waiting import until

OK = b"HTTP/1.1 200 OK"


class Echo:
    """Answers each request with the length of its body; ``/stream`` begins and goes on for ever.

    ``/aborted`` begins and aborts its connection, ``/held`` goes on until `release` is set, ``/ignored`` does
    not read its body.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.release = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        begin = {"type": "http.response.start", "status": 200, "headers": []}
        if scope["path"] == "/stream":
            await send(begin)
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if scope["path"] == "/held":
            await send(begin)
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            await self.release.wait()
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["path"] == "/ignored":
            await send(begin)
            await send({"type": "http.response.body", "body": b"done"})
            return
        if scope["path"] == "/aborted":
            await send(begin)
            scope["extensions"][ABORT]["abort"]()
            assert (await receive())["type"] == "http.request"
            assert (await receive())["type"] == "http.disconnect"
            return
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        await send(begin)
        await send({"type": "http.response.body", "body": b"%d" % size})


class Listener:
    """A listening socket whose connections are limited."""

    def __init__(self, port: int, app: Echo, state: ServerState) -> None:
        self.port = port
        self.app = app
        self.state = state

    async def answer_to(self, *pieces: bytes) -> bytes:
        """The answer to `pieces`, up to the end of the connection."""
        reader, writer = await self.connect()
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def listener(*, keep_alive: float = 5.0, **limits: Any) -> AsyncIterator[Listener]:
    app, state = Echo(), ServerState()
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    config.timeout_keep_alive = keep_alive  # type: ignore[assignment] # whole seconds are long for a test
    config.load()
    make: Callable[[], LimitedProtocol] = lambda: LimitedProtocol(config, state, {}, **limits)  # noqa: E731
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    yield Listener(server.sockets[0].getsockname()[1], app, state)
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


async def test_ordinary_requests_are_answered() -> None:
    async with listener() as one:
        assert (await one.answer_to(get("/", "Cookie: " + "c" * 8000))).startswith(OK)
        assert (await one.answer_to(*(bytes([byte]) for byte in get()))).startswith(OK)
        assert (await one.answer_to(post(b"x" * 4096))).endswith(b"4096\r\n0\r\n\r\n")


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
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),  # TLS, which this port does not speak
        (get("/", "X: a\x00b"), b"400"),
        (get("/", "Content-Length: 5", "Transfer-Encoding: chunked"), b"400"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\n\tb\r\n\r\n", b"400"),
    ],
)
async def test_a_request_over_a_limit_or_that_is_no_http_is_refused(
    request_bytes: bytes, status: bytes, in_one_piece: bool
) -> None:
    async with listener() as one:
        half = len(request_bytes) // 2
        pieces = [request_bytes] if in_one_piece else [request_bytes[:half], request_bytes[half:]]
        answer = await one.answer_to(*pieces)
        assert answer[:12] == b"HTTP/1.1 " + status
        if status != b"413":  # a body comes after its request was begun
            assert one.app.asked == []


@pytest.mark.parametrize(("count", "status"), [(BODY_BYTES // 100, b"200"), (BODY_BYTES // 100 + 1, b"413")])
async def test_a_body_without_a_length_is_counted_piece_by_piece(count: int, status: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with listener() as one:
        pieces = [b"64\r\n" + b"x" * 100 + b"\r\n"] * count
        answer = await one.answer_to(head, *pieces, b"0\r\n\r\n")
        assert answer[:12] == b"HTTP/1.1 " + status


async def test_a_request_that_is_refused_behind_another_one_never_begins() -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with listener() as one:
        reader, writer = await one.connect()
        writer.write(get("/held", close=False))
        await reader.readuntil(b"begun\r\n")
        writer.write(head + b"%x\r\n" % (BODY_BYTES + 1) + b"x" * (BODY_BYTES + 1))
        await until(lambda: any(getattr(each, "_refusal", None) for each in one.state.connections))
        one.app.release.set()
        assert b"HTTP/1.1 413" in await reader.read()
        assert one.app.asked == ["/held"]
        writer.close()


async def test_a_refusal_is_a_problem_in_json() -> None:
    async with listener() as one:
        head, _, body = (await one.answer_to(get("/" + "a" * LINE_BYTES))).partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0].startswith(b"HTTP/1.1 414 ")
        assert {
            b"content-type: application/problem+json",
            b"content-length: %d" % len(body),
            b"cache-control: no-store",
            b"connection: close",
        } <= set(lines)
        detail = f"a request's target may have at most {LINE_BYTES} bytes"
        title = HTTPStatus.REQUEST_URI_TOO_LONG.phrase
        assert json.loads(body) == {"type": "about:blank", "title": title, "status": 414, "detail": detail}


async def test_a_header_without_end_is_refused() -> None:
    async with listener() as one:
        reader, writer = await one.connect()
        answer = asyncio.create_task(reader.readline())  # at once: a reset would hide it
        with contextlib.suppress(ConnectionError):
            for piece in (b"GET / HTTP/1.1\r\nX: ", *(b"x" * 4096 for _ in range(40))):
                writer.write(piece)
                await writer.drain()
        assert (await answer).startswith(b"HTTP/1.1 431 ")
        writer.close()


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
async def test_an_incomplete_request_is_answered_with_408(beginning: bytes) -> None:
    async with listener(seconds=0.1) as one:
        answer = await one.answer_to(beginning)
        assert answer[:12] == b"HTTP/1.1 408"
        await until(lambda: not one.state.connections)


async def test_a_request_that_trickles_in_has_no_more_time() -> None:
    async with listener(seconds=0.3) as one:
        reader, writer = await one.connect()
        answer = asyncio.create_task(reader.read())
        writer.write(b"GET / HTTP/1.1\r\n")
        while not answer.done():
            writer.write(b"X-a: b\r\n")
            await asyncio.wait([answer], timeout=0.05)
        assert (await answer)[:12] == b"HTTP/1.1 408"
        writer.close()


async def test_a_silent_connection_is_closed_without_an_answer() -> None:
    async with listener(seconds=0.05) as one:
        assert await one.answer_to() == b""


async def test_empty_lines_do_not_keep_an_idle_connection() -> None:
    async with listener(seconds=0.1) as one:
        reader, writer = await one.connect()
        writer.write(get(close=False))
        assert (await reader.readuntil(b"0\r\n\r\n")).startswith(OK)
        writer.write(b"\r\n")  # it stops the keep-alive timer of uvicorn
        assert (await reader.read())[:12] == b"HTTP/1.1 408"
        writer.close()
        await until(lambda: not one.state.connections)


async def test_the_time_for_a_request_does_not_limit_its_response() -> None:
    async with listener(seconds=0.05) as one:
        reader, writer = await one.connect()
        writer.write(get("/stream"))
        await reader.readuntil(b"begun\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        writer.close()


async def test_a_body_that_never_comes_ends_the_response_that_did_not_wait_for_it() -> None:
    async with listener(seconds=0.1) as one:
        answer = await one.answer_to(get("/stream", "Content-Length: 10", close=False) + b"half")
        assert answer.startswith(OK)
        assert answer.endswith(b"\r\nbegun\r\n"), "it is cut off"
        assert not one.state.connections


async def test_an_application_can_abort_the_connection_of_a_request() -> None:
    async with listener() as one:
        answer = await one.answer_to(get("/aborted", close=False))
        assert not answer.endswith(b"0\r\n\r\n")
        assert not one.state.connections


@pytest.mark.parametrize(
    ("then", "status"),
    [(b"\x00 this is no request \r\n\r\n", b"400"), (get(close=False) * (PIPELINED + 5), b"429")],
)
async def test_a_refusal_follows_the_responses_that_are_under_way(then: bytes, status: bytes) -> None:
    async with listener() as one:
        reader, writer = await one.connect()
        writer.write(get("/held", close=False))
        await reader.readuntil(b"begun\r\n")
        writer.write(then)
        await until(lambda: any(getattr(each, "_refusal", None) for each in one.state.connections))
        one.app.release.set()
        rest = await reader.read()
        assert rest.startswith(b"0\r\n\r\nHTTP/1.1 ")
        assert rest[rest.rindex(b"HTTP/1.1 ") :][9:12] == status
        assert len(one.app.asked) == 1 + (PIPELINED if status == b"429" else 0)
        writer.close()


async def test_a_client_that_still_sends_can_read_why_it_was_refused() -> None:
    async with listener() as one:
        reader, writer = await one.connect()
        writer.write(post(b"", length=BODY_BYTES + 1))
        answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 413")
        for _ in range(20):
            writer.write(b"x" * 1000)
            await writer.drain()
        assert await reader.read() == b"", "the end of the connection, and no reset"
        writer.close()


async def test_a_body_that_nobody_waits_for_draws_no_second_answer() -> None:
    async with listener(seconds=0.1) as one:
        answer = await one.answer_to(get("/ignored", "Content-Length: 10", close=False) + b"half")
        assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_connection_over_the_ceiling_is_closed_at_once_and_others_stay() -> None:
    async with listener(ceiling=2) as one:
        first, second = await one.connect(), await one.connect()
        assert await one.answer_to(get()) == b""
        first[1].write(get())
        assert (await first[0].read()).startswith(OK)
        first[1].close()
        assert (await one.answer_to(get())).startswith(OK)
        second[1].close()


async def test_the_time_of_an_idle_connection_limits_no_later_response() -> None:
    async with listener(keep_alive=1.0) as one:
        reader, writer = await one.connect()
        writer.write(get(close=False))
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(get("/held", close=False))
        await reader.readuntil(b"begun\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 1.5)
        one.app.release.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
        assert await reader.read() == b"", "and then it is closed"
        writer.close()


async def test_a_refused_client_that_does_not_close_its_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_limits, "LINGER_SECONDS", 0.05)
    async with listener() as one:
        reader, writer = await one.connect()
        writer.write(get("/", "Broken header"))
        assert (await reader.read())[:12] == b"HTTP/1.1 400"
        assert not writer.is_closing()
        await until(lambda: not one.state.connections)
        writer.close()
