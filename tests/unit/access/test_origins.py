"""Which pages may make requests: own, listed, foreign, and those without an Origin."""

from __future__ import annotations

import pytest

from config.model.files import CorsConfig, HatchetConfig, StreamConfig, TeamConfig
from proxy.access.origins import TICKET_METHODS, Origins, canonical, every_cors, is_own

APP = "https://app.example.com"
HOST = "streams.example.com"


def origins(*listed: str, credentials: bool = False, accepts_cookies: bool = True) -> Origins:
    cors = CorsConfig(origins=listed, credentials=credentials) if listed else None
    return Origins(cors, accepts_cookies=accepts_cookies)


def asks(origin: str | None = None, *, host: str = HOST, site: str | None = None) -> dict[str, str]:
    headers = {"host": host, "origin": origin, "sec-fetch-site": site}
    return {name: value for name, value in headers.items() if value is not None}


def test_a_listed_origin_gets_cors_headers() -> None:
    verdict = origins(APP, credentials=True).decide(asks(APP), "http")
    assert verdict.refused is None
    assert verdict.headers == (
        (b"vary", b"Origin, Sec-Fetch-Site"),
        (b"access-control-allow-origin", APP.encode()),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"Retry-After, X-Stream-Gap"),
    )


def test_credentials_are_only_allowed_where_they_are_configured() -> None:
    headers = dict(origins(APP).decide(asks(APP), "http").headers)
    assert headers[b"access-control-allow-origin"] == APP.encode()
    assert b"access-control-allow-credentials" not in headers


def test_a_star_allows_every_page_without_credentials() -> None:
    everyone = origins("*", credentials=True)
    for page in (APP, "http://localhost:3000", "null"):
        headers = dict(everyone.decide(asks(page), "http").headers)
        assert headers[b"access-control-allow-origin"] == b"*"
        assert b"access-control-allow-credentials" not in headers


@pytest.mark.parametrize("listed", [(), (APP,)])
@pytest.mark.parametrize(
    "page",
    [
        "https://evil.example",
        "null",
        "",
        "https://app.example.com.evil.example",
        "https://evil.example/https://app.example.com",
        "https://app.example.com@evil.example",
        "https://app.example.com:8443",
        "http://app.example.com",
        "https://app.example.com/",
        "https://xapp.example.com",
        "https://app.example.com\r\nx: y",
        "https://streams.example.com.evil.example",
        "https://streams.example.com:444",
        "https://[::1",
        "https://app.example.com:99999",
        "file://",
        "*",
    ],
)
def test_a_page_that_is_neither_listed_nor_of_this_host_is_refused(
    page: str, listed: tuple[str, ...]
) -> None:
    verdict = origins(*listed, accepts_cookies=False).decide(asks(page), "http")
    assert verdict.refused is not None
    assert verdict.headers == ((b"vary", b"Origin, Sec-Fetch-Site"),)


@pytest.mark.parametrize(
    ("page", "host", "scheme"),
    [
        ("http://streams.example.com", "streams.example.com", "http"),
        ("https://streams.example.com", "streams.example.com", "http"),  # TLS ends before us
        ("https://streams.example.com", "streams.example.com:443", "http"),
        ("http://localhost:8080", "localhost:8080", "http"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", "http"),
        ("http://[::1]:8080", "[::1]:8080", "http"),
        ("http://[::1]", "[::1]:80", "http"),
        ("https://Streams.Example.com", "STREAMS.example.com", "https"),
    ],
)
def test_a_page_of_the_own_host_is_allowed(page: str, host: str, scheme: str) -> None:
    assert is_own(page, host, scheme)
    assert origins().decide(asks(page, host=host), scheme).refused is None


@pytest.mark.parametrize(
    ("page", "host", "scheme"),
    [
        ("http://streams.example.com", "streams.example.com", "https"),  # what a network could inject
        ("http://localhost:3000", "localhost:8080", "http"),
        ("http://localhost", "127.0.0.1", "http"),
        ("http://streams.example.com", "", "http"),
        ("http://streams.example.com", "streams.example.com/x", "http"),
        ("http://streams.example.com", "u@streams.example.com", "http"),
        ("null", "null", "http"),
        ("", "", "http"),
    ],
)
def test_a_page_of_another_port_host_or_lower_scheme_is_not_the_own_one(
    page: str, host: str, scheme: str
) -> None:
    assert not is_own(page, host, scheme)


def test_without_an_origin_only_cross_site_requests_are_refused_and_only_with_cookies() -> None:
    with_cookies, without = origins(), origins(accepts_cookies=False)
    for site in ("cross-site", " Cross-Site "):
        assert with_cookies.decide(asks(site=site), "http").refused is not None
    assert without.decide(asks(site="cross-site"), "http").refused is None
    for other in (None, "same-origin", "same-site", "none"):
        assert with_cookies.decide(asks(site=other), "http").refused is None


def test_a_listed_page_of_another_site_is_allowed() -> None:
    assert origins(APP).decide(asks(APP, site="cross-site"), "http").refused is None


def test_a_preflight_says_what_a_page_may_do() -> None:
    headers = dict(origins(APP, credentials=True).preflight(asks(APP), "http").headers)
    assert headers[b"access-control-allow-methods"] == b"GET, HEAD, OPTIONS"
    for name in (b"Last-Event-ID", b"Authorization", b"Cache-Control", b"Accept"):
        assert name in headers[b"access-control-allow-headers"]
    assert headers[b"access-control-max-age"] == b"600"
    assert headers[b"access-control-allow-credentials"] == b"true"


def test_a_preflight_for_tickets_allows_to_post() -> None:
    headers = dict(origins(APP).preflight(asks(APP), "http", TICKET_METHODS).headers)
    assert headers[b"access-control-allow-methods"] == b"POST, OPTIONS"
    assert b"Content-Type" in headers[b"access-control-allow-headers"]


def test_a_foreign_preflight_is_refused_and_an_options_without_origin_is_no_preflight() -> None:
    assert origins(APP).preflight(asks("https://evil.example"), "http").refused is not None
    assert origins(APP).preflight(asks(), "http").headers == ((b"vary", b"Origin, Sec-Fetch-Site"),)


@pytest.mark.parametrize(
    ("origin", "parts"),
    [
        ("https://a.example", ("https", "a.example", 443)),
        ("https://a.example:443", ("https", "a.example", 443)),
        ("http://a.example:8080", ("http", "a.example", 8080)),
        ("HTTPS://A.Example", ("https", "a.example", 443)),
        ("chrome-extension://abcdef", ("chrome-extension", "abcdef", 0)),
        ("capacitor://localhost", ("capacitor", "localhost", 0)),
        ("http://a.example:", None),
        ("//a.example", None),
        ("a.example", None),
    ],
)
def test_origins_are_compared_by_scheme_host_and_port(
    origin: str, parts: tuple[str, str, int] | None
) -> None:
    assert canonical(origin) == parts


def test_apps_and_extensions_can_be_listed() -> None:
    assert origins("capacitor://localhost").decide(asks("capacitor://localhost"), "http").refused is None


def team(*cors: CorsConfig | None) -> TeamConfig:
    streams = {
        f"s{n}": StreamConfig(name=f"s{n}", path=f"/{n}/{{workflowRunId}}", rules=(), cors=each)
        for n, each in enumerate(cors)
    }
    return TeamConfig(name="t", hatchet=HatchetConfig.model_validate({"token": "t"}), streams=streams)


def test_for_tickets_the_origins_of_all_streams_are_listed() -> None:
    one = CorsConfig(origins=(APP,), credentials=True)
    other = CorsConfig(origins=("https://other.example", APP))
    merged = every_cors(team(one, None, other))
    assert merged == CorsConfig(origins=(APP, "https://other.example"), credentials=True)
    plain = every_cors(team(other))
    assert plain is not None
    assert not plain.credentials
    assert every_cors(team(None)) is None


def test_for_tickets_the_request_headers_of_all_streams_are_listed() -> None:
    one, other = CorsConfig(origins=(APP,), headers=("x-b",)), CorsConfig(origins=(APP,), headers=("x-a",))
    merged = every_cors(team(one, other))
    assert merged is not None
    assert merged.headers == ("x-a", "x-b")
