"""The names of what the log has in Redis."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "hsp:"
"""Every key and channel begins with it."""
MARKER: Final = f"{PREFIX}about".encode()
MARK: Final = b"hatchet-stream-proxy log 1"
"""The value of the marker: the application that owns these keys, and their format."""
CONTROL: Final = f"{PREFIX}ctl".encode()
"""The channel of announcements between replicas."""


def key_of(name: str) -> bytes:
    """The key of a log, which is also the channel on which its new entries are published."""
    return f"{PREFIX}{name}".encode()


def up_key(replica: str) -> bytes:
    """The key that a live replica renews."""
    return f"{PREFIX}up:{replica}".encode()


def claim_key(name: str) -> bytes:
    """The key of a claim: what only one of several replicas may do."""
    return f"{PREFIX}claim:{name}".encode()
