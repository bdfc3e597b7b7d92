"""``ai-sdk``: a run as one UI message of the AI SDK."""

from __future__ import annotations

import pytest

from proxy.core.events import Event, GapCause, Reset, StepGap
from proxy.formats.ai_sdk import AiSdk
from proxy.formats.machine import Refused, Sent, message_at
from tests.support.formats import FACTS, RUN, UiMessage, chunk, event, parsed


class Chat:
    """A machine, and every block that it wrote."""

    def __init__(self) -> None:
        self.machine = AiSdk(FACTS)
        self.blocks = self.machine.begin()

    def send(self, what: Event, part: str | None = None, data: object = None) -> list[bytes]:
        blocks = self.machine.message(what, None if part is None else Sent(part, data))
        self.blocks += blocks
        return blocks

    def text(self, step: str, text: str, *, attempt: int = 1, part: str = "text") -> list[bytes]:
        return self.send(chunk(step, text, attempt=attempt), part, text)

    def control(self, item: Reset | StepGap) -> list[bytes]:
        blocks = self.machine.control(item)
        self.blocks += blocks
        return blocks

    def end(self, status: str = "completed") -> list[bytes]:
        blocks = self.machine.end(status)
        self.blocks += blocks
        return blocks

    @property
    def message(self) -> UiMessage:
        return UiMessage().read(self.blocks)


def test_a_run_is_one_message_with_the_runs_id_a_balanced_text_and_a_finish() -> None:
    chat = Chat()
    chat.text("answer", "Hel")
    chat.text("answer", "lo")
    chat.send(event("step_completed", "answer"))
    chat.end()
    assert parsed(chat.blocks) == [
        {"type": "start", "messageId": RUN},
        {"type": "start-step"},
        {"type": "text-start", "id": "answer-id-1"},
        {"type": "text-delta", "id": "answer-id-1", "delta": "Hel"},
        {"type": "text-delta", "id": "answer-id-1", "delta": "lo"},
        {"type": "text-end", "id": "answer-id-1"},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "stop"},
        "[DONE]",
    ]


def test_older_clients_get_no_field_that_they_refuse() -> None:
    machine = AiSdk(FACTS, older=True)
    assert parsed(machine.end("completed")) == [{"type": "finish"}, "[DONE]"]
    assert parsed(machine.again("unknown_cursor"))[0]["type"] == "data-gap"
    assert len(machine.again("unknown_cursor")) == 1


def test_steps_that_stream_in_parallel_have_a_text_each() -> None:
    chat = Chat()
    for step, text in (("left", "a"), ("right", "1"), ("left", "b"), ("right", "2")):
        chat.text(step, text)
    chat.end()
    assert chat.message.texts == {"left-id-1": "ab", "right-id-1": "12"}
    assert chat.message.done


def test_a_reset_erases_the_failed_attempt_and_sends_the_other_steps_text_again() -> None:
    chat = Chat()
    chat.text("left", "whole ")
    chat.text("right", "void")
    blocks = chat.control(Reset("right", 2))
    assert [data["type"] for data in parsed(blocks)] == ["reset-step", "text-start", "text-delta"]
    chat.text("left", "text")
    chat.text("right", "valid", attempt=2)
    chat.send(event("step_completed", "left"))
    chat.send(event("step_completed", "right", attempt=2))
    chat.end()
    assert chat.message.texts == {"left-id-1": "whole text", "right-id-2": "valid"}


def test_a_reset_of_a_step_that_has_sent_nothing_writes_nothing() -> None:
    chat = Chat()
    chat.text("left", "text")
    assert chat.control(Reset("right", 2)) == []


def test_a_text_that_is_closed_is_sent_again_closed() -> None:
    chat = Chat()
    chat.text("left", "text")
    chat.send(event("step_completed", "left"))
    chat.text("right", "void")
    blocks = chat.control(Reset("right", 2))
    kinds = [data["type"] for data in parsed(blocks)]
    assert kinds == ["reset-step", "text-start", "text-delta", "text-end"]


def test_reasoning_and_text_of_one_step_are_parts_of_their_own_in_order() -> None:
    chat = Chat()
    chat.text("answer", "hm", part="reasoning")
    chat.text("answer", "well")
    chat.text("answer", "so", part="reasoning")
    chat.end()
    assert [(part["type"], part["text"]) for part in chat.message.shown] == [
        ("reasoning", "hm"),
        ("text", "well"),
        ("reasoning", "so"),
    ]


def test_a_tool_call_between_texts_stands_between_them() -> None:
    chat = Chat()
    chat.text("answer", "I look it up.")
    chat.send(chunk("answer", "{}"), "tool-input", {"id": "c1", "name": "search", "input": {"q": 1}})
    chat.text("answer", "Found.")
    chat.send(event("step_completed", "search"), "tool-output", {"id": "c1", "output": [1]})
    chat.end()
    shown = chat.message.shown
    assert [part["type"] for part in shown] == ["text", "tool-search", "text"]
    assert shown[1]["input"] == {"q": 1}
    assert shown[1]["output"] == [1]


def test_an_output_whose_input_was_never_sent_still_shows_its_tool() -> None:
    chat = Chat()
    chat.send(event("step_completed", "search"), "tool-output", {"id": "c1", "output": 1})
    chat.end()
    assert chat.message.shown == [{"type": "tool-search", "tool": "c1", "input": {}, "output": 1}]


@pytest.mark.parametrize(
    ("part", "data"),
    [("tool-input", {"id": "c1", "name": "x", "input": 1}), ("tool-output", {"id": "c1", "output": 2})],
)
def test_what_would_open_or_end_a_tool_call_twice_is_refused_and_changes_nothing(
    part: str, data: object
) -> None:
    chat = Chat()
    chat.send(chunk("answer", ""), "tool-input", {"id": "c1", "name": "search", "input": 1})
    chat.send(event("step_completed", "search"), "tool-output", {"id": "c1", "output": 1})
    before = chat.machine.log.place
    with pytest.raises(Refused) as refused:
        chat.send(chunk("answer", ""), part, data)
    assert "c1" not in str(refused.value)
    assert chat.machine.log.place == before


def test_a_tool_call_of_a_failed_attempt_is_void_and_its_id_can_be_used_again() -> None:
    chat = Chat()
    call = {"id": "c1", "name": "search", "input": 1}
    chat.send(chunk("answer", ""), "tool-input", call)
    chat.control(Reset("answer", 2))
    chat.send(chunk("answer", "", attempt=2), "tool-input", call)
    chat.end()
    assert [part["type"] for part in chat.message.shown] == ["tool-search"]


def test_data_of_a_step_takes_the_place_of_its_earlier_data_of_that_name() -> None:
    chat = Chat()
    chat.send(event("step_started", "plan"), "data-plan", {"state": "begun"})
    chat.send(event("step_completed", "plan"), "data-plan", {"state": "done"})
    chat.end()
    assert [part["data"] for part in chat.message.shown] == [{"state": "done"}]
    joined = message_at(chat.machine, chat.machine.log.place)
    assert joined is not None
    assert UiMessage().read(joined).shown == chat.message.shown


def test_each_chunk_that_is_data_is_a_part_of_its_own() -> None:
    chat = Chat()
    for index in range(2):
        chat.send(chunk("plan", "", index=index), "data-line", index)
    assert [part["data"] for part in chat.message.shown] == [0, 1]


def test_metadata_is_that_of_the_message() -> None:
    chat = Chat()
    chat.send(event("step_completed", "plan"), "metadata", {"model": "m"})
    chat.end()
    assert chat.message.metadata == {"model": "m"}


def test_text_of_another_event_than_a_chunk_is_whole_at_once() -> None:
    chat = Chat()
    blocks = chat.send(event("step_completed", "answer"), "text", "Done.")
    kinds = [data["type"] for data in parsed(blocks)]
    assert kinds == ["start-step", "text-start", "text-delta", "text-end"]


def test_an_error_comes_after_everything_else_because_clients_read_no_further() -> None:
    chat = Chat()
    chat.send(event("step_failed", "left"), "error", "Something went wrong")
    chat.text("right", "still here")
    chat.end("failed")
    assert chat.message.kinds[-2:] == ["error", "finish"]
    assert list(chat.message.texts.values()) == ["still here"]


def test_a_gap_is_a_part_that_is_not_kept_in_the_message() -> None:
    chat = Chat()
    chat.text("answer", "a")
    chat.control(StepGap(GapCause.UPSTREAM, "answer", 1, 3))
    data = {"cause": "upstream", "step": "answer", "attempt": 1, "missed": 3}
    assert chat.message.transient == [{"type": "data-gap", "data": data, "transient": True}]
    assert len(chat.message.shown) == 1


def test_a_gap_of_a_failed_attempt_is_not_sent_to_clients_that_join_after_it() -> None:
    chat = Chat()
    chat.text("answer", "a")
    chat.control(StepGap(GapCause.UPSTREAM, "answer", 1, 3))
    chat.control(Reset("answer", 2))
    joined = message_at(chat.machine, chat.machine.log.place)
    assert joined is not None
    assert UiMessage().read(joined).transient == []


def test_a_step_of_the_message_begins_where_no_text_is_open() -> None:
    chat = Chat()
    chat.text("plan", "a")
    chat.send(event("step_started", "other"), "step", "other")  # `plan` still streams
    chat.send(event("step_completed", "plan"))
    chat.send(event("step_started", "answer"), "step", "answer")
    chat.text("answer", "b")
    assert chat.message.kinds.count("start-step") == 2
    chat.control(Reset("answer", 2))
    assert chat.message.texts == {"plan-id-1": "a"}


def test_a_client_that_joins_gets_each_text_in_one_piece_and_then_goes_on_live() -> None:
    chat = Chat()
    for text in ("a", "b", "c"):
        chat.text("left", text)
    chat.text("right", "1")
    joined = message_at(chat.machine, chat.machine.log.place)
    assert joined is not None
    assert [data["type"] for data in parsed(joined)] == [
        "start",
        "start-step",
        "text-start",
        "text-delta",
        "text-start",
        "text-delta",
    ]
    live = chat.text("left", "d") + chat.end()
    assert UiMessage().read(joined + live).texts == {"left-id-1": "abcd", "right-id-1": "1"}


def test_a_client_with_an_unknown_cursor_forgets_what_it_had() -> None:
    chat = Chat()
    chat.text("answer", "The ans")
    held = UiMessage().read(chat.blocks)
    other = Chat()
    other.text("answer", "The answer")
    joined = message_at(other.machine, other.machine.log.place)
    assert joined is not None
    held.read([*other.machine.begin(), *other.machine.again("unknown_cursor"), *joined[1:]])
    assert list(held.texts.values()) == ["The answer"]
    assert held.transient[0]["data"]["cause"] == "unknown_cursor"


def test_text_that_was_given_up_is_announced_as_a_gap_to_those_who_join() -> None:
    chat = Chat()
    chat.text("left", "x" * 10_000)
    chat.text("right", "kept")
    chat.machine.trim(2_000)
    assert chat.machine.log.size <= 2_000
    joined = message_at(chat.machine, chat.machine.log.place)
    assert joined is not None
    message = UiMessage().read(joined)
    assert [part["data"]["cause"] for part in message.transient] == ["backlog"]
    assert message.texts == {"left-id-1": "", "right-id-1": "kept"}


def test_data_that_chunks_brought_is_given_up_as_text_is() -> None:
    chat = Chat()
    for index in range(20):
        chat.send(chunk("plan", "", index=index), "data-line", "x" * 1_000)
    chat.send(event("step_completed", "plan"), "data-plan", "kept")
    chat.machine.trim(10_000)
    joined = message_at(chat.machine, chat.machine.log.place)
    assert joined is not None
    message = UiMessage().read(joined)
    assert message.shown[-1]["data"] == "kept"
    assert len(message.shown) < 10
    assert message.transient
