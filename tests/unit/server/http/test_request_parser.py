"""Plain requests: what is read in one look is what a parser reads; anything unusual is left to it."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.access.authenticator import RequestHead
from proxy.server.http import request_parser
from proxy.server.http.request_limits import HEAD_BYTES, HEAD_COUNT, LINE_BYTES
from proxy.server.http.request_parser import MOST_BYTES, MOST_HEADERS

GET = b"GET /message/x?a=b HTTP/1.1\r\nHost: h\r\n"


class Parsed:
    """What llhttp makes of some bytes, in the words of uvicorn's protocol."""

    def __init__(self, data: bytes) -> None:
        self.url, self.headers, self.whole = b"", list[tuple[bytes, bytes]](), 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.keeps, self.upgrades = self.parser.should_keep_alive(), self.parser.should_upgrade()

    def on_message_complete(self) -> None:
        self.whole += 1


def agrees(data: bytes) -> bool:
    """Whether `data` is plain; if so, the parser must read the same."""
    request = request_parser.read(data)
    if request is None:
        return False
    parsed = Parsed(data)
    url = httptools.parse_url(parsed.url)
    asked = RequestHead.read(parsed.headers, url.query or b"")
    mine = RequestHead(request.headers, crumbs=request.cookies, text=request.query)
    assert (parsed.parser.get_method(), parsed.parser.get_http_version(), parsed.whole) == (b"GET", "1.1", 1)
    assert (request.path, request.query) == (url.path.decode(), (url.query or b"").decode())
    assert (request.keeps, False) == (parsed.keeps, parsed.upgrades)
    assert mine.headers == asked.headers
    assert (mine.cookies, mine.query) == (asked.cookies, asked.query)
    return True


NAMES = st.sampled_from(
    [
        "Host",
        "Accept",
        "COOKIE",
        "cookie",
        "Connection",
        "Proxy-Connection",
        "Last-Event-ID",
        "X",
        "Expect",
        "Content-Length",
        "a b",
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        ["", "h", "keep-alive", "Close", "close", "upgrade", "0", "a=b; c=d", " x ", "x\ty", "x\n y"]
    ),
    st.text(st.characters(max_codepoint=255), max_size=12),
)
LINES = st.lists(st.tuples(NAMES, st.sampled_from([":", ": ", ":\t", " :", ":  "]), VALUES), max_size=6)
TARGETS = st.one_of(
    st.sampled_from(
        ["/", "/a", "/a?b", "/a?", "//a", "/a#b", "/a?b#c", "*", "http://h/a", "/%2f?x=%00", "/a?b?c"]
    ),
    st.text(st.characters(max_codepoint=255), max_size=12).map(lambda text: "/" + text),
)


@given(TARGETS, LINES, st.sampled_from(["\r\n", "\n"]), st.sampled_from(["", "x", "GET / HTTP/1.1\r\n\r\n"]))
@example("/message/x", [("Host", ": ", "h")], "\r\n", "")
def test_what_is_plain_a_parser_reads_the_same(
    target: str, lines: list[tuple[str, str, str]], end: str, rest: str
) -> None:
    head = "".join(f"{name}{colon}{value}{end}" for name, colon, value in lines)
    agrees(f"GET {target} HTTP/1.1{end}{head}{end}{rest}".encode("latin-1"))


@given(st.binary(max_size=60))
def test_any_bytes_within_a_header_are_read_the_same_or_left(noise: bytes) -> None:
    agrees(GET + b"X: " + noise + b"\r\n\r\n")
    agrees(GET + noise + b"\r\n\r\n")
    agrees(b"GET /" + noise + b" HTTP/1.1\r\nHost: h\r\n\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"Accept: text/event-stream\r\nCookie: a=b; c=d\r\ncookie: a=e\r\n",
        b"Connection: keep-alive\r\n",
        b"Connection: close\r\n",
        b"Last-Event-ID: AAAA.BBBB.7\r\nOrigin: https://a.example\r\nEmpty:\r\nTight:x\r\nName: \xe9\r\n",
    ],
)
def test_what_an_event_source_sends_is_plain(head: bytes) -> None:
    assert agrees(GET + head + b"\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GET,
        GET + b"\r",
        GET + b"\r\n\r\n",
        GET + b"\r\n" + GET + b"\r\n",
        GET.replace(b"GET", b"HEAD") + b"\r\n",
        GET.replace(b"1.1", b"1.0") + b"\r\n",
        b"\r\n" + GET + b"\r\n",
        GET + b"Content-Length: 0\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\n\r\n",
        GET + b"Expect: 100-continue\r\n\r\n",
        GET + b"Proxy-Connection: close\r\n\r\n",
        GET + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        GET + b"Connection: keep-alive, x\r\n\r\n",
        GET + b"Connection: keep-alive\r\nConnection: close\r\n\r\n",
        GET + b"Host: other\r\n\r\n",
        GET + b"X: folded\r\n line\r\n\r\n",
        GET + b"X : y\r\n\r\n",
        GET + b"X: y \r\n\r\n",
        GET + b"X: \x00\r\n\r\n",
        GET + b"X: y\n\r\n",
        GET + b"X: " + b"y" * MOST_BYTES + b"\r\n\r\n",
        GET + b"X: y\r\n" * MOST_HEADERS + b"\r\n",
    ],
)
def test_what_is_unusual_is_left_to_the_parser(data: bytes) -> None:
    assert request_parser.read(data) is None


def test_a_plain_request_meets_no_limit_of_the_guard() -> None:
    assert MOST_BYTES <= LINE_BYTES < HEAD_BYTES - 2 * MOST_HEADERS
    assert MOST_HEADERS < HEAD_COUNT
