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
from proxy.streams.session import Admitted, Session, Sessions, SinkListener
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


class Setup:
    """A dispatcher, limits, and what was reported of sessions that ended."""

    def __init__(self) -> None:
        self.dispatcher: Dispatcher = dispatcher()
        self.sessions = Sessions()
        self.limits = TeamLimits(LimitsConfig())
        self.ended: list[tuple[Session, Ending]] = []

    @property
    def counts(self) -> Any:
        return self.dispatcher.channel.counts

    def session_ended(self, session: Session, ending: Ending) -> None:
        self.ended.append((session, ending))

    def session(self, sink: ResponseSink, expires_in: float | None = None) -> Session:
        session = Session(
            self.dispatcher,
            sink,
            Start(0),
            Admitted(
                stream="s",
                run=cast(Any, None),
                lease=cast(Lease, self.limits.admit("run", None, 0.0)),
                client="127.0.0.1",
                expires_in=expires_in,
                owner=self,
            ),
            self.sessions,
        )
        session.start()
        return session


@pytest.fixture
async def setup() -> Setup:
    return Setup()


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
async def test_a_session_gives_everything_back_once(setup: Setup, ending: Ending, calls: list[str]) -> None:
    sink = ResponseSink()
    session = setup.session(sink)
    assert (setup.counts.clients, setup.counts.opened, setup.limits.connections) == (1, 1, 1)
    assert list(setup.sessions) == [session]
    assert sink.listener is session
    session.end(ending)
    session.end(Ending.LEFT)
    session.lost()
    assert sink.calls == calls
    assert setup.ended == [(session, ending)]
    assert dict(setup.counts.ends) == {str(ending): 1}
    assert (setup.counts.clients, setup.counts.opened, setup.limits.connections) == (0, 1, 0)
    assert len(setup.sessions) == 0
    assert not setup.dispatcher.subscribers
    assert sink.listener is None


async def test_a_last_frame_is_written_before_the_end_and_never_after_it(setup: Setup) -> None:
    sink = ResponseSink()
    session = setup.session(sink)
    session.end(Ending.DRAIN, b"last")
    session.end(Ending.DRAIN, b"too late")
    assert sink.written == b"last"


async def test_the_end_of_the_run_ends_the_session(setup: Setup) -> None:
    sink = ResponseSink()
    session = setup.session(sink)
    setup.dispatcher.publish([chunk("a"), End("completed")])
    await turn()
    assert setup.ended == [(session, Ending.END)]
    assert sink.calls == ["finish"]


async def test_dropping_the_dispatcher_ends_all_its_sessions(setup: Setup) -> None:
    sinks = [ResponseSink() for _ in range(3)]
    sessions = {setup.session(sink) for sink in sinks}
    setup.dispatcher.close()
    assert {session for session, _ in setup.ended} == sessions
    assert {ending for _, ending in setup.ended} == {Ending.DROPPED}
    assert [sink.calls for sink in sinks] == [["finish"]] * 3
    assert setup.dispatcher.channel.backlog.bytes == 0


async def test_expired_credentials_end_the_session_with_a_frame(setup: Setup) -> None:
    sink = ResponseSink()
    session = setup.session(sink, expires_in=0.0)
    async with asyncio.timeout(10):
        while not setup.ended:
            await asyncio.sleep(0)
    assert setup.ended == [(session, Ending.EXPIRED)]
    assert b"event: stream.expired\n" in sink.written


@pytest.mark.parametrize(("expires_in", "left"), [(60.0, 60.0), (0.0, 0.0), (-5.0, 0.0)])
async def test_a_session_expires_when_its_credentials_do(
    setup: Setup, expires_in: float, left: float
) -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    expiry = setup.session(ResponseSink(), expires_in)._expiry
    assert expiry is not None
    assert before + left <= expiry.when() <= loop.time() + left
    expiry.cancel()


async def test_a_session_that_is_over_does_not_expire(setup: Setup) -> None:
    sink = ResponseSink()
    session = setup.session(sink, expires_in=0.0)
    expiry = session._expiry
    session.end(Ending.LEFT)
    assert expiry is not None
    assert expiry.cancelled()
    assert session._expiry is None


async def test_a_paused_session_is_stuck_once_it_has_been_paused_long_enough(setup: Setup) -> None:
    session, other = setup.session(ResponseSink()), setup.session(ResponseSink())
    assert not setup.sessions.paused
    before = asyncio.get_running_loop().time()
    session.pause()
    after = asyncio.get_running_loop().time()
    assert setup.sessions.paused == {session}
    assert setup.sessions.stuck(before - 1.0) == []
    assert setup.sessions.stuck(after) == [session]
    session.resume()
    assert setup.sessions.stuck(after) == []
    session.pause()
    session.end(Ending.STUCK)
    assert setup.sessions.stuck(after + 1.0) == []
    assert list(setup.sessions) == [other]


async def test_a_client_that_takes_bytes_of_a_large_frame_is_not_stuck(setup: Setup) -> None:
    sink = ResponseSink()
    session = setup.session(sink)
    sink.waiting = 1000
    session.pause()
    long_ago = asyncio.get_running_loop().time() - 100.0
    for left in (900, 100, 99):
        session.subscriber.paused_since = long_ago
        sink.waiting = left
        assert setup.sessions.stuck(long_ago + 50.0) == []
    session.subscriber.paused_since = long_ago
    assert setup.sessions.stuck(long_ago + 50.0) == [session], "since then it has taken nothing"


async def test_nothing_is_written_to_a_sink_that_was_full_before_the_session(setup: Setup) -> None:
    setup.dispatcher.publish([chunk("a")])
    sink = ResponseSink(paused=True)
    session = setup.session(sink)
    assert sink.written == b""
    assert setup.sessions.paused == {session}
    session.resume()
    assert b'"a"' in sink.written
