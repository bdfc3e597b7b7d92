"""Authenticates a request: credentials in; an `Identity`, `Unauthenticated` or `KeysUnavailable` out.

The sources of credentials in ``auth.from`` are tried in their order, and the first *good* credential
counts. A bad one does not stop the search: EventSource repeats its URL with an expired ticket in it, and
a browser sends every cookie that it has, also two of one name (of two paths, or of the host and its domain).
That is safe, because a client could as well leave the bad credential out.

If no credential is good, the first bad one gives the reason. If a token could not be judged because its
issuer's keys are unavailable, nothing is decided: the client is asked to wait (`KeysUnavailable`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from config.model.files import AuthConfig
from proxy.access.errors import BadToken, KeyProblem, KeysUnavailable, TicketRefused
from proxy.access.jwks import KeySets
from proxy.access.request_head import RequestHead, values_of
from proxy.core.tasks import in_task

if TYPE_CHECKING:
    from proxy.access.jwt import JwtVerifier
    from proxy.access.tickets import Tickets

__all__ = ["Authenticator", "Identity", "KeyProblem", "KeysUnavailable", "RequestHead", "Unauthenticated"]


MOST_OF_A_SOURCE: Final = 10
"""Credentials of one source that are tried. A browser has a cookie twice or three times; a client that sends
hundreds of tokens would make the proxy verify each."""


class Unauthenticated(Exception):
    """No credential is good; `reason` may be shown to anybody, `challenge` is the WWW-Authenticate header."""

    status: Final = HTTPStatus.UNAUTHORIZED

    def __init__(self, reason: str, challenge: str) -> None:
        super().__init__(reason)
        self.reason: Final = reason
        self.challenge: Final = challenge


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated client; `by` is the kind of its credential: none, bearer, cookie or ticket."""

    claims: Mapping[str, Any] = field(repr=False)
    subject: str | None
    expires_at: float | None  # Unix seconds: when the credential expires; None: never
    by: str
    source: str = field(default="", compare=False)  # the name of the source, which `confirm` looks for
    credential: str = field(default="", repr=False, compare=False)


TICKET: Final = "a ticket"  # the name of that source
ANONYMOUS: Final = Identity({}, None, None, "none")


class _Source(Struct, frozen=True):
    """One entry of ``auth.from``: how a credential is taken from a request, and how it is verified."""

    by: str
    name: str  # for error messages
    take: Callable[[RequestHead], Sequence[str]]
    verify: Callable[[str, str, str], Awaitable[Identity]]


class Authenticator:
    """Authenticates the clients of a team. With ``auth: none`` its single source accepts everybody."""

    def __init__(
        self,
        auth: AuthConfig | None,
        *,
        team: str,
        key_sets: KeySets | None = None,
        allows: Mapping[str, str | None] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`allows`: the `allow` expression of each stream, None for a stream without one.

        A ticket carries the claims that its stream's expression names; all claims if the stream is not in
        `allows`. `key_sets` outlives reloads. Raises KeyProblem if the configured key or algorithms cannot
        work.
        """
        self.open: Final = auth is None
        """Whether everybody is accepted (``auth: none``)."""
        self._realm: Final = f'Bearer realm="{team}"'
        self._named: Mapping[str, frozenset[str] | None] = {}
        self._tickets: Tickets | None = None
        self._sources: tuple[_Source, ...] = (
            _Source("none", "anybody", lambda asked: ("",), self._accept_anonymous),
        )
        if auth is None:
            return
        from proxy.access.jwt import JwtVerifier  # noqa: PLC0415
        from proxy.access.tickets import Tickets, claims_named  # noqa: PLC0415 - see proxy/access/errors.py

        self._named = {stream: claims_named(text) for stream, text in (allows or {}).items()}
        if auth.tickets is not None and "ticket" in auth.from_:
            key, lifetime = auth.tickets.key.get_secret_value(), auth.tickets.lifetime
            self._tickets = Tickets(key, team=team, lifetime=lifetime, now=now)
        self._sources = self._sources_of(auth, JwtVerifier(auth.jwt, key_sets or KeySets(), now=now))

    @property
    def issues_tickets(self) -> bool:
        """Whether tickets are issued; if not, there is no path for them either."""
        return self._tickets is not None

    @property
    def accepts_cookies(self) -> bool:
        """Whether cookies are credentials, which a browser sends by itself (see `origins`)."""
        return any(source.by == "cookie" for source in self._sources)

    async def authenticate(
        self, asked: RequestHead, *, stream: str, run: str, tickets: bool = True
    ) -> Identity:
        """The identity of a client that asks for `stream` and `run`.

        `run` is a run id in lower case, or the value in a metadata path.
        `tickets` is False for a request for a ticket: a ticket is not issued for a ticket. Raises
        Unauthenticated and KeysUnavailable.
        """
        reason: str | None = None
        away: KeysUnavailable | None = None
        for source in self._sources:
            if source.by == "ticket" and not tickets:
                continue
            for credential in source.take(asked)[:MOST_OF_A_SOURCE]:
                try:
                    return await source.verify(credential, stream, run)
                except (BadToken, TicketRefused) as refused:
                    reason = reason or str(refused)
                except KeysUnavailable as problem:
                    away = problem
        if away is not None:
            raise away
        raise self._unauthenticated(reason)

    async def confirm(self, identity: Identity, *, stream: str, run: str) -> Identity:
        """The identity that the same credential has now.

        `stream` and `run` as for `authenticate`. Raises Unauthenticated and KeysUnavailable.
        """
        if self.open:
            return ANONYMOUS
        for source in self._sources:
            if source.name == identity.source:
                try:
                    return await source.verify(identity.credential, stream, run)
                except (BadToken, TicketRefused) as refused:
                    raise self._unauthenticated(str(refused)) from None
        raise self._unauthenticated(None)

    def mint(self, identity: Identity, *, stream: str, run: str) -> tuple[str, float]:
        """A ticket and when it expires (Unix seconds); check `allow` first. Raises Unauthenticated."""
        if self._tickets is None or identity.by not in ("bearer", "cookie"):
            raise self._unauthenticated("a ticket is issued only for a token")
        try:
            return self._tickets.mint(
                identity.claims,
                stream=stream,
                run=run,
                named=self._named.get(stream),
                until=identity.claims["exp"],
            )
        except TicketRefused as refused:
            raise self._unauthenticated(str(refused)) from None

    def _unauthenticated(self, reason: str | None) -> Unauthenticated:
        if reason is None:
            ways = ", ".join(source.name for source in self._sources)
            return Unauthenticated(f"no credentials were given; accepted are: {ways}", self._realm)
        # RFC 6750, 3.1; a reason holds neither quotes nor anything from the request
        return Unauthenticated(reason, f'{self._realm}, error="invalid_token", error_description="{reason}"')

    def _sources_of(self, auth: AuthConfig, tokens: JwtVerifier) -> tuple[_Source, ...]:
        return tuple(self._source(*each.partition(":")[::2], tokens) for each in auth.from_)

    def _source(self, kind: str, name: str, tokens: JwtVerifier) -> _Source:
        if kind == "ticket":
            return _Source(kind, TICKET, lambda asked: values_of("ticket", asked.query), self._verify_ticket)

        async def verify(credential: str, stream: str, run: str) -> Identity:
            known = tokens.cached(credential)
            if known is None:
                await in_task()  # the issuer's keys may have to be fetched
            claims, expires_at = known or await tokens.read(credential)
            return Identity(claims, _subject(claims), expires_at, kind, title, credential)

        title = f"the cookie {name}" if kind == "cookie" else "a bearer token"
        if kind == "cookie":
            return _Source(kind, title, lambda asked: values_of(name, asked.cookies), verify)
        return _Source(kind, title, _bearer, verify)

    async def _accept_anonymous(self, credential: str, stream: str, run: str) -> Identity:
        return ANONYMOUS

    async def _verify_ticket(self, credential: str, stream: str, run: str) -> Identity:
        if self._tickets is None:
            raise TicketRefused("tickets are not accepted here")
        ticket = self._tickets.read(credential, stream=stream, run=run, named=self._named.get(stream))
        subject = _subject(ticket.claims)
        return Identity(ticket.claims, subject, ticket.expires_at, "ticket", TICKET, credential)


def _bearer(asked: RequestHead) -> Sequence[str]:
    scheme, _, token = asked.headers.get("authorization", "").partition(" ")
    return (token.strip(),) if scheme.lower() == "bearer" and token.strip() else ()


def _subject(claims: Mapping[str, Any]) -> str | None:
    subject = claims.get("sub")
    return subject if isinstance(subject, str) and subject else None
