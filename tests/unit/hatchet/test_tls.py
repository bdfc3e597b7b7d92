"""TLS to Hatchet: an own authority, client certificates, and certificates that must not be accepted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop

from proxy.core.observations import LiveEvent
from proxy.hatchet.client import HatchetClient
from proxy.hatchet.errors import HatchetAway, HistoryAway
from tests.support.authority import Authority
from tests.support.hatchet_server import RUN, chunk, config, hatchet_server
from tests.unit.hatchet.test_client import TRANSPORTS, first_event


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


def server_side(authority: Authority, *, mutual: bool = False) -> grpc.ServerCredentials:
    cert, key = authority.issue("engine.test")
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), cert.read_bytes())],
        root_certificates=authority.pem if mutual else None,
        require_client_auth=mutual,
    )


def client_for(port: int, transport: str, name: str = "engine.test", **written: Any) -> HatchetClient:
    env = TRANSPORTS[transport] | {"HATCHET_CLIENT_TLS_SERVER_NAME": name}
    return HatchetClient(config(host_port=f"127.0.0.1:{port}", **{"tls": "tls"} | written), env)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_own_authority_is_trusted_and_large_messages_come_through(
    ours: Authority, transport: str
) -> None:
    async def sized(request: Any, context: Any) -> AsyncIterator[bytes]:
        for index in range(50):
            yield chunk("x" * 50_000, index)

    async with hatchet_server(credentials=server_side(ours)) as engine:
        engine.subscribe = sized
        client = client_for(engine.port, transport, ca=str(ours.file))
        events: list[LiveEvent] = []
        await client.follow(RUN, events.append)
        assert [event.index for event in events] == list(range(50))
        assert (await client.core(RUN)).done
        await client.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_mutual_tls_shows_our_certificate(ours: Authority, transport: str) -> None:
    cert, key = ours.issue("proxy.test")
    files = {"ca": str(ours.file), "cert": str(cert), "key": str(key)}
    async with hatchet_server(credentials=server_side(ours, mutual=True)) as engine:
        client = client_for(engine.port, transport, tls="mtls", **files)
        task, _ = await first_event(client)
        task.cancel()
        await client.close()
        bare = client_for(engine.port, transport, ca=str(ours.file))
        with pytest.raises(HatchetAway):
            await bare.core(RUN)
        await bare.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_foreign_authority_or_name_is_refused(
    ours: Authority, tmp_path: Path, transport: str
) -> None:
    theirs = Authority(tmp_path, "theirs")
    async with hatchet_server(credentials=server_side(ours)) as engine:
        for client in (
            client_for(engine.port, transport, ca=str(theirs.file)),
            client_for(engine.port, transport),
            client_for(engine.port, transport, "another.test", ca=str(ours.file)),
        ):
            with pytest.raises(HatchetAway):
                await client.core(RUN)
            await client.close()
        assert engine.metadata == []  # the token went nowhere


async def test_the_pool_reports_why_a_certificate_is_refused(ours: Authority) -> None:
    async with hatchet_server(credentials=server_side(ours)) as engine:
        client = client_for(engine.port, "pool")
        with pytest.raises(HatchetAway, match="certificate is not accepted"):
            await client.core(RUN)
        await client.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, transport: str) -> None:
    client = client_for(1, transport, ca=str(tmp_path / "missing.pem"))
    with pytest.raises(HatchetAway, match=r"hatchet\.ca: cannot read .*missing\.pem"):
        await client.core(RUN)


async def test_a_file_that_is_no_certificate_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    client = client_for(1, "pool", ca=str(tmp_path / "ca.pem"))
    with pytest.raises(HatchetAway, match=r"hatchet\.ca"):
        await client.core(RUN)


async def test_plain_text_to_a_tls_server_ends_with_a_hint(ours: Authority) -> None:
    async with hatchet_server(credentials=server_side(ours)) as engine:
        client = client_for(engine.port, "pool", tls="none")
        with pytest.raises(HatchetAway):
            await asyncio.wait_for(client.core(RUN), 10)
        await client.close()


# -- the REST history --


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_history_is_read_over_tls_from_whom_the_authority_names(
    ours: Authority, tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    theirs = Authority(tmp_path, "theirs")
    cert, key = ours.issue("localhost")
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(cert, key)
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for _ in range(2):
                requests.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def ask() -> None:
        listener = await asyncio.start_server(serve, "localhost", 0, ssl=server_tls)
        port = listener.sockets[0].getsockname()[1]
        for host, authority, refused in (
            ("localhost", ours, False),
            ("localhost", theirs, True),
            ("localhost", None, True),
            ("127.0.0.1", ours, True),
        ):
            ca = {} if authority is None else {"ca": str(authority.file)}
            client = HatchetClient(config(api=f"https://{host}:{port}", host_port="x:1", **ca), {})
            if refused:
                with pytest.raises(HistoryAway, match=r"certificate is not accepted; look at hatchet\.ca"):
                    await client.past(RUN)
            else:
                assert await client.past(RUN) is None
                assert await client.past(RUN) is None
            await client.close()
        listener.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(ask(), 20))
    assert len(requests) == 2  # no token went to anyone else
