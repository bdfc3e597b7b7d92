"""What lint says of an expression: where, what is wrong, what to write instead; exact texts."""

from __future__ import annotations

import pytest

from config.expressions.api import (
    ALLOW_FIELDS,
    Diagnostic,
    ExpressionProblem,
    compile_expression,
    event_fields,
    lint,
)


def lint_messages(text: str) -> list[str]:
    return [f"{c.position} {c.severity} {c.code}: {c.message} ({c.hint})" for c in lint(text)]


@pytest.mark.parametrize(
    "text",
    [
        "payload",
        "@",
        "payload.result",
        "type == 'step_stream' && payload != ''",
        "payload.items[?price > `10`].name | [0]",
        "payload.items[*].{name: name, tags: join(', ', not_null(tags, `[]`))}",
        "{all: payload, first: payload.items[0]}",
        "payload.items && length(payload.items) > `2`",
        "payload.text != `null` && contains(payload.text, 'x')",
        "length(not_null(payload.items, `[]`))",
        "length(payload.name || '')",
        "payload.items[?tags && contains(tags, 'a')]",
        'metadata."user-id"',
        "to_number(payload.n) > `1`",
        "'constant'",
        '`{"a": [1, true]}`',
        "sort_by(not_null(payload.items, `[]`), &price)[-1]",
        "not_null(payload.a, payload.b, 'none')",
        "attempt > `1`",
        "recovered == `false`",
        "!recovered",
    ],
)
def test_nothing_is_said_of_what_is_right(text: str) -> None:
    assert lint(text) == []


SYNTAX = [
    ("payload = 'x'", 8, "a single `=` compares nothing", "write == to compare"),
    ("attempt == 1", 11, "a bare number means nothing here", "numbers stand in backticks: `1`"),
    ("attempt > 1.5", 10, "a bare number means nothing here", "numbers stand in backticks: `1.5`"),
    ("attempt == -1", 11, "a bare number means nothing here", "numbers stand in backticks: `-1`"),
    ("payload.a + payload.b", 10, "there is no `+` in an expression",
     "to put texts together write join('', [payload.a, payload.b]), "
     "to add numbers add(payload.a, payload.b)"),
    ("$.payload", 0, "there is no `$` in an expression",
     "it starts at the event already: write payload"),
    ("payload.order-id", 8, "the name order-id has a dash", 'put it in double quotes: "order-id"'),
    ("payload.a-1", 8, "the name a-1 has a dash", 'put it in double quotes: "a-1"'),
    ("payload.a and payload.b", 10, "`and` is no operator here", "write && for and"),
    ("not payload", 0, "`not` is no operator here", "write !(payload.done)"),
    ("payload.größe", 10, "the character 'ö' means nothing here",
     'a name with characters other than a-z, 0-9 and _ is in double quotes: "größe"'),
    ("'abc", 0, "the quotation mark ' is never closed", "add a ' at the end"),
    ('payload."abc', 8, 'the quotation mark " is never closed', 'add a " at the end'),
    ("payload == `1", 11, "the backtick is never closed", "write `1`, `true`, `null` or `[]`"),
    ("length(payload", 14, "the expression ends too early", "close it: add )"),
    ("payload.items[?(a", 17, "the expression ends too early", "close it: add )]"),
    ("payload.", 8, "the expression ends too early", "something must follow the ."),
    ("payload ==", 10, "the expression ends too early", "something must follow the =="),
    ("", 0, "the expression is empty", "write @ for the whole event, or a field's name, e.g. payload"),
    ("payload)", 7, "`)` cannot stand here", "there is one ) too many, or something is missing before it"),
    ("|| payload", 0, "`||` cannot stand here", "something must stand before ||"),
    ("payload.a * `2`", 10, "`*` cannot stand here", "write mul(payload.a, `2`)"),
    ("payload === 'x'", 8, "`===` is no operator here", "write payload == 'x'"),
    ("payload.a / payload.b", 10, "there is no `/` in an expression",
     "write div(payload.a, payload.b)"),
    ("payload.a ? 'x' : 'y'", 10, "a `?` stands only in a filter",
     "write if(payload.a, 'x', 'y')"),
    ("payload == \u201cx\u201d", 11, "a curly quotation mark means nothing here",
     "text stands in straight single quotes: 'text'"),
    ('"length"(payload)', 0, "a function's name stands without quotes", "write length(…)"),
    ("payload['a']", 8, "brackets hold the number of an entry, not the name of a field", "write payload.a"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "position", "message", "hint"), SYNTAX)
def test_what_cannot_be_read_is_said_in_plain_words(
    text: str, position: int, message: str, hint: str
) -> None:
    assert lint(text) == [Diagnostic(position, "error", "syntax", message, hint)]
    with pytest.raises(ExpressionProblem) as caught:
        compile_expression(text)
    assert (caught.value.position, caught.value.message, caught.value.hint) == (position, message, hint)


@pytest.mark.parametrize(
    ("text", "diagnostic"),
    [
        ("lenght(type)", "0 error unknown-function: there is no function lenght() (did you mean length()?)"),
        (
            "div(`1`, `0`)",
            "9 error division-by-zero: div() cannot divide by 0 (divide by another number; "
            "where it may be 0: if(total == `0`, `0`, div(done, total)))",
        ),
        ("len(type)", "0 error unknown-function: there is no function len() (did you mean length()?)"),
        ("concat(type)", "0 error unknown-function: there is no function concat() "
         "(write join('', [step, type]))"),
        ("length(type, step)", "0 error arity: length() takes one argument, but is given 2 "
         "(write length(payload.value))"),
        ("length()",
         "0 error arity: length() takes one argument, but is given none (write length(payload.value))"),
        ("not_null()", "0 error arity: not_null() takes at least one argument, but is given none "
         "(write not_null(payload.name, 'none'))"),
        ("join(', ')",
         "0 error arity: join() takes two arguments, but is given 1 (write join(', ', payload.names))"),
        ("sort_by(`[]`, type)",
         "14 error reference: sort_by() needs an expression that it applies to each element "
         "(put an & before it: sort_by(payload.items, &price))"),
        ("length(&type)", "7 error reference: length() takes no & here (write length(payload.value))"),
        ("type == &step",
         "8 error reference: a single & stands only before an argument of map, sort_by, min_by "
         "or max_by (for `and` write &&)"),
        ("payload[::0]", "7 error slice-step: a slice's step cannot be 0 (write [start:stop:step])"),
        ("`foo`",
         "0 error literal-string: the text in the backticks is not JSON, so it would be a string "
         "(write the text in single quotes: 'foo')"),
        ("type == ` foo`",
         "8 error literal-string: the text in the backticks is not JSON, so it would be "
         "a string (write the text in single quotes: 'foo')"),
        ("`NaN`", "0 error not-json: NaN and infinity are no JSON (write a number, or `null`)"),
        ("join(', ' `[]`)", "10 error missing-comma: a comma is missing before this (write (a, b))"),
        ("paylod.x", "0 error unknown-field: the event has no field `paylod` (did you mean payload?)"),
        ("payload.x == true", "13 error unknown-field: the event has no field `true` "
         "(the constant stands in backticks: `true`)"),
        ("payload.x == null", "13 error unknown-field: the event has no field `null` "
         "(the constant stands in backticks: `null`)"),
        ('step == "start"', "8 error unknown-field: the event has no field `start` "
         "(double quotes name a field; a text stands in single quotes: 'start')"),
        ("answer",
         "0 error unknown-field: the event has no field `answer` (a step's output is under payload: "
         "payload.answer; a text stands in single quotes: 'answer')"),
        ("step.name", "5 error no-fields: `step` is a string, it has no field `name` (write step alone)"),
        ("{a: type} | b", "12 error unknown-field: the root has no field `b` (it has a)"),
        ("length(attempt)", "7 warning argument-type: length() takes a string, an array or an object, "
         "but `attempt` is a number (as text: to_string(attempt))"),
        ("type == 'step_complete'", "8 warning never-equal: `type` is never 'step_complete' "
         "(did you mean 'step_completed'?)"),
        ("attempt == '1'", "8 warning never-equal: this is never true: `attempt` is a number, the other side "
         "a string (numbers stand in backticks, `1`, texts in single quotes, '1')"),
        ('payload.x == "type"', '13 warning double-quotes: "type" in double quotes is a field, not a text '
         "(a text stands in single quotes: 'type')"),
        ("length(payload.items)",
         "7 warning may-be-missing: length() fails where `payload.items` is missing or "
         "null (give it a default: length(not_null(payload.items, `[]`)))"),
        ("starts_with(payload.a, 'x')",
         "12 warning may-be-missing: starts_with() fails where `payload.a` is missing "
         "or null (give it a default: starts_with(not_null(payload.a, ''), 'x'))"),
    ],
)  # fmt: skip
def test_what_can_be_read_but_is_wrong_is_said_with_what_to_write(text: str, diagnostic: str) -> None:
    assert lint_messages(text) == [diagnostic]


def test_a_missing_field_under_a_function_is_both_unknown_and_may_be_missing() -> None:
    assert [diagnostic.code for diagnostic in lint("length(items)")] == ["unknown-field", "may-be-missing"]
    assert "not_null(items, `[]`)" in (lint("length(items)")[1].hint or "")


def test_all_diagnostics_come_at_once_in_the_order_of_their_positions() -> None:
    diagnostics = lint("lenght(paylod) == `foo` && setp == 'x'")
    assert [(diagnostic.position, diagnostic.code) for diagnostic in diagnostics] == [
        (0, "unknown-function"),
        (7, "unknown-field"),
        (18, "literal-string"),
        (27, "unknown-field"),
    ]


# -- too long, too deep, too much


def test_over_4_kib_is_too_long() -> None:
    assert lint("'" + "x" * 4094 + "'") == []
    assert [c.code for c in lint("'" + "x" * 4095 + "'")] == ["too-long"]
    assert [c.code for c in lint("'" + "ä" * 3000 + "'")] == ["too-long"]


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("(", ")"), ("[", "]"), ("{a: ", "}"), ("!", ""), ("length(", ")"), ("type[?", "]")],
)
def test_nested_deeper_than_64_is_too_deep(opening: str, closing: str) -> None:
    assert [c.code for c in lint(opening * 65 + "type" + closing * 65) if c.severity == "error"] == [
        "too-deep"
    ]
    assert not [c for c in lint(opening * 20 + "type" + closing * 20) if c.code == "too-deep"]


def test_a_long_chain_is_not_deep() -> None:
    assert lint(" || ".join(["type == 'step_failed'"] * 100)) == []
    assert lint("payload" + ".a" * 200) == []


@pytest.mark.parametrize(
    "text",
    [
        "[@,@] | [@,@] | [@,@] | [@,@] | [@,@] | [@,@] | [@,@]",
        " | ".join(["{a: @, b: @}"] * 7),
        " | ".join(["[@, @][]"] * 7),
        "[" + ", ".join(["payload"] * 65) + "]",
        " | ".join(["map(&[@, @], to_array(@))"] * 7),
    ],
)
def test_what_could_hold_the_event_too_often_is_an_explosion(text: str) -> None:
    assert [c.code for c in lint(text) if c.severity == "error"] == ["explosion"]
    with pytest.raises(ExpressionProblem, match="more than 64 times"):
        compile_expression(text)


def test_many_different_fields_are_no_explosion() -> None:
    assert lint("{" + ", ".join(f"f{n}: payload.f{n}" for n in range(100)) + "}") == []
    assert lint("[" + ", ".join(["type"] * 60) + "]") == []


# -- what is known of the rule's events


def codes(text: str, *events: str, payload: str = "text", steps: list[str] | None = None) -> list[str]:
    return [diagnostic.code for diagnostic in lint(text, event_fields(events, payload, steps))]


def test_the_text_of_a_chunk_is_never_missing_and_has_no_fields() -> None:
    assert codes("length(payload)", "step_stream") == []
    assert codes("length(payload)", "step_completed") == ["may-be-missing"]
    assert codes("payload.a", "step_stream") == ["no-fields"]
    assert codes("payload.a", "step_stream", payload="json") == []


def test_a_failures_payload_has_message_and_detail() -> None:
    assert codes("payload.message", "step_failed", "run_failed") == []
    assert codes("payload.mesage", "step_failed") == ["unknown-field"]
    assert codes("payload.step", "run_failed") == []
    assert codes("length(payload.message)", "step_failed") == []
    assert codes("length(payload.message)", "step_retrying") == ["may-be-missing"]


def test_a_type_that_the_rule_never_gets_is_never_equal() -> None:
    assert codes("type == 'step_failed'", "run_*") == ["never-equal"]
    assert codes("starts_with(step, 'a')", "step_*") == []
    assert codes("starts_with(step, 'a')", "*") == ["may-be-missing"]
    assert codes("starts_with(step, 'a')", "*", steps=["a*"]) == []


# -- allow


def test_allow_sees_claims_run_and_request() -> None:
    assert (
        lint("claims.sub == run.metadata.user_id && request.params.x == request.origin", ALLOW_FIELDS) == []
    )
    [diagnostic] = lint("claims.sub == run.user_id", ALLOW_FIELDS)
    assert (diagnostic.position, diagnostic.message) == (18, "`run` has no field `user_id`")
    [diagnostic] = lint("clams.sub == 'x'", ALLOW_FIELDS)
    assert diagnostic.hint == "did you mean claims?"


def test_under_allow_a_comparison_with_null_is_warned_of() -> None:
    [diagnostic] = lint("claims.sub != `null`", ALLOW_FIELDS)
    assert diagnostic.message == "under allow a comparison with null refuses everybody"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("run.id", "a string"),
        ("claims.groups[?@ == 'a']", "an array"),
        ("'yes'", "a string"),
        ("`1`", "a number"),
    ],
)
def test_under_allow_what_is_never_true_is_warned_of(text: str, what: str) -> None:
    [diagnostic] = lint(text, ALLOW_FIELDS)
    assert diagnostic.message == f"`allow` lets in only for true, and this gives {what}: everybody is refused"
