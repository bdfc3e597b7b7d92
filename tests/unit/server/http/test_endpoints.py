"""The body of a request for a ticket: bounded in time and size whatever the server below does."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request

from proxy.access.errors import MAX_REQUEST
from proxy.server.http import endpoints
from proxy.server.http.asgi_sink import Message
from proxy.server.http.endpoints import _body


async def test_a_body_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "BODY_SECONDS", 0.01)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(TimeoutError):
        await _body(Request({"type": "http", "method": "POST", "headers": []}, receive))


async def test_a_body_without_end_is_not_read_beyond_its_limit() -> None:
    pieces = 0

    async def receive() -> Message:
        nonlocal pieces
        pieces += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    body = await _body(Request({"type": "http", "method": "POST", "headers": []}, receive))
    assert len(body) > MAX_REQUEST, "so that it is refused"
    assert pieces == MAX_REQUEST // 1000 + 1
