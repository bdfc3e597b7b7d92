"""Events that the rules could not work on: clients get a gap, live, when they resume, and in each format."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from config.expressions.api import WORK_LIMIT
from proxy.core.events import End, Event, GapCause, Item, StepGap
from proxy.formats.wire import machine_of, wire_of
from proxy.log.frames import LocalFrames
from proxy.observability.counters import StreamCounters
from proxy.rules.ruleset import Rules
from proxy.streams.backlog import Backlog, Frame
from proxy.streams.channel import Channel
from tests.support.formats import FACTS, RUN
from tests.support.streams import stream_of

RULES = """
- {events: step_stream, steps: [answer, plan], event: token, data: "join('', [payload])"}
- {events: [step_completed, run_completed], event: done, data: "join('', [type])"}
"""
WHOLE = """
- {events: step_stream, steps: answer, event: token, whole: payload.text,
   data: payload, when: "join('', [payload]) != ''"}
- {events: step_completed, event: done, data: type}
"""
CHAT = """- {events: step_stream, steps: answer, as: text, when: "join('', [payload]) != ''"}"""


@dataclass
class Grants:
    """An allowance that is used up, or not."""

    used_up: bool = False

    def grant(self) -> int:
        return 0 if self.used_up else WORK_LIMIT

    def spent(self, units: int, granted: int) -> None:
        """Nothing is counted."""


class Bench:
    """A channel whose rules share the allowance `grants`; `lines` are its frames so far."""

    def __init__(self, rules: str = RULES, form: str = "sse", *, keeps: int = 1000) -> None:
        self.grants, self.rebuilt, self.frames = Grants(), list[Event](), list[bytes]()
        compiled = Rules(stream_of(rules, form), allowance=self.grants)
        self.channel = Channel(
            compiled,
            LocalFrames(b"secret", team="t", stream="s", run_id=RUN, value="", rules=RUN, session=1),
            Backlog[Frame](keeps, 1 << 20),
            StreamCounters(),
            rebuild=self.rebuild,
            wire=wire_of(form),
            machine=None if form == "sse" else machine_of(form, FACTS, failed=compiled.failed),
        )

    async def rebuild(self) -> list[Event]:
        return self.rebuilt

    def send(self, *items: Item, used_up: bool = False) -> list[Any]:
        """What clients get for `items`."""
        self.grants.used_up = used_up
        found: list[Any] = []
        for item in items:
            for frame in self.channel.frames(item):
                self.channel.backlog.append(frame)
                self.frames.append(frame.body)
                found += [json.loads(data) for data in re.findall(rb"^data: (.*)$", frame.body, re.M)]
        return found


def chunk(index: int, step: str = "answer", attempt: int = 1) -> Event:
    return Event("step_stream", RUN, step, "id", f"{index} ", attempt, index)


def ended(step: str = "answer", text: str = "0 1 2 ") -> Event:
    return Event("step_completed", RUN, step, "id", {"text": text}, 1)


def gap(step: str | None, attempt: int | None = 1) -> dict[str, Any]:
    return {"cause": "too_large", "step": step, "attempt": attempt, "missed": None}


def test_refused_chunks_in_a_row_are_one_gap_and_after_a_forwarded_one_there_is_another() -> None:
    bench = Bench()
    assert bench.send(chunk(0)) == ["0 "]
    assert bench.send(chunk(1), chunk(2), used_up=True) == [gap("answer")]
    assert bench.send(chunk(3)) == ["3 "]
    assert bench.send(chunk(4), chunk(5), used_up=True) == [gap("answer")]
    assert bench.channel.counts.gaps["too_large"] == 2


def test_each_step_and_attempt_has_its_own_gap() -> None:
    bench = Bench()
    refused = [chunk(0), chunk(0, "plan"), chunk(1), chunk(1, "plan"), chunk(0, attempt=2)]
    assert bench.send(*refused, used_up=True) == [gap("answer"), gap("plan"), gap("answer", 2)]


def test_a_refused_event_of_a_step_whose_chunks_are_not_forwarded_is_a_gap_of_the_stream() -> None:
    bench = Bench()
    assert bench.send(ended("hidden"), Event("run_completed", RUN), used_up=True) == [gap(None, None)]
    assert bench.send(ended("hidden")) == ["step_completed"]


def test_an_event_that_no_rule_takes_has_no_gap_also_after_a_refused_one() -> None:
    bench = Bench()
    bench.send(chunk(0), used_up=True)
    assert bench.send(Event("step_started", RUN, "answer", "id", None, 2), used_up=True) == []
    assert bench.send(Event("step_started", RUN, "plan", "id", None, 1)) == []


def test_a_chunk_that_a_later_text_repairs_has_no_gap() -> None:
    bench = Bench(WHOLE)
    assert bench.send(chunk(0)) == ["0 "]
    assert bench.send(chunk(1), used_up=True) == []
    assert bench.send(chunk(2)) == ["2 "]
    sent = bench.send(ended())
    assert sent[-2:] == ["0 1 2 ", "step_completed"]
    assert not any(isinstance(one, dict) and "cause" in one for one in sent)


def test_a_chunk_that_no_text_repairs_has_its_gap_before_the_steps_end() -> None:
    bench = Bench(WHOLE)
    bench.send(chunk(0), used_up=True)
    failed = Event("step_failed", RUN, "answer", "id", "boom", 1)
    assert bench.send(failed, End("failed")) == [gap("answer"), {"status": "failed"}]


def test_a_client_that_resumes_before_the_gap_is_sent_it_again() -> None:
    bench = Bench()
    bench.send(chunk(0))
    bench.send(chunk(1), used_up=True)
    body, place = bench.channel.batch(1)
    assert (body, place) == (bench.frames[1], 2)
    assert b"stream.gap" in body


async def test_a_gap_that_fell_out_of_the_backlog_is_sent_to_a_client_that_resumes() -> None:
    bench = Bench(keeps=1)
    bench.send(chunk(0))
    bench.send(chunk(1), used_up=True)
    bench.send(chunk(2), chunk(3), chunk(4))
    frames, whole = await bench.channel.recover(1)
    assert [b"too_large" in frame.body for _, frame in frames] == [True]
    assert whole


async def test_an_event_that_is_rebuilt_for_a_client_and_refused_then_is_a_gap_for_that_client() -> None:
    bench = Bench(keeps=1)
    bench.send(ended(), *[chunk(index, "plan") for index in range(5)])
    bench.channel.backlog.shrink(0)
    bench.rebuilt = [ended()]
    bench.grants.used_up = True
    frames, _ = await bench.channel.recover(0)
    assert [b"too_large" in frame.body for _, frame in frames] == [True]


@pytest.mark.parametrize("form", ["ai-sdk", "ag-ui", "openai"])
def test_a_chat_format_announces_refused_chunks_as_any_gap(form: str) -> None:
    bench, other = Bench(CHAT, form), Bench(CHAT, form)
    bench.send(chunk(0))
    other.send(chunk(0))
    from_refused = bench.send(chunk(1), chunk(2), used_up=True)
    assert from_refused == other.send(StepGap(GapCause.TOO_LARGE, "answer", 1, None))
    assert bench.channel.counts.gaps["too_large"] == 1
