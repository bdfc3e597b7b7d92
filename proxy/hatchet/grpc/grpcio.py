"""The transport on grpcio: the reference in tests, and the one for addresses that `pool.py` cannot reach.

Each channel has a connection of its own (no global subchannel pool), so the tokens of two teams never share
one. Streams are spread over several channels: a server or a proxy in front of it may allow only some 100
streams per connection (the engine itself sets no limit), and C-core queues further ones without an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc
import grpc.aio

from proxy.hatchet.endpoint import Endpoint
from proxy.hatchet.errors import HatchetAway, HatchetError
from proxy.hatchet.grpc.base import CONNECT_TIMEOUT, KEEPALIVE_TIME, KEEPALIVE_TIMEOUT
from proxy.hatchet.grpc.status import error_for_status

STREAMS_PER_CHANNEL: Final = 90  # RFC 9113 recommends servers to allow at least 100; unary calls need some
RECONNECT_PAUSE: Final = (250, 5_000)  # ms, first and longest; C-core's default of 2 minutes is too long


class GrpcioTransport:
    """The gRPC channels of one team: implements `proxy.hatchet.grpc.base.Transport`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._metadata = (("authorization", f"bearer {endpoint.token}"),)
        self._open: dict[Any, int] = {}  # channel -> number of streams on it
        self._closed = False

    async def unary(self, path: str, request: bytes, call: str, timeout: float) -> bytes:
        channel = self._channel()
        answer = channel.unary_unary(path)(request, timeout=timeout, metadata=self._metadata)
        try:
            return bytes(await answer)
        except grpc.aio.AioRpcError as error:
            raise self._translated(error, call) from None
        except asyncio.CancelledError:
            self._raise_if_closed(call)
            raise

    async def server_stream(
        self,
        path: str,
        request: bytes,
        call: str,
        receive: Callable[[bytes], None],
        opened: Callable[[], None] | None = None,
    ) -> None:
        channel = self._channel()
        self._open[channel] += 1
        answer = channel.unary_stream(path)(request, metadata=self._metadata)
        try:
            if opened is not None and await self._ready(channel):
                opened()
            async for message in answer:
                receive(message)
        except grpc.aio.AioRpcError as error:
            raise self._translated(error, call) from None
        except asyncio.CancelledError:
            self._raise_if_closed(call)
            raise
        finally:
            answer.cancel()
            if channel in self._open:
                self._open[channel] -= 1

    async def close(self) -> None:
        self._closed = True
        channels, self._open = list(self._open), {}
        for channel in channels:
            await channel.close()

    async def _ready(self, channel: Any) -> bool:
        """Whether the channel connected; if not, reading the response raises the reason."""
        while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                return False
            await channel.wait_for_state_change(state)
        return True

    def _channel(self) -> Any:
        if self._closed:
            raise HatchetAway("the client is closed")
        free = (channel for channel, streams in self._open.items() if streams < STREAMS_PER_CHANNEL)
        channel = next(free, None)
        if channel is None:
            channel = self._connect()
            self._open[channel] = 0
        return channel

    def _connect(self) -> grpc.aio.Channel:
        at = self._endpoint
        options: list[tuple[str, str | int]] = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", at.max_message),
            ("grpc.keepalive_time_ms", int(KEEPALIVE_TIME * 1000)),
            ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT * 1000)),
            # C-core waits for the answer to a ping by this option (default: one minute), not by the one above
            ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT * 1000)),
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_PAUSE[0]),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_PAUSE[1]),
        ]
        if at.tls.strategy == "none":
            return grpc.aio.insecure_channel(at.host_port, options=options)
        options.append(("grpc.ssl_target_name_override", at.tls.server_name))
        credentials = grpc.ssl_channel_credentials(*at.tls.read())
        return grpc.aio.secure_channel(at.host_port, credentials, options=options)

    def _translated(self, error: grpc.aio.AioRpcError, call: str) -> HatchetError:
        return error_for_status(_number(error.code()), error.details() or "", call)

    def _raise_if_closed(self, call: str) -> None:
        """Raise HatchetAway where closing the channel cancelled the call, not a cancelled task."""
        task = asyncio.current_task()
        if self._closed and not (task and task.cancelling()):
            raise HatchetAway(f"{call}: the client is closed") from None


def _number(code: grpc.StatusCode) -> int:
    return int(code.value[0])
