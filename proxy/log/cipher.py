"""Encrypts the bodies of a log's entries: AES-256-GCM, with a key from the configuration.

The name of the log, the generation and the id of an entry are bound to it, so an entry cannot be moved.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from proxy.log.base import Record

NONCE: Final = 12  # bytes: what GCM takes
LABEL: Final = b"hatchet-stream-proxy log"


class NotDeciphered(ValueError):
    """An entry was written with another key, or without one."""


class Cipher:
    """Encrypts and decrypts the bodies of entries."""

    def __init__(self, secret: str) -> None:
        """`secret`: any text; its hash is the key."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - only where it is used

        self._aead = AESGCM(hashlib.blake2b(secret.encode(), digest_size=32, person=b"hsp log").digest())

    def seal(self, name: str, record: Record, body: bytes, part: bytes) -> bytes:
        """`body` encrypted; `part` says whether it is an item or a summary."""
        nonce = os.urandom(NONCE)
        return nonce + self._aead.encrypt(nonce, body, self._bound(name, record, part))

    def open(self, name: str, record: Record, body: bytes, part: bytes) -> bytes:
        """What was encrypted. Raises NotDeciphered."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        try:
            return self._aead.decrypt(body[:NONCE], body[NONCE:], self._bound(name, record, part))
        except (InvalidTag, ValueError):
            raise NotDeciphered("an entry was written with another key of log_encrypt") from None

    @staticmethod
    def _bound(name: str, record: Record, part: bytes) -> bytes:
        return b"%b %b %b %d-%d %b" % (
            LABEL, name.encode(), record.generation.encode(), record.fence, record.position, part
        )  # fmt: skip
