"""A cache of verified tokens and tickets: that of a client that reconnects is not verified again.

Verifying an RSA signature costs more than the rest of a connect, and after an interruption of the network all
clients reconnect at once.

- A token is remembered by its digest, until it expires.
- It is valid only while the key that verified it is still among the current keys.
- Refused tokens are not remembered. A new configuration of the team begins with an empty cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_CHARACTERS: Final = 1 << 20
"""Of all remembered tokens: about 2,000 of the usual size, whose claims take a few MB."""


@dataclass(frozen=True, slots=True)
class _Entry:
    key: object
    claims: Mapping[str, Any]
    until: float  # seconds since the epoch
    size: int


class TokenCache:
    """The verified tokens, or tickets, of a team; the oldest are forgotten first."""

    def __init__(self, most: int = MAX_CHARACTERS) -> None:
        self._most: Final = most
        self._size = 0
        self._entries: dict[bytes, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def remember(self, token: str, key: object, claims: Mapping[str, Any], until: float) -> None:
        """`token` was verified with `key` and is valid until `until` (Unix seconds)."""
        self._forget(_digest(token))
        self._entries[_digest(token)] = _Entry(key, claims, until, len(token))
        self._size += len(token)
        while self._size > self._most:
            self._forget(next(iter(self._entries)))

    def recall(
        self, token: str, keys: Sequence[object], now: float
    ) -> tuple[Mapping[str, Any], float] | None:
        """The claims of `token` and when it expires.

        None unless one of `keys` verified it and it is still valid.
        """
        digest = _digest(token)
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if now >= entry.until or not any(key is entry.key for key in keys):
            self._forget(digest)
            return None
        return entry.claims, entry.until

    def _forget(self, digest: bytes) -> None:
        entry = self._entries.pop(digest, None)
        if entry is not None:
            self._size -= entry.size


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
