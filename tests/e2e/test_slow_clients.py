"""Slow, stuck and vanished clients: they get gaps, are disconnected in time, and do not delay others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from proxy.server.http.sockets import HIGH_WATER, SEND_BUFFER, UNACKNOWLEDGED_FACTOR
from proxy.simulator import Engine
from proxy.simulator.script.model import Script, Step, Workflow, script
from proxy.streams.channel import BATCH
from tests.support.delivery import RecordingClient, SlowSocket, becomes, chunks, config, own_gaps, yaml
from tests.support.served import Served, served
from tests.support.waiting import until

SIZE: Final = 4000  # characters of each chunk
SHARE: Final = HIGH_WATER + BATCH + 2 * SEND_BUFFER + 64 * 1024  # the last: the client's own kernel, at most


def endless() -> Script:
    """A run whose chunks the test sends; it ends when the test cancels it."""
    return script(Workflow("open", (Step("open", takes=1e6, timeout=2e6),)))


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(endless(), seed=5) as one:
        yield one


def small(write_timeout: str = "30s", heartbeat: str = "15s") -> str:
    server = f"{{linger: 5s, write_timeout: {write_timeout}, drain: {{grace: 3s, spread: 1s}}}}"
    return yaml(server=server, stream=f"heartbeat: {heartbeat}\n    backlog: {{events: 60}}")


@contextlib.asynccontextmanager
async def proxied(folder: Path, engine: Engine, text: str) -> AsyncIterator[Served]:
    async with served(config(folder, text), engine.env) as one:
        yield one


async def flood(engine: Engine, run: str, client: RecordingClient, count: int) -> None:
    """Send chunks as fast as `ear` reads them, so that it misses none."""
    first = len(client.chunks)
    for number in range(count):
        engine.put(run, "open", f"{number:08d}".ljust(SIZE, "x"))
        if number % 20 == 19:
            await client.until(lambda client, sent=number: len(client.chunks) > first + sent)  # type: ignore[misc]


async def begun(engine: Engine, client: RecordingClient, run: str) -> None:
    """Wait until chunks flow and the engine holds none back any more."""

    def flows() -> bool:
        if not client.chunks:
            engine.put(run, "open", "first")
        return bool(client.chunks)

    await until(flows, every=0.05)


async def test_a_slow_client_gets_a_gap_and_then_exactly_the_later_frames(
    engine: Engine, tmp_path: Path
) -> None:
    async with proxied(tmp_path, engine, small()) as proxy:
        run = await engine.trigger("open")
        async with RecordingClient(f"{proxy.url}/run/{run}") as quick:
            await begun(engine, quick, run)
            slow = await SlowSocket(proxy.url, f"/run/{run}").open(until=b"first")
            await flood(engine, run, quick, 400)
            await engine.cancel(run)
            received = await slow.read_all()
            slow.close()
            await quick.end()
    announced = own_gaps(received)
    assert {gap["cause"] for gap in announced} == {"slow_client"}
    assert {(gap["step"], gap["attempt"]) for gap in announced} == {("open", 1)}
    indices = [event["index"] for event in chunks(received)]
    assert indices == sorted(set(indices)), "each once, in order"
    assert len(indices) < 300
    assert indices[-1] == quick.chunks[-1]["index"]
    assert received[-1].event == "stream.end"
    jump = max(place for place, frame in enumerate(received) if frame.event == "stream.gap")
    later = [frame for frame in received[jump:] if frame.event != "stream.gap"]
    whole = [(frame.id, frame.data) for frame in quick.frames]
    assert [(frame.id, frame.data) for frame in later] == [
        one for one in whole if one in {(f.id, f.data) for f in later}
    ]
    assert quick.gaps == [gap for gap in quick.gaps if gap["cause"] == "joined_late"], "nobody else has a gap"
    assert [event["index"] for event in quick.chunks[-400:]] == list(
        range(indices[-1] - 399, indices[-1] + 1)
    )


async def test_only_a_stuck_client_is_disconnected_and_in_time(engine: Engine, tmp_path: Path) -> None:
    async with proxied(tmp_path, engine, small(write_timeout="1s")) as proxy:
        run = await engine.trigger("open")
        async with RecordingClient(f"{proxy.url}/run/{run}") as quick:
            await begun(engine, quick, run)
            stuck = await SlowSocket(proxy.url, f"/run/{run}").open(until=b"first")
            other_run = await engine.trigger("open")
            through_uvicorn = await SlowSocket(proxy.url, f"/run/{other_run}").open(version="1.0")
            await becomes(lambda: len(proxy.hub.sessions) == 3)
            engine.put(other_run, "open", "x" * 1_000_000, index=0)  # one large frame
            await flood(engine, run, quick, 200)  # may take longer than the write timeout itself
            endings = proxy.hub.counters.team("default").stream("all").ends
            await becomes(lambda: endings["stuck"] == 2)
            through_uvicorn.close()
            await becomes(lambda: not proxy.hub.sessions.paused and len(proxy.hub.sessions) == 1)
            await flood(engine, run, quick, 20)
            await stuck.read_all()  # the kernel's rest, then the connection's loss
            stuck.close()
            await engine.cancel(run)
            await engine.cancel(other_run)
            await quick.end()
    assert own_gaps(quick.frames) == []
    assert quick.source.connections == 2, "the stream, and the 204 behind its end"


async def test_the_memory_of_a_stuck_client_is_bounded_kernel_buffers_included(
    engine: Engine, tmp_path: Path
) -> None:
    async with proxied(tmp_path, engine, small()) as proxy:
        run = await engine.trigger("open")
        async with RecordingClient(f"{proxy.url}/run/{run}") as quick:
            await begun(engine, quick, run)
            stuck = [await SlowSocket(proxy.url, f"/run/{run}").open(until=b"first") for _ in range(5)]
            await flood(engine, run, quick, 300)  # 1.2 MB, far more than a reader's share
            for session in proxy.hub.sessions.paused:
                transport = session._sink.transport  # type: ignore[attr-defined]
                assert transport.get_write_buffer_limits()[1] == HIGH_WATER
                assert transport.get_write_buffer_size() <= HIGH_WATER + BATCH + SIZE
                assert session.subscriber.frames * SIZE < SHARE
            assert len(proxy.hub.sessions.paused) == 5
            kept = proxy.hub.counters.team("default").backlog_bytes
            assert kept < 2_500_000, "the backlog is shared by all clients, the run's own events included"
            for one in stuck:
                one.close()
            await becomes(lambda: len(proxy.hub.sessions) == 1)
            await flood(engine, run, quick, 20)
            await engine.cancel(run)
            await quick.end()
    assert own_gaps(quick.frames) == []


async def median_delay(engine: Engine, run: str, client: RecordingClient) -> float:
    """Seconds from a chunk's sending to its arrival, the median of 20."""
    delays = []
    for _ in range(20):
        sent = time.monotonic()
        count = len(client.chunks)
        engine.put(run, "open", "now")
        await client.until(lambda client, count=count: len(client.chunks) > count)  # type: ignore[misc]
        delays.append(time.monotonic() - sent)
    return sorted(delays)[len(delays) // 2]


async def test_a_slow_client_does_not_delay_others(engine: Engine, tmp_path: Path) -> None:
    async with proxied(tmp_path, engine, small()) as proxy:
        run = await engine.trigger("open")
        async with RecordingClient(f"{proxy.url}/run/{run}") as quick:
            await begun(engine, quick, run)
            alone = await median_delay(engine, run, quick)
            slow = [await SlowSocket(proxy.url, f"/run/{run}").open(until=b"first") for _ in range(20)]
            await flood(engine, run, quick, 200)
            assert len(proxy.hub.sessions.paused) == 20
            beside = await median_delay(engine, run, quick)
            assert len(proxy.hub.sessions.paused) == 20
            assert beside < 5 * max(alone, 0.02), "in seconds: beside twenty slow readers, and alone"
            for one in slow:
                one.close()
            await engine.cancel(run)
            await quick.end()


async def test_a_client_that_resets_its_connection_is_removed_at_once(engine: Engine, tmp_path: Path) -> None:
    async with proxied(tmp_path, engine, small(heartbeat="10m")) as proxy:  # no heartbeat finds it
        run = await engine.trigger("open")
        gone = await SlowSocket(proxy.url, f"/run/{run}").open()
        await becomes(lambda: len(proxy.hub.sessions) == 1)
        gone.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        await becomes(lambda: not proxy.hub.sessions)


async def test_a_vanished_peer_is_detected_by_the_next_heartbeat(engine: Engine, tmp_path: Path) -> None:
    repair = 19  # TCP_REPAIR: closing such a socket sends nothing, as a machine that lost its power
    async with proxied(tmp_path, engine, small(heartbeat="1s")) as proxy:
        run = await engine.trigger("open")
        gone = await SlowSocket(proxy.url, f"/run/{run}").open()
        await becomes(lambda: len(proxy.hub.sessions) == 1)
        try:
            gone.sock.setsockopt(socket.IPPROTO_TCP, repair, 1)
        except OSError:
            gone.close()
            pytest.skip("only root may close a socket without a word")
        gone.close()
        assert len(proxy.hub.sessions) == 1, "nothing was said"
        await becomes(lambda: not proxy.hub.sessions)


async def test_tcp_waits_for_acknowledgements_as_long_as_the_write_timeout(
    engine: Engine, tmp_path: Path
) -> None:
    async with proxied(tmp_path, engine, small(write_timeout="7s")) as proxy:
        run = await engine.trigger("open")
        there = await SlowSocket(proxy.url, f"/run/{run}").open()
        (session,) = proxy.hub.sessions
        sock = session._sink.transport.get_extra_info("socket")  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7_000 * UNACKNOWLEDGED_FACTOR
        there.close()


@pytest.mark.parametrize("seconds", [1, 2])
async def test_a_heartbeat_is_sent_after_exactly_the_configured_silence(
    engine: Engine, tmp_path: Path, seconds: int
) -> None:
    async with proxied(tmp_path, engine, small(heartbeat=f"{seconds}s")) as proxy:
        run = await engine.trigger("open")
        async with RecordingClient(f"{proxy.url}/run/{run}") as client:
            await begun(engine, client, run)
            reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
            writer.write(f"GET /run/{run} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"first")
            engine.put(run, "open", "quiet now")
            await reader.readuntil(b"quiet now")
            spoke = time.monotonic()
            times: list[float] = []
            for _ in range(2):
                await reader.readuntil(b"\n:\n" if not times else b":\n")
                times.append(time.monotonic() - spoke)
            writer.close()
    assert times[0] > seconds - 0.25, "not before its time; tests/unit/streams has the exact times"
    assert times[1] > 2 * seconds - 0.25
