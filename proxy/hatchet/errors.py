"""The errors of calls to Hatchet: one exception per situation.

    HatchetError            the base class; never raised itself
    ├── HatchetAway         no answer: connection refused, timeout, shutdown, partition; temporary
    ├── TokenRefused        the team's token is not accepted; until it is replaced
    ├── RateLimited         the engine limits the calls of this token; temporary
    ├── RunUnknown          no such run for this tenant (yet)
    ├── MessageTooLarge     one message exceeds ``max_message``: only that message is lost
    ├── BadChunk            a chunk that is not UTF-8 ended the subscription: reopen it; the chunk is lost
    └── HistoryAway         the REST history gives no answer; streams continue without it

The texts name the address and the gRPC or HTTP status, never a payload, a token or a header.
"""

from __future__ import annotations


class HatchetError(Exception):
    """The base class of all errors of calls to Hatchet."""


class HatchetAway(HatchetError):
    """Hatchet does not answer: connection refused, deadline, shutdown, partition."""


class TokenRefused(HatchetError):
    """Hatchet does not accept the team's token (UNAUTHENTICATED, PERMISSION_DENIED)."""


class RateLimited(HatchetError):
    """Hatchet limits the calls of this token (RESOURCE_EXHAUSTED that is not about a message's size)."""


class RunUnknown(HatchetError):
    """The run does not exist for this tenant, or not yet (NOT_FOUND)."""


class MessageTooLarge(HatchetError):
    """A message is larger than ``hatchet.max_message`` (RESOURCE_EXHAUSTED on receipt)."""


class BadChunk(HatchetError):
    """A chunk that is not UTF-8 ended the subscription (INTERNAL, invalid UTF-8)."""


class HistoryAway(HatchetError):
    """The REST history gives no usable answer: unreachable, refused, or not JSON."""
