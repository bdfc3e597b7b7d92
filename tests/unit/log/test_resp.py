"""RESP2: replies arrive in any pieces; what is no RESP2 ends the connection."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.log.redis.resp import ErrorReply, Parser, ProtocolError, Reply, command

REPLIES = (
    b"+OK\r\n"
    b":-42\r\n"
    b"$-1\r\n"
    b"$5\r\nhe\r\no\r\n"
    b"$0\r\n\r\n"
    b"*-1\r\n"
    b"*0\r\n"
    b"*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"
    b"-ERR no\r\n"
)
PARSED = [b"OK", -42, None, b"he\r\no", b"", None, [], [b"1-1", [b"a", b"b"]]]


def plain(replies: list[Reply]) -> list[Reply]:
    return [reply.text if isinstance(reply, ErrorReply) else reply for reply in replies]  # type: ignore[misc]


@given(st.lists(st.integers(0, len(REPLIES)), max_size=12))
def test_replies_are_the_same_in_any_pieces(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(REPLIES)]
    parser = Parser()
    found = [reply for start, end in pairwise(places) for reply in parser.feed(REPLIES[start:end])]
    assert plain(found) == [*PARSED, "ERR no"]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"$99999999999\r\n",
        b":1.5\r\n",
        b":" + b"1" * 30 + b"\r\n",
        b"$2\r\nabcd",
        b"*-5\r\n",
        b"*1\r\n" * 20,
        b"+" + b"x" * 70_000,
        b"\r\n",
    ],
)
def test_what_is_no_resp_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Parser().feed(data)


def test_a_command_is_an_array_of_bulk_strings() -> None:
    assert command(b"SET", b"k", b"\r\n") == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n"
    assert Parser().feed(command(b"SET", b"k", b"")) == [[b"SET", b"k", b""]]
