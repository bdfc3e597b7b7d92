"""Who is asking: credentials in, an `Identity` out, or `Unauthenticated`, or `KeysUnavailable`.

The ways of a team (``auth.from``) are tried in their order and the first credential that is *good* counts.
One that is present but bad does not stop the others: EventSource repeats its URL, old ticket included, and
browsers send every cookie they have; whoever could profit from that could as well leave the bad one out.
If none is good, the first bad one gives the reason; if a good answer was only prevented by an issuer whose
keys cannot be had, that is no answer at all, and the client is to wait (`KeysUnavailable`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from config.model.files import AuthConfig
from proxy.access.errors import BadToken, KeyProblem, KeysUnavailable, TicketRefused
from proxy.access.jwks import KeySets
from proxy.core.tasks import in_task

if TYPE_CHECKING:
    from proxy.access.jwt import JwtVerifier
    from proxy.access.tickets import Tickets

__all__ = ["Authenticator", "Identity", "KeyProblem", "KeysUnavailable", "RequestHead", "Unauthenticated"]


class Unauthenticated(Exception):
    """No credential is good; `reason` is a sentence for anyone, `challenge` the WWW-Authenticate header."""

    status: Final = HTTPStatus.UNAUTHORIZED

    def __init__(self, reason: str, challenge: str) -> None:
        super().__init__(reason)
        self.reason: Final = reason
        self.challenge: Final = challenge


class RequestHead:
    """What a request brings along; never printed, for it holds credentials.

    Cookies and the query are read by the first who asks for them: most requests bring neither.
    """

    __slots__ = ("_cookies", "_crumbs", "_query", "_text", "headers")

    def __init__(
        self,
        headers: Mapping[str, str],  # names in lower case
        cookies: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        *,
        crumbs: Sequence[str] = (),
        text: str = "",
    ) -> None:
        """`crumbs` are Cookie headers, `text` is the query; where a name comes twice the first counts."""
        self.headers: Final = headers
        self._cookies = cookies
        self._query = query
        self._crumbs = crumbs
        self._text = text

    @classmethod
    def read(cls, headers: Iterable[tuple[bytes, bytes]], query: bytes) -> RequestHead:
        """Out of raw headers and a query string."""
        found: dict[str, str] = {}
        crumbs: list[str] = []
        for raw_name, raw_value in headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            found.setdefault(name, value)
            if name == "cookie":  # HTTP/2 in front may have split it (RFC 9113, 8.2.3)
                crumbs.append(value)
        return cls(found, crumbs=crumbs, text=query.decode("latin-1"))

    @property
    def cookies(self) -> Mapping[str, str]:
        """By name."""
        if self._cookies is None:
            self._cookies = _cookies(crumb for header in self._crumbs for crumb in header.split(";"))
        return self._cookies

    @property
    def query(self) -> Mapping[str, str]:
        """By name."""
        if self._query is None:
            self._query = _query(self._text) if self._text else {}
        return self._query


def _query(text: str) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True, errors="replace", separator="&")
    return dict(reversed(pairs))


def _cookies(crumbs: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for crumb in crumbs:
        name, equals, value = crumb.partition("=")
        if equals:
            found.setdefault(name.strip(), value.strip().strip('"'))
    return found


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, for how long; `by` is none, bearer, cookie or ticket."""

    claims: Mapping[str, Any] = field(repr=False)
    subject: str | None
    expires_at: float | None  # seconds since the epoch; from then on the answer would be 401
    by: str


NOBODY: Final = Identity({}, None, None, "none")


@dataclass(frozen=True, slots=True)
class _Way:
    """One entry of ``auth.from``: where the credential lies, and how it is judged."""

    by: str
    told: str
    take: Callable[[RequestHead], str | None]
    judge: Callable[[str, str, str], Awaitable[Identity]]


class Authenticator:
    """A team's front: asks who is there. ``auth: none`` is one with a single way that takes anybody."""

    def __init__(
        self,
        auth: AuthConfig | None,
        *,
        team: str,
        key_sets: KeySets | None = None,
        allows: Mapping[str, str | None] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`allows` are the texts of the streams' `allow` (None: the stream has none): tickets carry what
        these name of the claims, and all of them for a stream that is not among them.

        `key_sets` outlives reloads. Raises KeyProblem where the configured key or algorithms cannot work.
        """
        self._realm: Final = f'Bearer realm="{team}"'
        self._named: Mapping[str, frozenset[str] | None] = {}
        self._tickets: Tickets | None = None
        self._ways: tuple[_Way, ...] = (_Way("none", "anybody", lambda asked: "", self._judge_nobody),)
        if auth is None:
            return
        from proxy.access.jwt import JwtVerifier  # noqa: PLC0415
        from proxy.access.tickets import Tickets, claims_named  # noqa: PLC0415 - see proxy/access/errors.py

        self._named = {stream: claims_named(text) for stream, text in (allows or {}).items()}
        if auth.tickets is not None and "ticket" in auth.from_:
            key, lifetime = auth.tickets.key.get_secret_value(), auth.tickets.lifetime
            self._tickets = Tickets(key, team=team, lifetime=lifetime, now=now)
        self._ways = self._ways_of(auth, JwtVerifier(auth.jwt, key_sets or KeySets(), now=now))

    @property
    def open(self) -> bool:
        """Whether anybody may come (``auth: none``)."""
        return self._ways[0].by == "none"

    @property
    def mints(self) -> bool:
        """Whether tickets can be had here; if not, the path for them is not there either."""
        return self._tickets is not None

    @property
    def cookies_count(self) -> bool:
        """Whether a browser may bring credentials without the page's doing (see `proxy.access.origins`)."""
        return any(way.by == "cookie" for way in self._ways)

    async def authenticate(
        self, asked: RequestHead, *, stream: str, run: str, tickets: bool = True
    ) -> Identity:
        """Who asks for this stream and run (a run's id in lower case, or a metadata path's value).

        `tickets` is False where a ticket is asked for: a ticket begets no ticket. Raises Unauthenticated,
        and KeysUnavailable where nobody can say.
        """
        reason: str | None = None
        away: KeysUnavailable | None = None
        for way in self._ways:
            credential = way.take(asked)
            if credential is None or (way.by == "ticket" and not tickets):
                continue
            try:
                return await way.judge(credential, stream, run)
            except (BadToken, TicketRefused) as refused:
                reason = reason or str(refused)
            except KeysUnavailable as problem:
                away = problem
        if away is not None:
            raise away
        raise self._unauthenticated(reason)

    def mint(self, identity: Identity, *, stream: str, run: str) -> tuple[str, float]:
        """A ticket and its end (seconds since the epoch); ask `allow` first. Raises Unauthenticated."""
        if self._tickets is None or identity.by not in ("bearer", "cookie"):
            raise self._unauthenticated("a ticket is given for a token only")
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
            ways = ", ".join(way.told for way in self._ways)
            return Unauthenticated(f"no credentials were given; accepted are: {ways}", self._realm)
        # RFC 6750, 3.1; our reasons hold neither quotes nor anything that came with the request
        return Unauthenticated(reason, f'{self._realm}, error="invalid_token", error_description="{reason}"')

    def _ways_of(self, auth: AuthConfig, tokens: JwtVerifier) -> tuple[_Way, ...]:
        return tuple(self._way(*each.partition(":")[::2], tokens) for each in auth.from_)

    def _way(self, kind: str, name: str, tokens: JwtVerifier) -> _Way:
        if kind == "ticket":
            return _Way(kind, "a ticket", lambda asked: asked.query.get("ticket") or None, self._judge_ticket)

        async def judge(credential: str, stream: str, run: str) -> Identity:
            known = tokens.known(credential)
            if known is None:
                await in_task()  # the issuer's keys may have to be fetched
            claims, expires_at = known or await tokens.read(credential)
            return Identity(claims, _subject(claims), expires_at, kind)

        if kind == "cookie":
            return _Way(kind, f"the cookie {name}", lambda asked: asked.cookies.get(name) or None, judge)
        return _Way(kind, "a bearer token", _bearer, judge)

    async def _judge_nobody(self, credential: str, stream: str, run: str) -> Identity:
        return NOBODY

    async def _judge_ticket(self, credential: str, stream: str, run: str) -> Identity:
        if self._tickets is None:
            raise TicketRefused("tickets are not accepted here")
        ticket = self._tickets.read(credential, stream=stream, run=run, named=self._named.get(stream))
        return Identity(ticket.claims, _subject(ticket.claims), ticket.expires_at, "ticket")


def _bearer(asked: RequestHead) -> str | None:
    scheme, _, token = asked.headers.get("authorization", "").partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None


def _subject(claims: Mapping[str, Any]) -> str | None:
    subject = claims.get("sub")
    return subject if isinstance(subject, str) and subject else None
