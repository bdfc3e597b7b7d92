"""The keys that tokens are verified with: one configured key, or those that an issuer publishes.

Which algorithms a key may verify follows from its own type and curve, never from the header of a token:
a public RSA key is never used as an HMAC secret. Symmetric keys in a published set are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from proxy.access.errors import KeyProblem, NoKeys

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
Key = PublicKey | bytes
"""What PyJWT verifies with: a public key, or an HMAC secret."""

MAX_KEYS: Final = 100
"""Keys read from a published set; issuers publish two or three."""
MIN_RSA_BITS: Final = 2048
"""RFC 7518, 3.3 and 3.5."""

_CURVES: Final = MappingProxyType(
    {"ES256": "secp256r1", "ES256K": "secp256k1", "ES384": "secp384r1", "ES512": "secp521r1"}
)
_HMACS: Final = frozenset({"HS256", "HS384", "HS512"})
_RSAS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
ALGORITHMS: Final = _HMACS | _RSAS | frozenset(_CURVES) | {"EdDSA"}
"""All that a team may list. ``none`` is not among them."""


def fits(key: Key, algorithm: str) -> bool:
    """Whether `key` may verify `algorithm`; this prevents algorithm confusion."""
    if isinstance(key, bytes):
        return algorithm in _HMACS
    if isinstance(key, rsa.RSAPublicKey):
        return algorithm in _RSAS and key.key_size >= MIN_RSA_BITS
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(algorithm) == key.curve.name
    return algorithm == "EdDSA"


class Keys(Protocol):
    """A source of keys."""

    async def candidates(self, key_id: str | None, algorithm: str) -> Sequence[Key]:
        """The keys that could have signed a token with this header. Raises KeysUnavailable."""

    @property
    def cached(self) -> Sequence[Key]:
        """The keys that may be used without a fetch; none if the set must be refreshed first."""


class FixedKey:
    """The configured key: an HMAC secret, or a PEM with a public key or a certificate."""

    def __init__(self, text: str, algorithms: Sequence[str]) -> None:
        """Raises KeyProblem if the key fits none of `algorithms`."""
        self._key: Final = _read_pem(text) if "-----BEGIN " in text else text.encode()
        if not self._key:
            raise KeyProblem("auth.jwt.key is empty")
        if not any(fits(self._key, algorithm) for algorithm in algorithms):
            raise KeyProblem(f"auth.jwt.key {_kind(self._key)} fits none of auth.jwt.algorithms")

    @property
    def weak(self) -> bool:
        """Whether it is a secret shorter than RFC 7518 (3.2) requires for the longest HMAC."""
        return isinstance(self._key, bytes) and len(self._key) < 64

    @property
    def cached(self) -> Sequence[Key]:
        return (self._key,)

    async def candidates(self, key_id: str | None, algorithm: str) -> Sequence[Key]:
        return (self._key,) if fits(self._key, algorithm) else ()


def _read_pem(text: str) -> PublicKey:
    pem = text.strip().encode()
    if b"PRIVATE KEY-----" in pem:
        raise KeyProblem("auth.jwt.key is a private key: the proxy only verifies, give it the public one")
    try:
        certificate = b"BEGIN CERTIFICATE" in pem
        key = load_pem_x509_certificate(pem).public_key() if certificate else load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyProblem("auth.jwt.key looks like a PEM but is no public key or certificate") from None
    if not isinstance(key, PublicKey):
        raise KeyProblem("auth.jwt.key is of a kind that signs no tokens: RSA, EC and Ed25519 do")
    return key


def _kind(key: Key) -> str:
    if isinstance(key, bytes):
        return "(a secret)"
    if isinstance(key, rsa.RSAPublicKey):
        return f"(an RSA key of {key.key_size} bits, {MIN_RSA_BITS} are the least)"
    return (
        f"(an EC key on {key.curve.name})" if isinstance(key, ec.EllipticCurvePublicKey) else "(an EdDSA key)"
    )


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """One usable key of a set; `algorithm` where the set pins it."""

    id: str | None
    algorithm: str | None
    key: PublicKey

    def may_verify(self, key_id: str | None, algorithm: str) -> bool:
        if key_id is not None and self.id is not None and self.id != key_id:
            return False
        return self.algorithm in (None, algorithm) and fits(self.key, algorithm)


def read_set(text: bytes) -> tuple[PublishedKey, ...]:
    """The usable signature keys of a JWKS; unknown kinds are skipped (RFC 7517, 5).

    Raises NoKeys, which says what came instead of keys.
    """
    try:
        document = json.loads(text)
    except ValueError:
        page = text.lstrip()[:1] == b"<"
        raise NoKeys(f"answers with {'a web page' if page else 'no JSON'} instead of keys") from None
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise NoKeys(_instead(document))
    entries = document["keys"]
    if not entries:
        raise NoKeys("answers with a JWK set without keys")
    found = (_published(entry) for entry in entries[:MAX_KEYS] if isinstance(entry, dict))
    keys = tuple(key for key in found if key is not None)
    if not keys:
        raise NoKeys("answers with a JWK set in which no key can verify signatures")
    return keys


def _instead(document: Any) -> str:
    """What a document is that is no JWK set."""
    if isinstance(document, dict) and isinstance(document.get("jwks_uri"), str):
        return (
            "answers with the OpenID discovery document, which has no keys: "
            "write the address in its `jwks_uri` as `jwks_url`"
        )
    if isinstance(document, dict) and isinstance(document.get("kty"), str):
        return 'answers with a single key: a JWK set is {"keys": […]}'
    return "answers with JSON that is no JWK set"


def _published(entry: Mapping[str, Any]) -> PublishedKey | None:
    key_id, operations = entry.get("kid"), entry.get("key_ops")
    meant_for_it = entry.get("use", "sig") == "sig" and (
        operations is None or (isinstance(operations, list) and "verify" in operations)
    )
    if not meant_for_it or entry.get("kty") == "oct" or not isinstance(key_id, str | None):
        return None
    try:
        key = PyJWK(dict(entry)).key
    except (PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    pinned = entry.get("alg")
    if not isinstance(key, PublicKey) or not isinstance(pinned, str | None):
        return None  # a private key in a published set is ignored
    return PublishedKey(key_id, pinned, key)
