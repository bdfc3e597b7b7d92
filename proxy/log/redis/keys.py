"""The names of what the log has in Redis."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "hsp:"
"""Every key and channel begins with it."""
MARKER: Final = f"{PREFIX}about".encode()
MARK: Final = b"hatchet-stream-proxy log 1"
"""What the marker holds: whose keys these are, and in which format."""
CONTROL: Final = f"{PREFIX}ctl".encode()
"""The channel on which replicas speak to each other."""


def key_of(name: str) -> bytes:
    """The key of a log, which is also the channel on which its new entries are published."""
    return f"{PREFIX}{name}".encode()


def up_key(replica: str) -> bytes:
    """The key that says that a replica lives."""
    return f"{PREFIX}up:{replica}".encode()


def claim_key(name: str) -> bytes:
    """The key of what one of several replicas does alone."""
    return f"{PREFIX}claim:{name}".encode()
