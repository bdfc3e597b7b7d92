"""Chunked: a response whose length nobody knows (RFC 9112, 7.1)."""

from __future__ import annotations

from typing import Final

LAST: Final = b"0\r\n\r\n"


def chunk(body: bytes) -> bytes:
    """`body` as one chunk; it is never empty: that were the last."""
    return b"%x\r\n%b\r\n" % (len(body), body)
