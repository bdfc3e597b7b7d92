"""The playground tries a draft like `check`, `explain` and `test` do, and reads nothing of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.console.playground import MOST_TEXT, BadDraft, play

TEAM = """
version: 1
streams:
  chat:
    rules:
      - {name: tokens, events: step_stream, steps: talk, data: {text: payload}, whole: payload.text}
      - {name: done, events: step_completed, event: done, data: {n: payload.n}}
  status: {rules: [{name: ends, events: "step_*", data: {step: step}}]}
"""
CHUNK = {"type": "step_stream", "step": "talk", "payload": "Hel"}
END = {"type": "step_completed", "step": "talk", "payload": {"text": "Hello", "n": 7}}


def codes(found: dict[str, Any]) -> list[str]:
    return [problem["code"] for problem in found["problems"] if problem["severity"] == "error"]


def test_a_single_event_shows_each_rules_verdict_and_the_frame() -> None:
    found = play({"yaml": TEAM, "stream": "chat", "events": [END]})
    [event] = found["events"]
    assert [(rule["rule"], rule["outcome"]) for rule in event["rules"]] == [
        ("tokens", "no match"),
        ("done", "took it"),
    ]
    assert event["frames"] == 'event: done\ndata: {"n":7}\n\n'
    assert event["messages"] == [{"event": "done", "data": {"n": 7}}]
    assert (found["stream"], found["streams"]) == ("chat", ["chat", "status"])


def test_a_sequence_repairs_a_text_like_a_stream_does() -> None:
    found = play({"yaml": TEAM, "stream": "chat", "events": [CHUNK, END]})
    assert [event["frames"] for event in found["events"]] == [
        'data: {"text":"Hel"}\n\n',
        'data: {"text":"lo"}\n\nevent: done\ndata: {"n":7}\n\n',
    ]


def test_a_sequence_becomes_a_test_that_passes() -> None:
    """What is sent of each event, repairs included, is what the tests beside the rules expect."""
    found = play({"yaml": TEAM, "stream": "chat", "events": [CHUNK, END]})
    expect = [message for event in found["events"] for message in event["messages"]]
    assert expect == [
        {"data": {"text": "Hel"}},
        {"data": {"text": "lo"}},
        {"event": "done", "data": {"n": 7}},
    ]
    test = {"name": "saved", "stream": "chat", "given": [CHUNK, END], "expect": expect}
    [result] = play({"yaml": f"{TEAM}tests: [{json.dumps(test)}]"})["tests"]
    assert result["passed"]


MERGED = TEAM.replace("data: {text: payload}, whole: payload.text", "data: {text: payload}, merge: 50ms")


def test_chunks_that_are_merged_are_shown_with_what_ends_their_waiting() -> None:
    found = play({"yaml": MERGED, "stream": "chat", "events": [CHUNK, CHUNK, END]})
    first, second, end = found["events"]
    assert [event["frames"] for event in (first, second)] == ["", ""]
    assert "merged" in first["silence"]
    assert [rule["outcome"] for rule in second["rules"]] == ["took it", "not evaluated"]
    assert end["frames"] == 'data: {"text":"HelHel"}\n\nevent: done\ndata: {"n":7}\n\n'
    assert end["messages"] == [{"data": {"text": "HelHel"}}, {"event": "done", "data": {"n": 7}}]


def test_chunks_that_nothing_ends_are_shown_with_the_last_event() -> None:
    found = play({"yaml": MERGED, "stream": "chat", "events": [CHUNK, CHUNK]})
    assert [event["frames"] for event in found["events"]] == ["", 'data: {"text":"HelHel"}\n\n']
    assert found["events"][1]["silence"] is None


def test_an_impossible_event_is_named_and_the_others_are_shown() -> None:
    found = play({"yaml": TEAM, "events": [{"type": "step_strem"}, 7, CHUNK]})
    wrong, no_object, chunk = found["events"]
    assert "did you mean `step_stream`?" in wrong["problem"]
    assert "JSON object" in no_object["problem"]
    assert chunk["frames"]


def test_problems_stop_the_frames_and_keep_their_places() -> None:
    found = play({"yaml": TEAM.replace("payload.n}", "payload.n["), "events": [CHUNK]})
    assert codes(found)
    assert found["events"] == []
    assert all(problem["file"] == "streams.yaml" for problem in found["problems"])


def test_the_tests_of_a_draft_are_run() -> None:
    test = (
        "\ntests:\n  - {name: ends, stream: status, given: {type: step_started, step: a}, expect: nothing}\n"
    )
    [result] = play({"yaml": TEAM + test})["tests"]
    assert (result["name"], result["passed"]) == ("ends", False)
    assert any(line.startswith("+ ") for line in result["diff"])


def test_no_variable_and_no_file_of_this_machine_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t-content")
    monkeypatch.setenv("SOME_SECRET", "s3cr3t-variable")
    stream = f'"/x/${{file:{secret}}}/${{SOME_SECRET}}/{{workflowRunId}}"'
    hatchet = f'hatchet: {{token: "${{file:{secret}}}"}}'
    text = f"version: 1\n{hatchet}\nstreams: {{a: {{path: {stream}, rules: [{{events: step_started}}]}}}}"
    found = play({"yaml": text, "events": [{"type": "step_started", "step": "a"}]})
    assert "s3cr3t" not in repr(found)
    named = play({"yaml": text.replace(str(secret), str(tmp_path / "missing"))})
    assert [problem["message"] for problem in named["problems"]] == [
        problem["message"] for problem in found["problems"]
    ]  # nor whether a file exists


@pytest.mark.parametrize(
    "draft", [{}, {"yaml": 1}, {"yaml": "x" * (MOST_TEXT + 1)}, {"yaml": "", "events": 1}]
)
def test_what_is_no_draft_is_refused(draft: dict[str, Any]) -> None:
    with pytest.raises(BadDraft):
        play(draft)


@pytest.mark.parametrize(
    "text", ["", "\0", "- a", "a: [", "&a [*a]", "teams: {}", "version: 1\nstreams: {}\n", "\ud800"]
)
def test_any_text_is_answered_with_problems(text: str) -> None:
    assert codes(play({"yaml": text, "events": [CHUNK]}))
