"""``openai`` and ``text``, and how a step's chunks are held where nothing can be taken back."""

from __future__ import annotations

import pytest

from proxy.core.events import GapCause, Reset, StepGap
from proxy.formats.machine import Machine, Sent, message_at
from proxy.formats.wire import machine_of
from tests.support.formats import FACTS, RUN, Completion, UiMessage, chunk, event, parsed

HELD = [("openai", False), ("text", False), ("ai-sdk", True), ("ag-ui", True)]


def machine(name: str, hold: bool = False, failures: list[tuple[str, str, str]] | None = None) -> Machine:
    def failed(*failure: str) -> None:
        assert failures is not None, failure
        failures.append((failure[0], failure[1], failure[2]))

    return machine_of(name, FACTS, hold=hold, failed=failed)


def say(to: Machine, step: str, text: str, attempt: int = 1, part: str = "text") -> list[bytes]:
    return to.message(chunk(step, text, attempt=attempt), Sent(part, text, "tokens"))


def test_a_completion_has_a_role_then_content_then_a_reason() -> None:
    one = machine("openai")
    blocks = one.begin() + say(one, "answer", "Hi")
    blocks += one.message(event("step_completed", "answer"), None) + one.end("completed")
    head = {
        "id": f"chatcmpl-{RUN}",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "chat",
    }
    deltas = [({"role": "assistant", "content": ""}, None), ({"content": "Hi"}, None), ({}, "stop")]
    assert parsed(blocks) == [
        *(
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
            for delta, reason in deltas
        ),
        "[DONE]",
    ]


def test_reasoning_has_a_field_of_its_own() -> None:
    one = machine("openai")
    blocks = one.begin() + say(one, "answer", "hm", part="reasoning") + say(one, "answer", "Hi")
    blocks += one.message(event("step_completed", "answer"), None)
    read = Completion().read(blocks)
    assert (read.reasoning, read.content) == ("hm", "Hi")


def test_a_run_that_failed_ends_with_the_error_that_a_rule_sends() -> None:
    one = machine("openai")
    assert one.message(event("run_failed"), Sent("error", "Try again")) == []
    read = Completion().read(one.end("failed"))
    assert (read.error, read.reason, read.done) == ("Try again", None, True)


@pytest.mark.parametrize(
    ("status", "reason"), [("completed", "stop"), ("failed", "error"), ("cancelled", "stop")]
)
def test_the_reason_follows_the_runs_status(status: str, reason: str) -> None:
    assert Completion().read(machine("openai").end(status)).reason == reason


def test_a_gap_is_a_comment() -> None:
    one = machine("openai")
    blocks = one.control(StepGap(GapCause.UPSTREAM, None, None, None))
    assert blocks[0].startswith(b": stream.gap {")
    assert parsed(blocks) == []


def test_text_is_the_bytes_alone() -> None:
    one = machine("text")
    assert one.begin() == []
    say(one, "answer", "Grüße\n")
    say(one, "answer", "an alle")
    assert one.message(event("step_completed", "answer"), None) == ["Grüße\nan alle".encode()]
    assert one.end("completed") == [b""]
    assert b"".join(message_at(one, one.log.place) or []) == "Grüße\nan alle".encode()


@pytest.mark.parametrize(("name", "hold"), HELD)
def test_a_steps_text_is_sent_in_one_piece_when_its_attempt_has_ended_well(name: str, hold: bool) -> None:
    one = machine(name, hold)
    assert say(one, "answer", "void") == []
    assert one.control(Reset("answer", 2)) == []
    assert say(one, "answer", "valid ", 2) == []
    assert say(one, "answer", "text", 2) == []
    blocks = one.message(event("step_completed", "answer", attempt=2), None)
    joined = b"".join(blocks)
    assert b"valid text" in joined
    assert b"void" not in joined


@pytest.mark.parametrize(
    ("kind", "sent"), [("step_failed", False), ("step_skipped", False), ("step_cancelled", True)]
)
def test_what_a_step_said_before_it_failed_is_not_sent_before_it_was_cancelled_is(
    kind: str, sent: bool
) -> None:
    one = machine("text")
    say(one, "answer", "half")
    assert one.message(event(kind, "answer"), None) == ([b"half"] if sent else [])
    assert one.end("failed") == [b""]


def test_a_gap_is_held_with_the_attempt_and_void_with_it() -> None:
    one = machine("ai-sdk", hold=True)
    gap = StepGap(GapCause.UPSTREAM, "answer", 1, 1)
    assert one.control(gap) == []
    one.control(Reset("answer", 2))
    say(one, "answer", "valid", 2)
    one.control(StepGap(GapCause.UPSTREAM, "answer", 2, 5))
    blocks = one.begin() + one.message(event("step_completed", "answer", attempt=2), None)
    message = UiMessage().read(blocks)
    assert [part["data"]["missed"] for part in message.transient] == [5]
    assert one.control(gap) != []  # the step is over: nothing could void it any more


def test_what_is_refused_when_it_is_let_out_is_reported_and_the_rest_is_sent() -> None:
    failures: list[tuple[str, str, str]] = []
    one = machine("ai-sdk", True, failures)
    call = {"id": "c1", "name": "search", "input": 1}
    for _ in range(2):
        one.message(chunk("answer", ""), Sent("tool-input", call, "calls"))
    say(one, "answer", "text")
    blocks = one.begin() + one.message(event("step_completed", "answer"), None)
    assert [part["type"] for part in UiMessage().read(blocks).shown] == ["tool-search", "text"]
    assert failures == [("calls", "step_stream", "a tool call with this id has begun already")]


def test_what_is_held_counts_as_size() -> None:
    one = machine("text")
    before = one.log.size
    say(one, "answer", "x" * 10_000)
    assert one.log.size > before + 10_000
    one.control(Reset("answer", 2))
    assert one.log.size == before


def test_what_is_held_is_bounded_and_what_was_given_up_is_a_gap() -> None:
    one = machine("ai-sdk", hold=True)
    say(one, "left", "x" * 10_000)
    say(one, "right", "kept")
    one.trim(1_000)
    assert one.log.size <= 1_000
    say(one, "left", "rest")
    blocks = one.begin()
    for step in ("left", "right"):
        blocks += one.message(event("step_completed", step), None)
    message = UiMessage().read(blocks)
    assert message.texts == {"left-id-1": "rest", "right-id-1": "kept"}
    assert [part["data"]["cause"] for part in message.transient] == ["backlog"]


def test_a_plain_text_that_misses_something_says_so_in_a_header() -> None:
    one = machine("text")
    assert one.headers() == []
    one.control(StepGap(GapCause.UPSTREAM, None, None, None))
    assert one.headers() == [(b"x-stream-gap", b"upstream")]
