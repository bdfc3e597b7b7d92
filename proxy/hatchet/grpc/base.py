"""Transport: what the door needs of gRPC. Bytes in, bytes out; two implementations share every test.

`channels.py` stands on grpcio, `lean.py` on asyncio alone. Both raise `proxy.hatchet.errors` only (BadChunk,
MessageTooLarge, HatchetAway …, made by `refusals.py`), and end a call at Hatchet when it is cancelled here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

# A partition is noticed after at most these two together. Hatchet's engine calls pings more often than every
# 5 s too many (internal/services/grpc/server.go: MinTime 5 s, also without calls); the SDK pings every 10 s.
KEEPALIVE_TIME: Final = 10.0
KEEPALIVE_TIMEOUT: Final = 8.0
CONNECT_TIMEOUT: Final = 10.0  # for a connection with its TLS handshake


class Transport(Protocol):
    """Calls to one Hatchet with one token."""

    async def ask(self, path: str, request: bytes, call: str, timeout: float) -> bytes:
        """One answer to one request within `timeout` seconds; `call` is its name in errors."""

    async def listen(
        self,
        path: str,
        request: bytes,
        call: str,
        receive: Callable[[bytes], None],
        opened: Callable[[], None] | None = None,
    ) -> None:
        """Hand each message of the answer to `receive`, until its end with OK.

        `opened` is called once the request is on its way over a standing connection.
        """

    async def close(self) -> None:
        """End all calls with HatchetAway, then the connections."""
