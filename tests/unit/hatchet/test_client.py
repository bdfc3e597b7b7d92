"""The client of Hatchet, with each of its transports, on grpcio's own server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from proxy.core.instant import instant
from proxy.core.observations import CoreState, CoreStep, Kind, LiveEvent, Status
from proxy.hatchet import codec
from proxy.hatchet.client import HatchetClient, transport
from proxy.hatchet.endpoint import endpoint
from proxy.hatchet.errors import (
    BadChunk,
    HatchetAway,
    HatchetError,
    HistoryAway,
    MessageTooLarge,
    RateLimited,
    RunUnknown,
    TokenRefused,
)
from proxy.hatchet.protobuf import RUN_DETAILS, workflows_pb2
from proxy.observability.counters import TeamCounters
from proxy.observability.event_log import EventLog
from proxy.observability.health import UpstreamState
from proxy.teams.monitored_upstream import MonitoredUpstream
from tests.support.hatchet_server import RUN, STEP, HatchetServer, chunk, config, hatchet_server, token
from tests.support.waiting import until

TRANSPORTS = {"pool": {}, "grpcio": {"STREAM_PROXY_GRPC": "grpcio"}}
SECRET = "a-secret-that-a-worker-sent"

Open = Callable[..., HatchetClient]


@pytest.fixture(params=TRANSPORTS)
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    clients: list[HatchetClient] = []

    def make(port: int, **written: Any) -> HatchetClient:
        clients.append(
            HatchetClient(config(host_port=f"127.0.0.1:{port}", **written), TRANSPORTS[request.param])
        )
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
async def engine() -> AsyncIterator[HatchetServer]:
    async with hatchet_server() as made:
        yield made


async def first_event(client: HatchetClient, run_id: str = RUN) -> tuple[asyncio.Task[None], LiveEvent]:
    seen: asyncio.Future[LiveEvent] = asyncio.get_running_loop().create_future()

    def deliver(event: LiveEvent) -> None:
        if not seen.done():
            seen.set_result(event)

    task = asyncio.create_task(client.follow(run_id, deliver))
    waiting: list[asyncio.Future[Any]] = [task, seen]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if not seen.done():
        await task
    return task, seen.result()


def refusing(code: grpc.StatusCode, details: str) -> Callable[[Any, Any], Any]:
    async def details_refused(request: Any, context: Any) -> bytes:
        await context.abort(code, details)
        return b""

    return details_refused


# -- what comes through ---------------------------------------------------------------------------


async def test_events_of_a_run_come_in_order_until_its_end(engine: HatchetServer, connect: Open) -> None:
    asked: list[str] = []

    async def thousand(request: Any, context: Any) -> AsyncIterator[bytes]:
        asked.append(request.workflow_run_id)
        for index in range(1000):
            yield chunk(f"chunk {index}", index)

    engine.subscribe = thousand
    events: list[LiveEvent] = []
    opened: list[int] = []
    await connect(engine.port).follow(RUN, events.append, lambda: opened.append(len(events)))
    assert asked == [RUN]
    assert opened == [0]
    assert [(event.index, event.payload) for event in events] == [(n, f"chunk {n}") for n in range(1000)]
    assert events[0] == LiveEvent(
        run_id=RUN,
        kind=Kind.STREAM,
        step_run_id=STEP,
        payload="chunk 0",
        at=instant("2026-11-22T07:43:28.244862079Z"),
        index=0,
    )


async def test_the_chunk_that_keeps_subscriptions_open_is_sent_and_delivered(
    engine: HatchetServer, connect: Open
) -> None:
    async def with_it(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield chunk("one", 0)
        yield chunk("", codec.KEEPALIVE_INDEX)
        yield chunk("", 1)

    engine.subscribe = with_it
    events: list[LiveEvent] = []
    client = connect(engine.port)
    await client.follow_metadata("stream", "on", events.append)
    assert [event.index for event in events] == [0, codec.KEEPALIVE_INDEX, 1], "a subscription drops it"
    await client.keep_open(STEP)
    (put,) = engine.chunks
    assert (put.task_run_external_id, put.message, put.event_index) == (STEP, b"", codec.KEEPALIVE_INDEX)
    assert put.created_at.seconds > 0


async def test_a_metadata_pair_is_asked_for_as_such(engine: HatchetServer, connect: Open) -> None:
    asked: list[Any] = []

    async def none(request: Any, context: Any) -> AsyncIterator[bytes]:
        asked.append((request.additional_meta_key, request.additional_meta_value, request.workflow_run_id))
        return
        yield b""

    engine.subscribe = none
    await connect(engine.port).follow_metadata("stream", "on ☀", lambda event: None)
    assert asked == [("stream", "on ☀", "")]


async def test_the_token_goes_with_each_call(engine: HatchetServer, connect: Open) -> None:
    client = connect(engine.port)
    await client.core(RUN)
    task, _ = await first_event(client)
    task.cancel()
    assert [seen["authorization"] for seen in engine.metadata] == [f"bearer {token()}"] * 2


async def test_the_state_of_a_run_is_given_as_values(engine: HatchetServer, connect: Open) -> None:
    async def details(request: Any, context: Any) -> bytes:
        answer = workflows_pb2.GetRunDetailsResponse(
            status=workflows_pb2.RUNNING, done=False, additional_metadata=b'{"user": "u1"}'
        )
        answer.task_runs["one"].external_id = STEP.upper()
        answer.task_runs["one"].status = workflows_pb2.COMPLETED
        answer.task_runs["one"].output = b'{"a":1}'
        answer.task_runs["two"].readable_id = "zwei"
        answer.task_runs["two"].is_evicted = True
        answer.task_runs["two"].status = workflows_pb2.RUNNING
        answer.task_runs["two"].error = "ValueError: no"
        return answer.SerializeToString()

    engine.details = details
    assert await connect(engine.port).core(RUN) == CoreState(
        run_id=RUN,
        status=Status.RUNNING,
        done=False,
        steps=(
            CoreStep("one", STEP, Status.COMPLETED, output='{"a":1}'),
            CoreStep("zwei", "", Status.EVICTED, error="ValueError: no"),
        ),
        metadata={"user": "u1"},
    )


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 100_000, 3 * 1024 * 1024])
async def test_messages_of_every_size_come_whole(engine: HatchetServer, connect: Open, size: int) -> None:
    async def sized(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield chunk("before")
        yield chunk("x" * size)
        yield chunk("after")

    engine.subscribe = sized
    lengths: list[int] = []
    await connect(engine.port).follow(RUN, lambda event: lengths.append(len(event.payload)))
    assert lengths == [6, size, 5]


async def test_far_more_than_the_flow_control_window_comes_through(
    engine: HatchetServer, connect: Open
) -> None:
    async def much(request: Any, context: Any) -> AsyncIterator[bytes]:
        for index in range(600):
            yield chunk("x" * 100_000, index)

    engine.subscribe = much
    seen: list[int | None] = []
    await connect(engine.port).follow(RUN, lambda event: seen.append(event.index))
    assert seen == list(range(600))


async def test_many_subscriptions_share_few_connections_and_all_are_served(
    engine: HatchetServer, connect: Open
) -> None:
    client = connect(engine.port)
    peers: set[str] = set()

    async def who(request: Any, context: Any) -> AsyncIterator[bytes]:
        peers.add(context.peer())
        yield chunk()
        await asyncio.Event().wait()

    engine.subscribe = who
    followed = await asyncio.gather(*(first_event(client) for _ in range(600)))
    assert 1 < len(peers) <= 7
    for task, _ in followed:
        task.cancel()


async def test_a_servers_limit_of_streams_is_kept_by_opening_more_connections(connect: Open) -> None:
    async with hatchet_server(options=[("grpc.max_concurrent_streams", 90)]) as engine:
        client = connect(engine.port)
        followed = await asyncio.gather(*(first_event(client) for _ in range(200)))
        await client.core(RUN)
        assert len(followed) == 200
        for task, _ in followed:
            task.cancel()


async def test_cancelling_a_subscription_ends_it_at_hatchet_too(engine: HatchetServer, connect: Open) -> None:
    task, _ = await first_event(connect(engine.port))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.gone.wait()


async def test_an_error_in_the_receiver_ends_that_subscription_alone(
    engine: HatchetServer, connect: Open
) -> None:
    client = connect(engine.port)
    other, _ = await first_event(client)

    def deliver(event: LiveEvent) -> None:
        raise LookupError("the receiver's own")

    with pytest.raises(LookupError, match="the receiver's own"):
        await client.follow(RUN, deliver)
    assert not other.done()
    assert (await client.core(RUN)).done
    other.cancel()


# -- what is refused ------------------------------------------------------------------------------

REFUSALS = [
    (grpc.StatusCode.NOT_FOUND, "workflow run not found", RunUnknown),
    (grpc.StatusCode.INVALID_ARGUMENT, "invalid external id", RunUnknown),
    (grpc.StatusCode.UNAUTHENTICATED, "invalid auth token", TokenRefused),
    (grpc.StatusCode.PERMISSION_DENIED, "no", TokenRefused),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "rejected by ratelimit middleware, please retry later", RateLimited),
    (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "grpc: trying to send message larger than max (5 vs. 4)",
        MessageTooLarge,
    ),
    (grpc.StatusCode.INTERNAL, "grpc: error while marshaling: string field contains invalid UTF-8", BadChunk),
    (grpc.StatusCode.INTERNAL, "An internal error occurred", HatchetAway),
    (grpc.StatusCode.UNAVAILABLE, "shutting down", HatchetAway),
    (grpc.StatusCode.CANCELLED, "by the peer", HatchetAway),
    (grpc.StatusCode.UNKNOWN, "whatever", HatchetAway),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "late", HatchetAway),
    (grpc.StatusCode.UNIMPLEMENTED, "unknown service", HatchetAway),
    (grpc.StatusCode.DATA_LOSS, "", HatchetAway),
]


@pytest.mark.parametrize(("code", "details", "meant"), REFUSALS, ids=lambda v: getattr(v, "name", None))
async def test_each_status_is_one_of_our_errors_and_quotes_nothing(
    engine: HatchetServer, connect: Open, code: grpc.StatusCode, details: str, meant: type[HatchetError]
) -> None:
    async def refused(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield chunk()
        await context.abort(code, f"{details} {SECRET}")

    engine.subscribe = refused
    engine.details = refusing(code, f"{details} {SECRET}")
    client = connect(engine.port)
    events: list[LiveEvent] = []
    calls: list[Awaitable[Any]] = [client.follow(RUN, events.append), client.core(RUN)]
    for call in calls:
        with pytest.raises(HatchetError) as caught:
            await call
        assert type(caught.value) is meant
        assert SECRET not in str(caught.value)
        assert token() not in str(caught.value)
        assert code.name in str(caught.value)
    assert len(events) == 1


async def test_a_message_over_max_message_is_reported_as_such_and_the_next_call_works(
    engine: HatchetServer, connect: Open
) -> None:
    async def large(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield chunk("small")
        yield chunk("x" * 200_000)

    engine.subscribe = large
    client = connect(engine.port, max_message="100KiB")
    seen: list[str] = []
    with pytest.raises(MessageTooLarge, match=r"hatchet\.max_message"):
        await client.follow(RUN, lambda event: seen.append(event.payload))
    assert seen == ["small"]
    assert (await client.core(RUN)).done


async def test_bytes_that_are_no_utf8_are_a_bad_chunk(engine: HatchetServer, connect: Open) -> None:
    async def bad(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield chunk("good?").replace(b"good?", b"\xff\xfe\xfd\xfc\xfb")

    engine.subscribe = bad
    with pytest.raises(BadChunk):
        await connect(engine.port).follow(RUN, lambda event: None)


async def test_a_refused_connection_is_hatchet_away_with_its_reason(
    connect: Open, unused_tcp_port_factory: Callable[[], int]
) -> None:
    client = connect(unused_tcp_port_factory())
    with pytest.raises(HatchetAway, match=r"at 127\.0\.0\.1:\d+: .*connection refused"):
        await client.core(RUN)
    opened: list[bool] = []
    with pytest.raises(HatchetAway):
        await client.follow(RUN, lambda event: None, lambda: opened.append(True))
    assert not opened


async def test_hatchet_that_comes_back_is_found_by_the_same_client(
    connect: Open, unused_tcp_port_factory: Callable[[], int]
) -> None:
    port = unused_tcp_port_factory()
    client = connect(port)
    with pytest.raises(HatchetAway):
        await client.core(RUN)
    async with hatchet_server(port=port):
        await answered(client)
    with pytest.raises(HatchetAway):
        await client.core(RUN)
    async with hatchet_server(port=port):
        await answered(client)


async def answered(client: HatchetClient) -> None:
    """Ask until Hatchet answers."""

    async def answers() -> bool:
        try:
            await client.core(RUN)
        except HatchetAway:
            return False
        return True

    await until(answers)


async def test_an_engine_that_stops_ends_its_subscriptions(connect: Open) -> None:
    async with hatchet_server() as engine:
        task, _ = await first_event(connect(engine.port))
    with pytest.raises(HatchetAway):
        await task


@pytest.mark.parametrize("env", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_an_answer_that_never_comes_has_a_deadline(engine: HatchetServer, env: dict[str, str]) -> None:
    async def never(request: Any, context: Any) -> bytes:
        assert context.time_remaining() < 1
        await asyncio.Event().wait()
        return b""

    engine.details = never
    through = transport(endpoint(config(host_port=engine.host_port), {}), env)
    with pytest.raises(HatchetAway, match="DEADLINE_EXCEEDED"):
        await through.unary(RUN_DETAILS, codec.run_details(RUN), "GetRunDetails", 0.2)
    await through.close()


async def test_closing_a_client_ends_its_calls(engine: HatchetServer, connect: Open) -> None:
    client = connect(engine.port)
    task, _ = await first_event(client)
    await client.close()
    with pytest.raises(HatchetAway, match="closed"):
        await task
    with pytest.raises(HatchetAway, match="closed"):
        await client.core(RUN)
    await engine.gone.wait()


async def test_two_clients_never_share_a_connection(engine: HatchetServer, connect: Open) -> None:
    peers: list[str] = []

    async def who(request: Any, context: Any) -> bytes:
        peers.append(context.peer())
        return b""

    engine.details = who
    for client in (connect(engine.port), connect(engine.port)):
        await client.core(RUN)
    assert len(set(peers)) == 2


# -- the client itself ------------------------------------------------------------------------------


async def test_a_malformed_token_refuses_each_call_and_is_not_quoted(connect: Open) -> None:
    client = connect(1, token="not-a-jwt")
    for call in (client.core(RUN), client.follow(RUN, lambda event: None)):
        with pytest.raises(TokenRefused) as caught:
            await call
        assert "not-a-jwt" not in str(caught.value)
    assert not client.has_history


async def test_a_teams_look_is_content_with_an_unknown_run(engine: HatchetServer, connect: Open) -> None:
    switch = MonitoredUpstream(connect(engine.port), EventLog(), "chat", TeamCounters())
    engine.details = refusing(grpc.StatusCode.NOT_FOUND, "workflow run not found")
    await switch.check()
    engine.details = refusing(grpc.StatusCode.UNAUTHENTICATED, "no")
    with pytest.raises(TokenRefused):
        await switch.check()
    assert switch.health.state is UpstreamState.REFUSED


async def test_a_history_that_is_off_says_so(connect: Open) -> None:
    with pytest.raises(HistoryAway, match=r"hatchet\.api"):
        await connect(1).past(RUN)
