"""What is said about credentials: requests for tickets, and what can be wrong; values alone.

They stand apart from what verifies (keys, tokens, tickets), so that a proxy without ``auth`` loads neither
PyJWT nor cryptography: 10 MB and a tenth of a second of a sidecar.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

MAX_REQUEST: Final = 4096
"""Bytes of a request for a ticket: a stream's name and a run's id."""
MAX_RUN: Final = 200
"""Characters of a run's id or of a metadata path's value, as in the contract."""


class KeyProblem(ValueError):
    """The configured key cannot do what the configuration asks of it; the text says why, without the key."""


class KeysUnavailable(Exception):
    """The issuer's keys cannot be had now, so nobody can say whether the token is good; will pass."""


class BadToken(Exception):
    """The token is not good; the text says why, without the token."""


class TicketRefused(Exception):
    """The ticket is not good for this; the text says why, without the ticket."""


class BadTicketRequest(ValueError):
    """The body of a request for a ticket cannot be read; the text says what is expected."""


@dataclass(frozen=True, slots=True)
class TicketRequest:
    """What a ticket is asked for."""

    stream: str
    run: str

    @classmethod
    def read(cls, body: bytes) -> TicketRequest:
        """Raises BadTicketRequest."""
        expected = 'expected a JSON object {"stream": "<name>", "run": "<run id, or the path\'s value>"}'
        if len(body) > MAX_REQUEST:
            raise BadTicketRequest(f"{expected}, not over {MAX_REQUEST} bytes")
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            raise BadTicketRequest(expected) from None
        if not isinstance(asked, dict) or set(asked) != {"stream", "run"}:
            raise BadTicketRequest(expected)
        stream, run = asked["stream"], asked["run"]
        if not (isinstance(stream, str) and isinstance(run, str) and stream and 0 < len(run) <= MAX_RUN):
            raise BadTicketRequest(expected)
        return cls(stream, run)
