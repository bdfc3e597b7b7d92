"""Errors about credentials and the request for a ticket; values without dependencies.

They are separate from the verification (keys, tokens, tickets), so that a proxy without ``auth`` loads
neither PyJWT nor cryptography: this saves a sidecar 10 MB and 0.1 s.
"""

from __future__ import annotations

import json
from typing import Any, Final

from msgspec import Struct

MAX_REQUEST: Final = 4096
"""Bytes of the body of a request for a ticket: a stream's name and a run id."""
MAX_RUN: Final = 200
"""Characters of a run id or of the value in a metadata path."""


class KeyProblem(ValueError):
    """The configured key cannot work with the configuration; the text says why and does not hold the key."""


class KeysUnavailable(Exception):
    """The issuer's keys cannot be fetched now, so the token cannot be judged; temporary."""


class NoKeys(ValueError):
    """The issuer's answer has no usable keys; the text says what came instead, as "answers with …"."""


class BadToken(Exception):
    """The token is not valid; the text says why and does not hold the token."""


class TicketRefused(Exception):
    """The ticket is not valid here; the text says why and does not hold the ticket."""


class BadTicketRequest(ValueError):
    """The body of a request for a ticket is malformed; the text says what is expected."""


class TicketRequest(Struct, frozen=True):
    """The stream and the run that a ticket is requested for."""

    stream: str
    run: str

    @classmethod
    def read(cls, body: bytes) -> TicketRequest:
        """Raises BadTicketRequest."""
        expected = 'expected a JSON object {"stream": "<name>", "run": "<run id, or the path\'s value>"}'
        if len(body) > MAX_REQUEST:
            raise BadTicketRequest(f"{expected}, of at most {MAX_REQUEST} bytes")
        try:
            asked = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_each_once)
        except (ValueError, RecursionError):
            raise BadTicketRequest(expected) from None
        if not isinstance(asked, dict) or set(asked) != {"stream", "run"}:
            raise BadTicketRequest(expected)
        stream, run = asked["stream"], asked["run"]
        if not (isinstance(stream, str) and isinstance(run, str) and stream and 0 < len(run) <= MAX_RUN):
            raise BadTicketRequest(expected)
        return cls(stream, run)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object with each name once: what read the body before may have looked at the other value."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found
