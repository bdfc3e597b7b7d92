"""The link to Redis: a connection on which a reply may be that to another command is closed for good."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from proxy.log.base import LogAway
from proxy.log.redis.link import LOST, Link
from proxy.log.redis.resp import Reply, command

GET, PING = command(b"GET", b"a"), command(b"PING")


class Transport:
    """Remembers what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.aborted = True


def opened(closed: list[str]) -> tuple[Link, Transport]:
    """A link that is open; `closed` is told of its end."""
    link, transport = Link(lambda: closed.append("closed")), Transport()
    link.connection_made(cast("asyncio.Transport", transport))
    return link, transport


async def test_commands_of_one_turn_are_one_write_and_replies_come_in_their_order() -> None:
    link, transport = opened([])
    replies: list[Reply] = []
    link.send(GET, lambda reply: replies.append([b"first", reply]))
    link.send(PING + GET, lambda reply: replies.append([b"later", reply]), 2)
    await asyncio.sleep(0)
    assert transport.written == [GET + PING + GET]
    link.data_received(b"$3\r\none\r\n+PO")
    link.data_received(b"NG\r\n$-1\r\n")
    assert replies == [[b"first", b"one"], [b"later", b"PONG"], [b"later", None]]


@pytest.mark.parametrize(
    ("received", "before"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", []),
        (
            b"+mine\r\n$3\r\nlonger than 3\r\n",
            [],
        ),  # a reply that is whole is of no use beside one that is none
        (b"+mine\r\n+yours\r\n+whose?\r\n", [b"mine", b"yours"]),
    ],
    ids=["no RESP", "a length that is wrong", "a reply that nobody asked for"],
)
async def test_a_connection_in_doubt_is_closed_and_not_used_again(
    received: bytes, before: list[Reply]
) -> None:
    closed: list[str] = []
    link, transport = opened(closed)
    replies: list[Reply] = []
    link.send(GET, replies.append)
    link.send(PING, replies.append)
    link.data_received(received)
    assert (transport.aborted, closed) == (True, ["closed"])
    assert replies == [*before, *[LOST] * (2 - len(before))], (
        "a caller that waits gets the reply that there is no reply"
    )
    link.data_received(b"+late\r\n")
    link.send(PING, replies.append)
    await asyncio.sleep(0)
    assert replies[-1] is LOST
    assert closed == ["closed"]
    with pytest.raises(LogAway):
        await link.call(b"PING")


async def test_after_a_reply_that_does_not_come_in_time_no_other_one_is_waited_for() -> None:
    closed: list[str] = []
    link, transport = opened(closed)
    with pytest.raises(LogAway, match="in time"):
        await link.call(b"GET", b"a", timeout=0.0)
    assert (transport.aborted, closed) == (True, ["closed"])
