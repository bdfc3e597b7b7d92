"""The gRPC API: the calls of hatchet-sdk with which runs are triggered, subscribed to, read, and sent chunks.

Generic handlers on bytes: a WorkflowEvent is encoded once for all subscriptions. Other methods are
UNIMPLEMENTED: no worker registers here. Statuses and details are those of the real engine.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio

from proxy.hatchet.protobuf import RUN_DETAILS, SUBSCRIBE
from proxy.simulator import stubs
from proxy.simulator.api.outbox import Outbox
from proxy.simulator.api.results_feed import ResultsFeed
from proxy.simulator.api.run_details import run_details, run_results
from proxy.simulator.api.subscriptions import Listener, MetadataSubscription, RunSubscription, Subscription
from proxy.simulator.gate import LIMITED, Gate
from proxy.simulator.state.entities import Run
from proxy.simulator.state.runs import Core, UnknownWorkflow
from proxy.simulator.state.tenant import Tenant
from proxy.simulator.stubs import dispatcher_pb2, events_pb2, shared_pb2, trigger_pb2, workflows_pb2

Context = grpc.aio.ServicerContext[Any, Any]
VERSION = "v0.104.7"


class GrpcApi(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """All gRPC methods of an engine."""

    def __init__(self, core: Core, gate: Gate) -> None:
        self._core, self._gate = core, gate
        self.subscriptions: set[Subscription] = set()
        self.calls: dict[str, Callable[[bytes, Context], Awaitable[bytes]]] = {
            RUN_DETAILS: self._run_details,
            stubs.TRIGGER: self._trigger,
            stubs.BULK_TRIGGER: self._bulk_trigger,
            stubs.TRIGGER_RUN: self._trigger_run,
            stubs.CANCEL_TASKS: self._cancel,
            stubs.REPLAY_TASKS: self._replay,
            stubs.PUT_STREAM_EVENT: self._put_stream_event,
            stubs.GET_VERSION: self._version,
        }
        self._methods = {path: _unary(call) for path, call in self.calls.items()}
        self._methods[SUBSCRIBE] = _stream(self._subscribe)
        self._methods[stubs.SUBSCRIBE_TO_RUNS] = grpc.stream_stream_rpc_method_handler(
            self._subscribe_to_runs
        )

    def service(self, handler_call_details: Any) -> Any:
        return self._methods.get(handler_call_details.method)

    def end_streams(self) -> None:
        """End every subscription with OK and without hangup, as an engine does that shuts down."""
        for subscription in tuple(self.subscriptions):
            subscription.end()

    async def _tenant(self, context: Context, method: str) -> Tenant:
        self._gate.count(method.rpartition("/")[2])
        await self._gate.wait_until_answering()
        metadata = dict(context.invocation_metadata() or ())
        tenant = self._gate.tenant(_text(metadata.get("authorization")))
        if tenant is None:
            await _refuse(context, grpc.StatusCode.UNAUTHENTICATED, "invalid auth token")
        service = method.split("/")[1].rpartition(".")[2]
        if self._core.quirks.rate_limit and not self._gate.passes(tenant, service):
            await _refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, LIMITED[service])
        return tenant

    # -- subscriptions ---------------------------------------------------------------------------

    async def _subscribe(self, raw: bytes, context: Context) -> None:
        outbox = Outbox()
        subscription = await self.open(raw, context, outbox)
        try:
            await _send(outbox, context)
        finally:
            self.close(subscription)

    async def open(self, raw: bytes, context: Context, listener: Listener) -> Subscription:
        """SubscribeToWorkflowEvents; its events go to `listener`."""
        tenant = await self._tenant(context, SUBSCRIBE)
        request = dispatcher_pb2.SubscribeToWorkflowEventsRequest.FromString(raw)
        subscription: Subscription
        if request.HasField("workflow_run_id"):
            run_id = await _uuid(context, request.workflow_run_id, "invalid workflow run id {0}: {1}")
            subscription = RunSubscription(self._core, tenant, run_id, listener)
        elif request.HasField("additional_meta_key") and request.HasField("additional_meta_value"):
            pair = (request.additional_meta_key, request.additional_meta_value)
            subscription = MetadataSubscription(self._core, tenant, *pair, listener)
        else:
            need = "either workflow run id or additional meta key-value must be provided"
            await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, need)
        self.subscriptions.add(subscription)
        return subscription

    def close(self, subscription: Subscription) -> None:
        """The client has gone."""
        subscription.close()
        self.subscriptions.discard(subscription)

    async def _subscribe_to_runs(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        tenant = await self._tenant(context, stubs.SUBSCRIBE_TO_RUNS)
        feed = ResultsFeed(self._core, tenant)
        async for run in feed.done_runs(requests):
            yield run_results(run, self._core.scheduler.wall()).SerializeToString()

    # -- runs ------------------------------------------------------------------------------------

    async def _run_details(self, raw: bytes, context: Context) -> bytes:
        tenant = await self._tenant(context, RUN_DETAILS)
        asked = workflows_pb2.GetRunDetailsRequest.FromString(raw).external_id
        run_id = await _uuid(context, asked, "invalid external id")
        if run_id in tenant.recorded:
            return tenant.recorded[run_id].details().SerializeToString()
        run = tenant.runs.get(run_id)
        if run is None:
            await _refuse(context, grpc.StatusCode.NOT_FOUND, "workflow run not found")
        return run_details(run, self._core.quirks).SerializeToString()

    async def _trigger(self, raw: bytes, context: Context) -> bytes:
        tenant = await self._tenant(context, stubs.TRIGGER)
        run_id = await self._begin(tenant, shared_pb2.TriggerWorkflowRequest.FromString(raw), context)
        return trigger_pb2.TriggerWorkflowResponse(workflow_run_id=run_id).SerializeToString()

    async def _bulk_trigger(self, raw: bytes, context: Context) -> bytes:
        tenant = await self._tenant(context, stubs.BULK_TRIGGER)
        wanted = trigger_pb2.BulkTriggerWorkflowRequest.FromString(raw).workflows
        ids = [await self._begin(tenant, one, context) for one in wanted]
        return trigger_pb2.BulkTriggerWorkflowResponse(workflow_run_ids=ids).SerializeToString()

    async def _trigger_run(self, raw: bytes, context: Context) -> bytes:
        tenant = await self._tenant(context, stubs.TRIGGER_RUN)
        asked = workflows_pb2.TriggerWorkflowRunRequest.FromString(raw)
        request = shared_pb2.TriggerWorkflowRequest(
            name=asked.workflow_name,
            input=asked.input.decode(),
            additional_metadata=asked.additional_metadata.decode(),
        )
        run_id = await self._begin(tenant, request, context)
        return workflows_pb2.TriggerWorkflowRunResponse(external_id=run_id).SerializeToString()

    async def _begin(
        self, tenant: Tenant, request: shared_pb2.TriggerWorkflowRequest, context: Context
    ) -> str:
        input = await _json(context, request.input, "payload")
        metadata = await _json(context, request.additional_metadata, "additionalMetadata")
        parent = request.parent_task_run_external_id or None
        try:
            return self._core.trigger(tenant, request.name, input, metadata, parent).id
        except UnknownWorkflow:
            return self._core.random.uuid()  # the engine answers with an id too, and never begins the run

    async def _cancel(self, raw: bytes, context: Context) -> bytes:
        tenant = await self._tenant(context, stubs.CANCEL_TASKS)
        ids = list(workflows_pb2.CancelTasksRequest.FromString(raw).external_ids)
        for run in runs_of(tenant, ids):
            self._core.cancel(run)
        return workflows_pb2.CancelTasksResponse(cancelled_tasks=ids).SerializeToString()

    async def _replay(self, raw: bytes, context: Context) -> bytes:
        tenant = await self._tenant(context, stubs.REPLAY_TASKS)
        runs = runs_of(tenant, list(workflows_pb2.ReplayTasksRequest.FromString(raw).external_ids))
        for run in runs:
            self._core.replay(run)
        return workflows_pb2.ReplayTasksResponse(replayed_tasks=[run.id for run in runs]).SerializeToString()

    async def _put_stream_event(self, raw: bytes, context: Context) -> bytes:
        tenant = await self._tenant(context, stubs.PUT_STREAM_EVENT)
        request = events_pb2.PutStreamEventRequest.FromString(raw)
        id = await _uuid(context, request.task_run_external_id, "task external run id is not a valid uuid")
        found = tenant.step_run(id)
        if found is None:
            await _refuse(context, grpc.StatusCode.NOT_FOUND, f"task run not found: {id}")
        run, step = found
        index = request.event_index if request.HasField("event_index") else None
        at = (
            request.created_at.seconds + request.created_at.nanos / 1e9
            if request.HasField("created_at")
            else None
        )
        self._core.put_chunk(run, step, request.message, index, at)
        return events_pb2.PutStreamEventResponse().SerializeToString()

    async def _version(self, raw: bytes, context: Context) -> bytes:
        await self._tenant(context, stubs.GET_VERSION)
        return dispatcher_pb2.GetVersionResponse(version=VERSION).SerializeToString()


def runs_of(tenant: Tenant, ids: list[str]) -> list[Run]:
    """The runs with these ids, which are those of runs or of their steps."""
    found = (tenant.runs.get(id.lower()) or (tenant.step_run(id.lower()) or (None,))[0] for id in ids)
    return [run for run in found if run is not None]


async def _send(outbox: Outbox, context: Context) -> None:
    while True:
        while outbox.waiting:
            await context.write(outbox.waiting.popleft())
        if outbox.ended is not None:
            break
        await outbox.more()
    status, details = outbox.ended
    if status != "OK":
        await _refuse(context, grpc.StatusCode[status], details)


async def _refuse(context: Context, code: grpc.StatusCode, details: str) -> NoReturn:
    await context.abort(code, details)
    raise AssertionError("abort raises")


async def _uuid(context: Context, text: str, complaint: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        why = f"invalid UUID length: {len(text)}" if len(text) != 36 else "invalid UUID format"
        await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, complaint.format(text, why))


async def _json(context: Context, text: str, field: str) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        complaint = f"Invalid request: invalid json in field `{field}`"
        await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, complaint)


def _text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _unary(call: Callable[[bytes, Context], Awaitable[bytes]]) -> Any:
    return grpc.unary_unary_rpc_method_handler(call)


def _stream(call: Callable[[bytes, Context], Awaitable[None]]) -> Any:
    return grpc.unary_stream_rpc_method_handler(call)
