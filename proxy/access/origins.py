"""Which web pages may make a request: decided by its headers, pure.

A page of another origin must be listed in the stream's `cors`. A page of the request's own host always
may. Any other page gets 403: without CORS headers alone the browser would still send the request, cookies
included.

The own host is compared without the scheme, because TLS usually ends in front of this proxy: a page of
``https://app.example.com`` is of the own host if ``Host`` is ``app.example.com``; default ports are left out.
If the request is known to have come over https, the page must be https too.

A request without ``Origin`` (a same-origin GET, curl, a server) passes, unless the browser says that
another site caused it (``Sec-Fetch-Site: cross-site``) and cookies are credentials here. ``Origin: null``
never passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from config.model.files import CorsConfig, TeamConfig

Headers = tuple[tuple[bytes, bytes], ...]

STREAM_METHODS: Final = "GET, HEAD, OPTIONS"
TICKET_METHODS: Final = "POST, OPTIONS"
CLIENT_HEADERS: Final = ("Accept", "Authorization", "Cache-Control", "Content-Type", "Last-Event-ID")
"""What EventSource, its polyfills and fetch clients send."""
TRACING_HEADERS: Final = (
    *("traceparent", "tracestate", "baggage"),  # W3C Trace Context and Baggage: OpenTelemetry, Grafana Faro
    *("b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"),  # Zipkin
    *(
        "x-request-id",
        "x-correlation-id",
        "request-id",
        "request-context",
    ),  # Application Insights has the last
    "sentry-trace",
    *("x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-origin", "x-datadog-sampling-priority"),
    *("newrelic", "elastic-apm-traceparent", "uber-trace-id", "x-amzn-trace-id", "x-cloud-trace-context"),
)
"""What tracing libraries add to every fetch of a page; a preflight that refuses them breaks the page."""
ALLOWED_HEADERS: Final = ", ".join((*CLIENT_HEADERS, *TRACING_HEADERS))
MAX_AGE: Final = b"600"
"""Seconds for which a browser caches a preflight: a changed `cors` takes effect within ten minutes."""
_USUAL_PORTS: Final = {"http": 80, "https": 443}
_VARY: Final = (b"vary", b"Origin, Sec-Fetch-Site")


class OriginDecision(Struct, frozen=True):
    """Whether the page may make the request; `headers` go into every response, also refusals and errors."""

    headers: Headers
    refused: str | None = None


_REFUSED_ORIGIN: Final = OriginDecision(
    (_VARY,), "the page's Origin is neither this host nor listed under `cors` of this stream"
)
_REFUSED_SITE: Final = OriginDecision(
    (_VARY,), "a page of another site caused this request and sent no Origin"
)
_ALLOWED: Final = OriginDecision((_VARY,))


class Origins:
    """Decides for one stream."""

    def __init__(self, cors: CorsConfig | None, *, accepts_cookies: bool) -> None:
        """`accepts_cookies`: whether cookies are credentials of the team."""
        listed = () if cors is None else cors.origins
        self._all: Final = "*" in listed
        self._listed: Final = frozenset(canonical(origin) for origin in listed) - {None}
        self._credentials: Final = cors is not None and cors.credentials and not self._all
        self._accepts_cookies: Final = accepts_cookies
        self._request_headers: Final = ", ".join(
            (*CLIENT_HEADERS, *TRACING_HEADERS, *((cors and cors.headers) or ()))
        )

    def decide(self, headers: Mapping[str, str], scheme: str) -> OriginDecision:
        """The decision on a request; `headers` with names in lower case, `scheme` as it arrived here."""
        origin = headers.get("origin")
        if origin is None:
            foreign = headers.get("sec-fetch-site", "").strip().lower() == "cross-site"
            return _REFUSED_SITE if foreign and self._accepts_cookies else _ALLOWED
        if canonical(origin) in self._listed:
            return OriginDecision((_VARY, *self._shared_with(origin)))
        if is_own(origin, headers.get("host", ""), scheme):
            return _ALLOWED
        return OriginDecision((_VARY, *self._shared_with("*"))) if self._all else _REFUSED_ORIGIN

    def preflight(
        self, headers: Mapping[str, str], scheme: str, methods: str = STREAM_METHODS
    ) -> OriginDecision:
        """The decision on an OPTIONS request, with what the page may do."""
        verdict = self.decide(headers, scheme)
        if verdict.refused is not None or "origin" not in headers:
            return verdict
        return OriginDecision((*verdict.headers, *preflight_rights(methods, self._request_headers)))

    def _shared_with(self, origin: str) -> Headers:
        allowed = (b"access-control-allow-origin", origin.encode("latin-1"))
        # for fetch clients; EventSource sees none. The second is that of the format `text`
        shown = (b"access-control-expose-headers", b"Retry-After, X-Stream-Gap")
        if self._credentials:
            return (allowed, (b"access-control-allow-credentials", b"true"), shown)
        return (allowed, shown)


def preflight_rights(methods: str, request_headers: str) -> Headers:
    """What a page may do, for the response to a preflight request."""
    return (
        (b"access-control-allow-methods", methods.encode()),
        (b"access-control-allow-headers", request_headers.encode("latin-1")),
        (b"access-control-max-age", MAX_AGE),
    )


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
        return None  # a path, a user, a line end: no browser sends that
    return parts.scheme, host, port or _USUAL_PORTS.get(parts.scheme, 0)


def is_own(origin: str, host: str, scheme: str) -> bool:
    """Whether a page of `origin` is of the host of the request."""
    page = canonical(origin)
    if page is None or (scheme == "https" and page[0] != "https"):
        return False
    return canonical(f"{page[0]}://{host.lower()}") == page


def every_cors(config: TeamConfig) -> CorsConfig | None:
    """The origins of all streams of a team, for requests that belong to no single one (tickets)."""
    listed = [stream.cors for stream in config.streams.values() if stream.cors is not None]
    if not listed:
        return None
    origins = {origin for cors in listed for origin in cors.origins}
    headers = {name for cors in listed for name in cors.headers or ()}
    return CorsConfig(
        origins=tuple(sorted(origins)),
        credentials=any(cors.credentials for cors in listed),
        headers=tuple(sorted(headers)) or None,
    )
