"""AsgiSink: a session is paused until the server below has room again, also after a single large frame."""

from __future__ import annotations

import asyncio

from proxy.server.http.asgi_sink import AsgiSink, Message
from tests.support.waiting import until

LARGE = b"x" * (AsgiSink.LIMIT + 1)


class Uvicorn:
    """A server whose ``send`` returns at once, and waits at its next call while there is no room."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.room = asyncio.Event()
        self.room.set()

    async def send(self, message: Message) -> None:
        await self.room.wait()
        body = message.get("body", b"")
        self.sent.append(body)
        if len(body) > AsgiSink.LIMIT:
            self.room.clear()


class Listener:
    """Remembers what it is notified of."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def lost(self) -> None:
        self.calls.append("lost")


async def test_one_large_frame_keeps_the_session_paused_until_the_client_has_taken_it() -> None:
    server, sink, listener = Uvicorn(), AsgiSink(), Listener()
    sink.listener = listener
    sink.begin([], b"retry: 1\n\n")
    running = asyncio.create_task(sink.run(server.send))
    sink.write(LARGE)
    await until(lambda: b"".join(server.sent).endswith(LARGE))
    for _ in range(10):
        await asyncio.sleep(0)
    assert (sink.paused, listener.calls) == (True, ["pause"])
    server.room.set()
    await until(lambda: not sink.paused)
    assert listener.calls == ["pause", "resume"]
    sink.write(b"later")
    sink.finish()
    await running
    assert b"".join(server.sent) == b"retry: 1\n\n" + LARGE + b"later"


async def test_what_is_written_while_the_server_has_no_room_is_sent_before_the_session_goes_on() -> None:
    server, sink, listener = Uvicorn(), AsgiSink(), Listener()
    sink.listener = listener
    sink.begin([], b"")
    running = asyncio.create_task(sink.run(server.send))
    sink.write(LARGE)
    await until(lambda: b"".join(server.sent).endswith(LARGE))
    sink.write(b": heartbeat\n")
    server.room.set()
    await until(lambda: not sink.paused)
    assert server.sent[-2:] == [b": heartbeat\n", b""]
    sink.finish()
    await running


async def test_an_aborted_response_sends_nothing_more_and_cuts_the_connection_if_the_server_can() -> None:
    cut: list[str] = []
    for sink in (AsgiSink(lambda: cut.append("cut")), AsgiSink()):
        server = Uvicorn()
        sink.begin([], b"begun")
        running = asyncio.create_task(sink.run(server.send))
        await until(lambda server=server: b"begun" in server.sent)  # type: ignore[misc]
        sink.write(b"not sent any more")
        sink.abort()
        await running
        assert server.sent[-1] == b"begun", "no end either: the client must not take the part for the whole"
    assert cut == ["cut"]


async def test_a_client_that_leaves_ends_the_response_and_its_session_once() -> None:
    server, sink, listener = Uvicorn(), AsgiSink(), Listener()
    sink.listener = listener
    sink.begin([], b"begun")
    running = asyncio.create_task(sink.run(server.send))
    await until(lambda: b"begun" in server.sent)
    for _ in range(2):
        sink.lost()
    await running
    assert listener.calls == ["lost"]
    assert server.sent[-1] == b"begun"


async def test_bytes_that_wait_here_and_below_are_unsent() -> None:
    server, sink = Uvicorn(), AsgiSink(unsent=lambda: 1000)
    sink.begin([], b"12345")
    sink.write(b"678")
    assert sink.unsent() == 1008
    sink.finish()
    await sink.run(server.send)
    assert sink.unsent() == 1000
