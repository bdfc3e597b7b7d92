"""Tickets: short-lived credentials in a URL, for EventSource, which cannot set headers.

A ticket is a JWT (HS256) that the proxy signs for one team, one stream and one run (or one value of a
metadata path). Every replica with the team's key accepts it until it expires; no state is kept. The
signing key is derived from the configured one and the team's name, so tickets and the team's own tokens
never verify as each other, even if both are configured with the same secret.

URLs are logged by others, so a ticket carries only ``sub`` and the claims that the stream's `allow` names. If
`allow` later names more claims, the ticket is no longer valid.
"""

from __future__ import annotations

import hmac
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt.exceptions import ExpiredSignatureError, PyJWTError
from msgspec import Struct

from proxy.access.errors import TicketRefused
from proxy.access.token_cache import TokenCache
from proxy.core import json_codec

TYPE: Final = "stream-ticket+jwt"
"""The ``typ`` header (RFC 8725, 3.11), so that no other token is accepted as a ticket, or the reverse."""
MAX_TICKET: Final = 4096
"""Characters; this proxy and most others limit request lines to 8 KiB."""
_FIELDS: Final = frozenset({"stream", "run", "exp", "claims", "named"})  # of a payload, as `mint` writes it

# JMESPath's three ways to quote, as its lexer reads them: a backslash takes the next character with it.
_QUOTED: Final = re.compile(r"""'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_NAMED: Final = re.compile(r"(?<![\w.])claims\s*\.\s*([A-Za-z_]\w*)(?!\w|\s*\()")


class Ticket(Struct, frozen=True):
    """A valid ticket."""

    claims: Mapping[str, Any]
    expires_at: float


def claims_named(allow: str | None) -> frozenset[str] | None:
    """The claims that the expression `allow` can read, or None if that may be all of them.

    Decided by the text, conservatively: only plain ``claims.name`` counts. An expression that may read claims
    in another way (``claims`` as a whole, ``@``, ``*``, a quoted name) counts as reading all.
    """
    if allow is None:
        return frozenset()
    bare = _QUOTED.sub(lambda found: '"' if found[0][0] == '"' else "''", allow)
    if re.search(r"\bclaims\b|[@*\"]", _NAMED.sub("", bare)):
        return None
    return frozenset(_NAMED.findall(bare))


class Tickets:
    """Signs and verifies the tickets of one team."""

    def __init__(self, key: str, *, team: str, lifetime: float, now: Callable[[], float] = time.time) -> None:
        """`lifetime` in seconds; `now` in Unix seconds."""
        self._key: Final = _derive(key, team)
        own = jwt.encode({}, self._key, algorithm="HS256", headers={"typ": TYPE})
        self._header: Final = own.partition(".")[0]
        # Copied for each ticket, so that the key is set up once.
        self._mac: Final = hmac.new(self._key.encode(), digestmod="sha256")
        self._cache: Final = TokenCache()  # an EventSource reconnects with the ticket that it has
        self._lifetime: Final = lifetime
        self._now: Final = now

    def mint(
        self,
        claims: Mapping[str, Any],
        *,
        stream: str,
        run: str,
        named: frozenset[str] | None,
        until: float | None,
    ) -> tuple[str, float]:
        """A ticket and when it expires (Unix seconds), not later than `until`.

        `named` are the claims that `allow` can read, None for all. Raises TicketRefused.
        """
        expires_at = int(min(self._now() + self._lifetime, until if until is not None else float("inf")))
        if expires_at <= self._now():
            raise TicketRefused("the token has too little time left for a ticket")
        kept = claims if named is None else {k: v for k, v in claims.items() if k == "sub" or k in named}
        payload = {
            "stream": stream,
            "run": run,
            "exp": expires_at,
            "claims": dict(kept),
            "named": None if named is None else sorted(named),
        }
        ticket = jwt.encode(payload, self._key, algorithm="HS256", headers={"typ": TYPE})
        if len(ticket) > MAX_TICKET:
            raise TicketRefused("the claims that `allow` reads are too large for a ticket")
        return ticket, float(expires_at)

    def read(self, ticket: str, *, stream: str, run: str, named: frozenset[str] | None) -> Ticket:
        """Verify a ticket for `stream` and `run`; `named` as in `mint`. Raises TicketRefused."""
        if len(ticket) > MAX_TICKET:
            raise TicketRefused("the ticket is too long")
        known = self._cache.recall(ticket, (self._key,), time.time())
        payload = self._verify(ticket) if known is None else known[0]
        if payload.get("stream") != stream or payload.get("run") != run:
            raise TicketRefused("the ticket is for another stream or run")
        claims, carried = payload.get("claims"), payload.get("named")
        if not isinstance(claims, dict) or not isinstance(carried, list | None):
            raise TicketRefused("the ticket cannot be read")
        if carried is not None and (named is None or not named.issubset(carried)):
            raise TicketRefused(
                "the stream's rules have changed since the ticket was made; ask for a new one"
            )
        return Ticket(claims, float(payload["exp"]))

    def _verify(self, ticket: str) -> Mapping[str, Any]:
        payload = self._read_own(ticket) or self._verified(ticket)
        self._cache.remember(ticket, self._key, payload, float(payload["exp"]))
        return payload

    def _read_own(self, ticket: str) -> dict[str, Any] | None:
        """The payload of a ticket exactly as `mint` writes it; None for anything else, valid or not.

        The short cut for nearly every ticket: PyJWT takes some 80 µs, more than the rest of a connect.
        It accepts nothing that `_verified` would refuse, and what it does not know it leaves to it.
        """
        signed, _, signature = ticket.rpartition(".")
        header, _, payload = signed.partition(".")
        if header != self._header or not ticket.isascii():
            return None
        mac = self._mac.copy()
        mac.update(signed.encode())
        expected = urlsafe_b64encode(mac.digest()).rstrip(b"=")
        if not hmac.compare_digest(expected, signature.encode()):
            return None
        try:
            read = json_codec.decode(urlsafe_b64decode(payload + "==").decode())
        except ValueError:
            return None
        if not isinstance(read, dict) or read.keys() != _FIELDS:
            return None
        complete = type(read["exp"]) is int and read["stream"] is not None and read["run"] is not None
        return read if complete and read["exp"] > time.time() else None

    def _verified(self, ticket: str) -> dict[str, Any]:
        try:
            whole = jwt.decode_complete(
                ticket, self._key, algorithms=["HS256"], options={"require": ["exp", "stream", "run"]}
            )
        except ExpiredSignatureError:
            raise TicketRefused("the ticket has expired") from None
        except (PyJWTError, ValueError, RecursionError):
            raise TicketRefused("the ticket cannot be read, or is not this team's") from None
        if whole["header"].get("typ") != TYPE:
            raise TicketRefused("the ticket cannot be read, or is not this team's")
        payload: dict[str, Any] = whole["payload"]
        return payload


def _derive(key: str, team: str) -> str:
    """The team's signing key, as text: PyJWT could take bytes for a DER key."""
    info = b"hatchet-stream-proxy ticket 1 " + team.encode()
    return urlsafe_b64encode(HKDF(SHA256(), 32, salt=None, info=info).derive(key.encode())).decode()
