"""Receiving alone: subscribes to every run of a feed over gRPC and only counts what arrives.

    python bench/servers/receive.py lean|aio     reads the feed's JSON from standard input; prints counts

`aio` is grpc.aio as in its documentation, with generated messages; `lean` is the proxy's own connection pool.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvloop

from proxy.hatchet import codec, protobuf
from proxy.hatchet.endpoint import Endpoint, Tls

COME = [0]


async def aio(host_port: str, token: str, runs: list[str]) -> None:
    import grpc.aio  # noqa: PLC0415

    channel: Any = grpc.aio.insecure_channel(host_port)
    subscribe = channel.unary_stream(
        protobuf.SUBSCRIBE,
        request_serializer=protobuf.dispatcher_pb2.SubscribeToWorkflowEventsRequest.SerializeToString,
        response_deserializer=protobuf.dispatcher_pb2.WorkflowEvent.FromString,
    )

    async def one(run: str) -> None:
        request = protobuf.dispatcher_pb2.SubscribeToWorkflowEventsRequest(workflow_run_id=run)
        async for event in subscribe(request, metadata=(("authorization", f"bearer {token}"),)):
            COME[0] += len(event.event_payload) > 0

    await asyncio.gather(*(one(run) for run in runs))


async def lean(host_port: str, token: str, runs: list[str]) -> None:
    from proxy.hatchet.grpc.pool import ConnectionPool  # noqa: PLC0415

    pool = ConnectionPool(Endpoint(token, "", host_port, None, Tls("none"), 4 << 20))

    async def one(run: str) -> None:
        translate = codec.live_event

        def take(message: bytes) -> None:
            translate(message)
            COME[0] += 1

        await pool.server_stream(protobuf.SUBSCRIBE, codec.by_run(run), "", take)

    await asyncio.gather(*(one(run) for run in runs))


async def main() -> None:
    ready = json.loads(sys.stdin.readline())
    env = ready["env"]
    way = {"aio": aio, "lean": lean}[sys.argv[1]]
    task = asyncio.create_task(
        way(env["HATCHET_CLIENT_HOST_PORT"], env["HATCHET_CLIENT_TOKEN"], ready["runs"])
    )
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):  # each line asks for the count
        print(COME[0], flush=True)
        if task.done():
            task.result()


if __name__ == "__main__":
    uvloop.run(main())
