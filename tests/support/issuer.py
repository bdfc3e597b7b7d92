"""An identity provider in miniature: makes keys and tokens, publishes a JWKS over HTTP, can fail."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from proxy.core.accepting import stop_accepting

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_CURVES: Final[dict[str, Callable[[], ec.EllipticCurve]]] = {
    "ES256": ec.SECP256R1,
    "ES384": ec.SECP384R1,
    "ES512": ec.SECP521R1,
    "ES256K": ec.SECP256K1,
}


@cache
def private_key(algorithm: str, name: str = "first") -> PrivateKey:
    """A key for the algorithm; the same for the same name, for RSA keys take a while to make."""
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm]())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


def pem(key: PrivateKey) -> str:
    """The public half."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def token(key: Any, algorithm: str = "RS256", *, kid: str | None = None, **claims: Any) -> str:
    """A token for ada that is good for an hour, unless `claims` say otherwise (None: without that claim)."""
    whole = {"sub": "ada", "exp": int(time.time()) + 3600, **claims}
    kept = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def jwk(key: PrivateKey, algorithm: str = "RS256", **more: Any) -> dict[str, Any]:
    """The public half as a JWK."""
    family: Any = get_default_algorithms()[algorithm]
    return {**json.loads(family.to_jwk(key.public_key())), **more}


@dataclass
class Issuer:
    """Serves `keys` at `url`; counts what is asked of it; `status` other than 200 is an outage."""

    keys: list[dict[str, Any]] = field(default_factory=list)
    body: bytes | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    url: str = ""

    async def __aenter__(self) -> Issuer:
        app = web.Application()
        app.router.add_get("/jwks.json", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        self._socket = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(self._runner, self._socket).start()
        port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/jwks.json"
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_accepting((self._socket,))
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        body = self.body if self.body is not None else json.dumps({"keys": self.keys}).encode()
        return web.Response(body=body, status=self.status, headers=self.headers)
