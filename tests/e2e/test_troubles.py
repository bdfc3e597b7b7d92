"""Failures of the upstream, over HTTP: open streams stay open, and every loss is announced."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Final

import pytest

from proxy.runs.subscription import SLOWEST, SPREAD
from proxy.runs.subscription import Backoff as Reconnecting
from proxy.simulator import Engine
from proxy.simulator.script.model import Backoff, Failure, Step, Workflow, script
from tests.chaos.world import streams
from tests.support.delivery import (
    RecordingClient,
    becomes,
    causes,
    chunks,
    config,
    events,
    lasting,
    once,
    own_gaps,
    workflows,
    yaml,
)
from tests.support.relay import relay
from tests.support.served import served

SERVER: Final = "{linger: 5s, check_after: 2s, drain: {grace: 3s, spread: 1s}}"
# How long a trouble lasts, in seconds; a run takes longer than each
RESTART: Final = 0.7
UNAVAILABLE: Final = 2.0
TROUBLE: Final = 1.0
Break = Callable[[Engine], Awaitable[None]]


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(workflows(), seed=21) as one:
        yield one


async def shut_down(engine: Engine) -> None:
    await engine.faults.stop_grpc()
    await asyncio.sleep(RESTART)
    await engine.faults.start_grpc()


async def killed(engine: Engine) -> None:
    engine.switch(graceful_restart=False)
    await shut_down(engine)


async def unavailable(engine: Engine) -> None:
    await engine.faults.stop_grpc()
    await asyncio.sleep(UNAVAILABLE)
    await engine.faults.start_grpc()


async def ended_with_ok(engine: Engine) -> None:
    engine.faults.end_streams()


async def silent(engine: Engine) -> None:
    engine.faults.mute()
    await asyncio.sleep(TROUBLE)
    engine.faults.mute(False)


async def exhausted(engine: Engine) -> None:
    engine.faults.limit_calls(0)
    engine.faults.end_streams()
    await asyncio.sleep(TROUBLE)
    engine.faults.limit_calls()


async def refused(engine: Engine) -> None:
    engine.faults.refuse_tokens()
    engine.faults.end_streams()
    await asyncio.sleep(TROUBLE)
    engine.faults.refuse_tokens(False)


async def without_history(engine: Engine) -> None:
    engine.faults.hide_history()
    engine.faults.end_streams()


async def without_lifecycle(engine: Engine) -> None:
    engine.switch(lifecycle_events=False)


TROUBLES: Final[Mapping[str, Break]] = {
    "an engine that is shut down and started again": shut_down,
    "an engine that is killed and started again": killed,
    "an engine that is unavailable for a while": unavailable,
    "streams that end with OK in mid-step": ended_with_ok,
    "an engine that is silent for a while": silent,
    "calls over the limit (RESOURCE_EXHAUSTED)": exhausted,
    "a token that is refused for a while": refused,
    "a history that goes away": without_history,
    "lifecycle events that are switched off": without_lifecycle,
}


async def lived_through(folder: Path, number: int, trouble: Break) -> list[str]:
    """One failure, on an engine of its own; returns the errors of the stream that was open meanwhile."""
    folder = folder / str(number)
    folder.mkdir()
    path = config(folder, yaml(server=SERVER))
    async with Engine(workflows(), seed=number) as engine, served(path, engine.env) as proxy:
        run = await engine.trigger("middle")
        async with RecordingClient(f"{proxy.url}/run/{run}") as client:
            await client.until(lambda client: len(client.chunks) > 3)
            await trouble(engine)
            await client.end()
        wrong = client.judge(engine, run) + [f"a gap of our own: {gap}" for gap in own_gaps(client.frames)]
        if client.source.connections != 2:
            wrong.append(
                f"{client.source.connections} connections: not only the stream, and the 204 behind its end"
            )
        kinds = lasting(client.frames)
        if len(kinds) != 5 or len(set(kinds)) != 5:
            wrong.append(f"not each lifecycle event once: {kinds}")
        return wrong


async def test_an_open_stream_survives(tmp_path: Path) -> None:
    each = (lived_through(tmp_path, number, trouble) for number, trouble in enumerate(TROUBLES.values()))
    verdicts = dict(zip(TROUBLES, await asyncio.gather(*each), strict=True))
    assert {name: wrong for name, wrong in verdicts.items() if wrong} == {}


async def test_chunks_lost_during_an_outage_are_announced(engine: Engine, tmp_path: Path) -> None:
    async with served(config(tmp_path, yaml(server=SERVER)), engine.env) as proxy:
        run = await engine.trigger("middle")
        async with RecordingClient(f"{proxy.url}/run/{run}") as client:
            await client.until(lambda client: len(client.chunks) > 3)
            last = client.chunks[-1]["index"]
            await shut_down(engine)
            await client.end()
    indices = [event["index"] for event in client.chunks if event["step"] == "write"]
    missing = {*range(last, 60)} - {*indices}
    assert missing, "some were sent while no subscription was open"
    assert [gap["missed"] for gap in client.gaps if gap["cause"] == "upstream" and gap["missed"]] == [
        len(missing)
    ]


async def test_a_partition_is_detected_and_recovered_from(engine: Engine, tmp_path: Path) -> None:
    async with relay(int(engine.host_port.rpartition(":")[2])) as between:
        env = {**engine.env, "HATCHET_CLIENT_HOST_PORT": f"127.0.0.1:{between.port}"}
        async with served(config(tmp_path, yaml(server=SERVER)), env) as proxy:
            run = await engine.trigger("middle")
            async with RecordingClient(f"{proxy.url}/run/{run}") as client:
                await client.until(lambda client: len(client.chunks) > 3)
                between.silent = True
                await asyncio.sleep(TROUBLE)
                between.silent = False
                await client.end(50)
    assert client.judge(engine, run) == []


async def test_a_chunk_that_is_no_utf8_costs_that_chunk_and_is_announced(
    engine: Engine, tmp_path: Path
) -> None:
    async with served(config(tmp_path, yaml(server=SERVER)), engine.env) as proxy:
        run = await engine.trigger("middle")
        async with RecordingClient(f"{proxy.url}/run/{run}") as client:
            await client.until(lambda client: len(client.chunks) > 3)
            engine.faults.bad_chunk(run)
            await client.end()
    assert client.picture.wrong == []
    assert "upstream" in causes(client.frames)
    assert client.frames[-1].value == {"status": "completed"}
    assert len(client.chunks) > 30


async def test_open_streams_continue_after_their_token_is_replaced_in_its_file(
    tmp_path: Path,
) -> None:
    async with Engine(workflows(), seed=22, tenants=1) as engine:
        secret = tmp_path / "token"
        secret.write_text(engine.token)
        env = {name: value for name, value in engine.env.items() if name != "HATCHET_CLIENT_TOKEN"}
        text = yaml(server=SERVER).replace("${HATCHET_CLIENT_TOKEN}", f"${{file:{secret}}}")
        async with served(config(tmp_path, text), env) as proxy:
            run = await engine.trigger("middle")
            async with RecordingClient(f"{proxy.url}/run/{run}") as client:
                await client.until(lambda client: len(client.chunks) > 3)
                head, body, _ = engine.token.split(".")
                new = f"{head}.{body}.bmV3"  # another signature: another token of the same tenant
                tenant = engine.gate.withdraw(engine.token)
                engine.faults.end_streams()
                await becomes(lambda: proxy.hub.counters.team("default").troubles["TokenRefused"])
                engine.gate.admit(new, tenant)
                secret.write_text(new)
                await proxy.reloader.reload()
                await client.end()
        assert client.judge(engine, run) == []
        assert client.source.connections == 2, "it stayed open"
        assert len(client.chunks) > 20, "tokens went on"
        assert engine.token not in proxy.written.getvalue()


async def test_a_lagging_history_delays_only_what_the_history_alone_knows(
    engine: Engine, tmp_path: Path
) -> None:
    async with served(config(tmp_path, yaml(server=SERVER)), engine.env) as proxy:
        run = await engine.trigger("dag")
        async with RecordingClient(f"{proxy.url}/run/{run}") as client:
            await client.until(lambda client: client.chunks)
            engine.faults.lag_history(30)
            await client.end()
    assert client.judge(engine, run) == []


async def test_with_history_off_streams_are_served(engine: Engine, tmp_path: Path) -> None:
    async with served(config(tmp_path, yaml(server=SERVER, hatchet=", api: off")), engine.env) as proxy:
        run = await engine.trigger("retry")
        async with RecordingClient(f"{proxy.url}/run/{run}") as client:
            await client.end()
        late = await once(f"{proxy.url}/run/{run}")
    assert client.judge(engine, run) == []
    assert ("run_completed", None) in lasting(late)
    assert "history" not in engine.calls


async def test_without_lifecycle_events_everything_is_rebuilt_from_the_state(tmp_path: Path) -> None:
    async with Engine(workflows(lifecycle_events=False), seed=23) as engine:
        async with served(config(tmp_path, yaml(server=SERVER)), engine.env) as proxy:
            run = await engine.trigger("dag")
            async with RecordingClient(f"{proxy.url}/run/{run}") as client:
                await client.end()
        assert client.judge(engine, run) == []
        assert {event["recovered"] for event in events(client.frames) if event["type"] != "step_stream"} == {
            True
        }
        assert len(lasting(client.frames)) == 7


async def test_a_retry_long_after_its_failure_is_waited_for(tmp_path: Path) -> None:
    step = Step(
        "late",
        chunks=streams("late", 5, 0.05),
        fails=Failure("OSError: once", attempts=1),
        retries=1,
        backoff=Backoff(5.0, 5.0),
        output={"x": 1},
    )
    async with Engine(script(Workflow("late", (step,)), late_backoff=False), seed=24) as engine:
        text = yaml(server="{check_after: 1s, linger: 1s}", stream="heartbeat: 1s")
        async with served(config(tmp_path, text), engine.env) as proxy:
            run = await engine.trigger("late")
            async with RecordingClient(f"{proxy.url}/run/{run}") as client:
                await client.end()
        assert client.judge(engine, run) == []
        assert client.source.comments >= 3, "heartbeats, meanwhile"
        assert ("step_retrying", "late") in lasting(client.frames)
        second = [event["index"] for event in client.chunks if event["attempt"] == 2]
        assert second == list(range(5))
        assert client.source.connections == 2


async def test_a_wall_clock_that_jumps_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    async with served(config(tmp_path, yaml(server=SERVER)), engine.env) as proxy:
        run = await engine.trigger("middle")
        async with RecordingClient(f"{proxy.url}/run/{run}") as client:
            for count, seconds in ((5, 3600.0), (20, -3600.0), (40, 0.0)):
                await client.until(lambda client, count=count: len(client.chunks) > count)  # type: ignore[misc]
                engine.faults.jump_clock(seconds)
            await client.end()
    assert client.judge(engine, run) == []
    hours = {datetime.fromisoformat(event["at"][:19]).hour for event in client.chunks}
    assert len(hours) == 3, "the clock did jump"


def test_a_thousand_runs_do_not_reconnect_at_the_same_time() -> None:
    backoffs = [Reconnecting(Random(number)) for number in range(1000)]
    for tries in range(12):
        for backoff in backoffs:
            backoff.ended(100.0, hung_up=False, lasted=0.0)
        waits = sorted(backoff.at - 100.0 for backoff in backoffs)
        assert waits[0] >= 0
        assert waits[-1] <= max(SPREAD, SLOWEST)
        width = waits[-1] - waits[0]
        assert width >= 0.2, "spread"
        slot = [
            sum(low <= wait < low + width / 10 for wait in waits)
            for low in (n * width / 10 + waits[0] for n in range(10))
        ]
        assert max(slot) < 200, (tries, slot)


async def test_thirty_runs_reconnect_to_a_restarted_engine_spread_and_complete(
    engine: Engine, tmp_path: Path
) -> None:
    engine.switch(subscription_cost=False)  # it would delay each chunk by seconds: another test's subject
    text = yaml(server=SERVER, hatchet=", subscriptions: 30")
    async with (
        served(config(tmp_path, text), engine.env) as proxy,
        contextlib.AsyncExitStack() as stack,
    ):
        received: list[tuple[str, RecordingClient]] = []
        for _ in range(30):  # each client joins right behind its trigger, before its run can be over
            run = await engine.trigger("long")
            client = await stack.enter_async_context(RecordingClient(f"{proxy.url}/run/{run}"))
            received.append((run, client))
        await asyncio.gather(*(client.until(lambda client: client.chunks) for _, client in received))
        await shut_down(engine)
        await asyncio.gather(*(client.end() for _, client in received))
        for run, client in received:
            assert client.judge(engine, run) == []


# -- early, lingering, hints --


async def test_a_client_may_connect_before_its_run_by_the_applications_own_id(
    tmp_path: Path, engine: Engine
) -> None:
    mine = """
  mine:
    path: /mine/{metadata.message}
    wait_for_run: 5s
    rules: [{events: ["*", step_stream], data: {type: type, step: step, index: index, attempt: attempt,
                                                payload: payload, recovered: recovered}}]
"""
    engine.switch(metadata_hangup=False)  # it would cut the last chunks off
    async with served(config(tmp_path, yaml(more=mine)), engine.env) as proxy:
        reading = asyncio.create_task(once(f"{proxy.url}/mine/m7"))
        await becomes(lambda: proxy.hub.waiting)
        await becomes(lambda: engine.streams)
        await engine.trigger("talk", metadata={"message": "m7"})
        received = await reading
    assert [event["index"] for event in chunks(received)] == list(range(40)), "from the first token on"
    assert received[-1].event == "stream.end"


async def test_a_run_is_kept_for_linger_after_its_last_client_and_no_longer(
    tmp_path: Path, engine: Engine
) -> None:
    text = yaml(server="{linger: 1s, drain: {grace: 3s, spread: 1s}}")
    async with served(config(tmp_path, text), engine.env) as proxy:
        run = await engine.trigger("open")
        url = f"{proxy.url}/run/{run}"
        first = await once(url, count=1)
        runs = proxy.hub.teams["default"].runs
        await becomes(lambda: not proxy.hub.sessions)
        session = runs.get(run)
        assert session is not None
        again = asyncio.create_task(once(url, cursor=first[-1].id, count=1))
        await becomes(lambda: proxy.hub.sessions)
        assert runs.get(run) is session
        again.cancel()
        await becomes(lambda: not proxy.hub.sessions)
        left = time.monotonic()
        await becomes(lambda: not len(runs))
        assert time.monotonic() - left > 0.9, (
            "the linger of 1 s, but for the moment until the session had ended"
        )
        await becomes(lambda: not engine.streams)


async def test_the_retry_hint_is_jittered_by_a_third(tmp_path: Path, engine: Engine) -> None:
    async with served(config(tmp_path, yaml()), engine.env) as proxy:
        run = await engine.trigger("open")
        hints = set()
        for _ in range(25):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
            writer.write(f"GET /run/{run} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await reader.readuntil(b"retry: ")
            assert b"200 OK" in head
            hints.add(int((await reader.readuntil(b"\n")).strip()))
            writer.close()
    assert len(hints) > 10
    assert 666 <= min(hints) < 900
    assert 1100 < max(hints) <= 1334
