"""A stream as one document: when it is complete, what it is made of, and that its session always ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest

from proxy.formats.sse import HEARTBEAT, control, frame
from proxy.server.http import document
from proxy.server.http.document import Collector
from proxy.server.http.responses import HttpResponse
from proxy.streams.subscriber import Ending
from tests.support.fakes import rest


class Session:
    """The session that writes the document's frames."""

    def __init__(self, *, framed: bool = True) -> None:
        self.run = self.subscriber = self.wire = self
        self.framed = framed
        self.caught_up = False
        self.recovering = False
        self.status: str | None = None
        self.cursor = "c"
        self.endings: list[Ending] = []

    def end(self, ending: Ending) -> None:
        self.endings.append(ending)


def asked(collector: Collector, session: Session, wait: float | None) -> asyncio.Task[HttpResponse]:
    return asyncio.create_task(collector.response(cast(Any, session), wait))


def content(response: HttpResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(response.body)
    return found


def message(number: int) -> bytes:
    return frame(b'{"n":%d}' % number, event="token", cursor=b"c%d" % number)


async def test_a_long_poll_is_answered_by_a_message_and_not_by_a_heartbeat() -> None:
    collector, session = Collector(), Session()
    waiting = asked(collector, session, 30.0)
    collector.write(HEARTBEAT)
    await rest()
    assert not collector.complete(cast(Any, session), 30.0)
    collector.write_shared(message(1), b"as a chunk")
    assert content(await waiting) == {
        "status": "running",
        "cursor": "c",
        "messages": [{"event": "token", "data": {"n": 1}}],
    }
    assert session.endings == [Ending.ANSWERED]


async def test_messages_that_come_together_are_answered_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "GATHER", 1.0)
    collector, session = Collector(), Session()
    waiting = asked(collector, session, 30.0)
    await rest()
    collector.write(message(1))
    await rest()
    collector.write(message(2))
    assert [each["data"]["n"] for each in content(await waiting)["messages"]] == [1, 2]


async def test_the_end_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "GATHER", 30.0)
    collector, session = Collector(), Session()
    waiting = asked(collector, session, 30.0)
    await rest()
    collector.write(message(1))
    session.status = "completed"
    collector.finish()
    found = content(await waiting)
    assert (found["status"], len(found["messages"])) == ("completed", 1)


@pytest.mark.parametrize("wait", [None, 30.0])
async def test_frames_that_are_made_again_are_waited_for(wait: float | None) -> None:
    collector, session = Collector(), Session()
    collector.write(message(1))
    session.caught_up = session.recovering = True
    assert not collector.complete(cast(Any, session), wait)
    session.recovering = False
    assert collector.complete(cast(Any, session), wait)


async def test_a_snapshot_waits_until_the_run_is_caught_up_and_then_says_what_there_is() -> None:
    collector, session = Collector(), Session()
    collector.write(message(1))
    waiting = asked(collector, session, None)
    await rest()
    assert not waiting.done()
    collector.write(message(2))
    session.caught_up = True
    assert len(content(await waiting)["messages"]) == 2


@pytest.mark.parametrize("wait", [None, 0.01])
async def test_without_news_it_is_answered_when_its_time_is_over(
    wait: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "CATCH_UP", 0.01)
    session = Session()
    assert content(await asked(Collector(), session, wait))["messages"] == []
    assert session.endings == [Ending.ANSWERED]


async def test_a_client_that_leaves_ends_the_session() -> None:
    session = Session()
    waiting = asked(Collector(), session, 30.0)
    await rest()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert session.endings == [Ending.LEFT]


async def test_frames_for_one_connection_only_are_left_out() -> None:
    collector, session = Collector(), Session()
    collector.write(b"retry: 1000\n" + message(1))
    collector.write(control("drain", {}, retry_in=1.0))
    collector.write(control("gap", {"cause": "backlog"}, cursor=b"c1"))
    collector.write(b"id: c2\ndata: [DONE]\n\nid: c3\n\n")
    collector.finish()
    assert content(await asked(collector, session, None))["messages"] == [
        {"event": "token", "data": {"n": 1}},
        {"event": "stream.gap", "data": {"cause": "backlog"}},
        {"event": "message", "data": "[DONE]"},
    ]


@pytest.mark.parametrize(("pieces", "messages"), [([b"Gr\xc3", b"\xbc\xc3\x9fe"], ["Grüße"]), ([], [])])
async def test_a_text_is_one_message_or_none(pieces: list[bytes], messages: list[str]) -> None:
    collector, session = Collector(), Session(framed=False)
    for piece in pieces:
        collector.write(piece)
    collector.abort()
    found = content(await asked(collector, session, None))["messages"]
    assert [each["data"] for each in found] == messages
