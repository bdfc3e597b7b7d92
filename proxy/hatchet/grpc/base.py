"""Transport: what the Hatchet client needs of gRPC. Bytes in, bytes out.

There are two implementations, and the same tests run on both: `pool.py` (the proxy's own HTTP/2 connections
on asyncio) and `grpcio.py`. Both raise only `proxy.hatchet.errors` (made by `status.py`), and both end the
call at Hatchet when its task is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

# Together the longest time until a network partition is noticed. Hatchet's engine refuses pings that come
# more often than every 5 s (internal/services/grpc/server.go: MinTime 5 s, also without calls); the SDK pings
# every 10 s.
KEEPALIVE_TIME: Final = 10.0  # seconds without a received byte until a ping is sent
KEEPALIVE_TIMEOUT: Final = 8.0  # seconds for the answer to that ping
CONNECT_TIMEOUT: Final = 10.0  # seconds for a connection with its TLS handshake


class Transport(Protocol):
    """gRPC calls to one Hatchet with one token."""

    async def unary(self, path: str, request: bytes, call: str, timeout: float) -> bytes:
        """Send one request and return the one response.

        `path` is the HTTP/2 path of the method, `request` a serialized protobuf message, `call` the name of
        the call in error messages, `timeout` in seconds. Raises HatchetError.
        """

    async def server_stream(
        self,
        path: str,
        request: bytes,
        call: str,
        receive: Callable[[bytes], None],
        opened: Callable[[], None] | None = None,
    ) -> None:
        """Send one request and call `receive` with each message of the response; return when it ends with OK.

        `opened` is called once, when the request has been written to an established connection. Raises
        HatchetError, and whatever `receive` raises.
        """

    async def close(self) -> None:
        """End all calls with HatchetAway, then close the connections."""
