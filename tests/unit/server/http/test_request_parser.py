"""The requests of the fast path: what is read, and what is left to uvicorn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.access.authenticator import RequestHead
from proxy.server.http.request_limits import HEAD_BYTES, HEAD_COUNT, LINE_BYTES
from proxy.server.http.request_parser import MAX_BYTES, MAX_HEADERS, Progress, RequestParser

GET = b"GET /message/x?a=b HTTP/1.1\r\nHost: h\r\n"


class ReferenceParser:
    """What uvicorn's protocol makes of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.url, self.headers, self.requests = b"", list[tuple[bytes, bytes]](), 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.keep_alive, self.upgrades = self.parser.should_keep_alive(), self.parser.should_upgrade()

    def on_message_complete(self) -> None:
        self.requests += 1


def parsed(*pieces: bytes) -> tuple[Progress, RequestParser]:
    parser, progress = RequestParser(), Progress.INCOMPLETE
    for piece in pieces:
        assert progress is Progress.INCOMPLETE
        progress = parser.feed(piece)
    return progress, parser


def is_complete(data: bytes) -> bool:
    """Whether `data` is a request of the fast path; if so, uvicorn must read the same."""
    progress, request = parsed(data)
    if progress is not Progress.COMPLETE:
        return False
    reference = ReferenceParser(data)
    url = httptools.parse_url(reference.url)
    theirs = RequestHead.read(reference.headers, url.query or b"")
    ours = RequestHead(request.headers, cookie_headers=request.cookies, text=request.query)
    assert reference.parser.get_method() == b"GET"
    assert reference.parser.get_http_version() == "1.1"
    assert reference.requests == 1
    assert (request.path, request.query) == (url.path.decode(), (url.query or b"").decode())
    assert (request.keep_alive, False) == (reference.keep_alive, reference.upgrades)
    assert ours.headers == theirs.headers
    assert (ours.cookies, ours.query) == (theirs.cookies, theirs.query)
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
def test_a_request_of_the_fast_path_is_read_as_uvicorn_reads_it(
    target: str, lines: list[tuple[str, str, str]], end: str, rest: str
) -> None:
    head = "".join(f"{name}{colon}{value}{end}" for name, colon, value in lines)
    is_complete(f"GET {target} HTTP/1.1{end}{head}{end}{rest}".encode("latin-1"))


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_uvicorn_reads_them_or_left_to_it(noise: bytes) -> None:
    is_complete(GET + b"X: " + noise + b"\r\n\r\n")
    is_complete(GET + noise + b"\r\n\r\n")
    is_complete(b"GET /" + noise + b" HTTP/1.1\r\nHost: h\r\n\r\n")


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
def test_what_an_event_source_sends_is_complete(head: bytes) -> None:
    assert is_complete(GET + head + b"\r\n")


@given(st.lists(st.integers(1, 80), max_size=6))
def test_a_request_may_come_in_pieces(cuts: Sequence[int]) -> None:
    data = GET + b"Cookie: a=b; c=d\r\nCookie: e=f\r\nConnection: close\r\n\r\n"
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    progress, request = parsed(*(data[one:other] for one, other in itertools.pairwise(places)))
    assert progress is Progress.COMPLETE
    assert (request.path, request.query) == ("/message/x", "a=b")
    assert request.headers == {"host": "h", "cookie": "a=b; c=d", "connection": "close"}
    assert request.cookies == ["a=b; c=d", "e=f"]
    assert request.keep_alive is False


@pytest.mark.parametrize("data", [b"", b"G", GET, GET + b"\r", GET + b"X: y\r\n", GET + b"X: y"])
def test_a_request_that_is_not_whole_is_incomplete(data: bytes) -> None:
    assert parsed(data)[0] is Progress.INCOMPLETE


@pytest.mark.parametrize(
    "data",
    [
        GET + b"\r\n" + GET + b"\r\n",
        GET + b"\r\nG",
        GET + b"\r\nGET / HTTP/1.1\r\nX: y\r\n",
        GET + b"\r\n\r\n",
        GET.replace(b"GET", b"HEAD") + b"\r\n",
        GET.replace(b"1.1", b"1.0") + b"\r\n",
        GET.replace(b"/message", b"//message") + b"\r\n",
        GET.replace(b"/message", b"http://h/message") + b"\r\n",
        GET.replace(b"?a=b", b"#a") + b"\r\n",
        GET.replace(b"message", b"\xc3\xa9") + b"\r\n",
        GET + b"Content-Length: 0\r\n\r\n",
        GET + b"Content-Length: 3\r\n\r\nabc",
        GET + b"Transfer-Encoding: chunked\r\n\r\n",
        GET + b"Expect: 100-continue\r\n\r\n",
        GET + b"Proxy-Connection: close\r\n\r\n",
        GET + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        GET + b"Connection: keep-alive\r\nConnection: close\r\n\r\n",
        GET + b"Host: other\r\n\r\n",
        GET + b"X: folded\r\n line\r\n\r\n",
        GET + b"X : y\r\n\r\n",
        GET + b"X: \x00\r\n\r\n",
        GET + b"X: y\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        GET + b"X: " + b"y" * MAX_BYTES,
        GET + b"X: y\r\n" * MAX_HEADERS + b"\r\n",
    ],
)
def test_every_other_request_is_left_to_uvicorn(data: bytes) -> None:
    assert parsed(data)[0] is Progress.OTHER


def test_the_bytes_of_all_pieces_count() -> None:
    piece = b"X: " + b"y" * 1000 + b"\r\n"
    parser = RequestParser()
    progress, pieces = parser.feed(GET), 0
    while progress is Progress.INCOMPLETE:
        progress, pieces = parser.feed(piece), pieces + 1
    assert progress is Progress.OTHER
    assert len(GET) + pieces * len(piece) > MAX_BYTES >= len(GET) + (pieces - 1) * len(piece)


def test_a_request_of_the_fast_path_exceeds_no_limit() -> None:
    assert MAX_BYTES <= LINE_BYTES < HEAD_BYTES - 2 * MAX_HEADERS
    assert MAX_HEADERS < HEAD_COUNT
