"""Every hint leads to something that works: what the hint proposes is checked and evaluated again."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest

from config.expressions.api import ALLOW_FIELDS, compile_allow, compile_expression, event_fields, lint
from config.expressions.types import Shape

CHUNK: Final = event_fields(("step_stream",))
ANY_EVENT: Final = event_fields()
FAILURE: Final = event_fields(("step_failed",))

EVENT: Final[dict[str, Any]] = {
    "type": "step_completed", "step": "answer", "run_id": "r", "step_run_id": "s", "attempt": 2, "index": 3,
    "at": "2026-03-01T00:00:00Z", "recovered": True, "metadata": {"debug": "no", "2fa": "on"},
    "payload": {
        "items": [{"name": "a", "active": True, "price": 20}, {"name": "b", "price": "N/A"}], "done": False,
        "the key": "k", "key": "v", "1st": "one", "name": None, "a": 6, "b": 3, "score": 7, "text": "hello",
        "date": "2026-05-01", "order-id": 9, "note": "x", "done_at": None, "answer": "yes", "tags": ["t"],
    },
}  # fmt: skip
TEXT_EVENT: Final = {**EVENT, "type": "step_stream", "payload": "some text"}

# (what was written, the root, severity and code, what the hint proposes, what that gives)
HINTS: Final[list[tuple[str, Shape, str, str, Any]]] = [
    # constants that are fields: everywhere, not only at the root
    ("payload.items[?active == true].name", ANY_EVENT, "error bare-constant",
     "payload.items[?active == `true`].name", ["a"]),
    ("payload.items[?active == True].name", ANY_EVENT, "error bare-constant",
     "payload.items[?active == `true`].name", ["a"]),
    ("payload.items[?price != null].name", ANY_EVENT, "error bare-constant",
     "payload.items[?price != `null`].name", ["a", "b"]),
    ("map(&(active == true), not_null(payload.items, `[]`))", ANY_EVENT, "error bare-constant",
     "map(&(active == `true`), not_null(payload.items, `[]`))", [True, False]),
    ("payload.items[*].[name, false]", ANY_EVENT, "error bare-constant",
     "payload.items[*].[name, `false`]", [["a", False], ["b", False]]),
    ("payload.items[*].{n: name, x: None}", ANY_EVENT, "error bare-constant",
     "payload.items[*].{n: name, x: `null`}", [{"n": "a", "x": None}, {"n": "b", "x": None}]),
    ("payload.{a: undefined}", ANY_EVENT, "error bare-constant", "payload.{a: `null`}", {"a": None}),
    ("payload | [NaN]", ANY_EVENT, "error bare-constant", "payload | [`null`]", [None]),
    ("payload | not_null(name, false)", ANY_EVENT, "error bare-constant",
     "payload | not_null(name, `false`)", False),
    ("payload.done == false", ANY_EVENT, "error unknown-field", "payload.done == `false`", True),
    # orderings
    ("attempt > '1'", ANY_EVENT, "error never-ordered", "attempt > `1`", True),
    ("'1' < attempt", ANY_EVENT, "error never-ordered", "`1` < attempt", True),
    ("step > `1`", ANY_EVENT, "error never-ordered", "to_number(step) > `1`", None),
    ("at > `1700000000`", ANY_EVENT, "error never-ordered", "at > '2026-01-31T00:00:00Z'", True),
    ("recovered >= `1`", ANY_EVENT, "error never-ordered", "recovered == `true`", True),
    ("metadata > `1`", ANY_EVENT, "error never-ordered", "length(metadata) > `1`", True),
    ("payload.name > `null`", ANY_EVENT, "error never-ordered", "payload.name != `null`", False),
    ("to_number(payload.a) > '5'", ANY_EVENT, "error never-ordered", "to_number(payload.a) > `5`", True),
    ("payload.score > '5'", ANY_EVENT, "warning text-order", "payload.score > `5`", True),
    ("payload.items[?price < '30'].name", ANY_EVENT, "warning text-order",
     "payload.items[?price < `30`].name", ["a"]),
    ("payload.date > '2026-01-01'", ANY_EVENT, "warning text-order",
     "type(payload.date) == 'string' && payload.date > '2026-01-01'", True),
    # `!` binds first
    ("!payload.done", ANY_EVENT, "error not-first", "!(payload.done)", True),
    ("!metadata.debug", ANY_EVENT, "error not-first", "!(metadata.debug)", False),
    ("!payload.items[0].active && type", ANY_EVENT, "error not-first",
     "!(payload.items[0].active) && type", False),
    ("!payload.key == 'v'", ANY_EVENT, "error not-first", "!(payload.key == 'v')", False),
    ("!step == 'answer'", ANY_EVENT, "error not-first", "!(step == 'answer')", False),
    ("!payload.items[?active]", ANY_EVENT, "error not-first", "!(payload.items[?active])", False),
    ("payload.items[?!price.eur].name", ANY_EVENT, "error not-first",
     "payload.items[?!(price.eur)].name", ["a", "b"]),
    ("!length(not_null(payload.items, `[]`)) > `5`", ANY_EVENT, "error never-ordered",
     "!(length(not_null(payload.items, `[]`)) > `5`)", True),
    # names of functions and properties that are not called
    ("not_null(payload.items, `[]`) | length", ANY_EVENT, "warning not-called",
     "length(not_null(payload.items, `[]`))", 2),
    ("payload | type", ANY_EVENT, "warning not-called", "type(payload)", "object"),
    ("payload | keys", ANY_EVENT, "warning not-called", 'payload | "keys"', None),
    ("payload.tags.length", ANY_EVENT, "warning no-fields", 'payload.tags."length"', None),
    ("payload.length", CHUNK, "warning no-fields", "length(payload)", 9),
    # parts of a text
    ("payload[0:4]", CHUNK, "warning not-a-list", "slice(payload, `0`, `4`)", "some"),
    ("payload[:4]", CHUNK, "warning not-a-list", "slice(payload, `0`, `4`)", "some"),
    ("payload[5:]", CHUNK, "warning not-a-list", "slice(payload, `5`, `null`)", "text"),
    ("payload[0]", CHUNK, "warning not-a-list", "slice(payload, `0`, `1`)", "s"),
    ("payload[-1]", CHUNK, "warning not-a-list", "slice(payload, `-1`, `null`)", "t"),
    # lists that are written out
    ("join('', ['Hello ', payload.name])", ANY_EVENT, "warning may-be-missing",
     "join('', ['Hello ', not_null(payload.name, '')])", "Hello "),
    ("join('', ['try ', attempt])", event_fields(("step_completed",)), "warning argument-type",
     "join('', ['try ', to_string(attempt)])", "try 2"),
    ("sum([payload.a, `1`])", ANY_EVENT, "warning may-be-missing", "sum([not_null(payload.a, `0`), `1`])", 7),
    # other languages
    ("payload['key']", ANY_EVENT, "error syntax", "payload.key", "v"),
    ('payload["key"]', ANY_EVENT, "error syntax", "payload.key", "v"),
    ("payload['the key']", ANY_EVENT, "error syntax", 'payload."the key"', "k"),
    ("payload.items[0]['name']", ANY_EVENT, "error syntax", "payload.items[0].name", "a"),
    ("payload[step]", ANY_EVENT, "error syntax", "payload.step", None),
    ("payload.items.0.name", ANY_EVENT, "error syntax", "payload.items[0].name", "a"),
    ("payload.items.[0].name", ANY_EVENT, "error syntax", "payload.items[0].name", "a"),
    ("payload.1st", ANY_EVENT, "error syntax", 'payload."1st"', "one"),
    ("metadata.2fa", ANY_EVENT, "error syntax", 'metadata."2fa"', "on"),
    ("payload.order-id", ANY_EVENT, "error syntax", 'payload."order-id"', 9),
    ("starts-with(step, 'a')", CHUNK, "error syntax", "starts_with(step, 'a')", True),
    ("payload.done ? 'yes' : 'no'", ANY_EVENT, "error syntax", "if(payload.done, 'yes', 'no')", "no"),
    ("payload.name ?? 'none'", ANY_EVENT, "error syntax", "payload.name || 'none'", "none"),
    ("payload?.done_at?.x", ANY_EVENT, "error syntax", "payload.done_at.x", None),
    ("index + 1", CHUNK, "error syntax", "add(index, `1`)", 4),
    ("attempt - 1", CHUNK, "error syntax", "sub(attempt, `1`)", 1),
    ("index * 2", CHUNK, "error syntax", "mul(index, `2`)", 6),
    ("index / 2", CHUNK, "error syntax", "div(index, `2`)", 1.5),
    ("'Token: ' + payload", CHUNK, "error syntax", "join('', ['Token: ', payload])", "Token: some text"),
    ("{{ payload }}", CHUNK, "error syntax", "payload", "some text"),
    ("{payload}", CHUNK, "error syntax", "payload", "some text"),
    ("Token: {payload}", CHUNK, "error syntax", "join('', ['Token: ', payload])", "Token: some text"),
    ("{{ step }}: {{ payload }}", CHUNK, "error syntax",
     "join('', [step, ': ', payload])", "answer: some text"),
    ("Hello world", CHUNK, "error syntax", "'Hello world'", "Hello world"),
    ("Something went wrong.", CHUNK, "error syntax", "'Something went wrong.'", "Something went wrong."),
    ("Error: it failed", CHUNK, "error syntax", "'Error: it failed'", "Error: it failed"),
    ("event.payload.key", ANY_EVENT, "error unknown-field", "payload.key", "v"),
    ("data.payload.items[0].name", ANY_EVENT, "error unknown-field", "payload.items[0].name", "a"),
    (".payload", ANY_EVENT, "error syntax", "payload", EVENT["payload"]),
    ("step, type", ANY_EVENT, "error syntax", "[step, type]", ["answer", "step_completed"]),
    ("payload.a === payload.b", ANY_EVENT, "error syntax", "payload.a == payload.b", False),
    ("payload.a !== payload.b", ANY_EVENT, "error syntax", "payload.a != payload.b", True),
    ("step <> 'answer'", CHUNK, "error syntax", "step != 'answer'", False),
    ("map(x => x.name, not_null(payload.items, `[]`))", ANY_EVENT, "error syntax",
     "map(&name, not_null(payload.items, `[]`))", ["a", "b"]),
    ("payload.name // 'none'", ANY_EVENT, "error syntax", "payload.name || 'none'", "none"),
    ("{a = step}", ANY_EVENT, "error syntax", "{a: step}", {"a": "answer"}),
    ("{a: step, b = type}", ANY_EVENT, "error syntax", "{a: step, b: type}",
     {"a": "answer", "b": "step_completed"}),
    ("payload == {}", ANY_EVENT, "error syntax", "payload == `{}`", False),
    ("payload.items == []", ANY_EVENT, "error empty-list", "payload.items == `[]`", False),
    ("[step, type,]", ANY_EVENT, "error syntax", "[step, type]", ["answer", "step_completed"]),
    ("{a: step,}", ANY_EVENT, "error syntax", "{a: step}", {"a": "answer"}),
    ("{'a': step}", ANY_EVENT, "error syntax", "{a: step}", {"a": "answer"}),
    ("payload.items[*.name]", ANY_EVENT, "error syntax", "payload.items[*].name", ["a", "b"]),
    ("f'Token: {payload}'", CHUNK, "error syntax", "join('', ['Token: ', payload])", "Token: some text"),
    ("`${step}: ${payload}`", CHUNK, "error literal-string",
     "join('', [step, ': ', payload])", "answer: some text"),
    ("#{payload}", CHUNK, "error syntax", "payload", "some text"),
    ("<%= payload %>", CHUNK, "error syntax", "payload", "some text"),
    ("%payload%", CHUNK, "error syntax", "payload", "some text"),
    ("not payload.done", ANY_EVENT, "error syntax", "!(payload.done)", True),
    ("data", ANY_EVENT, "error unknown-field", "payload", EVENT["payload"]),
    ("workflowRunId", ANY_EVENT, "error unknown-field", "run_id", EVENT["run_id"]),
    ("step_name", ANY_EVENT, "error unknown-field", "step", "answer"),
    # functions that there are not
    ("concat(step, type)", CHUNK, "error unknown-function",
     "join('', [step, type])", "answerstep_stream"),
    ("toUpperCase(step)", CHUNK, "error unknown-function", "upper(step)", "ANSWER"),
    ("to_upper(step)", CHUNK, "error unknown-function", "upper(step)", "ANSWER"),
    ("lowercase(step)", CHUNK, "error unknown-function", "lower(step)", "answer"),
    ("toString(attempt)", CHUNK, "error unknown-function", "to_string(attempt)", "2"),
    ("len(step)", CHUNK, "error unknown-function", "length(step)", 6),
    ("is_null(payload.name)", ANY_EVENT, "error unknown-function", "payload.name == `null`", True),
    ("last(payload.items)", ANY_EVENT, "error unknown-function", "payload.items[-1]",
     {"name": "b", "price": "N/A"}),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "root", "what", "right", "value"), HINTS, ids=[each[0] for each in HINTS])
def test_a_hint_applied_works(wrong: str, root: Shape, what: str, right: str, value: Any) -> None:
    found = [each for each in lint(wrong, root) if f"{each.severity} {each.code}" == what]
    assert found, lint(wrong, root)
    assert all(each.hint and proposes(each.hint, right, wrong) for each in found), found[0].hint
    assert lint(right, root) == [], "the hint leads to another problem"
    event = TEXT_EVENT if root is CHUNK else EVENT
    result = compile_expression(right).evaluate(event)
    assert (result, type(result)) == (value, type(value))


def proposes(hint: str, right: str, wrong: str) -> bool:
    """Whether the hint has the right text, or the part of it that differs from what was written."""
    begin = next((n for n, (a, b) in enumerate(zip(right, wrong, strict=False)) if a != b), 0)
    while begin and (right[begin - 1].isalnum() or right[begin - 1] in "_`'"):
        begin -= 1
    end = 0
    while end < len(right) - begin and end < len(wrong) - begin and right[-1 - end] == wrong[-1 - end]:
        end += 1
    parts = re.compile(r"[\w-]*\w|`[^`]*`|'[^']*'|[!=<>]+")
    changed = parts.findall(right[begin : len(right) - end]) or parts.findall(right)[:1]
    return right in hint or all(part in hint for part in changed)


# (what was written, the code, the expression that the hint has, what that gives)
WHOLE: Final[list[tuple[str, str, str, Any]]] = [
    ("join(', ', payload.tags)", "may-be-missing", "join(', ', not_null(payload.tags, `[]`))", "t"),
    ("sort_by(payload.items, &name)[0].name", "may-be-missing",
     "sort_by(not_null(payload.items, `[]`), &name)", None),
    ("lookup(payload, 'key', 'none')", "may-be-missing",
     "lookup(not_null(payload, `{}`), 'key', 'none')", "v"),
    ("contains(payload.note, 'x, y')", "may-be-missing",
     "contains(not_null(payload.note, `[]`), 'x, y')", False),
    ("join('', ['a', payload.note])", "may-be-missing", "not_null(payload.note, '')", "x"),
    ("round(to_number(payload.a), `1`)", "may-be-missing",
     "round(not_null(to_number(payload.a), `0`), `1`)", 6),
    ("payload.items.length()", "arity", "length(payload.items)", None),
    ("payload.text.upper()", "arity", "upper(payload.text)", None),
    ("payload.text.contains('ell')", "arity", "contains(payload.text, 'ell')", None),
    ("metadata.length()", "arity", "length(metadata)", 2),
    ("$.payload.items[0].name", "syntax", "payload.items[0].name", "a"),
    ("$payload.text", "syntax", "payload.text", "hello"),
    ("$", "syntax", "@", EVENT),
    ("payload.$ref", "syntax", 'payload."$ref"', None),
    ("payload.@type", "syntax", 'payload."@type"', None),
    ("`01`", "literal-string", "`1`", 1),
    ("`1.`", "literal-string", "`1`", 1),
    ("`.5`", "literal-string", "`0.5`", 0.5),
    ("`+7`", "literal-string", "`7`", 7),
    ("`1_000`", "literal-string", "`1000`", 1000),
    ("`0x10`", "literal-string", "`16`", 16),
    ("`{a: 1}`", "literal-string", '`{"a": 1}`', {"a": 1}),
    ("`{'a': True, b: None}`", "literal-string", '`{"a": true, "b": null}`', {"a": True, "b": None}),
    ("`['x', 'y']`", "literal-string", '`["x", "y"]`', ["x", "y"]),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "code", "right", "value"), WHOLE, ids=[each[0] for each in WHOLE])
def test_a_hint_has_a_whole_expression(wrong: str, code: str, right: str, value: Any) -> None:
    [found] = [each for each in lint(wrong, ANY_EVENT) if each.code == code]
    assert right in (found.hint or "")
    assert "\u2026" not in (found.hint or "")
    assert [each for each in lint(right, ANY_EVENT) if each.severity == "error"] == []
    if value is not None:
        assert compile_expression(right).evaluate(EVENT) == value


def test_a_literal_that_cannot_be_mended_is_told_what_json_is() -> None:
    [found] = lint("`{a: b}`", ANY_EVENT)
    assert "in double quotes" in (found.hint or "")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("metadata.user_id == claims.sub", "run.metadata"),
        ("tenant == run.metadata.tenant", "claims.tenant"),
        ("user.id == run.metadata.user_id", "claims.sub"),
        ("params.key == run.metadata.key", "request.params"),
        ("payload.user == claims.sub", "sees no event"),
    ],
)
def test_under_allow_a_name_is_told_its_root(wrong: str, right: str) -> None:
    [found] = lint(wrong, ALLOW_FIELDS)
    assert (found.code, right in (found.hint or "")) == ("unknown-field", True)


def test_where_the_and_is_missing_the_elements_names_are_not_reported_too() -> None:
    found = lint("sort_by(not_null(payload.items, `[]`), price)", ANY_EVENT)
    assert [each.code for each in found] == ["reference"]


def test_a_number_where_text_is_needed_is_converted() -> None:
    [found] = lint("attempt", ANY_EVENT, "string")
    assert (found.hint or "").endswith("; or write it as text: to_string(attempt)")
    assert lint("to_string(attempt)", ANY_EVENT, "string") == []


ALLOW_HINTS: Final = [
    ("contains(claims.roles, 'admin')", "contains-in-text", "contains(to_array(claims.roles), 'admin')"),
    ("contains(run.metadata.role, 'admin')", "contains-in-text",
     "contains(to_array(run.metadata.role), 'admin')"),
    ("contains('admins', claims.role)", "contains-in-text", "contains(to_array('admins'), claims.role)"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "code", "right"), ALLOW_HINTS)
def test_under_allow_contains_is_kept_from_searching_in_a_text(wrong: str, code: str, right: str) -> None:
    [found] = lint(wrong, ALLOW_FIELDS)
    assert (found.severity, found.code) == ("warning", code)
    assert right.partition(",")[0] in (found.hint or "")
    assert lint(right, ALLOW_FIELDS) == []
    roots: dict[str, Any] = {
        "claims": {"roles": "nonadmin", "role": "admin"},
        "run": {"id": "r", "metadata": {"role": "nonadmin"}},
        "request": {"params": {}, "origin": None},
    }
    assert compile_allow(wrong).permits(roots)
    assert not compile_allow(right).permits(roots)
    listed = {**roots, "claims": {"roles": ["admin"], "role": "admins"}}
    listed["run"] = {"id": "r", "metadata": {"role": "admin"}}
    assert compile_allow(right).permits(listed)


@pytest.mark.parametrize(
    "text",
    [
        "payload.true",
        "payload.items[*].null.a",
        "payload.items[?name].true",
        'payload | "true"',
        "payload.a > payload.b",
        "at > '2026-01-01'",
        "(!(recovered)) == `true`",
        "!recovered && !(payload.done)",
        'payload."length"',
        "payload.items[0:2]",
        "payload.items.*.name",
        "join('', ['try ', to_string(attempt)])",
    ],
)
def test_nothing_is_said_where_it_is_meant(text: str) -> None:
    assert lint(text, ANY_EVENT) == []


def test_a_suggestion_comes_only_where_the_meaning_is_near() -> None:
    [found] = lint("quux(type)")
    assert "did you mean" not in (found.hint or "")
    for name, near in {"lower": None, "to_upper": "upper", "substring": "slice", "flor": "floor"}.items():
        hints = [each.hint or "" for each in lint(f"{name}(type)") if each.code == "unknown-function"]
        assert hints == [] if near is None else f"did you mean {near}()?" in hints[0]


def test_an_expression_that_reads_a_text_too_often_is_warned_of() -> None:
    many = " || ".join(f"contains(payload, '{number}')" for number in range(60))
    assert [each.code for each in lint(many, CHUNK)] == ["cost"]
    assert lint(" || ".join(f"contains(type, '{number}')" for number in range(60)), CHUNK) == []
    assert lint(" || ".join(f"contains(payload, '{number}')" for number in range(40)), CHUNK) == []
