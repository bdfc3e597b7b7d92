"""Which pages may ask: a decision over a request's headers, pure.

A page of another origin must be listed in the stream's `cors`; the request's own host always may. Everyone
else is refused with 403, not only left without CORS headers: a browser would send the request, cookies
included, and what a page may not read it can still set off or measure.

The own host is compared without the scheme, because TLS usually ends before this proxy: a page of
``https://app.example.com`` is the own one of ``Host: app.example.com`` however the request came here, ports
that are a scheme's usual ones left out. Only where the request is known to have come over https must the
page have come over https too.

A request without ``Origin`` (a same-origin GET, curl, a server) passes, unless a browser says that another
site set it off (``Sec-Fetch-Site: cross-site``) and cookies are credentials here. ``Origin: null`` is
nobody's page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from config.model.files import CorsConfig, TeamConfig

Headers = tuple[tuple[bytes, bytes], ...]

STREAM_METHODS: Final = "GET, HEAD, OPTIONS"
TICKET_METHODS: Final = "POST, OPTIONS"
REQUEST_HEADERS: Final = b"Accept, Authorization, Cache-Control, Content-Type, Last-Event-ID"
"""What EventSource, its polyfills and fetch clients send; anything else is no business of a stream."""
MAX_AGE: Final = b"600"
"""Seconds for which a browser remembers a preflight: a changed `cors` is felt within ten minutes."""
_USUAL_PORTS: Final = {"http": 80, "https": 443}
_VARY: Final = (b"vary", b"Origin, Sec-Fetch-Site")


@dataclass(frozen=True, slots=True)
class OriginDecision:
    """Whether the page may ask; `headers` belong on whatever is answered, refusals and errors included."""

    headers: Headers
    refused: str | None = None


_REFUSED_ORIGIN: Final = OriginDecision(
    (_VARY,), "the Origin of the page is not listed in the cors of this stream, and not this host"
)
_REFUSED_SITE: Final = OriginDecision(
    (_VARY,), "a page of another site set this request off, and said no Origin"
)
_ALLOWED: Final = OriginDecision((_VARY,))


class Origins:
    """A stream's answer to pages."""

    def __init__(self, cors: CorsConfig | None, *, cookies_count: bool) -> None:
        """`cookies_count`: whether a cookie is among the team's credentials."""
        listed = () if cors is None else cors.origins
        self._all: Final = "*" in listed
        self._listed: Final = frozenset(canonical(origin) for origin in listed) - {None}
        self._credentials: Final = cors is not None and cors.credentials and not self._all
        self._cookies_count: Final = cookies_count

    def judge(self, headers: Mapping[str, str], scheme: str) -> OriginDecision:
        """A request's verdict; `headers` with names in lower case, `scheme` as the request came here."""
        origin = headers.get("origin")
        if origin is None:
            foreign = headers.get("sec-fetch-site", "").strip().lower() == "cross-site"
            return _REFUSED_SITE if foreign and self._cookies_count else _ALLOWED
        if canonical(origin) in self._listed:
            return OriginDecision((_VARY, *self._shared_with(origin)))
        if is_own(origin, headers.get("host", ""), scheme):
            return _ALLOWED
        return OriginDecision((_VARY, *self._shared_with("*"))) if self._all else _REFUSED_ORIGIN

    def preflight(
        self, headers: Mapping[str, str], scheme: str, methods: str = STREAM_METHODS
    ) -> OriginDecision:
        """The verdict on an OPTIONS request, with what a page may do."""
        verdict = self.judge(headers, scheme)
        if verdict.refused is not None or "origin" not in headers:
            return verdict
        rights = (
            (b"access-control-allow-methods", methods.encode()),
            (b"access-control-allow-headers", REQUEST_HEADERS),
            (b"access-control-max-age", MAX_AGE),
        )
        return OriginDecision((*verdict.headers, *rights))

    def _shared_with(self, origin: str) -> Headers:
        whom = (b"access-control-allow-origin", origin.encode("latin-1"))
        shown = (b"access-control-expose-headers", b"Retry-After")  # for fetch clients; EventSource sees none
        if self._credentials:
            return (whom, (b"access-control-allow-credentials", b"true"), shown)
        return (whom, shown)


def canonical(origin: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an origin as browsers write it (RFC 6454, 6.2); None for anything else.

    Extensions and apps have schemes of their own (``chrome-extension://…``, ``capacitor://localhost``).
    """
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if not host:
        return None
    written = f"[{host}]" if ":" in host else host
    spelled = f"{parts.scheme}://{written}" + ("" if port is None else f":{port}")
    if origin.lower() != spelled:
        return None  # a path, a user, a line end: no browser says that
    return parts.scheme, host, port or _USUAL_PORTS.get(parts.scheme, 0)


def is_own(origin: str, host: str, scheme: str) -> bool:
    """Whether a page of `origin` is of the very host that was asked."""
    page = canonical(origin)
    if page is None or (scheme == "https" and page[0] != "https"):
        return False
    return canonical(f"{page[0]}://{host.lower()}") == page


def every_cors(config: TeamConfig) -> CorsConfig | None:
    """The pages of all the team's streams, for what belongs to no single one (tickets)."""
    listed = [stream.cors for stream in config.streams.values() if stream.cors is not None]
    if not listed:
        return None
    origins = {origin for cors in listed for origin in cors.origins}
    return CorsConfig(origins=tuple(sorted(origins)), credentials=any(cors.credentials for cors in listed))
