"""A channel of a stream whose rule has `whole`: numbered frames, with the repairs before the step's end."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from proxy.core.events import End, Event, GapCause, Item, Reset, StepGap
from proxy.log.frames import LocalFrames
from proxy.observability.counters import StreamCounters
from proxy.rules.whole import WholeTexts
from proxy.streams.backlog import Backlog, Frame
from proxy.streams.channel import Channel
from tests.support.streams import StreamRules

RUN = "d8ed70df-0872-463a-9a78-d6bd88db0b34"
RULES = """
    - {name: tokens, events: step_stream, steps: answer, event: token, whole: payload.text, data: payload}
    - {name: ends, events: [step_completed, step_failed], data: type}
"""
GAP = StepGap(GapCause.UPSTREAM, "answer", 1, None)


def channel(rules: str = RULES) -> Channel:
    async def nothing() -> list[Event]:
        return []

    ids = LocalFrames(b"secret", team="t", stream="s", run_id=RUN, value="", rules="r", session=1)
    return Channel(
        StreamRules(rules).rules, ids, Backlog[Frame](1000, 1 << 20), StreamCounters(), rebuild=nothing
    )


def sent(to: Channel, *items: Item) -> list[tuple[int, str, Any]]:
    """The number, event and data of each frame that `items` become."""
    found = []
    for item in items:
        for frame in to.frames(item):
            to.backlog.append(frame)
            text = frame.body.decode()
            number = re.search(r"^id: .*\.(\d+)$", text, re.M)
            name = re.search(r"^event: (.*)$", text, re.M)
            data = re.search(r"^data: (.*)$", text, re.M)
            assert data is not None
            found.append(
                (
                    int(number[1]) if number is not None else 0,
                    name[1] if name is not None else "message",
                    json.loads(data[1]),
                )
            )
    return found


def chunk(text: str, index: int = 0) -> Event:
    return Event("step_stream", RUN, "answer", "id", text, 1, index)


def completed(text: str) -> Event:
    return Event("step_completed", RUN, "answer", "id", {"text": text}, 1)


def test_a_missing_tail_is_sent_before_the_end_and_the_gap_is_not() -> None:
    one = channel()
    assert sent(one, chunk("Hel"), GAP, completed("Hello")) == [
        (1, "token", "Hel"),
        (2, "token", "lo"),
        (3, "message", "step_completed"),
    ]
    assert one.counts.forwarded == {"tokens": 2, "ends": 1}
    assert one.counts.gaps == {}


def test_the_frames_of_a_text_that_is_sent_again_are_numbered_one_after_the_other() -> None:
    one = channel()
    assert sent(one, chunk("lo", 1), completed("Hello")) == [
        (1, "token", "lo"),
        (2, "stream.reset", {"step": "answer", "attempt": 1, "whole": True}),
        (3, "token", "Hello"),
        (4, "message", "step_completed"),
    ]
    assert one.counts.resets == 1


def test_a_gap_that_is_let_out_comes_before_the_steps_end() -> None:
    frames = sent(channel(), chunk("Hel"), GAP, Event("step_failed", RUN, "answer", "id", None, 1))
    assert [name for _, name, _ in frames] == ["token", "stream.gap", "message"]


def test_a_gap_that_no_step_end_decides_comes_before_the_end_of_the_run() -> None:
    assert [name for _, name, _ in sent(channel(), GAP, End("failed"))] == ["stream.gap", "stream.end"]


def test_a_reset_of_an_attempt_says_nothing_of_a_whole_text() -> None:
    assert sent(channel(), Reset("answer", 2)) == [(1, "stream.reset", {"step": "answer", "attempt": 2})]


def test_without_whole_a_gap_is_sent_at_once() -> None:
    rules = "- {events: step_stream, steps: answer, data: payload}"
    assert [name for _, name, _ in sent(channel(rules), chunk("a"), GAP)] == ["message", "stream.gap"]


def test_an_error_in_a_repair_costs_its_item_and_never_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> list[Item]:
        raise ValueError

    monkeypatch.setattr(WholeTexts, "before", fail)
    one = channel()
    assert one.frames(Event("step_completed", RUN, "answer", "s")) == ()
    (end,) = one.frames(End("completed"))
    assert b'event: stream.end\ndata: {"status":"completed"}' in end.body
