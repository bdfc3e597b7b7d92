"""Caddy and HAProxy as shipped under deploy, with TLS and HTTP/2, in front of replicas on this machine."""

from __future__ import annotations

import datetime
import re
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.processes import free_port, running
from tests.support.tools import ROOT, need
from tests.support.waiting import until

REPLICAS: Final = re.compile(r"127\.0\.0\.1:8081|127\.0\.0\.1:8082")


def certificate(folder: Path) -> Path:
    """A file with a key and a certificate of 127.0.0.1, valid for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "both.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def _with_replicas(text: str, ports: Sequence[int]) -> str:
    found = iter(ports)
    return REPLICAS.sub(lambda _: f"127.0.0.1:{next(found)}", text)


def caddy(folder: Path, ports: Sequence[int], port: int) -> tuple[str, ...]:
    """The command that runs Caddy with the shipped Caddyfile, with other addresses and a certificate."""
    text = _with_replicas((ROOT / "deploy/caddy/Caddyfile").read_text(), ports)
    pem = certificate(folder)
    text = text.replace("grace_period 30s", "grace_period 1s\n\tadmin off\n\tauto_https disable_redirects")
    site = f"https://127.0.0.1:{port} {{\n\tbind 127.0.0.1\n\ttls {pem} {pem}"
    assert "streams.example.com {" in text
    (folder / "Caddyfile").write_text(text.replace("streams.example.com {", site))
    return (need("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile"))


def haproxy(folder: Path, ports: Sequence[int], port: int) -> tuple[str, ...]:
    """The command that runs HAProxy with the shipped file, with other addresses and a certificate."""
    text = _with_replicas((ROOT / "deploy/haproxy/haproxy.cfg").read_text(), ports)
    text = text.replace("/etc/haproxy/certs", str(certificate(folder)))
    text = text.replace("bind :8443", f"bind 127.0.0.1:{port}").replace("log stdout format raw local0", "")
    (folder / "haproxy.cfg").write_text(text)
    return (need("haproxy"), "-db", "-f", str(folder / "haproxy.cfg"))


FRONTS: Final[dict[str, Callable[[Path, Sequence[int], int], tuple[str, ...]]]] = {
    "caddy": caddy,
    "haproxy": haproxy,
}


@asynccontextmanager
async def other_front(name: str, folder: Path, ports: Sequence[int]) -> AsyncIterator[httpx.AsyncClient]:
    """A client, by HTTP/2, of a front before the replicas at `ports`."""
    port = free_port()
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = (
        False,
        ssl.CERT_NONE,
    )  # the certificate is of its own making
    program = FRONTS[name](folder, ports, port)
    async with (
        running(program=program, env={"HOME": str(folder)}) as one,
        httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{port}", verify=trusting, http2=True, timeout=30
        ) as client,
    ):

        async def answers() -> bool:
            try:
                return (await client.get("/healthz")).status_code == 404
            except httpx.TransportError:
                return False

        try:
            await until(answers, f"{name} answers")
            yield client
        finally:
            await one.stop()
