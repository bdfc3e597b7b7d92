"""Evaluation: within its budget, only JSON, no value in an error; and `allow`, which doubts."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from config.expressions.api import (
    WORK_LIMIT,
    AllowExpression,
    ExpressionFailed,
    ExpressionProblem,
    Meter,
    compile_allow,
    compile_expression,
)
from proxy.core import json_codec
from tests.support.cost import relative_cost

SECRET = "s3cr3t"


def evaluate(text: str, **root: Any) -> Any:
    return compile_expression(text).evaluate(root)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("length(a)", "length() takes a string, an array or an object, but was given number"),
        ("abs(b)", "abs() takes a number, but was given string"),
        ("sum(c)", "sum() takes an array of numbers, but one element is string"),
        ("sort(c)", "sort() takes an array of numbers or of strings, but one element is string"),
        ("join(', ', c)", "join() takes an array of strings, but one element is number"),
        ("contains(b, a)", "contains() looks for a string in a string, not for number"),
        ("div(a, `0`)", "div() cannot divide by 0"),
        ("slice(b, `0.5`, `2`)", "slice() takes whole numbers"),
        ("replace(b, '', 'x')", "replace() cannot look for an empty text"),
        ("mul(f[0], f[1])", "gives a number that is too large for JSON"),
        ("sort_by(d, &x)", "sort_by() cannot order strings and numbers together"),
        ("max_by(d, &y)", "max_by() needs a number or a string for each element, but one gives null"),
        ("merge(e, b)", "merge() takes an object, but was given string"),
        ("sum(f)", "gives a number that is too large for JSON"),
    ],
)
def test_an_error_says_what_is_wrong_but_no_value(text: str, reason: str) -> None:
    root = {
        "a": 7, "b": SECRET, "c": [1, SECRET], "d": [{"x": 1}, {"x": SECRET}], "e": {}, "f": [1e308, 1e308],
    }  # fmt: skip
    with pytest.raises(ExpressionFailed) as caught:
        compile_expression(text).evaluate(root)
    assert str(caught.value) == caught.value.reason == reason


def test_numbers_and_booleans_are_never_equal_and_zero_is_true() -> None:
    assert evaluate("a == `1`", a=True) is False
    assert evaluate("a == `0`", a=False) is False
    assert evaluate("a == `1.0`", a=1) is True
    assert evaluate("a == b", a=[True], b=[1]) is False
    assert evaluate("a == b", a={"x": [{"y": 0}]}, b={"x": [{"y": False}]}) is False
    assert evaluate("a != b", a={"x": 1, "y": None}, b={"y": None, "x": 1.0}) is False
    assert evaluate("a == b", a={"x": 1}, b={"y": 1}) is False
    assert evaluate("a == b", a=["1"], b=[1]) is False
    assert evaluate("contains(a, `1`)", a=[True]) is False
    assert evaluate("contains(a, `false`)", a=[0, ""]) is False
    assert evaluate("contains(a, `1`)", a=[1.0]) is True
    assert evaluate("contains(a, `[1]`)", a=[[True]]) is False
    assert evaluate('contains(a, `{"x": 0}`)', a=[{"x": False}, {"x": 0}]) is True
    assert evaluate("a[?x == `true`].n", a=[{"x": 1, "n": 1}, {"x": True, "n": 2}]) == [2]
    assert evaluate("a && 'yes'", a=0) == "yes"
    assert evaluate("!a", a=0) is False


def test_ordering_other_than_numbers_and_strings_gives_null() -> None:
    assert evaluate("a > `0`", a=None) is None
    assert evaluate("a > `0`", a=True) is None
    assert evaluate("a > `0`", a="N/A") is None
    assert evaluate("a > '5'", a=6) is None
    assert evaluate("a > b", a="x", b=1) is None
    assert evaluate("a < 'b'", a="a") is True


def test_an_element_of_another_type_is_not_selected_and_does_not_drop_the_event() -> None:
    items = [{"price": "N/A"}, {"price": 20}, {"price": None}, {}, {"price": [30]}, {"price": True}]
    assert evaluate("items[?price > `10`]", items=items) == [{"price": 20}]


NO_NUMBERS = [
    *("nan", "inf", "-Infinity", "1e999", "x", "", " ", "1_000", " 12 ", "12\n", "+1", "01", "1.", ".5"),
    *("0x10", "1e", "\u0661", "1,5", "--1", "9" * 4301, "0." + "1" * 4300),
]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_to_number_reads_a_json_number_or_gives_null(text: str) -> None:
    assert evaluate("to_number(a)", a=text) is None


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("-1", -1), ("12", 12), ("-0.5", -0.5), ("1e3", 1000.0), ("2E-1", 0.2)]
)
def test_to_number_reads_every_form_of_a_json_number(text: str, number: float) -> None:
    assert evaluate("to_number(a)", a=text) == number


def test_huge_integers_pass() -> None:
    assert evaluate("to_number(a)", a="9" * 400) == int("9" * 400)


LARGE: dict[str, Any] = {
    "items": [{"a": "x" * 20, "b": n, "c": [1, 2, 3]} for n in range(20_000)],
    "text": "x" * 3_000_000,
    "strings": ["s"] * 100_000,
}
HOSTILE = [
    "payload.items[*].[@,@] | [] | [].[@,@] | []",
    " | ".join(["[@] | to_string(@)"] * 150),
    "join(payload.text, payload.strings)",
    "join(payload.text, [payload.text, payload.text]) | join(@, [@, @]) | join(@, [@, @])",
    "sort_by(payload.items, &to_string(@))",
    " | ".join(["[@,@]"] * 6) + " | to_string(@)",
    "[" + " | ".join(["[@,@]"] * 5) + ", payload] | [0] == [1]",
    "(" + " | ".join(["[payload.items,@]"] * 6) + ") == (" + " | ".join(["[payload.items,@]"] * 6) + ")",
    "payload.items[?" + " && ".join(["contains(to_string(@), 'x')"] * 20) + "]",
    " | ".join(["[@]"] * 900),
    " | ".join(["[@, `1`]"] * 300) + " == `1`",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_expression_is_refused_stopped_or_cheap(text: str) -> None:
    def evaluate() -> None:
        with contextlib.suppress(ExpressionProblem, ExpressionFailed, json_codec.NotJson):
            result = compile_expression(text).evaluate({"payload": LARGE})
            assert len(json_codec.encode(result)) < 1 << 28

    assert relative_cost(evaluate) < 60, "a tenth of a second is meant, two units; thirty times that is not"


def test_an_honest_expression_over_a_large_event_passes() -> None:
    assert len(evaluate("payload.items[?b > `9990`].a", payload={"items": LARGE["items"][:10_000]})) == 9
    assert evaluate("length(payload.text)", payload=LARGE) == 3_000_000


SCANS = [
    ("contains(a, 'y')", 1 << 20, 1 << 14),
    ("starts_with(a, b)", 1 << 20, 1 << 10),
    ("ends_with(a, b)", 1 << 20, 1 << 10),
    ("a == b", 1 << 20, 1 << 10),
    ("a < b", 1 << 20, 1 << 10),
    ("[a] == [b]", 1 << 20, 1 << 10),
    ("contains([a, a], b)", 1 << 20, 1 << 11),
    ("max([a, b])", 1 << 20, 1 << 11),
    ("sort_by([{x: a}, {x: b}], &x)", 1 << 20, 1 << 12),
    ("lower(a)", 1 << 20, 1 << 16),
    ("split(a, 'x')", 1 << 17, 1 << 17),
    ("replace(a, 'x', 'yy')", 1 << 17, 1 << 17),
    ("slice(a, `1`, `2`)", 1 << 20, 1 << 14),
]


@pytest.mark.parametrize(("text", "length", "least"), SCANS)
def test_reading_a_text_is_work_by_its_length(text: str, length: int, least: int) -> None:
    meter = Meter()
    meter.left = WORK_LIMIT
    compile_expression(text, meter).evaluate({"a": "x" * length, "b": "x" * (length - 1) + "y"})
    assert WORK_LIMIT - meter.left >= least


def test_many_readings_of_one_long_text_are_stopped() -> None:
    text = " || ".join(f"contains(a, '{number}')" for number in range(130))
    with pytest.raises(ExpressionFailed, match="too much work"):
        evaluate(text, a="x" * 4_000_000)
    assert evaluate(text, a="x" * 10_000) is False


def test_to_number_of_a_long_text_is_no_work_at_all() -> None:
    text = " || ".join(["to_number(a) == `0`"] * 130)
    assert evaluate(text, a="1" * 4_000_000) is False


def test_a_short_constant_costs_nothing_that_adds_up() -> None:
    expression = compile_expression("a > 'x' || a == 'y'")
    for _ in range(3):
        assert expression.evaluate({"a": "x" * 4_000_000}) is True
    ordered = compile_expression("a < '" + "x" * 4000 + "'")
    for _ in range(WORK_LIMIT // 2):
        ordered.evaluate({"a": "x" * 4000})


# -- the functions that JMESPath does not have


OWN = [
    ("add(a, `2`)", 9), ("sub(a, `2`)", 5), ("mul(a, `2`)", 14), ("div(a, `2`)", 3.5), ("div(`6`, `3`)", 2),
    ("round(`2.675`, `2`)", 2.68), ("round(`2.5`, `0`)", 3), ("round(`-2.5`, `0`)", -3), ("round(a, `2`)", 7),
    ("round(`1e300`, `2`)", 1e300), ("slice(b, `1`, `3`)", "el"), ("slice(b, `-3`, `null`)", "llo"),
    ("slice(b, `0`, `100`)", "hello"), ("lower('ÄB')", "äb"), ("upper(b)", "HELLO"), ("trim('  x\n')", "x"),
    ("replace(b, 'l', 'L')", "heLLo"), ("split('a,b,', ',')", ["a", "b", ""]),
    ("split('ab', '')", ["a", "b"]), ("split('abc', '', `1`)", ["a", "bc"]),
    ("split('ab', '', `5`)", ["a", "b"]),
    ("split('a-b-c', '-', `1`)", ["a", "b-c"]), ("split('a-b', '-', `0`)", ["a-b"]), ("split('', '-')", [""]),
    ("trim('xaxx', 'x')", "a"), ("trim(' a ', '')", "a"), ("replace('aaa', 'a', 'b', `2`)", "bba"),
    ("replace('aaa', 'a', 'b', `0`)", "aaa"), ("replace('aaa', 'a', 'b', `1e300`)", "bbb"),
    ("omit(c, ['x'])", {"y": None}), ("pick(c, ['x', 'z'])", {"x": 1}), ("lookup(c, 'x', 'none')", 1),
    ("lookup(c, 'y', 'none')", "none"), ("lookup(c, 'z', 'none')", "none"), ("if(c.x, 'a', 'b')", "a"),
    ("if(c.y, 'a', 'b')", "b"), ("if(`0`, 'a', 'b')", "a"), ("if(c.z, abs(b), 'safe')", "safe"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), OWN)
def test_an_own_function_gives(text: str, value: Any) -> None:
    result = evaluate(text, a=7, b="hello", c={"x": 1, "y": None})
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    ["replace(b, 'l', 'L', `-1`)", "split(b, 'l', `0.5`)", "split(b, '', `-1`)", "replace(b, '', 'x')"],
)
def test_a_count_that_is_no_whole_number_from_0_and_an_empty_text_to_replace_fail(text: str) -> None:
    with pytest.raises(ExpressionFailed) as failed:
        evaluate(text, b="hello")
    assert "hello" not in str(failed.value)


def test_under_allow_an_if_evaluates_both_of_its_values() -> None:
    refusal = compile_allow("if(`true`, `true`, claims.org == 'x')").refusal(root())
    assert refusal == "a side of a comparison is missing or null"


# -- allow


def root(**changes: Any) -> dict[str, Any]:
    return {
        "claims": {"sub": "u1", "roles": ["admin"], "none": None, "nested": {"a": None}},
        "run": {"id": "r", "metadata": {"user_id": "u1"}},
        "request": {"params": {}, "origin": None},
    } | changes


@pytest.mark.parametrize(
    "text",
    [
        "claims.sub == run.metadata.user_id",
        "claims.sub != 'u2'",
        "contains(claims.roles, 'admin')",
        "claims.sub == 'x' || contains(claims.roles, 'admin')",
        "`true`",
        "length(claims.roles) > `0` && claims.sub == 'u1'",
    ],
)
def test_allow_permits_what_is_true(text: str) -> None:
    assert compile_allow(text).permits(root())


@pytest.mark.parametrize(
    "text", ["claims.sub", "claims.roles", "`1`", "'true'", "`null`", "claims.sub == 'u2'"]
)
def test_allow_refuses_anything_but_true(text: str) -> None:
    assert not compile_allow(text).permits(root())


MISSING = [
    "claims.org == run.metadata.org",
    "claims.none == run.metadata.org",
    "claims.sub == run.metadata.owner",
    "claims.sub != run.metadata.owner",
    "!(claims.sub == run.metadata.owner)",
    "!(claims.sub != run.metadata.owner)",
    "claims.sub == 'u1' || claims.org == 'x'",
    "claims.org == 'x' || claims.sub == 'u1'",
    "claims.sub == 'u1' || !(claims.org == 'x')",
    "`true` || claims.org == 'x'",
    "!(`false` && claims.org == 'x')",
    "claims.level < `5` || claims.sub == 'u1'",
    "!(claims.level > `5`)",
    "[claims.org] == [run.metadata.org]",
    "{a: claims.org} == {a: run.metadata.org}",
    "to_string(claims.org) == to_string(run.metadata.org)",
    "to_string([claims.org]) == to_string([run.metadata.org])",
    "claims.nested == claims.nested",
    "contains([claims.org], run.metadata.org)",
    "(claims.roles[?@ == run.metadata.x] || `true`)",
    "claims.sub == `null` || `true`",
]


@pytest.mark.parametrize("text", MISSING)
def test_a_comparison_with_a_missing_side_refuses_the_whole_allow(text: str) -> None:
    assert compile_allow(text).refusal(root()) == "a side of a comparison is missing or null"


@pytest.mark.parametrize("text", ["length(claims.org) > `0` || `true`", "`true` || abs(claims.sub) == `1`"])
def test_an_error_refuses(text: str) -> None:
    allow = compile_allow(text)
    assert not allow.permits(root())
    assert "u1" not in (allow.refusal(root()) or "")


@pytest.mark.parametrize(
    "text",
    [
        "claims.roles > `1` || `true`",
        "!(claims.sub > `1`)",
        "!(claims.roles > `1`)",
        "`true` || claims.sub < `5`",
        "!(claims.sub <= claims.roles)",
    ],
)
def test_an_ordering_of_unlike_types_refuses_the_whole_allow(text: str) -> None:
    reason = "only two numbers or two strings can be compared by order"
    assert compile_allow(text).refusal(root()) == reason


@pytest.mark.parametrize(
    "text",
    [
        "claims.scope == run.metadata.scope",
        "[claims.level] == [`1`]",
        "{a: claims.level} == {a: `1`}",
        "contains([claims.level], `1`)",
        "contains(claims.levels, `0`)",
    ],
)
def test_true_is_never_one_in_a_right(text: str) -> None:
    claims = {"level": True, "levels": [False], "scope": [True, {"x": False}]}
    run = {"id": "r", "metadata": {"scope": [1, {"x": 0}]}}
    assert compile_allow(text).refusal(root(claims=claims, run=run)) == "the expression is not true"


def test_allow_that_needs_too_much_work_refuses() -> None:
    allow: AllowExpression = compile_allow("sort(claims.roles)[0] == 'a' || `true`")
    assert not allow.permits(root(claims={"roles": ["a"] * 500_000}))
