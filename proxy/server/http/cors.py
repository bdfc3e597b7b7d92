"""CORS headers for answers that no stream gives: an unknown path, a malformed request, an unforeseen error.

A page that may read a team's streams must also be able to read why it got none; without the headers its
browser shows a CORS error instead of the status. These answers contain nothing of a run or a configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from proxy.access.authenticator import RequestHead
from proxy.access.origins import ALLOWED_HEADERS, STREAM_METHODS, Origins, preflight_rights
from proxy.server.http.responses import Headers
from proxy.server.http.routing import PROBES, find_stream, team_of
from proxy.teams.hub import Hub

SHARED: Final = b"access-control-allow-origin"


def refusal_headers(hub: Hub, path: str, raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The CORS headers for a refusal of a request for `path` (still quoted) with the headers `raw`."""
    return outside_headers(hub, path, RequestHead.read(raw, b"").headers, "http")


def outside_headers(hub: Hub, path: str, headers: Mapping[str, str], scheme: str) -> Headers:
    """The CORS headers for an answer about `path` that no stream gives; none for a page that is not listed.

    `path` is still quoted; `headers` are the request's, with names in lower case.
    """
    if path in PROBES:
        return []
    for origins in _deciding(hub, path):
        verdict = origins.decide(headers, scheme)
        if verdict.refused is None and any(name == SHARED for name, _ in verdict.headers):
            return list(verdict.headers)
    return []


def outside_preflight(hub: Hub, path: str, headers: Mapping[str, str], scheme: str) -> Headers:
    """The headers for a preflight request on a path without a stream; empty for pages that are not listed.

    Without them a page whose request needs a preflight would see a CORS error where it should see a 404.
    """
    if "access-control-request-method" not in headers or path in PROBES:
        return []
    for origins in _deciding(hub, path):
        verdict = origins.preflight(headers, scheme)
        if verdict.refused is None and any(name == SHARED for name, _ in verdict.headers):
            return list(verdict.headers)
    return []


def for_everybody(headers: Mapping[str, str]) -> Headers:
    """CORS headers for any page: for a team that never had a valid file, so its origins are not known."""
    origin = headers.get("origin")
    if origin is None:
        return []
    shared = [
        (SHARED, origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"Origin"),
    ]
    if "access-control-request-method" not in headers:
        return shared
    asked = headers.get("access-control-request-headers", ALLOWED_HEADERS)
    return [*shared, *preflight_rights(f"{STREAM_METHODS}, POST", asked)]


def _deciding(hub: Hub, path: str) -> list[Origins]:
    """The origins that apply: the stream's, else the team's, else those of all teams."""
    found = find_stream(hub, path)
    if found is not None:
        return [found[1].target.origins]
    team = team_of(hub, path)
    return [team.origins] if team is not None else [each.origins for each in hub.teams.values()]
