"""The two links to one Redis: how late messages are is measured behind everything that waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from proxy.log.redis import server as module
from proxy.log.redis.link import Node
from proxy.log.redis.login import Login
from proxy.log.redis.resp import ErrorReply, Reply
from proxy.log.redis.server import Server


class Link:
    """A link that says that its Redis is a master, and takes what is written."""

    open = True
    subscribes = False

    def send(self, commands: bytes, on_reply: Callable[[Reply], None]) -> None:
        on_reply([b"master"])

    def write(self, commands: bytes) -> None:
        """It arrives."""

    def close(self) -> None:
        """Nothing is to be closed."""


class FakeLogin:
    """Opens such links; `received` is what gets the replies on the subscribing one."""

    received: Callable[[Reply], None]

    async def open(self, node: Node, *, closed: object, received: Any = None) -> Link:
        if received is not None:
            self.received = received
        return Link()


async def test_a_message_is_as_late_as_the_answer_to_a_ping_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    late: list[float] = []
    messages: list[bytes] = []

    def failed(reply: ErrorReply) -> None:
        raise AssertionError(reply)

    server = Server(
        Node("redis", 6379),
        received=lambda channel, payload: messages.append(payload),
        subscribed=lambda channel: None,
        failed=failed,
        closed=lambda server: None,
        lag=late.append,
    )
    login = FakeLogin()
    await server.open(cast("Login", login))
    server.look()
    now = 102.0
    login.received([b"message", b"channel", b"one"])
    assert late == [], "a message answers no ping"
    server.look()  # the link is alive, so it may be pinged again
    now = 102.5
    login.received([b"pong", b""])
    assert late == [2.5], "the first answer is that to the first ping"
    login.received([b"pong", b""])
    assert late == [2.5, 0.5]
    assert messages == [b"one"]
