"""Keys that cannot work: a JWT key that is private, damaged, too short, or of a kind that no algorithm uses.

The rules are those of `proxy.access.keys`, which uses the keys; a test holds the two against each other. No
message has any of a key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from config.problems import WARNING, Own
from config.source.nodes import Path, Source

RSAS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES: Final = {"secp256r1": "ES256", "secp256k1": "ES256K", "secp384r1": "ES384", "secp521r1": "ES512"}
LEAST_RSA_BITS: Final = 2048
"""RFC 7518, 3.3 and 3.5."""

SHORTEST_SECRET: Final = 32
"""Bytes: as long as HMAC-SHA256's output (RFC 7518, 3.2)."""

GUESSED: Final = 16
"""Bytes: a shorter secret is found by trying, so tokens that are signed with it prove nothing."""

BEGIN: Final = "-----BEGIN"
DISCOVERY: Final = re.compile(r"/\.well-known/(openid-configuration|oauth-authorization-server)/?$")
PUBLIC: Final = "give the public one: `openssl pkey -in private.pem -pubout`"
PEM: Final = "give it as it stands in its file, with its lines: `${file:/path}`, or a text block (`key: |`)"

Found = tuple[str, str]  # message and hint


def check_key(source: Source, path: Path, key: Any, algorithms: Sequence[str]) -> bool:
    """Reports a JWT key that cannot work; whether something was reported."""
    node = source.node(path)
    if not isinstance(key, str) or node is None or node.start in source.spoiled or not key.strip():
        return False
    found = damaged(key.strip())
    if found is None and BEGIN in key:
        found = of_pem(key.strip(), algorithms)
    if found is None:
        return False
    source.add(node.start, "key", Own(found[0]), Own(found[1]))
    source.spoiled.add(node.start)
    return True


def damaged(key: str) -> Found | None:
    """What is wrong with the form of a key; None where that can be right."""
    if "PRIVATE KEY-----" in key:
        return "this is a private key, and the proxy only verifies", PUBLIC
    if BEGIN in key and "\\n" in key:
        return "this key has a backslash and an n where its lines end", PEM
    if BEGIN in key and "\n" not in key:
        return "this key has lost its line breaks", PEM
    if re.match(r"(ssh-|ecdsa-sha2-)\S+ ", key):
        return "this is a key for SSH", "make a PEM of it: `ssh-keygen -e -m PKCS8 -f key.pub`"
    if re.match(r'\{.*"(kty|keys)"', key, re.DOTALL):
        return "this is a JWK, and `key` takes a PEM", "write the `jwks_url` that has it, or make a PEM of it"
    if re.match(r"https?://", key):
        return "this is an address and no key", "write it as `jwks_url`, instead of `key`"
    if re.match(r"ey[\w-]+\.[\w-]+\.", key):
        return "this is a token and no key", "give the key that tokens are signed with, or its public part"
    if re.match(r"MI[A-Z][A-Za-z0-9+/]{40,}", key):
        message = "this is a key without its first and last line"
        return message, "`-----BEGIN PUBLIC KEY-----` and the line with END belong to it"
    return None


def of_pem(key: str, algorithms: Sequence[str]) -> Found | None:
    """What is wrong with a public key or a certificate in PEM, and with its algorithms."""
    # Reading a key takes 20 ms for the import alone, and few files have one.
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415

    try:
        pem = key.encode()
        certified = b"BEGIN CERTIFICATE" in pem
        public: Any = load_pem_x509_certificate(pem).public_key() if certified else load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        return "this is no public key and no certificate, or a part of it is missing", PEM
    return misfit(public, algorithms)


def misfit(public: Any, algorithms: Sequence[str]) -> Found | None:
    """What is wrong between a public key and the algorithms; None where one of them can use it."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa  # noqa: PLC0415

    usable: tuple[str, ...] = ()
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < LEAST_RSA_BITS:
            message = f"this RSA key has {public.key_size} bits; at least {LEAST_RSA_BITS} are needed"
            return message, "make a longer one: `openssl genrsa 2048`"
        kind, usable = "an RSA key", RSAS
    elif isinstance(public, ec.EllipticCurvePublicKey):
        usable = (CURVES[public.curve.name],) if public.curve.name in CURVES else ()
        kind = f"a key on the curve {public.curve.name}"
    elif isinstance(public, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        kind, usable = "an Ed25519 or Ed448 key", ("EdDSA",)
    else:
        kind = "a key of a kind that signs no tokens"
    if not usable:
        return f"this is {kind}, and no algorithm can use it", "RSA, EC (P-256, P-384, P-521) and Ed25519 can"
    if not set(usable) & set(algorithms):
        message = f"this is {kind}, and no algorithm of `algorithms` can use it"
        return message, f"write `algorithms: [{usable[0]}]`"
    return None


def check_jwks_url(source: Source, path: Path, url: Any) -> None:
    """Reports an address that has no keys: the discovery document of an issuer, or the issuer itself."""
    node = source.node(path)
    if not isinstance(url, str) or node is None or node.start in source.spoiled:
        return
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return
    if DISCOVERY.search(parts.path):
        message = "this is the issuer's discovery document, and the keys are at another address"
        hint = "open it, and write the address that it has as `jwks_uri`"
        source.add(node.start, "jwks-url", Own(message), Own(hint))
    elif parts.path in ("", "/"):
        message = "this is an issuer's address, and its keys have one of their own"
        hint = "write the `jwks_uri` of its /.well-known/openid-configuration"
        source.add(node.start, "jwks-url", Own(message), Own(hint), WARNING)
