"""Translates a gRPC status into one of `proxy.hatchet.errors`.

The server's text is matched but never quoted: it can contain what a worker sent. The codes are the numbers of
https://grpc.github.io/grpc/core/md_doc_statuscodes.html, so both transports share the table.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from proxy.hatchet.errors import (
    BadChunk,
    HatchetAway,
    HatchetError,
    MessageTooLarge,
    RateLimited,
    RunUnknown,
    TokenRefused,
)


class Code(IntEnum):
    """gRPC status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# Parts of the texts of gRPC libraries (C-core, grpc-go) and what they mean. The first match decides.
REASONS: Final = (
    ("speak", "it does not speak gRPC; look at hatchet.host_port and hatchet.tls"),
    ("refused", "connection refused"),
    ("reset", "connection reset"),
    ("name or service", "its name cannot be resolved"),
    ("domain name", "its name cannot be resolved"),
    ("dns", "its name cannot be resolved"),
    ("name resolution", "its name cannot be resolved"),
    ("resolve", "its name cannot be resolved"),
    ("certificate", "its certificate is not accepted"),
    ("handshake", "the TLS handshake failed; look at hatchet.tls"),
    ("ssl", "the TLS handshake failed; look at hatchet.tls"),
    ("tls", "the TLS handshake failed; look at hatchet.tls"),
    ("too_many_pings", "it refuses keepalives as too many"),
    ("ping", "no answer to keepalives"),
    ("keepalive", "no answer to keepalives"),
    ("watchdog", "no answer to keepalives"),
    ("unreachable", "network unreachable"),
    ("goaway", "it is shutting down"),
    ("closing", "it is shutting down"),
    ("closed", "it closed the connection"),
    ("timed out", "timed out"),
    ("timeout", "timed out"),
)


def error_for_status(code: int, details: str, call: str) -> HatchetError:
    """The error for a gRPC status.

    `code` is the number of the status, `details` the server's text, `call` the name for the error message
    ("GetRunDetails at host:7070").
    """
    name = Code(code).name if code in Code.__members__.values() else f"status {code}"
    text = details.lower()
    if code == Code.NOT_FOUND:
        return RunUnknown(f"{call}: no such run for this token (NOT_FOUND)")
    if code == Code.INVALID_ARGUMENT and "id" in text:
        return RunUnknown(f"{call}: Hatchet cannot read this run id (INVALID_ARGUMENT)")
    if code in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED):
        return TokenRefused(f"{call}: Hatchet does not accept hatchet.token ({name})")
    if code == Code.RESOURCE_EXHAUSTED:
        if "larger than max" in text or "message too large" in text:
            return MessageTooLarge(f"{call}: a message is over hatchet.max_message ({name})")
        return RateLimited(f"{call}: Hatchet limits the calls of this token ({name})")
    if code == Code.INTERNAL and "utf-8" in text:
        return BadChunk(f"{call}: a chunk that is not UTF-8 ended the subscription ({name})")
    reason = next((ours for theirs, ours in REASONS if theirs in text), None)
    return HatchetAway(f"{call}: Hatchet does not answer ({name}{': ' + reason if reason else ''})")
