"""Texts that pass for secrets: `check` refuses placeholders, and Hatchet tokens that are no JWT."""

from __future__ import annotations

import base64
import json
from typing import Final


def hatchet_token(signature: str = "c2lnbmF0dXJl", **claims: str) -> str:
    """A text that looks like a Hatchet API token; nobody can verify it."""
    header, payload = (_part({"alg": "ES256"}), _part({"sub": "a-tenant"} | claims))
    return f"{header}.{payload}.{signature}"


def _part(value: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


HATCHET_TOKEN: Final = hatchet_token()
