"""What the fast path writes past its transport arrives in order and whole, never on a closed connection."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from proxy.formats.chunked import chunk
from proxy.server.http.fast_path import ConnectionFactory, FastPath
from proxy.teams.hub import Hub
from tests.support.waiting import until

NewLoop = Callable[[], asyncio.AbstractEventLoop]


@dataclass
class Pair:
    """A connection that has a stream, and its client's socket; `paused` is what its listener was told."""

    sink: FastPath
    client: socket.socket
    paused: list[bool]
    lost: asyncio.Event

    def shared(self, body: bytes) -> None:
        self.sink.write_shared(body, chunk(body))

    async def read(self, size: int) -> bytes:
        """What the client reads, `size` bytes."""
        read = b""
        while len(read) < size:
            read += await asyncio.get_running_loop().sock_recv(self.client, size - len(read))
        return read

    # -- the listener --

    def pause(self) -> None:
        self.paused.append(True)

    def resume(self) -> None:
        self.paused.append(False)

    def on_lost(self) -> None:
        self.lost.set()


class Listener:
    """Passes on what a sink says."""

    def __init__(self, pair: Pair) -> None:
        self.pause, self.resume, self.lost = pair.pause, pair.resume, pair.on_lost


def run(new_loop: NewLoop, test: Callable[[Pair], Awaitable[None]]) -> None:
    """Run `test` with a new connection."""

    async def main() -> None:
        hub = SimpleNamespace(server=SimpleNamespace(write_timeout=None))  # what a sink asks it for
        factory = ConnectionFactory(cast("Hub", hub))
        factory.serve_as(uvicorn.Config(cast(Any, None)), ServerState(), {})
        ours, client = socket.socketpair()
        client.setblocking(False)
        _, sink = await asyncio.get_running_loop().create_connection(lambda: FastPath(factory), sock=ours)
        pair = Pair(sink, client, [], asyncio.Event())
        sink.listener = Listener(pair)
        try:
            async with asyncio.timeout(30):
                await test(pair)
        finally:
            sink.abort()
            client.close()
            await pair.lost.wait()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


both_loops = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


@both_loops
def test_bytes_arrive_in_the_order_in_which_they_were_written(new_loop: NewLoop) -> None:
    async def test(pair: Pair) -> None:
        written = b""
        for turn in range(5):
            for number in range(6):
                body = b"%d.%d" % (turn, number)
                pair.sink.write(body) if number % 3 == 1 else pair.shared(body)
                written += chunk(body)
            await asyncio.sleep(0)
        assert await pair.read(len(written)) == written

    run(new_loop, test)


@both_loops
def test_a_client_that_does_not_read_pauses_the_stream_and_gets_every_byte_later(new_loop: NewLoop) -> None:
    async def test(pair: Pair) -> None:
        written = b""
        while not pair.paused:
            body = os.urandom(5000)
            pair.shared(body)
            written += chunk(body)
            await asyncio.sleep(0)
        read = pair.client.recv(len(written))  # the socket has room now, and the transport holds older bytes
        pair.shared(b"after")
        pair.sink.write(b"the last")
        written += chunk(b"after") + chunk(b"the last")
        assert read + await pair.read(len(written) - len(read)) == written
        await until(lambda: pair.paused == [True, False])
        pair.shared(b"again")
        assert await pair.read(len(chunk(b"again"))) == chunk(b"again")

    run(new_loop, test)


@both_loops
def test_a_write_to_a_client_that_is_gone_ends_the_connection(new_loop: NewLoop) -> None:
    async def test(pair: Pair) -> None:
        pair.shared(b"something")
        await asyncio.sleep(0)
        pair.client.close()
        while not pair.lost.is_set():
            pair.shared(b"nobody reads this")
            await asyncio.sleep(0)

    run(new_loop, test)


@both_loops
def test_nothing_is_written_to_a_connection_that_closes(new_loop: NewLoop) -> None:
    async def test(pair: Pair) -> None:
        pair.shared(b"before")
        await asyncio.sleep(0)
        pair.shared(b"now past the transport")
        fd = pair.sink.transport.get_extra_info("socket").fileno()
        pair.sink.abort()
        await pair.lost.wait()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            if ours.fileno() != fd:
                os.dup2(ours.fileno(), fd)  # the number belongs to another socket now
            pair.shared(b"never")
            theirs.setblocking(False)
            with pytest.raises(BlockingIOError):
                theirs.recv(1)
            if ours.fileno() != fd:
                os.close(fd)

    run(new_loop, test)


@both_loops
def test_the_head_goes_out_before_the_first_shared_bytes(new_loop: NewLoop) -> None:
    async def test(pair: Pair) -> None:
        for _ in range(2):  # also on a connection that was written to before
            pair.sink.begin([(b"content-type", b"text/event-stream")], b"retry: 1\n\n")
            pair.shared(b"first")
            pair.shared(b"second")
            await asyncio.sleep(0)
            expected = chunk(b"retry: 1\n\n") + chunk(b"first") + chunk(b"second")
            answer = await pair.read(len(expected))
            while not answer.endswith(expected):
                answer += await pair.read(1)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")

    run(new_loop, test)
