"""The cost of receiving Hatchet's events: several ways, compared in one run on the same server.

    python bench/bench_receive.py [--streams 200] [--rate 50] [--seconds 4] [--repeat 3]

The server is grpcio's own (C-core) in another process: `--streams` subscriptions with `--rate` events per
second each (0: as fast as possible). Every way ends with a LiveEvent that is passed to a function. The
figure is this process's CPU per event, with C-core's threads, because wall time would measure the sender.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median
from typing import Any

import grpc
import grpc.aio
import uvloop

from proxy.core.observations import Kind, LiveEvent
from proxy.hatchet import codec, protobuf
from proxy.hatchet.endpoint import Endpoint, Tls
from proxy.hatchet.grpc.grpcio import GrpcioTransport
from proxy.hatchet.grpc.pool import ConnectionPool

RUN = "11111111-1111-4111-8111-111111111111"
STEP = "22222222-2222-4222-8222-222222222222"
WARM_UP = 0.5


class Meter:
    """Counts events."""

    def __init__(self) -> None:
        self.events = 0

    def deliver(self, event: LiveEvent) -> None:
        self.events += 1


# -- the ways -----------------------------------------------------------------------------------------


async def aio_stub(port: int, streams: int, meter: Meter) -> None:
    """grpc.aio as in its documentation: `async for` over generated messages."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        subscribe = channel.unary_stream(
            protobuf.SUBSCRIBE,
            request_serializer=protobuf.dispatcher_pb2.SubscribeToWorkflowEventsRequest.SerializeToString,
            response_deserializer=protobuf.dispatcher_pb2.WorkflowEvent.FromString,
        )
        request = protobuf.dispatcher_pb2.SubscribeToWorkflowEventsRequest(workflow_run_id=RUN)

        async def one() -> None:
            async for event in subscribe(request):
                meter.deliver(_light(event))

        await asyncio.gather(*(one() for _ in range(streams)))


def _light(event: Any) -> LiveEvent:
    return LiveEvent(event.workflow_run_id, Kind.STREAM, event.resource_id, event.event_payload)


async def aio_channels(port: int, streams: int, meter: Meter) -> None:
    """proxy/hatchet/grpc/grpcio.py: grpc.aio, raw bytes."""
    await _over(GrpcioTransport(_endpoint(port)), streams, meter)


async def lean(port: int, streams: int, meter: Meter) -> None:
    """proxy/hatchet/grpc/pool.py: HTTP/2 on asyncio."""
    await _over(ConnectionPool(_endpoint(port)), streams, meter)


async def _over(transport: Any, streams: int, meter: Meter) -> None:
    async def one() -> None:
        translate = codec.live_event
        await transport.server_stream(
            protobuf.SUBSCRIBE, codec.by_run(RUN), "", lambda message: meter.deliver(translate(message))
        )

    try:
        await asyncio.gather(*(one() for _ in range(streams)))
    finally:
        await transport.close()


async def sync_threads(port: int, streams: int, meter: Meter) -> None:
    """grpcio's synchronous API: a thread per stream; batches are passed to the loop."""
    loop = asyncio.get_running_loop()
    waiting: list[bytes] = []
    lock = threading.Lock()
    translate = codec.live_event

    def take() -> None:
        with lock:
            batch = waiting[:]
            waiting.clear()
        for message in batch:
            meter.deliver(translate(message))

    def read(answer: Any) -> None:
        with contextlib.suppress(grpc.RpcError, RuntimeError):
            for message in answer:
                with lock:
                    first = not waiting
                    waiting.append(message)
                if first:
                    loop.call_soon_threadsafe(take)

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answers: list[Any] = [
            channel.unary_stream(protobuf.SUBSCRIBE, None, None)(codec.by_run(RUN)) for _ in range(streams)
        ]
        threads = [threading.Thread(target=read, args=(answer,)) for answer in answers]
        for thread in threads:
            thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            for answer in answers:
                answer.cancel()
            for thread in threads:
                await asyncio.to_thread(thread.join)


async def grpclib_h2(port: int, streams: int, meter: Meter) -> None:
    """grpclib, which is built on h2 (pip install grpclib)."""
    from grpclib.client import Channel, UnaryStreamMethod  # noqa: PLC0415

    async with Channel("127.0.0.1", port) as channel:
        method: Any = UnaryStreamMethod(
            channel,
            protobuf.SUBSCRIBE,
            protobuf.dispatcher_pb2.SubscribeToWorkflowEventsRequest,
            protobuf.dispatcher_pb2.WorkflowEvent,
        )
        request = protobuf.dispatcher_pb2.SubscribeToWorkflowEventsRequest(workflow_run_id=RUN)

        async def one() -> None:
            async with method.open() as stream:
                await stream.send_message(request, end=True)
                async for event in stream:
                    meter.deliver(_light(event))

        await asyncio.gather(*(one() for _ in range(streams)))


Way = Callable[[int, int, Meter], Awaitable[None]]
WAYS: dict[str, Way] = {
    "grpc.aio, async for, stub": aio_stub,
    "grpc.aio, async for, bytes (grpcio.py)": aio_channels,
    "grpc sync, thread per stream, batched": sync_threads,
    "grpclib on h2": grpclib_h2,
    "HTTP/2 on asyncio (pool.py)": lean,
}


def _endpoint(port: int) -> Endpoint:
    return Endpoint("t", "", f"127.0.0.1:{port}", None, Tls("none"), 4 << 20)


# -- the measurement ----------------------------------------------------------------------------------


async def measure(way: Way, port: int, streams: int, seconds: float) -> tuple[float, float]:
    """Events per second, and CPU microseconds per event."""
    meter = Meter()
    task = asyncio.ensure_future(way(port, streams, meter))
    done, _ = await asyncio.wait([task], timeout=WARM_UP)
    if done:
        await task
    events, cpu, wall = meter.events, time.process_time(), time.perf_counter()
    await asyncio.wait([task], timeout=seconds)
    events, cpu, wall = meter.events - events, time.process_time() - cpu, time.perf_counter() - wall
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
    return events / wall, cpu / max(events, 1) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rate", type=float, default=50, help="events/s and stream; 0: as fast as possible")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a way's name")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        uvloop.run(serve(args.rate))
        return
    command = [sys.executable, __file__, "--serve", "--rate", str(args.rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            report(args, int(server.stdout.readline()))
        finally:
            server.terminate()


def report(args: argparse.Namespace, port: int) -> None:
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(args.repeat):  # interleaved: the machine drifts
        for name, way in WAYS.items():
            if args.only in name:
                try:
                    figure = uvloop.run(measure(way, port, args.streams, args.seconds))
                except ImportError:
                    continue
                found.setdefault(name, []).append(figure)
    print(f"{args.streams} streams, {args.rate or 'unbounded'} events/s each; median of {args.repeat}")
    for name, figures in found.items():
        rate, cost = median(f[0] for f in figures), median(f[1] for f in figures)
        print(
            f"{name:42} {rate:9,.0f} events/s {cost:7.1f} µs CPU/event {1e6 / cost:9,.0f} events/s per core"
        )


# -- the server ---------------------------------------------------------------------------------------


async def serve(rate: float) -> None:
    """Sends chunks of the size of a token; never ends."""
    event = protobuf.dispatcher_pb2.WorkflowEvent(
        workflow_run_id=RUN,
        resource_type=protobuf.dispatcher_pb2.RESOURCE_TYPE_STEP_RUN,
        event_type=protobuf.dispatcher_pb2.RESOURCE_EVENT_TYPE_STREAM,
        resource_id=STEP,
        event_payload="a token or two of some text",
        event_index=7,
    )
    event.event_timestamp.GetCurrentTime()
    message = event.SerializeToString()

    async def subscribe(request: bytes, context: Any) -> AsyncIterator[bytes]:
        due = time.monotonic()
        while True:
            yield message
            if rate:
                due += 1 / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    service, method = protobuf.SUBSCRIBE.strip("/").split("/")
    handler = grpc.method_handlers_generic_handler(
        service, {method: grpc.unary_stream_rpc_method_handler(subscribe)}
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    main()
