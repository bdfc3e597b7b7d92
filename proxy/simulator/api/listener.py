"""GrpcListener: the engine's gRPC port, which can be closed and opened again."""

from __future__ import annotations

import socket
from typing import Final

import grpc
import grpc.aio

from proxy.simulator.api.grpc import GrpcApi
from proxy.simulator.api.grpc_lean import LeanServer

HOST: Final = "127.0.0.1"
MESSAGE_LIMIT: Final = 4 * 1024 * 1024  # bytes: the engine's default for what it receives
GRACE: Final = 0.2  # seconds in which calls may end when the port is closed
OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a taken port is an error, not a shared one
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),  # the SDK pings every 10 s
    ("grpc.http2.max_ping_strikes", 0),
)


class PortTaken(OSError):
    """A port of the engine is in use."""


class GrpcListener:
    """Serves a `GrpcApi` on one port of loopback; `lean`: without grpcio, for benchmarks."""

    def __init__(self, api: GrpcApi, port: int, *, lean: bool) -> None:
        self._api, self._lean = api, lean
        self.port = port  # 0 until it has been opened once: any free port
        self._server: grpc.aio.Server | LeanServer | None = None

    @property
    def listening(self) -> bool:
        """Whether the port is open."""
        return self._server is not None

    async def open(self, *, limited: bool) -> None:
        """Listen; `limited`: messages over 4 MiB are refused. Raises PortTaken."""
        if self.listening:
            return
        try:
            self._server = await (self._open_lean() if self._lean else self._open_grpcio(limited))
        except (OSError, RuntimeError):
            raise PortTaken(f"cannot listen on {HOST}:{self.port}: the port is taken") from None

    async def _open_grpcio(self, limited: bool) -> grpc.aio.Server:
        limit = MESSAGE_LIMIT if limited else -1
        options = (*OPTIONS, ("grpc.max_receive_message_length", limit))
        server = grpc.aio.server(handlers=(self._api,), options=options)
        with socket.create_server((HOST, self.port)):
            pass  # grpcio itself would write to standard error about a port that is taken
        self.port = server.add_insecure_port(f"{HOST}:{self.port}")
        await server.start()
        return server

    async def _open_lean(self) -> LeanServer:
        server = LeanServer(self._api)
        self.port = await server.listen(HOST, self.port)
        return server

    async def close(self, *, graceful: bool) -> None:
        """Stop listening; `graceful`: subscriptions end with OK first, as when an engine shuts down."""
        if self._server is None:
            return
        server, self._server = self._server, None
        if graceful:
            self._api.end_streams()
        await server.stop(GRACE if graceful else None)
