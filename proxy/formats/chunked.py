"""Chunked transfer coding, for a response whose length is not known (RFC 9112, section 7.1)."""

from __future__ import annotations

from typing import Final

LAST: Final = b"0\r\n\r\n"
"""The last chunk, which ends the response."""


def chunk(body: bytes) -> bytes:
    """`body` as one chunk. It must not be empty: an empty chunk ends the response."""
    return b"%x\r\n%b\r\n" % (len(body), body)
