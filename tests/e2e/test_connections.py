"""One connection over its life: how long it may be silent, what a reload changes, what a drain answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.server.http.fast_path import FastPath
from proxy.server.http.request_limits import LimitedProtocol
from proxy.server.http.request_parser import MAX_BYTES
from proxy.server.http.sockets import UNACKNOWLEDGED_FACTOR
from proxy.simulator import Engine
from proxy.simulator.script.default import chat
from proxy.simulator.script.model import Step, Workflow, script
from proxy.streams.subscriber import Ending
from tests.e2e.test_fast_path import WAYS, Client, by_uvicorn, connections, strict_listener
from tests.e2e.test_front import NOBODY, YAML
from tests.support.served import Served, served
from tests.support.waiting import until

END = b"0\r\n\r\n"
both_ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    endless = Workflow("endless", (Step("wait", takes=100_000.0),))
    async with Engine(script(chat(), endless), speed=20.0, seed=7) as one:
        yield one


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    path = tmp_path / "streams.yaml"
    path.write_text(YAML)
    async with served(path, engine.env) as one:
        yield one


@pytest.fixture
async def client(proxy: Served) -> AsyncIterator[Client]:
    host, _, port = proxy.url.removeprefix("http://").partition(":")
    one = Client(*await asyncio.open_connection(host, int(port)))
    yield one
    one.close()
    with contextlib.suppress(ConnectionError):
        await one.writer.wait_closed()


# -- how long it may be silent --


async def test_half_a_request_on_a_used_connection_has_the_time_of_a_first_one(
    engine: Engine, proxy: Served
) -> None:
    run = await engine.trigger("chat", {"message": "hi"})
    async with strict_listener(proxy, request_seconds=2.0) as (come, _):
        one = await come()
        await one.request(proxy, f"/message/{run}")
        await one.receive(END)
        one.writer.write(b"GET /message/x HTT")
        assert (await one.receive()).startswith(b"HTTP/1.1 408 "), "not after the time of an idle connection"


async def test_the_time_for_a_request_does_not_limit_the_stream_that_answers_it(
    engine: Engine, proxy: Served
) -> None:
    run = await engine.trigger("endless")
    async with strict_listener(proxy, request_seconds=2.0, keep_alive=0.05) as (come, state):
        one, other = await come(), await come()
        await one.request(proxy, f"/all/{run}")
        await one.receive(b"step_started")
        await until(lambda: len(state.connections) == 1, "the silent one is closed, which came later")
        assert await other.receive() == b""
        await engine.cancel(run)
        assert b"event: stream.end" in await one.receive(END)


async def test_a_request_that_is_handed_over_must_be_here_when_it_was_due(proxy: Served) -> None:
    async with strict_listener(proxy, request_seconds=50.0) as (come, state):
        one = await come()
        await until(lambda: state.connections)
        fast: Any = next(iter(state.connections))
        due = fast._factory.arriving._due[fast]
        one.writer.write(b"GET /message/x HTTP/1.1\r\nHost: h\r\nX: " + b"x" * MAX_BYTES)
        await until(lambda: any(map(by_uvicorn, state.connections)))
        slow: Any = next(iter(state.connections))
        assert slow._timer.when() == due
        assert slow._seconds == 50.0, "later requests have as long"


# -- handing over --


async def test_a_connection_that_is_handed_over_while_its_client_takes_nothing_waits_for_the_client(
    proxy: Served, client: Client
) -> None:
    (fast,) = await connections(proxy)
    assert isinstance(fast, FastPath)
    fast.pause_writing()  # as the transport does while bytes of an earlier stream are unsent
    client.writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
    await until(lambda: any(map(by_uvicorn, proxy.server.server_state.connections)))
    (slow,) = await connections(proxy)
    assert isinstance(slow, LimitedProtocol)
    assert slow.flow.write_paused
    slow.resume_writing()
    assert (await client.receive(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_connection_that_is_handed_over_is_counted_once(proxy: Served, client: Client) -> None:
    for _ in range(2):
        client.writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await client.receive(b"}\n")).startswith(b"HTTP/1.1 200 ")
    assert len(proxy.server.server_state.connections) == 1
    client.close()
    await until(lambda: not proxy.server.server_state.connections)


async def test_bytes_that_come_when_a_stream_ends_follow_those_that_came_during_it(
    engine: Engine, proxy: Served, client: Client
) -> None:
    run = await engine.trigger("endless")
    await client.request(proxy, f"/all/{run}")
    await client.receive(b"step_started")
    client.writer.write(b"GET /heal")
    (fast,) = await connections(proxy)
    assert isinstance(fast, FastPath)
    await until(lambda: fast._received)
    (session,) = proxy.hub.sessions
    session.end(Ending.DRAIN)
    fast.data_received(b"thz HTTP/1.1\r\nHost: h\r\n\r\n")  # in the same turn of the loop
    await client.receive(END)
    assert (await client.receive(b"}\n")).startswith(b"HTTP/1.1 200 ")


# -- a reload --


async def test_a_write_timeout_that_is_reloaded_holds_for_the_next_stream_of_a_connection(
    engine: Engine, proxy: Served, client: Client, tmp_path: Path
) -> None:
    run = await engine.trigger("chat", {"message": "hi"})
    for seconds in (20, 7):
        text = YAML.replace("server: {", f"server: {{write_timeout: {seconds}s, ")
        (tmp_path / "streams.yaml").write_text(text)
        await proxy.reloader.reload()
        await client.request(proxy, f"/message/{run}")
        await client.receive(END)
        (connection,) = await connections(proxy)
        sock = connection.transport.get_extra_info("socket")
        given = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert given == seconds * 1000 * UNACKNOWLEDGED_FACTOR


# -- a client that leaves, and a drain --


@both_ways
async def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(
    proxy: Served, client: Client, way: str
) -> None:
    team = proxy.hub.teams["default"]
    await client.request(proxy, f"/all/{NOBODY}", way=way)
    await until(lambda: len(proxy.hub.waiting) == 1 and team.limits.connections == 1)
    client.close()
    await until(lambda: not proxy.hub.waiting and team.limits.connections == 0)
    assert not len(team.runs)
    assert team.counters.refusals == {}, "it was not refused"


@both_ways
async def test_a_client_that_leaves_its_stream_is_removed_at_once(
    engine: Engine, proxy: Served, client: Client, way: str
) -> None:
    run = await engine.trigger("endless")
    await client.request(proxy, f"/all/{run}", way=way)
    await client.receive(b"step_started")
    client.close()
    await until(
        lambda: not proxy.hub.sessions, "without a heartbeat, which comes after 15 seconds", within=10
    )
    team = proxy.hub.teams["default"]
    assert (team.limits.connections, team.runs.leases(run)) == (0, 0)


@both_ways
async def test_a_drain_answers_a_request_that_waits_for_its_run(
    proxy: Served, client: Client, way: str
) -> None:
    await client.request(proxy, "/mine/nobody", way=way)
    await until(lambda: len(proxy.hub.waiting) == 1)
    await proxy.stop()
    said = await client.receive()
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"event: stream.drain\n" in said


@both_ways
async def test_a_drain_waits_for_no_connection_that_is_idle(
    engine: Engine, proxy: Served, client: Client, way: str
) -> None:
    run = await engine.trigger("chat", {"message": "hi"})
    await client.request(proxy, f"/message/{run}", way=way)
    await client.receive(END)
    await proxy.stop()
    assert await client.receive() == b""
    (stopped,) = [line for line in proxy.log if line["event"] == "stopped"]
    assert stopped["cut_off"] == 0, "it was closed at once, and not cut at the end of the grace period"


@both_ways
async def test_a_stream_that_begins_during_a_drain_is_sent_away(
    engine: Engine, proxy: Served, client: Client, way: str
) -> None:
    run = await engine.trigger("endless")
    proxy.hub.draining = True
    await client.request(proxy, f"/all/{run}", way=way)
    assert b"event: stream.drain\n" in await client.receive(END)
    await until(lambda: not proxy.hub.sessions)
