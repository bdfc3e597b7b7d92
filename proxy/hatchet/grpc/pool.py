"""Transport on asyncio alone: what grpcio does for us, at a fraction of its cost per event.

grpc.aio takes some 50 µs to hand over one message, more than everything else that a proxy does with it; here
it is a third of that or less (`bench/bench_receive.py` has both). What it does not do (HTTP proxies, targets
with a scheme such as unix: or xds:) is `channels.py`'s; `fits` tells.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from proxy.hatchet.endpoint import Endpoint, Tls
from proxy.hatchet.errors import HatchetAway, HatchetError
from proxy.hatchet.grpc.base import CONNECT_TIMEOUT, KEEPALIVE_TIME
from proxy.hatchet.grpc.call import Call
from proxy.hatchet.grpc.connection import Link
from proxy.hatchet.grpc.read_scheduler import Turns
from proxy.hatchet.grpc.status import Code, refusal

PAUSES: Final = (0.1, 0.25, 0.5, 1.0, 2.0)  # after a failed attempt calls fail at once for so long: no storm
TRIES: Final = 2  # a call that the server never began with is made again, on another connection
REQUEST_BYTES: Final = 4096  # a run id, or a metadata pair; a server that takes less takes no calls
CLOSING: Final = 1.0  # seconds for a polite end of TLS
PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")


def fits(host_port: str, env: Mapping[str, str]) -> bool:
    """Whether this transport can reach an address: a plain host and port, not through an HTTP proxy."""
    host, port = split(host_port)
    direct = (env.get("no_grpc_proxy") or env.get("no_proxy") or "").split(",")
    proxied = any(env.get(name) for name in PROXIES) and not any(
        host.endswith(suffix.strip()) for suffix in direct if suffix.strip()
    )
    return bool(host) and port.isdigit() and not proxied


def split(host_port: str) -> tuple[str, str]:
    """`host:port` or `[v6]:port`; no port is 443, as grpcio has it."""
    if "/" in host_port or host_port.startswith(("unix:", "dns:", "ipv4:", "ipv6:")):
        return "", ""
    host, colon, port = host_port.rpartition(":")
    if not colon or host_port.endswith("]"):
        return host_port.strip("[]"), "443"
    return host.strip("[]"), port


class Lean:
    """The connections of one team."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._host, self._port = split(endpoint.host_port)
        self._max_message = endpoint.max_message
        self._tls = endpoint.tls
        self._ssl = context(endpoint.tls)
        self._headers = (
            (":method", "POST"),
            (":scheme", "http" if self._ssl is None else "https"),
            (":authority", endpoint.host_port if self._ssl is None else endpoint.tls.server_name),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "hatchet-stream-proxy"),
            ("authorization", f"bearer {endpoint.token}"),
        )
        self._connections: list[Link] = []
        self._turns = Turns()
        self._connecting: asyncio.Task[Link] | None = None
        self._failures = 0
        self._trouble: tuple[float, str] | None = None  # until when, and why
        self.keepalive = KEEPALIVE_TIME  # seconds of silence until a ping; longer where a server minds
        self._closed = False

    async def ask(self, path: str, request: bytes, call: str, timeout: float) -> bytes:
        answers: list[bytes] = []
        try:
            async with asyncio.timeout(timeout):
                await self._call(path, request, call, answers.append, timeout=timeout)
        except TimeoutError:
            raise refusal(Code.DEADLINE_EXCEEDED, "", call) from None
        if len(answers) != 1:
            raise refusal(Code.INTERNAL, "", call)
        return answers[0]

    async def listen(
        self,
        path: str,
        request: bytes,
        call: str,
        receive: Callable[[bytes], None],
        opened: Callable[[], None] | None = None,
    ) -> None:
        await self._call(path, request, call, receive, opened)

    async def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        connections = list(self._connections)
        for connection in connections:
            connection.close("closed")
        if connections:
            await asyncio.wait([connection.gone for connection in connections], timeout=CLOSING)
        for connection in connections:
            connection.give_up("closed")

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
        headers = [*self._headers, (":path", path)]
        headers.sort(key=lambda header: not header[0].startswith(":"))
        if timeout is not None:
            headers.append(("grpc-timeout", f"{int(timeout * 1000)}m"))
        if len(request) > REQUEST_BYTES:
            raise HatchetAway(f"{name}: the request is over {REQUEST_BYTES} bytes")
        for left in reversed(range(TRIES)):
            connection = await self._connection(len(request), name)
            outcome: asyncio.Future[HatchetError | None] = asyncio.get_running_loop().create_future()
            call = Call(receive, _settle(outcome, name))
            connection.begin(headers, request, call)
            if opened is not None:
                opened()
            try:
                trouble = await outcome
            finally:
                if call.open:
                    connection.cancel(call)
            if trouble is None:
                return
            self._raise_if_closed(name)
            if not (call.refused and left):
                try:
                    raise trouble
                finally:  # its traceback holds this frame, which should not hold it
                    del trouble, outcome, call

    def _raise_if_closed(self, call: str) -> None:
        if self._closed:
            raise HatchetAway(f"{call}: this door to Hatchet is closed")

    async def _connection(self, size: int, call: str) -> Link:
        """One with room for a call; calls that need a new one share the attempt."""
        while True:
            self._raise_if_closed(call)
            for connection in self._connections:
                if connection.has_room(size):
                    return connection
            if self._connecting is None:
                self._raise_trouble(call)
                self._connecting = asyncio.create_task(self._connect())
                self._connecting.add_done_callback(self._connected)
            attempt = self._connecting
            await asyncio.wait([attempt])
            self._raise_trouble(call)

    def _raise_trouble(self, call: str) -> None:
        if self._trouble is not None:
            until, why = self._trouble
            if asyncio.get_running_loop().time() < until:
                raise refusal(Code.UNAVAILABLE, why, call)

    def _connected(self, attempt: asyncio.Task[Link]) -> None:
        self._connecting = None
        if attempt.cancelled():
            return
        error = attempt.exception()
        if error is None:
            self._failures, self._trouble = 0, None
            if not attempt.result().gone.done():
                self._connections.append(attempt.result())
            return
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        why = "timed out" if isinstance(error, TimeoutError) else f"{type(error).__name__} {error}"
        self._trouble = (asyncio.get_running_loop().time() + pause, why)

    async def _connect(self) -> Link:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, connection = await loop.create_connection(
                lambda: Link(self._max_message, self._lost, self.keepalive, self._turns),
                self._host,
                int(self._port),
                ssl=self._ssl,
                server_hostname=self._tls.server_name if self._ssl else None,
            )
            try:
                await asyncio.shield(connection.settled)
                if not connection.has_room(REQUEST_BYTES):
                    raise ConnectionError("it takes no calls")
            except BaseException:
                connection.give_up("it was not ready in time")
                raise
        return connection

    def _lost(self, connection: Link) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            if connection.pinged_too_often:  # as gRPC's keepalive guide asks of clients
                self.keepalive *= 2


def _settle(
    outcome: asyncio.Future[HatchetError | None], name: str
) -> Callable[[int, str, Exception | None], None]:
    def end(code: int, text: str, error: Exception | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(None if code == Code.OK else refusal(code, text, name))

    return end


def context(tls: Tls) -> ssl.SSLContext | None:
    """TLS as grpcio has it: the written authority alone, else those of grpcio and of the system; ALPN h2."""
    if tls.strategy == "none":
        return None
    ca, _, _ = tls.read()  # names the file that cannot be read
    try:
        made = ssl.create_default_context(cadata=ca.decode("ascii", "ignore") if ca else None)
        if ca is None:
            _load_roots(made)
        if tls.strategy == "mtls" and tls.cert is not None:
            made.load_cert_chain(tls.cert, tls.key)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise HatchetAway(f"hatchet.ca, cert or key is not what TLS needs ({type(error).__name__})") from None
    made.set_alpn_protocols(["h2"])
    return made


def _load_roots(into: ssl.SSLContext) -> None:
    """grpcio's own list, so that an image without certificates trusts what Hatchet's SDK trusts."""
    written = os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
    spec = importlib.util.find_spec("grpc")
    places = spec.submodule_search_locations if spec is not None else None
    roots = Path(written) if written else Path((places or [""])[0]) / "_cython" / "_credentials" / "roots.pem"
    if roots.is_file():
        into.load_verify_locations(cafile=roots)
