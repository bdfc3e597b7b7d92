"""TokenCache: tokens whose signatures were good, so that who comes back is not computed again.

A signature of RSA costs more than the rest of a connect, and after a network's hiccup everybody comes back
at once. The laws: a token is known by its digest alone; it is known until its time is over, and only while
the very key that verified it is one that its issuer publishes (keys that are fetched anew are other keys);
nothing is remembered of a token that was refused; a team's new configuration begins with nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MOST_CHARACTERS: Final = 1 << 20
"""Of all tokens that are remembered: some 2,000 of a usual size, whose claims take a few MB."""


@dataclass(frozen=True, slots=True)
class _Entry:
    key: object
    claims: Mapping[str, Any]
    until: float  # seconds since the epoch
    size: int


class TokenCache:
    """A team's tokens that were good, the oldest forgotten first."""

    def __init__(self, most: int = MOST_CHARACTERS) -> None:
        self._most: Final = most
        self._size = 0
        self._entries: dict[bytes, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def remember(self, token: str, key: object, claims: Mapping[str, Any], until: float) -> None:
        """`token` was verified with `key`, and is good until then."""
        self._forget(_digest(token))
        self._entries[_digest(token)] = _Entry(key, claims, until, len(token))
        self._size += len(token)
        while self._size > self._most:
            self._forget(next(iter(self._entries)))

    def recall(
        self, token: str, keys: Sequence[object], now: float
    ) -> tuple[Mapping[str, Any], float] | None:
        """Its claims and its end, where it was verified with one of `keys` and its time is not over."""
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
