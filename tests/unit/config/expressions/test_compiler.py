"""Closures give what the library gives, on random expressions over random values."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any, Final

import jmespath
from hypothesis import given, settings
from hypothesis import strategies as st
from jmespath import visitor
from jmespath.functions import Functions, signature

from config.expressions.api import ExpressionFailed, ExpressionProblem, compile_expression, lint

_Interpreter: Any = visitor.TreeInterpreter  # as in the parser: the stubs do not declare its members
_Functions: Any = Functions

NAMES: Final = st.sampled_from(["a", "b", "c", '"a"', "payload"])
SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([0.0, 1.0, 0.5, -1.5]),
    st.sampled_from(["", "a", "b", "ab", "1", "2.5", "ä"]),
)
VALUES: Final = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=12,
)
ROOTS: Final = st.dictionaries(st.sampled_from(["a", "b", "c", "payload"]), VALUES, max_size=4)

UNARY: Final = (
    *("abs", "avg", "ceil", "floor", "keys", "length", "max", "min", "reverse", "sort", "sum"),
    *("to_array", "to_number", "to_string", "type", "values", "not_null", "merge"),
)


def literal(value: Any) -> str:
    return f"`{json.dumps(value)}`"


def compounds(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """One more level of expression."""
    pair = st.tuples(inner, inner)
    return st.one_of(
        pair.map(lambda p: f"{p[0]} | {p[1]}"),
        st.tuples(pair, st.sampled_from(["==", "!=", "<", ">", "<=", ">=", "&&", "||"])).map(
            lambda p: f"({p[0][0]}) {p[1]} ({p[0][1]})"
        ),
        inner.map(lambda e: f"!({e})"),
        st.tuples(inner, NAMES).map(lambda p: f"({p[0]}).{p[1]}"),
        st.tuples(inner, st.sampled_from(["[0]", "[-1]", "[]", "[*]", "[1:]", "[::-1]", ".*"])).map(
            lambda p: f"({p[0]}){p[1]}"
        ),
        st.tuples(inner, inner, NAMES).map(lambda p: f"({p[0]})[?{p[1]}].{p[2]}"),
        st.tuples(inner, NAMES).map(lambda p: f"({p[0]})[*].{p[1]}"),
        pair.map(lambda p: f"[{p[0]}, {p[1]}]"),
        pair.map(lambda p: f"{{x: {p[0]}, y: {p[1]}}}"),
        st.tuples(st.sampled_from(UNARY), inner).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(
            st.sampled_from(["contains", "ends_with", "starts_with", "join", "not_null", "merge"]), pair
        ).map(lambda p: f"{p[0]}({p[1][0]}, {p[1][1]})"),
        st.tuples(st.sampled_from(["sort_by", "max_by", "min_by"]), pair).map(
            lambda p: f"{p[0]}({p[1][0]}, &({p[1][1]}))"
        ),
        pair.map(lambda p: f"map(&({p[0]}), {p[1]})"),
    )


EXPRESSIONS: Final = st.recursive(
    st.one_of(NAMES, st.just("@"), st.just("*"), VALUES.map(literal), st.sampled_from(["'a'", "''", "[0]"])),
    compounds,
    max_leaves=8,
)


def theirs(text: str, root: Any) -> tuple[bool, Any]:
    """(it worked, the result) of the library."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parsed = jmespath.compile(text).parsed
            return True, _Json(jmespath.Options(custom_functions=_JsonFunctions())).visit(parsed, root)
        except Exception:
            return False, None


class _Json(_Interpreter):  # type: ignore[misc]
    """The library, with JSON's equality at every depth and null for an ordering of unlike types."""

    def visit_comparator(self, node: dict[str, Any], value: Any) -> Any:
        left, right = (self.visit(child, value) for child in node["children"])
        if node["value"] in ("eq", "ne"):
            return same(left, right) is (node["value"] == "eq")
        if isinstance(left, str) is not isinstance(right, str):
            return None
        return super().visit_comparator(node, value)


class _JsonFunctions(_Functions):  # type: ignore[misc]
    """The library's functions, with JSON's equality and JSON's numbers."""

    @signature({"types": ["array", "string"]}, {"types": []})
    def _func_contains(self, subject: Any, search: Any) -> bool:
        if isinstance(subject, str):
            return search in subject
        return any(same(element, search) for element in subject)

    @signature({"types": []})
    def _func_to_number(self, value: Any) -> Any:
        if isinstance(value, str):
            value = json.loads(value) if value in ("1", "2.5") else None
        return value if type(value) in (int, float) else None


def same(one: Any, other: Any) -> bool:
    """Equal as JSON values, compared as text; 1 and 1.0 are one number."""
    return canonical(one) == canonical(other)


def canonical(value: Any) -> str:
    return json.dumps(json.loads(json.dumps(value), parse_int=float), sort_keys=True)


def ours(text: str, root: Any) -> tuple[bool, Any]:
    try:
        return True, compile_expression(text).evaluate(root)
    except (ExpressionProblem, ExpressionFailed):
        return False, None


def as_text(value: Any) -> str:
    """JSON text for comparison: it distinguishes 1 from true and keeps the order of keys."""
    return json.dumps(value)


@settings(max_examples=700)
@given(EXPRESSIONS, ROOTS)
def test_a_closure_gives_what_the_library_gives(text: str, root: dict[str, Any]) -> None:
    worked, expected = theirs(text, root)
    done, result = ours(text, root)
    if done:
        assert worked, f"{text}: the library refuses it"
        assert as_text(result) == as_text(expected)
    elif worked:
        assert "merge(" in text, f"{text}: the library gives {expected!r}"  # ours wants objects throughout


@settings(max_examples=500)
@given(st.text(alphabet="ab.[]{}()*&|!=<>?:,@'\"`\\ 01-+$é\n", max_size=30))
def test_any_text_is_compiled_or_refused_as_the_library_does(text: str) -> None:
    root: dict[str, Any] = {"a": [1, {"b": 2}], "b": {"a": "x"}}
    worked, expected = theirs(text, root)
    done, result = ours(text, root)
    diagnostics = lint(text, {"a": None, "b": None})
    assert all(0 <= diagnostic.position <= len(text) for diagnostic in diagnostics)
    if done:
        assert worked
        assert as_text(result) == as_text(expected)
    elif worked:  # refused before it runs: `&` without a function, a slice's step of 0 on nothing
        assert any(diagnostic.severity == "error" for diagnostic in diagnostics)


@settings(max_examples=500)
@given(EXPRESSIONS, ROOTS)
def test_whatever_comes_out_is_json(text: str, root: dict[str, Any]) -> None:
    done, result = ours(text, root)
    if done:
        assert "NaN" not in json.dumps(result)
        waiting = [result]
        while waiting:
            item = waiting.pop()
            assert not isinstance(item, float) or math.isfinite(item)
            waiting.extend(
                item if isinstance(item, list) else item.values() if isinstance(item, dict) else ()
            )


SECRET: Final = "s3cr3t-value"


@settings(max_examples=500)
@given(EXPRESSIONS)
def test_an_error_never_contains_a_value(text: str) -> None:
    root = {"a": SECRET, "b": [SECRET, 1, {"a": SECRET}], "c": {"a": SECRET, SECRET: 1}, "payload": SECRET}
    try:
        compile_expression(text).evaluate(root)
    except ExpressionFailed as failed:
        assert SECRET not in str(failed) + repr(failed.__cause__)
        assert failed.__suppress_context__ or failed.__context__ is None
    except ExpressionProblem:
        pass
