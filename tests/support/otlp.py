"""An OTLP receiver on loopback, by HTTP/protobuf and by gRPC: keeps the spans and metrics that it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import web

from tests.support.tools import missing


def need_otel() -> None:
    """Skip, or fail where nothing may be left out, without the extra `otel`."""
    try:
        import opentelemetry.sdk  # noqa: F401, PLC0415
    except ImportError:
        missing("the extra `otel` of this project")


@dataclass
class Receiver:
    """What a collector got."""

    protocol: str
    endpoint: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    resource: dict[str, Any] = field(default_factory=dict)
    spans: list[Any] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to send here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=streams",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
        }

    def named(self, name: str) -> list[Any]:
        """The spans with that name."""
        return [span for span in self.spans if span.name == name]

    def traces(self, body: bytes) -> bytes:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb  # noqa: PLC0415

        for resource in pb.ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = attributes(resource.resource)
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return bytes(pb.ExportTraceServiceResponse().SerializeToString())

    def measured(self, body: bytes) -> bytes:
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as pb  # noqa: PLC0415

        for resource in pb.ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics.update({metric.name: metric for metric in scope.metrics})
        return bytes(pb.ExportMetricsServiceResponse().SerializeToString())


def attributes(owner: Any) -> dict[str, Any]:
    """The attributes of a span, an event, a point or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in owner.attributes}


@asynccontextmanager
async def receiver(protocol: str = "http/protobuf") -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    one = Receiver(protocol)
    if protocol == "grpc":
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            [
                _service("trace", "TraceService", one, one.traces),
                _service("metrics", "MetricsService", one, one.measured),
            ]
        )
        one.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield one
        finally:
            await server.stop(None)
        return
    app = web.Application()
    app.add_routes([web.post("/v1/traces", _http(one, one.traces))])
    app.add_routes([web.post("/v1/metrics", _http(one, one.measured))])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield one
    finally:
        await runner.cleanup()


def _http(one: Receiver, take: Any) -> Any:
    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        one.headers = {name.lower(): text for name, text in request.headers.items()}
        return web.Response(body=take(body), content_type="application/x-protobuf")

    return handle


def _service(package: str, service: str, one: Receiver, take: Any) -> Any:
    async def export(body: bytes, context: Any) -> bytes:
        one.headers = {str(name): str(text) for name, text in context.invocation_metadata()}
        answer: bytes = take(body)
        return answer

    name = f"opentelemetry.proto.collector.{package}.v1.{service}"
    return grpc.method_handlers_generic_handler(name, {"Export": grpc.unary_unary_rpc_method_handler(export)})


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """The endpoint of a collector that accepts connections and never answers."""
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in connections:
            writer.close()
