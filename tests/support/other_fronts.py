"""Caddy, HAProxy, Envoy and Traefik as shipped under deploy, with TLS and HTTP/2, before replicas here."""

from __future__ import annotations

import datetime
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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

Command = tuple[str, ...]

# one thread; no second process takes its place; SIGTERM ends it
ENVOY: Final = (
    "--concurrency",
    "1",
    "--use-dynamic-base-id",
    "--disable-hot-restart",
    "--log-level",
    "error",
)
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


def caddy(folder: Path, ports: Sequence[int], port: int) -> list[Command]:
    """What runs Caddy with the shipped Caddyfile, with other addresses and a certificate."""
    text = _with_replicas((ROOT / "deploy/caddy/Caddyfile").read_text(), ports)
    pem = certificate(folder)
    text = text.replace("grace_period 30s", "grace_period 1s\n\tadmin off\n\tauto_https disable_redirects")
    site = f"https://127.0.0.1:{port} {{\n\tbind 127.0.0.1\n\ttls {pem} {pem}"
    assert "streams.example.com {" in text
    (folder / "Caddyfile").write_text(text.replace("streams.example.com {", site))
    return [(need("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile"))]


def haproxy(folder: Path, ports: Sequence[int], port: int) -> list[Command]:
    """What runs HAProxy with the shipped file, with other addresses and a certificate."""
    text = _with_replicas((ROOT / "deploy/haproxy/haproxy.cfg").read_text(), ports)
    text = text.replace("/etc/haproxy/certs", str(certificate(folder)))
    text = text.replace("bind :8443", f"bind 127.0.0.1:{port}").replace("log stdout format raw local0", "")
    (folder / "haproxy.cfg").write_text(text)
    return [(need("haproxy"), "-db", "-f", str(folder / "haproxy.cfg"))]


def envoy(folder: Path, ports: Sequence[int], port: int) -> list[Command]:
    """What runs Envoy with the shipped file, with other addresses and a certificate."""
    text = (ROOT / "deploy/envoy/envoy.yaml").read_text()
    for shipped, own in zip(("8081", "8082"), ports, strict=True):
        text = text.replace(f"port_value: {shipped}", f"port_value: {own}")
    text = re.sub(r"/etc/envoy/certs/tls\.\w+", str(certificate(folder)), text)
    text = text.replace("address: 0.0.0.0, port_value: 8443", f"address: 127.0.0.1, port_value: {port}")
    (folder / "envoy.yaml").write_text(text)
    return [(need("envoy"), "-c", str(folder / "envoy.yaml"), *ENVOY)]


def traefik(folder: Path, ports: Sequence[int], port: int) -> list[Command]:
    """What runs Traefik with the shipped files, other addresses and a certificate; and nginx for its 502."""
    routes = _with_replicas((ROOT / "deploy/traefik/streams.yaml").read_text(), ports)
    wait = free_port()
    routes = re.sub(r"/etc/traefik/certs/tls\.\w+", str(certificate(folder)), routes)
    (folder / "routes.yaml").write_text(routes.replace("127.0.0.1:8090", f"127.0.0.1:{wait}"))
    text = (ROOT / "deploy/traefik/traefik.yaml").read_text()
    text = text.replace("/etc/traefik/streams.yaml", str(folder / "routes.yaml"))
    (folder / "traefik.yaml").write_text(text.replace('":8443"', f'"127.0.0.1:{port}"'))
    server = (ROOT / "deploy/traefik/wait.conf").read_text().replace("127.0.0.1:8090", f"127.0.0.1:{wait}")
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; {user} pid {folder}/nginx.pid;\nevents {{}}\nhttp {{\n{server}}}\n"
    )
    return [
        (need("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")),
        (need("traefik"), f"--configFile={folder / 'traefik.yaml'}"),
    ]


FRONTS: Final[dict[str, Callable[[Path, Sequence[int], int], list[Command]]]] = {
    "caddy": caddy,
    "haproxy": haproxy,
    "envoy": envoy,
    "traefik": traefik,
}
KEEPS_RUNS_TOGETHER: Final = {"caddy", "haproxy", "envoy"}
"""The fronts that send all clients of a run to one replica."""


@asynccontextmanager
async def other_front(name: str, folder: Path, ports: Sequence[int]) -> AsyncIterator[httpx.AsyncClient]:
    """A client, by HTTP/2, of a front before the replicas at `ports`."""
    port = free_port()
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = (
        False,
        ssl.CERT_NONE,
    )  # the certificate is of its own making
    async with AsyncExitStack() as stack:
        programs = [
            await stack.enter_async_context(running(program=program, env={"HOME": str(folder)}))
            for program in FRONTS[name](folder, ports, port)
        ]
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trusting, http2=True, timeout=30)
        )

        async def answers() -> bool:
            try:
                return (await client.get("/healthz")).status_code == 404
            except httpx.TransportError:
                return False

        try:
            await until(answers, f"{name} answers")
            yield client
        finally:
            for program in programs:
                await program.stop()
