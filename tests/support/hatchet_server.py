"""A gRPC server on grpcio for tests of the Hatchet client: its three methods do what the test says."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from config.model.files import HatchetConfig
from proxy.hatchet.protobuf import (
    PUT_STREAM_EVENT,
    RUN_DETAILS,
    SUBSCRIBE,
    dispatcher_pb2,
    events_pb2,
    workflows_pb2,
)

RUN = "11111111-1111-4111-8111-111111111111"
STEP = "22222222-2222-4222-8222-222222222222"
TENANT = "707d0855-80ab-4e1f-a156-f1c4546cbf52"

Subscribe = Callable[[Any, Any], AsyncIterator[bytes]]
Details = Callable[[Any, Any], Awaitable[bytes]]


def token(**claims: str) -> str:
    """A token in the form of Hatchet's; its signature is not checked here."""
    values = {
        "sub": TENANT,
        "server_url": "http://history.invalid",
        "grpc_broadcast_address": "hatchet.invalid:7077",
    } | claims
    return f"{_part({'alg': 'ES256'})}.{_part(values)}.c2lnbmF0dXJl"


def _part(value: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def config(**written: Any) -> HatchetConfig:
    """A team's hatchet block."""
    return HatchetConfig.model_validate({"token": token(), "tls": "none", "api": "off"} | written)


def chunk(text: str = "a token", index: int = 0) -> bytes:
    """A WorkflowEvent with a chunk."""
    event = dispatcher_pb2.WorkflowEvent(
        workflow_run_id=RUN,
        resource_type=dispatcher_pb2.RESOURCE_TYPE_STEP_RUN,
        event_type=dispatcher_pb2.RESOURCE_EVENT_TYPE_STREAM,
        resource_id=STEP,
        event_payload=text,
        event_index=index,
    )
    event.event_timestamp.FromJsonString("2026-11-22T07:43:28.244862079Z")
    return event.SerializeToString()


class HatchetServer:
    """What the server does, and what it saw."""

    def __init__(self) -> None:
        self.subscribe: Subscribe = _endless
        self.details: Details = _done
        self.metadata: list[dict[str, Any]] = []
        self.chunks: list[Any] = []  # the requests of PutStreamEvent
        self.gone = asyncio.Event()  # a subscription was ended from the other side
        self.port = 0

    @property
    def host_port(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _subscribe(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.metadata.append(dict(context.invocation_metadata()))
        asked = dispatcher_pb2.SubscribeToWorkflowEventsRequest.FromString(request)
        try:
            async for message in self.subscribe(asked, context):
                yield message
        except (asyncio.CancelledError, GeneratorExit):
            self.gone.set()
            raise

    async def _details(self, request: bytes, context: Any) -> bytes:
        self.metadata.append(dict(context.invocation_metadata()))
        return await self.details(workflows_pb2.GetRunDetailsRequest.FromString(request), context)

    async def _put(self, request: bytes, context: Any) -> bytes:
        self.chunks.append(events_pb2.PutStreamEventRequest.FromString(request))
        return events_pb2.PutStreamEventResponse().SerializeToString()

    def handlers(self) -> list[grpc.GenericRpcHandler[Any, Any]]:
        table = {
            SUBSCRIBE: grpc.unary_stream_rpc_method_handler(self._subscribe),
            RUN_DETAILS: grpc.unary_unary_rpc_method_handler(self._details),
            PUT_STREAM_EVENT: grpc.unary_unary_rpc_method_handler(self._put),
        }
        return [
            grpc.method_handlers_generic_handler(path.split("/")[1], {path.split("/")[2]: handler})
            for path, handler in table.items()
        ]


@asynccontextmanager
async def hatchet_server(
    *,
    options: Sequence[tuple[str, Any]] = (),
    credentials: grpc.ServerCredentials | None = None,
    port: int = 0,
) -> AsyncIterator[HatchetServer]:
    """A server on a free port of loopback, gone at the end."""
    made = HatchetServer()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *options])
    server.add_generic_rpc_handlers(tuple(made.handlers()))
    if credentials is None:
        made.port = server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        made.port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    try:
        yield made
    finally:
        await server.stop(None)


async def _endless(request: Any, context: Any) -> AsyncIterator[bytes]:
    yield chunk()
    await asyncio.Event().wait()


async def _done(request: Any, context: Any) -> bytes:
    return bytes(
        workflows_pb2.GetRunDetailsResponse(status=workflows_pb2.COMPLETED, done=True).SerializeToString()
    )
