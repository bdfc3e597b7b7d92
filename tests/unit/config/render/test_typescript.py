"""`stream-proxy types`: what is inferred holds for every value, and the text is TypeScript."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from config.expressions.api import compile_expression
from config.model.files import StreamConfig
from config.model.payload_types import StepTypesConfig
from config.model.resolve import stream
from config.model.streams import StreamBlock
from config.render.inference import inferred
from config.render.typescript import members, typescript
from config.render.value_types import (
    BOOLEAN,
    NULL,
    NUMBER,
    STRING,
    UNKNOWN,
    Array,
    Field,
    Literal,
    Object,
    Plain,
    Type,
    Union,
    nullable,
    of_schema,
    union,
    written,
)
from proxy.cli.main import main

ITEM = Object((Field("name", STRING), Field("price", NUMBER, optional=True)))
PAYLOAD = Object((Field("text", STRING), Field("items", Array(ITEM)), Field("n", NUMBER)), UNKNOWN)
ROOT = Object(
    (
        Field("type", Literal("step_completed")),
        Field("step", union((Literal("answer"), Literal("plan")))),
        Field("index", NULL),
        Field("at", nullable(STRING)),
        Field("payload", PAYLOAD),
        Field("anything", UNKNOWN),
        Field("recovered", BOOLEAN),
    )
)  # fmt: skip
VALUES: list[dict[str, Any]] = [
    {
        "type": "step_completed", "step": "answer", "index": None, "at": None, "recovered": False,
        "payload": {"text": "", "items": [], "n": 0}, "anything": None,
    },
    {
        "type": "step_completed", "step": "plan", "index": None, "at": "2026-01-01", "recovered": True,
        "payload": {"text": "Hi", "items": [{"name": "a", "price": 2}, {"name": "b"}], "n": 1.5, "more": [1]},
        "anything": {"x": [{"y": 1}]},
    },
]  # fmt: skip
EXPRESSIONS = {
    "type": '"step_completed"',
    "step": '"answer" | "plan"',
    "at": "string | null",
    "payload.text": "string",
    "payload.more": "unknown",
    "payload.text.letters": "null",
    "payload.items": "{ name: string; price?: number }[]",
    "payload.items[0]": "{ name: string; price?: number } | null",
    "payload.items[0].name": "string | null",
    "payload.items[].price": "number[]",
    "payload.items[*].{n: name, p: price}": "{ n: string; p: number | null }[]",
    "payload.items[?price > `1`].name": "string[]",
    "payload.items[:1]": "{ name: string; price?: number }[]",
    "payload.text[0]": "null",
    "anything.x[].y": "unknown[] | null",
    "anything.*": "unknown[] | null",
    "'text'": '"text"',
    "`7`": "7",
    "`[1, 2]`": "(1 | 2)[]",
    "`null`": "null",
    "at || 'never'": "string",
    "at && step": '"answer" | "plan" | string | null',
    "!at": "boolean",
    "step == 'answer'": "boolean",
    "payload.n > `1`": "boolean | null",
    "length(payload.items)": "number",
    "not_null(at, 'never')": "string",
    "not_null(at, index)": "string | null",
    "map(&name, payload.items)": "string[]",
    "join(', ', payload.items[].name)": "string",
    "max_by(payload.items, &name).name": "string | null",
    "sort_by(payload.items, &name)[0].name": "string | null",
    "to_array(step)": '"answer"[] | "plan"[]',
    "merge({a: step}, {b: payload.n})": '{ a: "answer" | "plan"; b: number }',
    "merge(payload, {a: `1`})": "{ [name: string]: unknown }",
    "[step, payload.n]": '("answer" | "plan" | number)[]',
    "{a: at, b: {c: recovered}}": "{ a: string | null; b: { c: boolean } }",
    "anything.{a: x}": "{ a: unknown } | null",
    "payload.items[].[name, price][]": "(string | number)[]",
    "to_number(payload.text)": "number | null",
    "type(payload)": "string",
}


def fits(value: Any, given: Type) -> bool:
    """Whether a JSON value is of the type."""
    match given:
        case Union(options):
            return any(fits(value, each) for each in options)
        case Literal(wanted):
            return type(value) is type(wanted) and value == wanted
        case Array(inner):
            return isinstance(value, list) and all(fits(each, inner) for each in value)
        case Object(fields, others):
            known = {each.name: each for each in fields}
            return (
                isinstance(value, dict)
                and all(each.optional or name in value for name, each in known.items())
                and all(
                    fits(inner, known[name].type)
                    if name in known
                    else others is not None and fits(inner, others)
                    for name, inner in value.items()
                )
            )
        case Plain(word):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return {
                "unknown": True,
                "null": value is None,
                "string": isinstance(value, str),
                "boolean": isinstance(value, bool),
                "number": number,
            }[word]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_inferred_holds_for_every_value_of_the_expression(expression: str) -> None:
    made = inferred(expression, ROOT)
    # a union with a plain type leaves out its literals
    assert written(made) == EXPRESSIONS[expression].replace('"answer" | "plan" | string', "string")
    for value in VALUES:
        assert fits(compile_expression(expression).evaluate(value), made), value


SCHEMAS: list[tuple[Any, str]] = [
    ({"type": "string"}, "string"),
    ({"type": ["integer", "null"]}, "number | null"),
    ({"enum": ["a", 1, True, None]}, '"a" | 1 | true | null'),
    ({"const": "x"}, '"x"'),
    ({"type": "object", "properties": {"a": {"type": "string"}, "b-c": {}}, "required": ["a"]},
     '{ a: string; "b-c"?: unknown; [name: string]: unknown }'),
    ({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False},
     "{ a?: string }"),
    ({"additionalProperties": {"type": "number"}}, "{ [name: string]: number }"),
    ({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "(string | null)[]"),
    ({"type": "array"}, "unknown[]"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "boolean"}}}, "boolean"),
    ({"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"properties": {"b": {"type": "number"}}, "required": ["b"]}]},
     "{ a: string; b: number; [name: string]: unknown }"),
    ({"description": "anything"}, "unknown"),
    (True, "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "text"), SCHEMAS)
def test_a_json_schema_becomes_a_type(schema: Any, text: str) -> None:
    assert written(of_schema(schema)) == text


def test_a_schema_that_refers_to_itself_ends_as_unknown() -> None:
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"properties": {"next": {"$ref": "#/$defs/t"}}}}}
    assert written(of_schema(tree)).count("next") < 30


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "text"}, "no such `type`"),
        ({"properties": {"a": "string"}}, "must be a JSON Schema"),
        ({"$ref": "#/$defs/missing"}, "leads nowhere"),
        ({"anyOf": {"type": "string"}}, "list of schemas"),
        ("string", "must be a mapping"),
    ],
)
def test_a_wrong_schema_is_refused(schema: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StepTypesConfig.model_validate({"output": schema})


def stream_of(*rules: dict[str, Any]) -> StreamConfig:
    return stream("chat", StreamBlock.model_validate({"rules": list(rules)}), {})


def texts(given: StreamConfig, types: dict[str, Any] | None = None) -> list[str]:
    known = {step: StepTypesConfig.model_validate(each) for step, each in (types or {}).items()}
    return [f"{event} {written(data)}" for event, data in members(given, known)]


def test_the_default_data_has_a_member_for_each_event() -> None:
    assert texts(stream_of({"events": ["step_completed", "step_failed"], "steps": "answer"})) == [
        'message { type: "step_completed"; step: "answer"; payload: unknown }',
        'message { type: "step_failed"; step: "answer"; payload: { message: string; detail: string } }',
    ]


def test_a_declared_output_gives_its_step_a_member_of_its_own() -> None:
    data = {"s": "step", "t": "payload.text"}
    rule = {"events": "step_completed", "steps": ["plan", "answer"], "event": "done", "data": data}
    output = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    assert texts(stream_of(rule), {"answer": {"output": output}}) == [
        'done { s: "answer"; t: string }',
        'done { s: "plan"; t: unknown }',
    ]


def test_chunks_are_text_or_what_their_schema_says() -> None:
    as_text = {"events": "step_stream", "steps": "answer", "data": "payload"}
    as_json = {**as_text, "payload": "json"}
    types = {"answer": {"chunk": {"type": "number"}}}
    assert texts(stream_of(as_text, as_json), types) == ["message string", "message number"]


def test_merged_chunks_are_text_or_an_array() -> None:
    chunk = {"a": {"chunk": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}}}
    rule = {"events": ("step_stream",), "steps": ("a",), "merge": 0.05}
    text = stream_of({**rule, "data": {"first": "first_index", "text": "payload"}})
    assert texts(text, chunk) == ["message { first: number; text: string }"]
    json = stream_of({**rule, "payload": "json", "data": "payload[].n"})
    assert texts(json, chunk) == ["message number[]"]


def test_fields_that_may_be_null_are_kept_or_dropped() -> None:
    rule = {"events": "step_started", "data": {"at": "at", "attempt": "attempt", "payload": "payload"}}
    assert texts(stream_of(rule)) == ["message { at: string | null; attempt: number | null; payload: null }"]
    assert texts(stream_of({**rule, "nulls": "drop"})) == ["message { at?: string; attempt?: number }"]


def test_an_expression_that_may_fail_gives_null_where_the_rule_says_so() -> None:
    rule = {"events": "step_completed", "data": {"n": "length(payload)"}}
    assert texts(stream_of(rule)) == ["message { n: number }"]
    assert texts(stream_of({**rule, "on_error": "null"})) == ["message { n: number | null }"]


def test_run_events_have_no_step_and_know_the_outputs() -> None:
    data = {"step": "step", "failed": "payload.step", "text": "payload.answer.text"}
    rule = {"events": ["run_completed", "run_failed"], "data": data}
    output = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    assert texts(stream_of(rule), {"answer": {"output": output}}) == [
        "message { step: null; failed: unknown; text: string | null }",
        "message { step: null; failed: string | null; text: null }",
    ]


def test_a_stream_for_a_chat_front_end_has_the_parts_that_its_rules_send() -> None:
    rules = [
        {"events": "step_stream", "steps": "answer", "as": "text"},
        {"events": "step_completed", "steps": "plan", "as": "data-plan", "data": "payload.tools"},
    ]
    block = StreamBlock.model_validate({"format": "ai-sdk", "rules": rules})
    types = {"plan": {"output": {"properties": {"tools": {"type": "array", "items": {"type": "string"}}}}}}
    assert texts(stream("chat", block, {}), types) == ["text string", "data-plan string[] | null"]
    assert '    | Part<"text", string>\n    | Part<"data-plan", unknown>;\n' in typescript(
        {"chat": stream("chat", block, {})}, {}
    )


def test_a_stream_without_control_frames_has_none_in_its_type() -> None:
    block = StreamBlock.model_validate({"control": "off", "rules": [{"events": "run_*", "data": "run_id"}]})
    assert '  chat:\n    | Frame<"message", string>;\n' in typescript({"chat": stream("chat", block, {})}, {})


FILE = """
version: 1
hatchet: {token: "${TOKEN:?none here}"}
types:
  answer: {output: {type: object, properties: {text: {type: string}}, required: [text]}}
streams:
  live-chat: {rules: [{events: step_completed, steps: answer, data: payload.text}]}
"""


def test_the_command_needs_no_token_and_writes_a_file(tmp_path: Path) -> None:
    (tmp_path / "streams.yaml").write_text(FILE)
    ran = CliRunner().invoke(main, ["types", str(tmp_path / "streams.yaml")])
    assert ran.exit_code == 0, ran.output
    assert '  "live-chat":\n    | Frame<"message", string>\n    | ControlFrame;\n' in ran.stdout
    output = tmp_path / "streams.ts"
    assert (
        CliRunner().invoke(main, ["types", str(tmp_path / "streams.yaml"), "-o", str(output)]).exit_code == 0
    )
    assert output.read_text() == ran.stdout


def test_a_folder_gives_the_streams_of_each_team(tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    for team in ("payments", "search"):
        (tmp_path / "teams" / f"{team}.yaml").write_text(
            "version: 1\nstreams: {chat: {rules: [{events: step_completed, data: run_id}]}}\n"
        )
    ran = CliRunner().invoke(main, ["types", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    assert "export interface Teams {\n  payments: {\n" in ran.stdout and "  search: {\n" in ran.stdout
    one = CliRunner().invoke(main, ["types", str(tmp_path), "--team", "search"])
    assert "export interface Streams {\n" in one.stdout and "payments" not in one.stdout
    assert CliRunner().invoke(main, ["types", str(tmp_path), "--team", "sales"]).exit_code == 2


def test_a_file_with_problems_is_refused(tmp_path: Path) -> None:
    (tmp_path / "streams.yaml").write_text(FILE.replace("type: string", "type: text"))
    ran = CliRunner().invoke(main, ["types", str(tmp_path / "streams.yaml")])
    assert ran.exit_code == 1 and "no such `type`" in ran.output
    assert CliRunner().invoke(main, ["types", str(tmp_path / "missing.yaml")]).exit_code == 2
