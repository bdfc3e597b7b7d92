"""The transport on the proxy's own HTTP/2 connections: a fraction of grpcio's cost per event.

README.md in this folder has the figures. It does not support HTTP proxies, nor targets with a scheme such as
`unix:` or `xds:`; `can_reach` decides, and `grpcio.py` is used for those.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import ssl
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

from proxy.core.timeouts import TimeLimit
from proxy.hatchet.endpoint import Endpoint, Tls
from proxy.hatchet.errors import HatchetAway, HatchetError
from proxy.hatchet.grpc.base import CONNECT_TIMEOUT, KEEPALIVE_TIME
from proxy.hatchet.grpc.call import Call
from proxy.hatchet.grpc.connection import Connection
from proxy.hatchet.grpc.grouped_reads import GroupedReads
from proxy.hatchet.grpc.header_blocks import Fields
from proxy.hatchet.grpc.read_scheduler import ReadScheduler
from proxy.hatchet.grpc.status import Code, error_for_status

# Seconds after the first, second, third failed attempt to connect in which calls fail without a new attempt.
RECONNECT_PAUSES: Final = (0.1, 0.25, 0.5, 1.0, 2.0)
ATTEMPTS: Final = 2  # a call that the server did not begin to process is made again, on another connection
REQUEST_BYTES: Final = 4096  # the longest request: a run id, or a metadata pair
CLOSE_TIMEOUT: Final = 1.0  # seconds for the end of TLS
PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")  # the variables that C-core reads


def can_reach(host_port: str, env: Mapping[str, str]) -> bool:
    """Whether this transport can connect to `host_port`: a plain host and port, not through an HTTP proxy."""
    host, port = split_host_port(host_port)
    direct = (env.get("no_grpc_proxy") or env.get("no_proxy") or "").split(",")
    proxied = any(env.get(name) for name in PROXIES) and not any(
        host.endswith(suffix.strip()) for suffix in direct if suffix.strip()
    )
    return bool(host) and port.isdigit() and not proxied


def split_host_port(host_port: str) -> tuple[str, str]:
    """Host and port of `host:port` or `[v6]:port`; without a port 443, as in grpcio.

    Both empty for other targets.
    """
    if "/" in host_port or host_port.startswith(("unix:", "dns:", "ipv4:", "ipv6:")):
        return "", ""
    host, colon, port = host_port.rpartition(":")
    if not colon or host_port.endswith("]"):
        return host_port.strip("[]"), "443"
    return host.strip("[]"), port


class ConnectionPool:
    """The connections of one team: implements `proxy.hatchet.grpc.base.Transport`.

    Raises HatchetAway if the files for TLS cannot be used.
    """

    def __init__(self, endpoint: Endpoint, reads: GroupedReads | None = None) -> None:
        """`reads` is shared by the teams of the process; None: this team is alone."""
        self._host, self._port = split_host_port(endpoint.host_port)
        self._max_message = endpoint.max_message
        self._tls = endpoint.tls
        self._ssl = ssl_context(endpoint.tls)
        self._headers = (
            (":method", "POST"),
            (":scheme", "http" if self._ssl is None else "https"),
            (":authority", endpoint.host_port if self._ssl is None else endpoint.tls.server_name),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "hatchet-stream-proxy"),
            ("authorization", f"bearer {endpoint.token}"),
        )
        self._headers_of: dict[tuple[str, float | None], Fields] = {}  # of a call's path and timeout
        self._limits: dict[float, TimeLimit] = {}  # by the seconds of a call
        self._connections: list[Connection] = []
        self._scheduler = ReadScheduler(reads=reads)
        self._connecting: asyncio.Task[Connection] | None = None  # shared by all calls that need a connection
        self._failures = 0
        self._recent_failure: tuple[float, str] | None = None  # calls fail until then, and why
        self.keepalive = KEEPALIVE_TIME  # seconds; doubled when a server refuses pings as too many
        self._closed = False

    async def unary(self, path: str, request: bytes, call: str, timeout: float) -> bytes:
        messages: list[bytes] = []
        try:
            with self._limit(timeout).begin():
                await self._call(path, request, call, messages.append, timeout=timeout)
        except TimeoutError:
            raise error_for_status(Code.DEADLINE_EXCEEDED, "", call) from None
        if len(messages) != 1:
            raise error_for_status(Code.INTERNAL, "", call)
        return messages[0]

    def server_stream(
        self,
        path: str,
        request: bytes,
        call: str,
        receive: Callable[[bytes], None],
        opened: Callable[[], None] | None = None,
    ) -> Coroutine[Any, Any, None]:
        return self._call(path, request, call, receive, opened)

    async def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        connections = list(self._connections)
        for connection in connections:
            connection.close("closed")
        if connections:
            await asyncio.wait([connection.closed for connection in connections], timeout=CLOSE_TIMEOUT)
        for connection in connections:
            connection.abort("closed")

    async def _call(
        self,
        path: str,
        request: bytes,
        name: str,
        receive: Callable[[bytes], None],
        opened: Callable[[], None] | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        headers = self._headers_of.get((path, timeout))
        if headers is None:
            headers = self._headers_of[path, timeout] = self._make_headers(path, timeout)
        if len(request) > REQUEST_BYTES:
            raise HatchetAway(f"{name}: the request is over {REQUEST_BYTES} bytes")
        for attempts_left in reversed(range(ATTEMPTS)):
            connection = await self._connection(len(request), name)
            outcome: asyncio.Future[HatchetError | None] = asyncio.get_running_loop().create_future()
            call = Call(receive, _resolve(outcome, name))
            connection.begin(headers, request, call)
            if opened is not None:
                opened()
            try:
                error = await outcome
            finally:
                if call.open:
                    connection.cancel(call)
            if error is None:
                return
            self._raise_if_closed(name)
            if not (call.refused and attempts_left):
                try:
                    raise error
                finally:  # breaks the reference cycle error → traceback → frame → error
                    del error, outcome, call

    def _limit(self, seconds: float) -> TimeLimit:
        limit = self._limits.get(seconds)
        if limit is None:
            limit = self._limits[seconds] = TimeLimit(seconds)
        return limit

    def _make_headers(self, path: str, timeout: float | None) -> Fields:
        headers = [*self._headers, (":path", path)]
        headers.sort(key=lambda header: not header[0].startswith(":"))
        if timeout is not None:
            headers.append(("grpc-timeout", f"{int(timeout * 1000)}m"))
        return tuple(headers)

    def _raise_if_closed(self, call: str) -> None:
        if self._closed:
            raise HatchetAway(f"{call}: the client is closed")

    async def _connection(self, size: int, call: str) -> Connection:
        """A connection on which a call can begin; calls that need a new one share one attempt."""
        while True:
            self._raise_if_closed(call)
            for connection in self._connections:
                if connection.can_begin(size):
                    return connection
            if self._connecting is None:
                self._raise_recent_failure(call)
                self._connecting = asyncio.create_task(self._connect())
                self._connecting.add_done_callback(self._connected)
            attempt = self._connecting
            await asyncio.wait([attempt])
            self._raise_recent_failure(call)

    def _raise_recent_failure(self, call: str) -> None:
        if self._recent_failure is not None:
            until, why = self._recent_failure
            if asyncio.get_running_loop().time() < until:
                raise error_for_status(Code.UNAVAILABLE, why, call)

    def _connected(self, attempt: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if attempt.cancelled():
            return
        error = attempt.exception()
        if error is None:
            self._failures, self._recent_failure = 0, None
            if not attempt.result().closed.done():
                self._connections.append(attempt.result())
            return
        pause = RECONNECT_PAUSES[min(self._failures, len(RECONNECT_PAUSES) - 1)]
        self._failures += 1
        why = "timed out" if isinstance(error, TimeoutError) else f"{type(error).__name__} {error}"
        self._recent_failure = (asyncio.get_running_loop().time() + pause, why)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, connection = await loop.create_connection(
                lambda: Connection(self._max_message, self._lost, self.keepalive, self._scheduler),
                self._host,
                int(self._port),
                ssl=self._ssl,
                server_hostname=self._tls.server_name if self._ssl else None,
            )
            try:
                await asyncio.shield(connection.ready)
                if not connection.can_begin(REQUEST_BYTES):
                    raise ConnectionError("it allows no calls at the moment")
            except BaseException:
                connection.abort("it was not ready in time")
                raise
        return connection

    def _lost(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            if connection.sent_too_many_pings:  # gRPC's keepalive guide asks clients to double the interval
                self.keepalive *= 2


def _resolve(
    outcome: asyncio.Future[HatchetError | None], name: str
) -> Callable[[int, str, Exception | None], None]:
    """The `on_end` of a call: sets `outcome` to None for OK, else to the error."""

    def end(code: int, text: str, error: Exception | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(None if code == Code.OK else error_for_status(code, text, name))

    return end


def ssl_context(tls: Tls) -> ssl.SSLContext | None:
    """The TLS context, or None without TLS. Raises HatchetAway if a file cannot be used.

    As in grpcio: a configured CA is the only one trusted; without one, grpcio's list and the system's are.
    """
    if tls.strategy == "none":
        return None
    ca, _, _ = tls.read()  # its error names the file
    try:
        made = ssl.create_default_context(cadata=ca.decode("ascii", "ignore") if ca else None)
        if ca is None:
            _load_roots(made)
        if tls.strategy == "mtls" and tls.cert is not None:
            made.load_cert_chain(tls.cert, tls.key)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise HatchetAway(
            f"hatchet.ca, hatchet.cert or hatchet.key cannot be used for TLS ({type(error).__name__})"
        ) from None
    made.set_alpn_protocols(["h2"])
    return made


def _load_roots(into: ssl.SSLContext) -> None:
    """Load grpcio's list, so that an image without certificates trusts what Hatchet's SDK trusts."""
    written = os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
    spec = importlib.util.find_spec("grpc")
    places = spec.submodule_search_locations if spec is not None else None
    roots = Path(written) if written else Path((places or [""])[0]) / "_cython" / "_credentials" / "roots.pem"
    if roots.is_file():
        into.load_verify_locations(cafile=roots)
