"""`merge`: chunks of one step and attempt that come soon after each other become one message."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import json_codec
from proxy.core.events import End, Event, Flush, GapCause, LogItem, Reset, StepGap
from proxy.rules.merging import MOST_CHARACTERS, MOST_STEPS, Merging, Ready
from tests.support.streams import StreamRules

RULES = """
    - {name: tokens, events: step_stream, steps: [answer, other], event: token, merge: 50ms,
       when: payload != '', data: {text: payload, attempt: attempt, index: index, first: first_index}}
    - {name: calls, events: step_stream, steps: calls, payload: auto, merge: 50ms, data: payload}
    - {name: raw, events: step_stream, steps: raw, data: payload}
    - {name: ends, events: step_completed, data: type}
"""
GAP = StepGap(GapCause.UPSTREAM, "answer", 1, 1)


def chunk(text: str, index: int = 0, attempt: int = 1, step: str = "answer") -> Event:
    return Event("step_stream", "run", step, f"id-{step}", text, attempt, index)


def ended(step: str = "answer", kind: str = "step_completed") -> Event:
    return Event(kind, "run", step, f"id-{step}", {}, 1)


class Channel:
    """What a stream with these rules sends, in a short form: texts, data, gaps, resets, the end."""

    def __init__(self, rules: str = RULES) -> None:
        self.stream = StreamRules(rules)
        self.merging = Merging(self.stream.rules)

    def __call__(self, *items: LogItem, now: float = 0.0) -> list[Any]:
        return [shown for item in items for shown in self.shown(self.merging.take(item, None, now))]

    def after(self, now: float) -> list[Any]:
        return self.shown(self.merging.flush(now))

    def shown(self, found: list[Ready]) -> list[Any]:
        sent: list[Any] = []
        for ready in found:
            if not isinstance(ready.item, Event):
                sent.append(ready.item)
                continue
            message = self.stream.rules.message(ready.item, ready.decoded)
            if message is not None:
                sent.append(json_codec.decode(message.data.decode()))
        return sent


def text(text: str, first: int, last: int, attempt: int = 1) -> dict[str, Any]:
    return {"text": text, "attempt": attempt, "index": last, "first": first}


def test_chunks_within_the_time_become_one_message() -> None:
    channel = Channel()
    assert channel(chunk("a", 0), now=1.0) == []
    assert channel.merging.due == pytest.approx(1.05)
    assert channel(chunk("b", 1), now=1.04) == []
    assert channel.after(1.049) == []
    assert channel.after(1.05) == [text("ab", 0, 1)]
    assert channel.merging.due is None
    assert channel(chunk("c", 2), now=1.06) == []
    assert channel.after(2) == [text("c", 2, 2)]


def test_a_chunk_that_no_rule_takes_interrupts_nothing() -> None:
    channel = Channel()
    assert channel(chunk("a", 0), chunk("", 1), chunk("b", 2), ended()) == [
        text("ab", 0, 2),
        "step_completed",
    ]


@pytest.mark.parametrize("item", [ended(), ended("other"), Reset("answer", 2), End("completed")])
def test_what_waits_is_sent_before_a_forwarded_event_and_any_end(item: LogItem) -> None:
    sent = Channel()(chunk("a", 0), item)
    assert sent == [text("a", 0, 0), "step_completed" if isinstance(item, Event) else item]


def test_a_flush_ends_the_waiting_of_the_rules_with_that_time_and_of_no_other() -> None:
    channel = Channel(RULES.replace("steps: calls, payload: auto, merge: 50ms", "steps: calls, merge: 200ms"))
    channel(chunk("a", 0), chunk("x", 0, step="calls"), chunk("b", 1))
    assert channel(Flush(100)) == []
    assert channel(Flush(50)) == [text("ab", 0, 1)]
    assert channel(Flush(200)) == ["x"]


def test_what_should_have_been_flushed_by_now_is_known() -> None:
    channel = Channel()
    channel(chunk("a", 0), now=1.0)
    assert channel.merging.overdue(1.04) == set()
    assert channel.merging.overdue(1.06) == {50}
    channel(Flush(50))
    assert channel.merging.overdue(9.0) == set()


def test_an_event_of_another_step_that_is_not_forwarded_interrupts_nothing() -> None:
    channel = Channel()
    assert channel(chunk("a", 0), ended("other", "step_started"), chunk("b", 1)) == []
    assert channel(ended(kind="step_retrying")) == [text("ab", 0, 1)]


def test_steps_and_attempts_are_merged_each_alone() -> None:
    channel = Channel()
    channel(chunk("a", 0), chunk("x", 0, step="other"), chunk("b", 1))
    assert channel(chunk("again", 0, attempt=2)) == [text("ab", 0, 1)]
    assert channel.after(math.inf) == [text("x", 0, 0), text("again", 0, 0, attempt=2)]


def test_json_becomes_an_array_and_text_beside_it_keeps_its_place() -> None:
    channel = Channel()
    chunks = ['{"a": 1}', "[2]", "one ", "two", '"a text"', "{}"]
    sent = channel(*[chunk(each, n, step="calls") for n, each in enumerate(chunks)])
    assert sent + channel.after(math.inf) == [[{"a": 1}, [2]], 'one two"a text"', [{}]]


def test_json_is_an_array_also_where_no_other_chunk_came_in_time() -> None:
    channel = Channel("- {events: step_stream, payload: json, merge: 1s, data: payload}")
    channel(chunk("1"))
    assert channel.after(math.inf) == [[1]]
    assert channel.stream.data(type="step_stream", payload="1") == "[1]"  # as `explain` and `watch` show it


def test_when_is_asked_for_each_chunk_and_sees_it_alone() -> None:
    channel = Channel(
        "- {events: step_stream, payload: json, merge: 1s, when: payload.public, data: 'payload[].n'}"
    )
    channel(
        *[chunk(f'{{"public": {public}, "n": {n}}}', n) for n, public in enumerate(["true", "false", "true"])]
    )
    assert channel.after(math.inf) == [[0, 2]]


def test_a_gap_among_the_chunks_is_sent_before_them_and_one_at_their_end_after_them() -> None:
    channel = Channel()
    assert channel(chunk("a", 0), GAP, chunk("c", 2)) == []
    assert channel(ended()) == [GAP, text("ac", 0, 2), "step_completed"]
    assert channel(chunk("a", 0, attempt=2), StepGap(GAP.cause, "answer", 2, None), ended()) == [
        text("a", 0, 0, attempt=2),
        StepGap(GAP.cause, "answer", 2, None),
        "step_completed",
    ]
    assert channel(GAP) == [GAP]


def test_a_gap_of_another_attempt_or_of_the_whole_stream_comes_after_what_waits() -> None:
    other = StepGap(GapCause.UPSTREAM, "answer", 2, None)
    whole = StepGap(GapCause.BACKLOG, None, None, None)
    assert Channel()(chunk("a"), other) == [text("a", 0, 0), other]
    assert Channel()(chunk("a"), whole) == [text("a", 0, 0), whole]


def test_a_rule_without_merge_keeps_the_order_of_its_step() -> None:
    channel = Channel("""
        - {events: step_stream, when: "starts_with(payload, 'a')", merge: 1s, data: payload}
        - {events: step_stream, data: payload}
    """)
    assert channel(chunk("a", 0), chunk("a", 1), chunk("b", 2), chunk("a", 3)) == ["aa", "b"]


def test_a_condition_that_fails_is_reported_once() -> None:
    channel = Channel("- {name: r, events: step_stream, merge: 1s, when: abs(payload), data: payload}")
    assert channel(chunk("a")) == []
    assert channel.after(math.inf) == []
    assert [rule for rule, _, _ in channel.stream.failures] == ["r"]


def test_what_waits_is_bounded() -> None:
    channel = Channel()
    half = "x" * (MOST_CHARACTERS // 2)
    assert channel(chunk(half, 0), chunk(half, 1)) == [text(half + half, 0, 1)]
    wide = Channel("- {events: step_stream, merge: 1s, data: step}")
    sent = wide(*[chunk("a", step=f"s{n}") for n in range(MOST_STEPS + 1)])
    assert len(sent) == MOST_STEPS


@given(st.lists(st.tuples(st.sampled_from(["answer", "other"]), st.integers(0, 40)), max_size=60))
def test_every_chunk_is_sent_once_and_in_order(came: list[tuple[str, int]]) -> None:
    channel, now, sent = Channel(), 0.0, []
    counts = {"answer": 0, "other": 0}
    for step, pause in came:
        now += pause / 1000
        sent += channel.after(now)
        sent += channel(chunk(f"{step[0]}{counts[step]} ", counts[step], step=step), now=now)
        counts[step] += 1
    sent += channel.after(math.inf)
    for step, count in counts.items():
        own = [each for each in sent if each["text"].startswith(step[0])]
        assert "".join(each["text"] for each in own) == "".join(f"{step[0]}{n} " for n in range(count))
        assert [each["first"] for each in own] == [0, *[each["index"] + 1 for each in own]][: len(own)]
