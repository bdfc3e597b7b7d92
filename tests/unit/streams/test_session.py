"""Sessions: what they count, what they give back, and when."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from config.model.files import LimitsConfig
from proxy.access.admission import Lease, TeamLimits
from proxy.core.events import End
from proxy.streams.dispatcher import Dispatcher
from proxy.streams.message_writer import Start
from proxy.streams.session import Session, Sessions, SinkListener
from proxy.streams.subscriber import Ending
from tests.unit.streams.test_dispatcher import chunk, dispatcher, turn


class ResponseSink:
    """A response that remembers how it ended."""

    def __init__(self, *, paused: bool = False) -> None:
        self.listener: SinkListener | None = None
        self.paused = paused
        self.written = b""
        self.calls: list[str] = []
        self.waiting = 0  # bytes that the client has not taken

    def unsent(self) -> int:
        return self.waiting

    def write(self, body: bytes) -> None:
        self.written += body

    def write_shared(self, body: bytes, chunk: bytes) -> None:
        self.write(body)

    def finish(self) -> None:
        self.calls.append("finish")

    def abort(self) -> None:
        self.calls.append("abort")


class Scene:
    """A dispatcher, limits, and what was reported of sessions that ended."""

    def __init__(self) -> None:
        self.dispatcher: Dispatcher = dispatcher()
        self.sessions = Sessions()
        self.limits = TeamLimits(LimitsConfig())
        self.ended: list[tuple[Session, Ending]] = []

    @property
    def counts(self) -> Any:
        return self.dispatcher.channel.counts

    def session(self, sink: ResponseSink, expires_in: float | None = None) -> Session:
        session = Session(
            self.dispatcher,
            sink,
            sessions=self.sessions,
            stream="s",
            run=cast(Any, None),
            lease=cast(Lease, self.limits.admit("run", None, 0.0)),
            start=Start(0),
            client="127.0.0.1",
            expires_in=expires_in,
            on_end=lambda session, ending: self.ended.append((session, ending)),
        )
        session.start()
        return session


@pytest.fixture
async def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(
    ("ending", "calls"),
    [
        (Ending.LEFT, []),
        (Ending.STUCK, ["abort"]),
        (Ending.FAILED, ["abort"]),
        (Ending.DRAIN, ["finish"]),
        (Ending.EXPIRED, ["finish"]),
        (Ending.DROPPED, ["finish"]),
    ],
)
async def test_a_session_gives_everything_back_once(scene: Scene, ending: Ending, calls: list[str]) -> None:
    sink = ResponseSink()
    session = scene.session(sink)
    assert (scene.counts.clients, scene.counts.opened, scene.limits.connections) == (1, 1, 1)
    assert list(scene.sessions) == [session]
    assert sink.listener is session
    session.end(ending)
    session.end(Ending.LEFT)
    session.lost()
    assert sink.calls == calls
    assert scene.ended == [(session, ending)]
    assert dict(scene.counts.ends) == {str(ending): 1}
    assert (scene.counts.clients, scene.counts.opened, scene.limits.connections) == (0, 1, 0)
    assert len(scene.sessions) == 0
    assert not scene.dispatcher.subscribers
    assert sink.listener is None


async def test_a_last_frame_is_written_before_the_end_and_never_after_it(scene: Scene) -> None:
    sink = ResponseSink()
    session = scene.session(sink)
    session.end(Ending.DRAIN, b"last")
    session.end(Ending.DRAIN, b"too late")
    assert sink.written == b"last"


async def test_the_end_of_the_run_ends_the_session(scene: Scene) -> None:
    sink = ResponseSink()
    session = scene.session(sink)
    scene.dispatcher.publish([chunk("a"), End("completed")])
    await turn()
    assert scene.ended == [(session, Ending.END)]
    assert sink.calls == ["finish"]


async def test_dropping_the_dispatcher_ends_all_its_sessions(scene: Scene) -> None:
    sinks = [ResponseSink() for _ in range(3)]
    sessions = {scene.session(sink) for sink in sinks}
    scene.dispatcher.close()
    assert {session for session, _ in scene.ended} == sessions
    assert {ending for _, ending in scene.ended} == {Ending.DROPPED}
    assert [sink.calls for sink in sinks] == [["finish"]] * 3
    assert scene.dispatcher.channel.backlog.bytes == 0


async def test_expired_credentials_end_the_session_with_a_frame(scene: Scene) -> None:
    sink = ResponseSink()
    session = scene.session(sink, expires_in=0.0)
    async with asyncio.timeout(10):
        while not scene.ended:
            await asyncio.sleep(0)
    assert scene.ended == [(session, Ending.EXPIRED)]
    assert b"event: stream.expired\n" in sink.written


@pytest.mark.parametrize(("expires_in", "left"), [(60.0, 60.0), (0.0, 0.0), (-5.0, 0.0)])
async def test_a_session_expires_when_its_credentials_do(
    scene: Scene, expires_in: float, left: float
) -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    expiry = scene.session(ResponseSink(), expires_in)._expiry
    assert expiry is not None
    assert before + left <= expiry.when() <= loop.time() + left
    expiry.cancel()


async def test_a_session_that_is_over_does_not_expire(scene: Scene) -> None:
    sink = ResponseSink()
    session = scene.session(sink, expires_in=0.0)
    expiry = session._expiry
    session.end(Ending.LEFT)
    assert expiry is not None
    assert expiry.cancelled()
    assert session._expiry is None


async def test_a_paused_session_is_stuck_once_it_has_been_paused_long_enough(scene: Scene) -> None:
    session, other = scene.session(ResponseSink()), scene.session(ResponseSink())
    assert not scene.sessions.paused
    before = asyncio.get_running_loop().time()
    session.pause()
    after = asyncio.get_running_loop().time()
    assert scene.sessions.paused == {session}
    assert scene.sessions.stuck(before - 1.0) == []
    assert scene.sessions.stuck(after) == [session]
    session.resume()
    assert scene.sessions.stuck(after) == []
    session.pause()
    session.end(Ending.STUCK)
    assert scene.sessions.stuck(after + 1.0) == []
    assert list(scene.sessions) == [other]


async def test_a_client_that_takes_bytes_of_a_large_frame_is_not_stuck(scene: Scene) -> None:
    sink = ResponseSink()
    session = scene.session(sink)
    sink.waiting = 1000
    session.pause()
    long_ago = asyncio.get_running_loop().time() - 100.0
    for left in (900, 100, 99):
        session.subscriber.paused_since = long_ago
        sink.waiting = left
        assert scene.sessions.stuck(long_ago + 50.0) == []
    session.subscriber.paused_since = long_ago
    assert scene.sessions.stuck(long_ago + 50.0) == [session], "since then it has taken nothing"


async def test_nothing_is_written_to_a_sink_that_was_full_before_the_session(scene: Scene) -> None:
    scene.dispatcher.publish([chunk("a")])
    sink = ResponseSink(paused=True)
    session = scene.session(sink)
    assert sink.written == b""
    assert scene.sessions.paused == {session}
    session.resume()
    assert b'"a"' in sink.written
