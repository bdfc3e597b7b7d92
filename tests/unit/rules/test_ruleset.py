"""Everything a stream can say about events, sentence by sentence; exact bytes out."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.files import RuleConfig, StreamConfig
from proxy.core.events import Event
from proxy.rules.ruleset import DecodedEvent, Message, Rules
from proxy.rules.sample_event import event_of
from tests.support.streams import StreamRules, stream_of


def test_the_tutorials_message_comes_out_byte_for_byte() -> None:
    stream = StreamRules("""
        - events: step_completed
          steps: [start, load_docs, reason_docs, generate_response]
          data: {type: type, payload: payload, messageId: run_id}
    """)
    event = Event("step_completed", "d8ed70df", "start", "a2c1", {"docs": ["ä", None], "n": 1.5}, 1)
    assert stream.rules.message(event) == Message(
        "rules[0]",
        None,
        '{"type":"step_completed","payload":{"docs":["ä",null],"n":1.5},"messageId":"d8ed70df"}'.encode(),
    )


# -- which rule decides


def test_rules_are_asked_in_order_and_the_first_that_matches_decides() -> None:
    stream = StreamRules("""
        - {events: step_completed, when: payload.a, data: "'first'"}
        - {events: step_completed, data: "'second'"}
        - {events: "*", data: "'third'"}
    """)
    assert stream.data(type="step_completed", payload={"a": True}) == '"first"'
    assert stream.data(type="step_completed", payload={"a": False}) == '"second"'
    assert stream.data(type="step_failed") == '"third"'


def test_an_event_that_no_rule_matches_is_not_forwarded() -> None:
    stream = StreamRules("- {events: step_failed}")
    assert stream.message(type="step_completed") is None
    assert stream.failures == []


TEXT_FIRST = """
    - {events: step_stream, steps: think, as: reasoning}
    - {events: [step_stream, step_skipped], steps: answer, as: text}
    - {events: step_stream, steps: "*", payload: json, when: payload.k == 'tool', as: data-t, data: payload.n}
    - {events: step_stream, steps: [answer, other], when: "payload == '!'", as: data-mark, data: payload}
"""


@pytest.mark.parametrize(
    ("step", "payload", "decides"),
    [
        ("answer", "Hi", "rules[1]"),
        ("answer", '{"k": "tool", "n": 1}', "rules[2]"),
        ("answer", '{"k": "word"}', "rules[1]"),
        ("answer", "7", "rules[1]"),
        ("answer", "!", "rules[3]"),
        ("think", '{"k": "tool", "n": 1}', "rules[2]"),
        ("think", "!", "rules[0]"),
        ("other", "Hi", None),
    ],
)
def test_in_a_format_a_rule_for_text_takes_the_chunks_that_narrower_rules_behind_it_leave(
    step: str, payload: str, decides: str | None
) -> None:
    stream = StreamRules(TEXT_FIRST, "ai-sdk")
    message = stream.message(type="step_stream", step=step, payload=payload)
    assert (None if message is None else message.rule) == decides
    verdicts = stream.rules.verdicts(event_of({"type": "step_stream", "step": step, "payload": payload}))
    assert [verdict.rule for verdict in verdicts] == [f"rules[{number}]" for number in range(4)]
    assert [verdict.rule for verdict in verdicts if verdict.matched] == ([decides] if decides else [])
    narrower = [verdict.rule for verdict in verdicts if verdict.reasons == ("a narrower rule decided",)]
    rest = {"answer": "rules[1]", "think": "rules[0]"}.get(step)
    assert narrower == ([] if decides in (rest, None) else [rest])


def test_in_a_format_a_rule_for_text_takes_other_events_in_its_turn() -> None:
    late = "    - {events: step_s*, when: payload, as: data-late, data: payload}"
    stream = StreamRules(TEXT_FIRST + late, "ai-sdk")
    messages = [
        stream.message(type=kind, step="answer", payload="Hi") for kind in ("step_skipped", "step_started")
    ]
    assert [message and message.rule for message in messages] == ["rules[1]", "rules[4]"]


TYPES = (
    *("step_started", "step_stream", "step_completed", "step_skipped", "step_retrying"),
    *("step_failed", "step_cancelled", "run_completed", "run_failed", "run_cancelled"),
)


@pytest.mark.parametrize(
    ("events", "forwarded"),
    [
        ("step_completed", {"step_completed"}),
        ("[step_completed, run_failed]", {"step_completed", "run_failed"}),
        ("step_s*", {"step_started", "step_skipped"}),
        ("[step_s*, step_stream]", {"step_started", "step_stream", "step_skipped"}),
        ('["*", step_stream]', {*TYPES}),
        ("run_*", {"run_completed", "run_failed", "run_cancelled"}),
        ('"*_failed"', {"step_failed", "run_failed"}),
        ("step_????ed", {"step_failed"}),
    ],
)
def test_events_are_one_or_a_list_and_may_be_globs(events: str, forwarded: set[str]) -> None:
    stream = StreamRules(f"- {{events: {events}}}")
    assert {name for name in TYPES if stream.message(type=name)} == forwarded


@pytest.mark.parametrize("glob", ["*", "step_*", "step_str*", "????_stream"])
def test_a_glob_never_takes_a_chunk_and_the_verdict_says_so(glob: str) -> None:
    rules = Rules(
        StreamConfig(name="s", path="/{workflowRunId}", rules=(RuleConfig(name="r", events=(glob,)),))
    )
    event = Event("step_stream", "r", "reason_docs", "i", "secret chain of thought", 1, 0)
    assert rules.message(event) is None
    assert not rules.forwards_chunks("reason_docs")
    [verdict] = rules.verdicts(event)
    assert verdict.reasons == (f"it is for {glob}, and globs take no chunks",)


def test_a_narrow_token_rule_and_a_glob_after_it_do_not_let_other_steps_chunks_out() -> None:
    stream = StreamRules("""
        - {events: step_stream, steps: generate_answer, data: payload}
        - {events: step_*, data: {step: step, payload: payload}}
    """)
    assert stream.data(type="step_stream", step="generate_answer", payload="Hi") == '"Hi"'
    assert stream.message(type="step_stream", step="reason_docs", payload="secret chain of thought") is None
    assert stream.message(type="step_completed", step="reason_docs") is not None


def test_workflows_are_one_or_a_list_and_may_be_globs() -> None:
    stream = StreamRules('- {events: step_completed, workflows: ["chat-*", agent]}')
    assert stream.message(type="step_completed", workflow="chat-7")
    assert stream.message(type="step_completed", workflow="agent")
    assert stream.message(type="step_completed", workflow="billing") is None
    assert stream.message(type="run_completed", workflow="agent") is None


def test_a_rule_with_workflows_takes_nothing_of_a_run_whose_workflow_is_not_known() -> None:
    stream = StreamRules('- {events: "*", workflows: "*"}')
    assert stream.message(type="run_completed", workflow=None) is None
    assert stream.message(type="run_completed", workflow="chat")


def test_one_step_name_of_two_workflows_is_two_steps() -> None:
    stream = StreamRules("""
        - {events: [step_stream, step_completed], steps: answer, workflows: chat, data: "'chat'"}
        - {events: step_completed, steps: answer, data: "'other'"}
    """)
    assert stream.data(type="step_completed", step="answer", workflow="chat") == '"chat"'
    assert stream.data(type="step_completed", step="answer", workflow="billing") == '"other"'
    assert stream.message(type="step_stream", step="answer", workflow="billing") is None
    assert stream.rules.forwards_chunks("answer", "chat")
    assert not stream.rules.forwards_chunks("answer", "billing")
    assert stream.rules.forwards_chunks("answer"), "not known: a gap too many, never a loss without a gap"


def test_expressions_see_the_workflow_and_the_parent() -> None:
    stream = StreamRules('- {events: "*", data: {w: workflow, p: parent.step}}')
    parent = {"run_id": "r", "step": "plan", "workflow": "chat"}
    assert stream.data(type="run_completed", workflow="leaf", parent=parent) == '{"w":"leaf","p":"plan"}'
    assert stream.data(type="run_completed") == '{"w":null,"p":null}'


def test_steps_are_one_or_a_list_and_may_be_globs() -> None:
    stream = StreamRules('- {events: step_completed, steps: ["generate_*", start]}')
    assert stream.message(type="step_completed", step="generate_answer")
    assert stream.message(type="step_completed", step="start")
    assert stream.message(type="step_completed", step="starter") is None


def test_steps_default_to_every_step_and_to_run_events_too() -> None:
    stream = StreamRules('- {events: "*"}')
    assert stream.message(type="step_completed", step="any")
    assert stream.message(type="run_completed")


def test_a_rule_with_steps_never_matches_run_events() -> None:
    stream = StreamRules('- {events: "*", steps: "*"}')
    assert stream.message(type="step_completed")
    assert stream.message(type="run_completed") is None


def test_names_that_differ_in_case_are_different_steps_and_brackets_are_brackets() -> None:
    stream = StreamRules('- {events: step_completed, steps: ["Start", "a[b]"]}')
    assert stream.message(type="step_completed", step="start") is None
    assert stream.message(type="step_completed", step="a[b]")
    assert stream.message(type="step_completed", step="ab") is None


# -- when


@pytest.mark.parametrize("value", [False, None, "", [], {}])
def test_a_when_that_is_false_like_does_not_match(value: Any) -> None:
    stream = StreamRules("""
        - {events: step_completed, when: payload.x, data: "'matched'"}
        - {events: step_completed, data: "'next'"}
    """)
    assert stream.data(type="step_completed", payload={"x": value}) == '"next"'


@pytest.mark.parametrize("value", [True, 0, 0.0, 1, "0", [0], {"a": None}])
def test_anything_else_matches_zero_included(value: Any) -> None:
    stream = StreamRules("- {events: step_completed, when: payload.x}")
    assert stream.message(type="step_completed", payload={"x": value})


@pytest.mark.parametrize("on_error", ["skip", '"null"', "null"])
def test_a_when_that_fails_decides_and_the_event_is_not_forwarded(on_error: str) -> None:
    stream = StreamRules(f"""
        - {{name: guard, events: step_completed, when: length(payload.items) > `1`, on_error: {on_error}}}
        - {{events: "*"}}
    """)
    assert stream.message(type="step_completed", payload={"items": 7}) is None
    [(rule, event_type, reason)] = stream.failures
    assert (rule, event_type) == ("guard", "step_completed")
    assert reason == "when: length() takes a string, an array or an object, but was given number"


# -- chunks


def test_a_chunk_is_text_unless_the_rule_says_json() -> None:
    assert StreamRules("- {events: step_stream, data: payload}").data(
        type="step_stream", payload='{"a":1}'
    ) == ('"{\\"a\\":1}"')
    stream = StreamRules("- {events: step_stream, payload: json, data: payload.a}")
    assert stream.data(type="step_stream", payload='{"a":[1]}') == "[1]"


def test_json_is_only_for_chunks() -> None:
    stream = StreamRules('- {events: ["step_stream", "step_completed"], payload: json, data: payload}')
    assert stream.data(type="step_completed", payload='{"a":1}') == '"{\\"a\\":1}"'


def test_a_chunk_that_is_not_json_is_offered_to_the_next_rule() -> None:
    stream = StreamRules("""
        - {name: j, events: step_stream, payload: json, data: payload.kind}
        - {name: t, events: step_stream, data: payload}
    """)
    assert stream.data(type="step_stream", payload='{"kind":"tool"}') == '"tool"'
    assert stream.data(type="step_stream", payload="a word") == '"a word"'
    assert stream.failures == []


def test_rules_that_read_all_and_parts_of_a_payload_each_get_what_they_read() -> None:
    rules = StreamRules("""
        - {events: step_stream, payload: json, when: "payload.kind == 'all'", data: payload}
        - {events: step_stream, payload: json, when: "payload.kind == 'part'", data: payload.n}
        - {events: step_stream, data: {text: payload}}
    """).rules

    def sent(chunk: str) -> Any:
        message = rules.message(event_of({"type": "step_stream", "payload": chunk}))
        return None if message is None else json.loads(message.data)

    every, part, other = '{"kind":"all","n":1,"m":2}', '{"kind":"part","n":3,"m":4}', '{"kind":"x","n":5}'
    expected = {every: {"kind": "all", "n": 1, "m": 2}, part: 3, other: {"text": other}, "no": {"text": "no"}}
    for chunk in (every, every, part, part, every, other, every, part, other, "no", part, every):
        assert sent(chunk) == expected[chunk]


@given(st.lists(st.sampled_from(["type", "step", "index", "first_index", "metadata.a", "at", "parent"])))
def test_a_root_has_the_fields_that_are_read(names: list[str]) -> None:
    fields = ", ".join(f"f{number}: {name}" for number, name in enumerate(names))
    rules = Rules(stream_of(f"- {{events: step_stream, data: {{all: payload, {fields}}}}}"))
    event = event_of({"type": "step_stream", "payload": "text", "metadata": {"a": 1}})
    whole = rules.message(event, DecodedEvent(event))
    assert rules.message(event) == whole


def test_a_chunk_that_no_rule_can_read_is_reported() -> None:
    stream = StreamRules("""
        - {name: j, events: step_stream, payload: json}
        - {name: t, events: step_stream, when: payload == 'other'}
    """)
    assert stream.message(type="step_stream", payload="a word") is None
    assert stream.failures == [("j", "step_stream", "the chunk is not JSON, and no later rule takes it")]


@pytest.mark.parametrize(
    ("chunk", "read"),
    [
        ('{"a":1}', '{"a":1}'),
        ("[1, 2]", "[1,2]"),
        ("a word", '"a word"'),
        ("12", '"12"'),
        ("true", '"true"'),
        ("", '""'),
        ("{", '"{"'),
    ],
)
def test_auto_reads_objects_and_arrays_as_json_and_all_else_as_text(chunk: str, read: str) -> None:
    stream = StreamRules("- {events: step_stream, payload: auto, data: payload}")
    assert stream.data(type="step_stream", payload=chunk) == read
    assert stream.failures == []


def test_a_chunk_that_is_not_json_is_skipped_before_when_is_asked_where_on_error_is_written() -> None:
    stream = StreamRules("""
        - {name: j, events: step_stream, payload: json, on_error: skip, when: "!payload"}
        - {events: ["*", step_stream], data: "'leaked'"}
    """)
    assert stream.message(type="step_stream", payload="secret {") is None
    assert stream.failures == [("j", "step_stream", "the chunk is not JSON")]


def test_with_on_error_null_it_has_a_null_payload_before_when_is_asked() -> None:
    stream = StreamRules("""
        - {name: j, events: step_stream, payload: json, when: "payload == `null`", on_error: "null"}
    """)
    assert stream.data(type="step_stream", payload="secret {") == (
        '{"type":"step_stream","step":"step","payload":null}'
    )
    assert stream.failures == [("j", "step_stream", "the chunk is not JSON")]


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "", " ", "{'a':1}", "01", "[" * 100_000])
def test_what_json_does_not_know_is_not_json(text: str) -> None:
    stream = StreamRules("- {events: step_stream, payload: json}")
    assert stream.message(type="step_stream", payload=text) is None
    assert len(stream.failures) == 1


def test_a_chunk_is_decoded_once_for_all_rules_and_streams_that_share_its_decoded_form() -> None:
    one = StreamRules("""
        - {events: step_stream, payload: json, when: payload.no}
        - {events: step_stream, payload: json, data: payload}
    """)
    other = StreamRules("- {events: step_stream, payload: json, data: payload}")
    event = Event("step_stream", "r", "s", "i", '{"a": 1}', 1, 0)
    shared = DecodedEvent(event)
    assert one.rules.message(event, shared) is not None
    root = shared.json_root()
    assert other.rules.message(event, shared) is not None
    assert shared.json_root() is root


def test_nothing_is_decoded_for_a_step_that_no_rule_is_for() -> None:
    stream = StreamRules("- {events: step_stream, steps: other, payload: json}")
    assert stream.message(type="step_stream", step="s", payload="not json") is None
    assert stream.failures == []


# -- event and data


def test_the_event_has_the_rules_name_for_it_or_none() -> None:
    stream = StreamRules("""
        - {events: step_stream, event: token, data: payload}
        - {events: step_completed, data: payload}
    """)
    token, result = stream.message(type="step_stream"), stream.message(type="step_completed")
    assert token is not None and token.event == "token"
    assert result is not None and result.event is None


def test_data_defaults_to_type_step_and_payload() -> None:
    stream = StreamRules('- {events: "*"}')
    assert stream.data(type="step_completed", step="s", payload=[1]) == (
        '{"type":"step_completed","step":"s","payload":[1]}'
    )
    assert stream.data(type="run_completed", payload={"s": None}) == (
        '{"type":"run_completed","step":null,"payload":{"s":null}}'
    )


def test_data_is_one_expression_or_a_mapping_in_the_order_of_the_yaml() -> None:
    assert StreamRules("- {events: step_completed, data: payload.result}").data(
        type="step_completed", payload={"result": {"b": 1, "a": 2}}
    ) == ('{"b":1,"a":2}')
    assert StreamRules("- {events: step_completed, data: {z: step, a: attempt, m: type}}").data(
        type="step_completed"
    ) == ('{"z":"step","a":1,"m":"step_completed"}')


def test_a_constant_lets_no_error_text_through() -> None:
    stream = StreamRules("""
        - events: [step_failed, run_failed]
          event: problem
          data: {message: "'Something went wrong'"}
    """)
    message = stream.message(type="step_failed", payload={"message": "secret", "detail": "secret"})
    assert message == Message("rules[0]", "problem", b'{"message":"Something went wrong"}')


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", '""'),
        (None, "null"),
        ("a\nb\r\u0000\u2028", '"a\\nb\\r\\u0000\u2028"'),
        ("data: x\n\nevent: y", '"data: x\\n\\nevent: y"'),
        ("😀", '"😀"'),
        (10**30, "1" + "0" * 30),
        ("\ud83d", '"\\ud83d"'),
        (float("inf"), "null"),
        ([1, True, 1.0, False, 0], "[1,true,1.0,false,0]"),
    ],
)
def test_data_is_always_one_line_of_compact_json(value: Any, text: str) -> None:
    stream = StreamRules("- {events: step_completed, data: payload}")
    event = Event("step_completed", "r", "s", "i", value, 1)
    message = stream.rules.message(event)
    assert message is not None
    assert message.data.decode() == text


def test_fields_that_came_out_null_are_kept_or_dropped() -> None:
    given: dict[str, Any] = {"type": "step_completed", "payload": {"a": 1, "c": {"d": None}}}
    fields = "data: {a: payload.a, b: payload.b, c: payload.c}"
    assert StreamRules(f"- {{events: step_completed, {fields}}}").data(**given) == (
        '{"a":1,"b":null,"c":{"d":null}}'
    )
    assert StreamRules(f"- {{events: step_completed, nulls: drop, {fields}}}").data(**given) == (
        '{"a":1,"c":{"d":null}}'
    )


def test_where_an_expression_fails_the_event_is_skipped_and_reported() -> None:
    stream = StreamRules("""
        - {name: r, events: step_completed, data: {a: type, n: "length(payload)", m: "abs(payload)"}}
        - {events: "*", data: "'leaked'"}
    """)
    assert stream.message(type="step_completed", payload=True) is None
    assert stream.failures == [
        (
            "r",
            "step_completed",
            "data.n: length() takes a string, an array or an object, but was given boolean",
        )
    ]


def test_with_on_error_null_each_failing_field_becomes_null() -> None:
    stream = StreamRules("""
        - name: r
          events: step_completed
          on_error: null
          data: {a: type, n: "length(payload)", m: "abs(payload)"}
    """)
    assert stream.data(type="step_completed", payload="secret") == '{"a":"step_completed","n":6,"m":null}'
    assert [reason for _, _, reason in stream.failures] == [
        "data.m: abs() takes a number, but was given string"
    ]


def test_with_on_error_null_a_failing_whole_expression_becomes_null() -> None:
    stream = StreamRules('- {events: step_completed, on_error: "null", data: "abs(payload)"}')
    assert stream.data(type="step_completed", payload="x") == "null"


def test_fields_that_failed_are_dropped_too_where_nulls_are() -> None:
    stream = StreamRules("""
        - {events: step_completed, on_error: null, nulls: drop, data: {a: type, m: "abs(payload)"}}
    """)
    assert stream.data(type="step_completed", payload="x") == '{"a":"step_completed"}'


def test_a_failure_never_names_a_value() -> None:
    stream = StreamRules("""
        - {events: step_stream, payload: json, when: abs(payload) > `1`}
        - {events: step_completed, steps: j, data: "join(',', payload)"}
        - {events: step_completed, data: {a: "sort_by(payload, &x)", b: "sum(payload)"}}
    """)
    for kind, step, payload in [
        ("step_stream", "s", "s3cr3t"),
        ("step_stream", "s", '"s3cr3t"'),
        ("step_completed", "j", ["s3cr3t", 1]),
        ("step_completed", "s", [{"x": "s3cr3t"}, {"x": 1}]),
    ]:
        assert stream.message(type=kind, step=step, payload=payload) is None
    assert len(stream.failures) == 4
    assert "s3cr3t" not in str(stream.failures)


def test_an_event_that_needs_too_much_work_is_stopped_for_the_whole_stream() -> None:
    fields = ", ".join(f'f{n}: "sort_by(payload, &x)"' for n in range(50))
    stream = StreamRules(f"- {{name: heavy, events: step_completed, on_error: null, data: {{{fields}}}}}")
    payload = [{"x": n} for n in range(5_000)]
    assert stream.data(type="step_completed", payload=payload) is not None
    reasons = [reason for _, _, reason in stream.failures]
    assert len(reasons) > 40
    assert all("too much work" in reason for reason in reasons)
    assert stream.data(type="step_completed", payload=[{"x": 1}]) is not None
    assert len(stream.failures) == len(reasons)


# -- the root that expressions see


def test_expressions_see_every_field_of_the_event() -> None:
    fields = [
        *("type", "step", "payload", "run_id", "step_run_id"),
        *("attempt", "index", "at", "metadata", "recovered"),
    ]
    mapping = ", ".join(f"{name}: {name}" for name in fields)
    stream = StreamRules(f'- {{events: ["*", step_stream], data: {{{mapping}}}}}')
    event = Event(
        "step_stream", "run", "s", "sr", "x", 2, 7, "2026-01-01T00:00:00Z", {"user": "u"}, recovered=True
    )
    message = stream.rules.message(event)
    assert message is not None
    assert json.loads(message.data) == {
        "type": "step_stream",
        "step": "s",
        "payload": "x",
        "run_id": "run",
        "step_run_id": "sr",
        "attempt": 2,
        "index": 7,
        "at": "2026-01-01T00:00:00Z",
        "metadata": {"user": "u"},
        "recovered": True,
    }


# -- chunks of a step


def test_forwards_chunks_says_whether_a_chunk_of_that_step_could_ever_come() -> None:
    rules = StreamRules("""
        - {events: step_completed, steps: silent}
        - {events: ["step_*", step_stream], steps: "gen_*", when: payload}
        - {events: step_started}
    """).rules
    assert rules.forwards_chunks("gen_answer")
    assert not rules.forwards_chunks("silent")
    assert not rules.forwards_chunks("other")


# -- fingerprints

RULES = """
    - {name: NAME, events: [step_stream], when: payload != '', event: token, data: {a: type, b: payload}}
"""


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    program = (
        f"from tests.support.streams import StreamRules; print(StreamRules({RULES!r}).rules.fingerprint)"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == StreamRules(RULES).rules.fingerprint


def test_a_fingerprint_changes_with_whatever_changes_a_frame_and_with_nothing_else() -> None:
    def fingerprint(old: str, new: str) -> str:
        return StreamRules(RULES.replace(old, new)).rules.fingerprint

    same = StreamRules(RULES).rules.fingerprint
    assert fingerprint("NAME", "other") == same
    for old, new in [
        ("[step_stream]", '["step_*", step_stream]'),
        ("when: payload != ''", "when: payload"),
        ("event: token", "event: tick"),
        ("a: type, b: payload", "b: payload, a: type"),
        ("when:", "steps: x, when:"),
        ("when:", "payload: json, when:"),
        ("when:", "nulls: drop, when:"),
        ("when:", "on_error: null, when:"),
    ]:
        assert fingerprint(old, new) != same, new


# -- verdicts


def test_verdicts_say_of_each_rule_in_turn_whether_it_matched_and_why_not() -> None:
    rules = StreamRules("""
        - {name: tokens, events: step_stream}
        - {name: others, events: step_completed, steps: other}
        - {name: odd, events: step_completed, when: payload.odd}
        - {name: all, events: step_completed, data: payload.n}
        - {name: late, events: "*"}
    """).rules
    event = Event("step_completed", "r", "s", "i", {"n": 1}, 1)
    assert [(verdict.rule, verdict.asked, verdict.matched) for verdict in rules.verdicts(event)] == [
        ("tokens", True, False),
        ("others", True, False),
        ("odd", True, False),
        ("all", True, True),
        ("late", False, False),
    ]
    assert [verdict.reasons for verdict in rules.verdicts(event)] == [
        ("it is for step_stream",),
        ("it is for steps other",),
        ("when is not true: payload.odd",),
        (),
        ("an earlier rule decided",),
    ]


PAYLOADS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["step_stream", "step_completed", "step_failed", "run_completed"]),
    PAYLOADS,
    st.text(max_size=4),
)
def test_the_verdicts_show_what_message_gives(kind: str, payload: Any, step: str) -> None:
    rules = Rules(
        stream_of("""
        - {events: step_stream, payload: json, when: payload.a, on_error: null}
        - {events: step_stream, payload: json, steps: "?", data: payload}
        - events: [step_*, step_stream]
          when: contains(payload, 'a')
          data: length(payload)
          on_error: "null"
        - events: ["*", step_stream]
          when: "!recovered"
          data: {p: payload, n: to_number(payload)}
          nulls: drop
        """)
    )
    run = kind.startswith("run_")
    text = payload if isinstance(payload, str) else json.dumps(payload)
    event = Event(kind, "r", None if run else step, "i", text if kind == "step_stream" else payload, 1)
    message = rules.message(event)
    verdicts = rules.verdicts(event)
    assert [v.message for v in verdicts if v.message is not None] == ([message] if message else [])
    assert sum(verdict.matched for verdict in verdicts) <= 1
    if message is not None:
        assert b"\n" not in message.data and b"\r" not in message.data
        json.loads(message.data, parse_constant=pytest.fail)


# -- what Python itself refuses


@pytest.mark.parametrize("place", ["when", "data", "whole"])
def test_an_exception_that_should_not_be_possible_stops_the_event_and_is_reported_in_words(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = StreamRules("""
        - {events: [step_stream], when: payload, data: payload, whole: payload.text}
        - {events: "*", data: "'a later rule'"}
    """)
    rule = stream.rules.whole_rules("s")[0]

    def broken(*args: Any) -> Any:
        raise RecursionError("with a value")

    method = {"when": "holds", "data": "shape", "whole": "whole_text"}[place]
    monkeypatch.setattr(type(rule), method, broken)
    chunk = Event("step_stream", "r", "s", "id", "text", 1, 0)
    if place == "whole":
        assert stream.rules.whole_text(rule, Event("step_completed", "r", "s", "id", {}, 1)) is None
    else:
        assert stream.rules.message(chunk) is None, "and it is not offered to a later rule"
        assert stream.rules.whole_message(rule, chunk) is None
        assert stream.rules.verdicts(chunk)[0].reasons == (stream.failures[0][2],)
    assert stream.failures[0][2] == "cannot be evaluated on this event (RecursionError)"


@pytest.mark.parametrize(
    "data", ["payload", "to_string(payload)", "payload == payload.same", "[payload, payload]"]
)
def test_a_payload_that_is_nested_too_deeply_fails_in_words_or_is_sent(data: str) -> None:
    payload: Any = 1
    for _ in range(5_000):
        payload = [payload]
    stream = StreamRules(f"- {{events: step_completed, data: {{value: {json.dumps(data)}}}}}")
    message = stream.rules.message(Event("step_completed", "r", "s", "id", payload, 1))
    assert message is not None or len(stream.failures) == 1
