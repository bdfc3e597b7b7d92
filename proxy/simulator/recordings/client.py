"""Client: a thin client of an engine, real or embedded: it passes statuses and events on as they come.

For recorders and for the contract suite. The proxy itself uses ``proxy.hatchet.client``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import aiohttp
import grpc
import grpc.aio

from proxy.hatchet.endpoint import Endpoint
from proxy.hatchet.protobuf import RUN_DETAILS, SUBSCRIBE
from proxy.simulator import stubs
from proxy.simulator.stubs import dispatcher_pb2, events_pb2, shared_pb2, trigger_pb2, workflows_pb2

DEADLINE = 15.0
STABLE = "/api/v1/stable"


class Client:
    """The calls of one tenant."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._at = endpoint
        self._metadata = (("authorization", f"bearer {endpoint.token}"),)
        self._channel = _channel(endpoint)
        self._http = aiohttp.ClientSession(headers={"Authorization": f"Bearer {endpoint.token}"})

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close(None)
        await self._http.close()

    async def ask(self, path: str, request: bytes) -> bytes:
        """One unary call. Raises grpc.aio.AioRpcError."""
        call: Any = self._channel.unary_unary(path)  # type: ignore[call-arg]
        return bytes(await call(request, metadata=self._metadata, timeout=DEADLINE))

    async def subscribe(
        self, run_id: str | None = None, pair: tuple[str, str] | None = None
    ) -> AsyncIterator[dispatcher_pb2.WorkflowEvent]:
        """SubscribeToWorkflowEvents, by run id or by a metadata pair. Raises grpc.aio.AioRpcError."""
        key, value = pair or (None, None)
        request = dispatcher_pb2.SubscribeToWorkflowEventsRequest(
            workflow_run_id=run_id, additional_meta_key=key, additional_meta_value=value
        )
        opened: Any = self._channel.unary_stream(SUBSCRIBE)  # type: ignore[call-arg]
        call = opened(request.SerializeToString(), metadata=self._metadata)
        try:
            async for raw in call:
                yield dispatcher_pb2.WorkflowEvent.FromString(raw)
        finally:
            call.cancel()

    async def details(self, run_id: str) -> workflows_pb2.GetRunDetailsResponse:
        """GetRunDetails. Raises grpc.aio.AioRpcError."""
        request = workflows_pb2.GetRunDetailsRequest(external_id=run_id)
        return workflows_pb2.GetRunDetailsResponse.FromString(
            await self.ask(RUN_DETAILS, request.SerializeToString())
        )

    async def trigger(
        self, workflow: str, input: Any = None, metadata: Mapping[str, Any] | None = None
    ) -> str:
        """TriggerWorkflow: the run's id. Raises grpc.aio.AioRpcError."""
        request = shared_pb2.TriggerWorkflowRequest(
            name=workflow,
            input=json.dumps({} if input is None else input),
            additional_metadata=json.dumps(metadata) if metadata else None,
        )
        raw = await self.ask(stubs.TRIGGER, request.SerializeToString())
        return trigger_pb2.TriggerWorkflowResponse.FromString(raw).workflow_run_id

    async def put(self, step_run_id: str, chunk: bytes, index: int | None = None) -> None:
        """PutStreamEvent. Raises grpc.aio.AioRpcError."""
        request = events_pb2.PutStreamEventRequest(
            task_run_external_id=step_run_id, message=chunk, event_index=index
        )
        request.created_at.GetCurrentTime()
        await self.ask(stubs.PUT_STREAM_EVENT, request.SerializeToString())

    async def history(self, run_id: str) -> tuple[int, Any]:
        """The REST history of a run: status and answer."""
        return await self._get(f"{STABLE}/workflow-runs/{run_id}", [])

    async def list_runs(self, query: Sequence[tuple[str, str]]) -> tuple[int, Any]:
        """The REST list of runs: status and answer."""
        return await self._get(f"{STABLE}/tenants/{self._at.tenant}/workflow-runs", query)

    async def act(self, verb: str, run_id: str) -> tuple[int, Any]:
        """`cancel` or `replay` over REST: status and answer."""
        url = f"{self._at.api}{STABLE}/tenants/{self._at.tenant}/tasks/{verb}"
        async with self._http.post(url, json={"externalIds": [run_id]}) as answer:
            return answer.status, await answer.json(content_type=None)

    async def _get(self, path: str, query: Sequence[tuple[str, str]]) -> tuple[int, Any]:
        async with asyncio.timeout(DEADLINE), self._http.get(f"{self._at.api}{path}", params=query) as answer:
            return answer.status, await answer.json(content_type=None)


def _channel(at: Endpoint) -> grpc.aio.Channel:
    options = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
    if at.tls.strategy == "none":
        return grpc.aio.insecure_channel(at.host_port, options)
    ca, key, cert = at.tls.read()
    named = (*options, ("grpc.ssl_target_name_override", at.tls.server_name))
    return grpc.aio.secure_channel(at.host_port, grpc.ssl_channel_credentials(ca, key, cert), named)
