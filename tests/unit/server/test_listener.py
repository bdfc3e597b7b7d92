"""The listener: its signals, and the order of the drain."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from proxy.server.drain import ABORT_AFTER, POLL
from proxy.server.http.sockets import bound
from proxy.server.listener import AdminServer, StreamServer
from tests.support.fakes import rest
from tests.support.waiting import until

GRACE = 10.0


class Hub:
    """What the listener uses of a hub; each call is noted."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.max_connections = 100
        self.sessions = [object(), object()]
        self.server = cast(Any, type("Server", (), {"write_timeout": 20.0}))()
        self.server.drain = type("Drain", (), {"grace": GRACE})()
        self.event_log = self
        self.logged: dict[str, Any] = {}
        self.closes: Callable[[], None] = lambda: None
        self.hangs = False
        self.replication: Replication | None = None

    def draining(self, **fields: Any) -> None:
        self.calls.append("log draining")
        self.logged["draining"] = fields

    def drain(self) -> None:
        self.calls.append("drain")

    async def close(self) -> None:
        self.calls.append("close hub")
        if self.hangs:
            await asyncio.Event().wait()

    def stopped(self, **fields: Any) -> None:
        self.calls.append("log stopped")
        self.logged["stopped"] = fields

    def flush(self) -> None:
        self.calls.append("flush")


class Replication:
    """Has runs to give to other replicas until the test lets it go on."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.given = asyncio.Event()

    async def leave(self, seconds: float) -> None:
        self.calls.append(f"leave within {seconds:g}")
        await self.given.wait()
        self.calls.append("left")


class Connection:
    """A connection of the server, and its own transport."""

    def __init__(self, server: StreamServer, calls: list[str], *, stuck: bool) -> None:
        self._server, self._calls, self._stuck = server, calls, stuck
        self.transport = self

    def shutdown(self) -> None:
        self._calls.append("shut down")
        if not self._stuck:
            self._server.server_state.connections.discard(cast(Any, self))

    def abort(self) -> None:
        self._calls.append("abort")
        self._server.server_state.connections.discard(cast(Any, self))


class Listening:
    """A stand-in for a listening server or socket."""

    def __init__(self, calls: list[str], name: str) -> None:
        self._calls, self._name = calls, name

    def close(self) -> None:
        self._calls.append(f"close {self._name}")

    def fileno(self) -> int:
        return -1


class Setup:
    """A server with a fake hub."""

    def __init__(self, **options: Any) -> None:
        self.calls: list[str] = []
        self.hub = Hub(self.calls)
        app = cast(Any, type("App", (), {"hub": self.hub}))()
        self.server = StreamServer(app, **options)

    def connect(self, *, stuck: bool = False) -> None:
        connection = Connection(self.server, self.calls, stuck=stuck)
        self.server.server_state.connections.add(cast(Any, connection))

    async def shut_down(self) -> None:
        self.server.servers = [cast(Any, Listening(self.calls, "server"))]
        await self.server.shutdown([cast(Any, Listening(self.calls, "socket"))])


@pytest.fixture
async def setup() -> Setup:
    return Setup()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The sleeps of the listener; each moves the loop's clock and takes one turn of the loop."""
    loop, made = asyncio.get_event_loop_policy().get_event_loop(), list[float]()
    began, turn = loop.time(), asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            made.append(seconds)
        await turn(0)

    monkeypatch.setattr("proxy.server.drain.asyncio.sleep", sleep)
    monkeypatch.setattr(loop, "time", lambda: began + sum(made))
    return made


async def test_the_drain_closes_the_listener_first_and_the_hub_last(setup: Setup) -> None:
    setup.connect()
    await setup.shut_down()
    assert setup.calls == [
        "close server",
        "close socket",
        "log draining",
        "drain",
        "shut down",
        "close hub",
        "log stopped",
    ]
    assert setup.hub.logged["draining"] == {"clients": 2, "grace": GRACE}
    assert setup.hub.logged["stopped"]["left"] == 0


async def test_a_connection_that_does_not_drain_is_cut_when_most_of_the_grace_is_over(
    setup: Setup, pauses: list[float]
) -> None:
    setup.connect(stuck=True)
    setup.connect()
    await setup.shut_down()
    assert setup.calls.count("abort") == 1
    assert setup.calls.index("abort") < setup.calls.index("close hub")
    assert sum(pauses) == pytest.approx(GRACE * ABORT_AFTER, abs=2 * POLL)
    assert setup.hub.logged["stopped"]["left"] == 1


async def test_a_connection_that_cannot_be_cut_delays_the_end_no_longer_than_the_grace(
    setup: Setup, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "abort", lambda self: None)
    setup.connect(stuck=True)
    await setup.shut_down()
    assert sum(pauses) == pytest.approx(GRACE, abs=3 * POLL)
    assert setup.calls[-1] == "log stopped"


async def test_the_drain_waits_for_requests_that_uvicorn_answers(setup: Setup, pauses: list[float]) -> None:
    finish = asyncio.Event()
    answering = asyncio.create_task(finish.wait())
    setup.server.server_state.tasks.add(cast(Any, answering))
    answering.add_done_callback(cast(Any, setup.server.server_state.tasks.discard))
    draining = asyncio.create_task(setup.shut_down())
    while len(pauses) < 3:
        await asyncio.sleep(0)
    assert setup.calls[-1] == "drain"
    finish.set()
    await draining


async def test_the_runs_that_a_replica_leads_are_given_away_before_the_hub_is_closed(
    setup: Setup, pauses: list[float]
) -> None:
    setup.hub.replication = replication = Replication(setup.calls)
    draining = asyncio.create_task(setup.shut_down())
    await rest()
    assert setup.calls[-2:] == ["drain", f"leave within {GRACE * ABORT_AFTER:g}"]
    replication.given.set()
    await draining
    assert setup.calls[-3:] == ["left", "close hub", "log stopped"]


async def test_a_hub_that_does_not_close_does_not_keep_the_process(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.server.drain.CLOSE_SECONDS", 0.01)
    setup.hub.hangs = True
    await setup.shut_down()
    assert setup.calls[-1] == "log stopped"


async def test_a_second_stop_writes_the_log_and_ends_the_process_at_once(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "_exit", lambda status: setup.calls.append(f"exit {status}"))
    setup.server.stop()
    assert setup.server.should_exit
    assert setup.calls == []
    setup.server.stop()
    assert setup.calls == ["flush", "exit 1"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_begins_the_drain(setup: Setup, number: signal.Signals) -> None:
    with setup.server.capture_signals():
        os.kill(os.getpid(), number)
        await until(lambda: setup.server.should_exit)


async def test_sighup_reloads_and_nothing_else() -> None:
    reloads: list[None] = []
    setup = Setup(reload=lambda: reloads.append(None))
    with setup.server.capture_signals():
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: reloads)
    assert not setup.server.should_exit


async def test_signals_are_given_back_at_the_end(setup: Setup) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with setup.server.capture_signals():
        assert signal.getsignal(signal.SIGHUP) != before[signal.SIGHUP]
    assert {number: signal.getsignal(number) for number in before} == before


async def test_sockets_inherit_the_write_timeout_and_the_listening_is_reported_when_it_is_true() -> None:
    accepted: list[bool] = []

    def listening() -> None:
        with socket.create_connection(sock.getsockname()):
            accepted.append(True)

    sock = bound("127.0.0.1", 0)
    setup = Setup(listening=listening)
    setup.server.config.load()
    setup.server.lifespan = setup.server.config.lifespan_class(setup.server.config)
    await setup.server.startup([sock])
    try:
        assert accepted == [True]
        assert setup.server._connections.write_timeout == 20.0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 40_000
    finally:
        for server in setup.server.servers:
            server.close()


async def test_the_admin_server_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with AdminServer(None).capture_signals():
        assert signal.getsignal(signal.SIGTERM) == before
