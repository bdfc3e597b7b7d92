"""Tokens: shaped like Hatchet's (a JWT that says where the engine is), accepted by this engine alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json


def token(tenant_id: str, host_port: str, server_url: str, token_id: str, now: float) -> str:
    """A JWT from which hatchet-sdk reads the tenant and both addresses."""
    claims = {
        "sub": tenant_id,
        "grpc_broadcast_address": host_port,
        "server_url": server_url,
        "aud": server_url,
        "iss": server_url,
        "iat": int(now),
        "exp": int(now) + 90 * 24 * 3600,
        "token_id": token_id,
    }
    body = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    signature = hmac.new(token_id.encode(), body.encode(), hashlib.sha256).digest()
    return f"{body}.{_text(signature)}"


def _part(value: dict[str, object]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
