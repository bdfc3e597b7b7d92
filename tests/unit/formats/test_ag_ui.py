"""``ag-ui``: a run as the events of one AG-UI run."""

from __future__ import annotations

import pytest

from proxy.core.events import Event, GapCause, Reset, StepGap
from proxy.formats.ag_ui import AgUi
from proxy.formats.machine import Facts, Refused, Sent, message_at
from tests.support.formats import FACTS, RUN, AgUiMessages, chunk, event, parsed


def send(machine: AgUi, what: Event, part: str, data: object) -> list[bytes]:
    return machine.message(what, Sent(part, data))


def test_a_run_begins_with_its_ids_and_ends_when_it_is_finished() -> None:
    machine = AgUi(Facts(RUN, "thread-1", "chat", "salt", 0))
    blocks = machine.begin() + send(machine, chunk("answer", "Hi"), "text", "Hi") + machine.end("completed")
    assert parsed(blocks) == [
        {"type": "RUN_STARTED", "threadId": "thread-1", "runId": RUN},
        {"type": "TEXT_MESSAGE_CHUNK", "messageId": "answer-id-1-salt", "role": "assistant", "delta": "Hi"},
        {"type": "RUN_FINISHED", "threadId": "thread-1", "runId": RUN},
    ]


def test_a_retry_is_a_custom_event_that_names_what_is_void_and_a_new_message() -> None:
    machine = AgUi(FACTS)
    blocks = machine.begin() + send(machine, chunk("answer", ""), "text", "void")
    blocks += machine.control(Reset("answer", 2))
    blocks += send(machine, chunk("answer", "", attempt=2), "text", "valid") + machine.end("completed")
    reader = AgUiMessages().read(blocks)
    assert reader.messages == {"answer-id-1-salt": "void", "answer-id-2-salt": "valid"}
    assert reader.texts == ["valid"]
    data = {"step": "answer", "attempt": 2, "messageIds": ["answer-id-1-salt"], "toolCallIds": []}
    assert reader.custom == [("stream.reset", data)]


def test_a_client_that_joins_after_a_retry_gets_the_valid_attempt_alone() -> None:
    machine = AgUi(FACTS)
    send(machine, chunk("answer", ""), "text", "void")
    machine.control(Reset("answer", 2))
    send(machine, chunk("answer", "", attempt=2), "text", "valid")
    joined = message_at(machine, machine.log.place)
    assert joined is not None
    reader = AgUiMessages().read(joined)
    assert list(reader.messages.values()) == ["valid"]
    assert reader.custom == []


def test_a_step_is_started_and_finished_once_and_none_is_open_at_the_end() -> None:
    machine = AgUi(FACTS)
    blocks = machine.begin()
    for _ in range(2):
        blocks += send(machine, event("step_started", "left"), "step", "left")
    blocks += machine.message(event("step_completed", "left"), None)
    blocks += send(machine, event("step_completed", "other"), "step", "other")
    blocks += send(machine, event("step_started", "right"), "step", "right") + machine.end("completed")
    names = [(data["type"], data.get("stepName")) for data in parsed(blocks)]
    assert names[1:-1] == [
        ("STEP_STARTED", "left"),
        ("STEP_FINISHED", "left"),
        ("STEP_STARTED", "other"),
        ("STEP_FINISHED", "other"),
        ("STEP_STARTED", "right"),
        ("STEP_FINISHED", "right"),
    ]
    AgUiMessages().read(blocks)


def test_a_tool_call_has_its_arguments_and_its_result_as_text() -> None:
    machine = AgUi(FACTS)
    call = {"id": "c1", "name": "search", "input": {"q": "x"}}
    blocks = machine.begin() + send(machine, chunk("answer", ""), "tool-input", call)
    blocks += send(machine, event("step_completed", "search"), "tool-output", {"id": "c1", "output": [1]})
    reader = AgUiMessages().read(blocks)
    assert reader.tools == {"c1": {"name": "search", "input": '{"q":"x"}', "output": "[1]"}}
    with pytest.raises(Refused):
        send(machine, event("step_completed", "search"), "tool-output", {"id": "c1", "output": 2})


def test_data_metadata_and_gaps_are_custom_events() -> None:
    machine = AgUi(FACTS)
    blocks = machine.begin() + send(machine, event("step_completed", "plan"), "data-plan", {"a": 1})
    blocks += send(machine, event("step_completed", "plan"), "metadata", {"model": "m"})
    blocks += machine.control(StepGap(GapCause.BACKLOG, "plan", 1, 2))
    gap = {"cause": "backlog", "step": "plan", "attempt": 1, "missed": 2}
    expected = [("plan", {"a": 1}), ("metadata", {"model": "m"}), ("stream.gap", gap)]
    assert AgUiMessages().read(blocks).custom == expected


@pytest.mark.parametrize(
    ("status", "error", "last"),
    [
        ("failed", "Try again", {"type": "RUN_ERROR", "message": "Try again"}),
        ("failed", None, {"type": "RUN_ERROR", "message": "The run failed"}),
    ],
)
def test_a_run_that_failed_ends_with_an_error(status: str, error: str | None, last: object) -> None:
    machine = AgUi(FACTS)
    if error is not None:
        assert send(machine, event("step_failed", "answer"), "error", error) == []
    assert parsed(machine.end(status)) == [last]


def test_a_run_that_was_cancelled_says_so_without_a_field_that_clients_refuse() -> None:
    notice, last = parsed(AgUi(FACTS).end("cancelled"))
    assert (notice["name"], notice["value"]) == ("stream.end", {"status": "cancelled"})
    assert last == {"type": "RUN_FINISHED", "threadId": RUN, "runId": RUN}
