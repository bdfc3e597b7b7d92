"""`whole`: what a step's chunks sent is compared with its output, and repaired when it completes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import json_codec
from proxy.core.events import End, Event, GapCause, Item, Reset, StepGap
from proxy.rules import whole
from proxy.rules.whole import Repair, WholeTexts
from tests.support.streams import StreamRules

RULES = """
    - {name: tokens, events: step_stream, steps: [answer, other], event: token, whole: payload.text,
       data: {text: payload, attempt: attempt, index: index, recovered: recovered}}
    - {name: ends, events: "step_*", data: type}
"""


def chunk(text: str, index: int = 0, attempt: int = 1, step: str = "answer") -> Event:
    return Event("step_stream", "run", step, f"id-{step}", text, attempt, index)


def completed(output: Any, attempt: int | None = 1, step: str = "answer") -> Event:
    return Event("step_completed", "run", step, f"id-{step}", output, attempt, at="2026-01-01T00:00:00Z")


def gap(attempt: int | None = 1, step: str | None = "answer", cause: GapCause = GapCause.UPSTREAM) -> StepGap:
    return StepGap(cause, step, attempt, None)


class Channel:
    """What a channel with these rules sends, in order and in a short form."""

    def __init__(self, rules: str = RULES) -> None:
        self.run_rules = StreamRules(rules)
        self.texts = WholeTexts(self.run_rules.rules)

    def __call__(self, *items: Item) -> list[Any]:
        sent: list[Any] = []
        for item in items:
            for outcome in self.texts.before(item):
                sent.append(self._shown(outcome))
            if isinstance(item, StepGap):
                if not self.texts.hold(item):
                    sent.append(item)
            elif isinstance(item, Event):
                message = self.run_rules.rules.message(item)
                if message is not None:
                    self.texts.record(item, message)
                    sent.append(json_codec.decode(message.data.decode()))
            else:
                sent.append(item)
        return sent

    def _shown(self, outcome: StepGap | Reset | Repair) -> Any:
        if not isinstance(outcome, Repair):
            return outcome
        assert outcome.event.recovered
        return json_codec.decode(outcome.message.data.decode())


def token(text: str, index: int = 0, attempt: int | None = 1, *, recovered: bool = False) -> dict[str, Any]:
    return {"text": text, "attempt": attempt, "index": index, "recovered": recovered}


def test_a_text_that_is_whole_is_verified_and_its_gap_is_dropped() -> None:
    sent = Channel()(chunk("Hel"), chunk("lo", 1), gap(), completed({"text": "Hello"}))
    assert sent == [token("Hel"), token("lo", 1), "step_completed"]


def test_a_missing_tail_is_one_more_message_whose_index_continues() -> None:
    sent = Channel()(chunk("Hel"), chunk("lo", 1), gap(), completed({"text": "Hello, you"}))
    assert sent == [
        token("Hel"),
        token("lo", 1),
        token(", you", 2, recovered=True),
        "step_completed",
    ]


def test_a_text_that_is_no_beginning_is_sent_again_whole_after_a_reset() -> None:
    sent = Channel()(gap(cause=GapCause.JOINED_LATE), chunk("lo", 1), completed({"text": "Hello"}))
    assert sent == [
        token("lo", 1),
        Reset("answer", 1, whole=True),
        token("Hello", recovered=True),
        "step_completed",
    ]


def test_a_text_of_which_nothing_was_sent_is_one_message_without_a_reset() -> None:
    sent = Channel()(gap(cause=GapCause.JOINED_LATE), completed({"text": "Hello"}))
    assert sent == [token("Hello", recovered=True), "step_completed"]


def test_an_empty_text_needs_no_message() -> None:
    assert Channel()(gap(), completed({"text": ""})) == ["step_completed"]


def test_more_than_the_whole_text_is_no_beginning_of_it() -> None:
    sent = Channel()(chunk("Hello, you"), completed({"text": "Hello"}))
    assert sent[1:] == [Reset("answer", 1, whole=True), token("Hello", recovered=True), "step_completed"]


def test_a_gap_is_released_where_the_step_fails_is_cancelled_or_is_tried_again() -> None:
    for end in ("step_failed", "step_cancelled", "step_skipped", "step_retrying"):
        ends = Event(end, "run", "answer", "id-answer", None, 1)
        assert Channel()(chunk("a"), gap(), ends)[1:] == [gap(), end]


def test_a_reset_releases_the_gaps_of_earlier_attempts_and_no_others() -> None:
    channel = Channel()
    assert channel(gap(1), gap(2), Reset("answer", 2)) == [gap(1), Reset("answer", 2)]
    assert channel(chunk("all", 0, 2), completed({"text": "all"}, 2)) == [
        token("all", 0, 2),
        "step_completed",
    ]


def test_what_an_earlier_attempt_sent_is_no_part_of_the_text() -> None:
    sent = Channel()(
        chunk("first"), Reset("answer", 2), chunk("sec", 0, 2), gap(2), completed({"text": "second"}, 2)
    )
    assert sent[2:] == [token("sec", 0, 2), token("ond", 1, 2, recovered=True), "step_completed"]


def test_an_attempt_that_nothing_names_is_the_last_of_which_a_chunk_came() -> None:
    sent = Channel()(Reset("answer", 2), chunk("sec", 0, 2), completed({"text": "second"}, None))
    assert sent[1:] == [token("sec", 0, 2), token("ond", 1, 2, recovered=True), "step_completed"]


@pytest.mark.parametrize("item", [End("completed"), Event("run_completed", "run", payload={})])
def test_the_end_of_the_run_releases_every_gap(item: Item) -> None:
    assert Channel()(gap(), gap(step="other"), item)[:2] == [gap(), gap(step="other")]


def test_gaps_of_the_whole_stream_and_of_other_steps_are_not_held() -> None:
    channel = Channel()
    assert channel(gap(None, None), gap(step="plan")) == [gap(None, None), gap(step="plan")]


def test_a_repair_of_one_step_touches_no_other() -> None:
    channel = Channel()
    channel(chunk("a"), chunk("x", step="other"), gap(step="other"))
    assert channel(completed({"text": "ab"})) == [token("b", 1, recovered=True), "step_completed"]
    assert channel(completed({"text": "x"}, step="other")) == ["step_completed"]


@pytest.mark.parametrize("output", [None, {}, {"text": 7}, {"text": None}, "Hello"])
def test_an_output_without_the_text_releases_the_gap_and_is_reported(output: Any) -> None:
    channel = Channel()
    assert channel(chunk("Hel"), gap(), completed(output))[1:] == [gap(), "step_completed"]
    assert channel.run_rules.failures == [("tokens", "step_completed", "whole: gives no text")]


def test_an_expression_that_fails_releases_the_gap_and_is_reported_without_a_value() -> None:
    channel = Channel(RULES.replace("payload.text", "\"join('', payload.parts)\""))
    assert channel(chunk("a"), gap(), completed({"parts": "secret"}))[1:] == [gap(), "step_completed"]
    [(rule, event_type, reason)] = channel.run_rules.failures
    assert (rule, event_type) == ("tokens", "step_completed")
    assert reason.startswith("whole: join()") and "secret" not in reason


def test_what_the_rules_when_refuses_is_not_sent_by_a_repair_and_the_gap_is_released() -> None:
    channel = Channel(RULES.replace("whole:", "when: \"!contains(payload, 'secret')\", whole:"))
    out = channel(chunk("a "), gap(), completed({"text": "a secret"}))
    assert out == [token("a "), gap(), "step_completed"]


def test_a_text_that_the_rules_when_refuses_whole_is_not_reset() -> None:
    channel = Channel(RULES.replace("whole:", "when: \"!contains(payload, 'secret')\", whole:"))
    out = channel(chunk("x"), completed({"text": "a secret"}))
    assert out == [token("x"), gap(), "step_completed"]


def test_a_gap_of_another_attempt_than_the_one_that_completed_is_released() -> None:
    assert Channel()(chunk("a"), gap(2), completed({"text": "a"}))[1:] == [gap(2), "step_completed"]


def test_chunks_that_the_rule_does_not_forward_are_no_part_of_the_text() -> None:
    channel = Channel(RULES.replace("whole:", "when: payload != '', whole:"))
    assert channel(chunk("a"), chunk("", 1), chunk("b", 2), completed({"text": "abc"})) == [
        token("a"),
        token("b", 2),
        token("c", 3, recovered=True),
        "step_completed",
    ]


MIXED = """
    - {name: calls, events: step_stream, steps: answer, when: "starts_with(payload, '{')", event: call,
       data: {call: payload}}
    - {name: tokens, events: step_stream, steps: answer, event: token, whole: payload.text,
       data: {text: payload, attempt: attempt, index: index, recovered: recovered}}
"""


def test_beside_a_rule_without_whole_the_tail_is_sent_and_the_gap_is_released() -> None:
    sent = Channel(MIXED)(chunk("{}"), chunk("a", 1), gap(), completed({"text": "ab"}))
    assert sent == [{"call": "{}"}, token("a", 1), gap(), token("b", 2, recovered=True)]


def test_beside_a_rule_without_whole_nothing_is_reset_and_a_gap_is_announced() -> None:
    sent = Channel(MIXED)(chunk("{}"), chunk("b", 2), completed({"text": "ab"}))
    assert sent == [{"call": "{}"}, token("b", 2), gap()]


def test_a_text_that_had_to_be_forgotten_is_sent_again_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "MAX_TEXTS", 1)
    channel = Channel()
    channel(chunk("a"), chunk("x", step="other"))
    assert channel(completed({"text": "a"})) == [
        Reset("answer", 1, whole=True),
        token("a", recovered=True),
        "step_completed",
    ]
    assert channel(completed({"text": "x"}, step="other")) == ["step_completed"]


def test_gaps_of_one_step_are_held_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "MAX_HELD", 2)
    assert Channel()(gap(), gap(), gap()) == [gap()]


def test_without_whole_nothing_is_held_or_repaired() -> None:
    channel = Channel("- {events: [step_stream, step_completed], data: type}")
    assert channel(chunk("a"), gap(), completed({"text": "ab"})) == ["step_stream", gap(), "step_completed"]


@given(
    chunks=st.lists(st.text(max_size=4), min_size=1, max_size=8),
    lost=st.sets(st.integers(0, 7)),
)
def test_whatever_chunks_are_lost_the_text_on_the_page_is_right_in_the_end(
    chunks: list[str], lost: set[int]
) -> None:
    arrived = [chunk(text, n) for n, text in enumerate(chunks) if n not in lost]
    text = ""
    for message in Channel()(*arrived, gap(), completed({"text": "".join(chunks)})):
        if isinstance(message, Reset):
            text = ""
        elif isinstance(message, dict):
            text += message["text"]
        else:
            assert message == "step_completed"  # and no gap
    assert text == "".join(chunks)
