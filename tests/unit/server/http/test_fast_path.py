"""What the connections of a listener share: the heads of responses, and when a connection is passed on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from uvicorn.server import ServerState

from proxy.server.http.fast_path import MAX_HEADS, ConnectionFactory
from proxy.server.http.responses import Headers


class Mesh:
    """Takes every connection."""

    def __init__(self) -> None:
        self.passed: list[bytes] = []

    def pass_on(self, transport: asyncio.Transport, received: bytes) -> bool:
        self.passed.append(received)
        return True


def factory() -> ConnectionFactory:
    one = ConnectionFactory(cast(Any, SimpleNamespace(draining=False)))
    one.serve_as(cast(Any, None), ServerState(), {})
    one.state.default_headers = [(b"date", b"now")]
    return one


def headers(number: int) -> Headers:
    return [(b"access-control-allow-origin", b"https://%d.example.com" % number)]


async def test_a_head_is_made_once_and_anew_when_the_date_changes() -> None:
    one = factory()
    first = one.stream_head(headers(1), keep_alive=True)
    assert first.startswith(b"HTTP/1.1 200 OK\r\ndate: now\r\naccess-control-allow-origin: https://1.")
    assert one.stream_head(headers(1), keep_alive=True) is first
    assert b"connection: close\r\n" in one.stream_head(headers(1), keep_alive=False)
    one.state.default_headers = [(b"date", b"later")]
    assert b"date: later\r\n" in one.stream_head(headers(1), keep_alive=True)


async def test_heads_that_pages_of_many_origins_ask_for_are_not_kept_without_limit() -> None:
    one = factory()
    for number in range(3 * MAX_HEADS):
        assert b"https://%d.example.com\r\n" % number in one.stream_head(headers(number), keep_alive=True)
        assert len(one._heads) <= MAX_HEADS


@pytest.mark.parametrize("draining", [False, True])
async def test_a_worker_that_drains_passes_no_connection_on(draining: bool) -> None:
    one = factory()
    one.mesh = mesh = cast(Any, Mesh())
    cast(Any, one.hub).draining = draining
    assert one.passes_on(asyncio.Transport(), b"GET /") is not draining
    assert mesh.passed == ([] if draining else [b"GET /"])
