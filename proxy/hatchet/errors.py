"""Everything that can go wrong on the way to Hatchet: one exception, one situation, one sentence.

    HatchetError            the root; never raised itself
    ├── HatchetAway         no answer: refused, timed out, shut down, partitioned; will pass
    ├── TokenRefused        the team's token is not accepted; will pass when it is replaced
    ├── RateLimited         the engine asks for patience; will pass
    ├── RunUnknown          no such run for this tenant (yet)
    ├── MessageTooLarge     one message is over ``max_message``: it is lost, the rest is not
    ├── BadChunk            a chunk that is not UTF-8 ended the subscription: reopen, it is lost
    └── HistoryAway         the REST history gives no answer; streams go on without it

The texts name the place and the gRPC or HTTP status, never a payload, a token or a header.
"""

from __future__ import annotations


class HatchetError(Exception):
    """The root of all that the door to Hatchet raises."""


class HatchetAway(HatchetError):
    """Hatchet does not answer: connection refused, deadline, shutdown, partition."""


class TokenRefused(HatchetError):
    """Hatchet does not accept the team's token (UNAUTHENTICATED, PERMISSION_DENIED)."""


class RateLimited(HatchetError):
    """Hatchet asks for patience (RESOURCE_EXHAUSTED that is not about a message's size)."""


class RunUnknown(HatchetError):
    """The run does not exist for this tenant, or not yet (NOT_FOUND)."""


class MessageTooLarge(HatchetError):
    """A message is larger than ``hatchet.max_message`` (RESOURCE_EXHAUSTED on receipt)."""


class BadChunk(HatchetError):
    """A chunk that is not UTF-8 ended the subscription (INTERNAL, invalid UTF-8)."""


class HistoryAway(HatchetError):
    """The REST history gives no usable answer: unreachable, refused, or not JSON."""
