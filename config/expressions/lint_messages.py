"""The diagnostics about fields, types and literals, for readers who have never seen JMESPath."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import pairwise
from typing import Final

from config.expressions.ast import Diagnostic, Node, Token
from config.expressions.functions import FUNCTIONS, Param
from config.expressions.types import Shape

_CONSTANTS: Final = {
    **{name: f"`{name}`" for name in ("true", "false", "null")},
    **{"True": "`true`", "False": "`false`", "None": "`null`", "nil": "`null`", "undefined": "`null`"},
}
_WORD_ENDS: Final = frozenset(
    {"literal", "unquoted_identifier", "quoted_identifier", "rparen", "rbracket", "rbrace", "current"}
)
_WORD_BEGINS: Final = frozenset({"literal", "unquoted_identifier", "quoted_identifier", "current", "not"})
_DEFAULTS: Final = {"array": "`[]`", "object": "`{}`", "number": "`0`", "string": "''"}
_A: Final = {"any": "anything", "array": "an array", "object": "an object", "null": "null"}


def _instead(literal: str) -> str:
    """What to write for a literal that is no JSON."""
    if literal in ("True", "False", "None"):
        return f"the constant is `{'null' if literal == 'None' else literal.lower()}`"
    return f"write the text in single quotes: '{literal.strip(chr(39))}'"


def words(tokens: list[Token]) -> Iterator[Diagnostic]:
    """Diagnostics from the tokens alone: literals that became strings, commas that the parser accepts."""
    for token in tokens:
        if token.old_literal:
            yield Diagnostic(
                token.position,
                "error",
                "literal-string",
                "what stands in the backticks is no JSON, so it silently means a text",
                _instead(str(token.value)),
            )
    for before, token in pairwise(tokens):
        if before.kind in _WORD_ENDS and token.kind in _WORD_BEGINS:
            yield Diagnostic(
                token.position, "error", "missing-comma", "a comma is missing before this", "write (a, b)"
            )


def unknown_field(node: Node, value: Shape, quoted: bool) -> Diagnostic:
    """An object whose fields are known does not have this one."""
    name, fields = node.value, value.fields or {}
    where = f"`{value.written}`" if value.written else "the event" if "payload" in fields else "the root"
    close = get_close_matches(name, fields, 1)
    if name in _CONSTANTS:
        hint = f"the constant stands in backticks: {_CONSTANTS[name]}"
    elif quoted:
        hint = f"double quotes name a field; a text stands in single quotes: '{name}'"
    elif close:
        hint = f"did you mean {close[0]}?"
    elif "payload" in fields:
        hint = f"what a step gave is under payload: payload.{name}; a text stands in single quotes: '{name}'"
    else:
        hint = f"it has {', '.join(fields)}"
    return Diagnostic(node.position, "error", "unknown-field", f"{where} has no field `{name}`", hint)


def no_fields(node: Node, value: Shape) -> Diagnostic:
    """A text or a number has no fields."""
    what = _what(value)
    hint = f"write {value.written} alone" if value.written else None
    if value.kind == "null":
        message, hint = f"{what} is always null here, it has no field `{node.value}`", None
    else:
        message = f"{what} is {_a(value.kind)}, it has no field `{node.value}`"
    if value.path and value.path[-1] == "payload" and value.kind == "string":
        hint = "to read chunks as JSON write payload: json in the rule"
    severity = "warning" if value.path and value.path[-1] == "payload" else "error"  # it comes out null
    return Diagnostic(node.position, severity, "no-fields", message, hint)


def double_quotes(node: Node) -> Diagnostic:
    """``== "x"`` compares with a field, which is rarely meant."""
    message = f'"{node.value}" in double quotes is a field, not a text'
    hint = f"a text stands in single quotes: '{node.value}'"
    return Diagnostic(node.position, "warning", "double-quotes", message, hint)


def null_comparison(node: Node) -> Diagnostic:
    """`allow` refuses where a side of a comparison is null."""
    message = "under allow a comparison with null refuses everybody"
    hint = "take it out: what is missing is refused anyway"
    return Diagnostic(node.position, "warning", "null-comparison", message, hint)


def wrong_result(tree: Node, result: Shape, wanted: str) -> Diagnostic:
    """The expression can never give the type that is needed."""
    message = f"this must give {_a(wanted)}, and it gives {_a(result.kind)}"
    hint = "name the field of the output that holds it, like payload.answer"
    return Diagnostic(tree.position, "error", "wrong-result", message, hint)


def never_true(tree: Node, result: Shape) -> Diagnostic:
    """`allow` permits for true only, not for what is true-like elsewhere."""
    message = f"under allow only true lets in, and this is {_a(result.kind)}: it refuses everybody"
    hint = (
        "write a comparison, e.g. length(…) > `0`"
        if result.kind == "array"
        else "write a comparison, with =="
    )
    return Diagnostic(tree.position, "warning", "never-true", message, hint)


def no_such_choice(literal: Node, side: Shape) -> Diagnostic:
    """A field whose possible texts are known is compared with another text."""
    close = get_close_matches(literal.value, side.choices, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"here it is one of {', '.join(side.choices)}"
    message = f"`{side.written}` is never '{literal.value}'"
    return Diagnostic(literal.position, "warning", "never-equal", message, hint)


def never_equal(node: Node, side: Shape, other: Shape) -> Diagnostic:
    """The types of both sides are known and differ."""
    verdict = "never" if node.value == "eq" else "always"
    what = f"`{side.written}`" if side.written else "the one side"
    return Diagnostic(
        node.position,
        "warning",
        "never-equal",
        f"this is {verdict} true: {what} is {_a(side.kind)}, the other side {_a(other.kind)}",
        "numbers stand in backticks, `1`, texts in single quotes, '1'",
    )


def argument(name: str, node: Node, shape: Shape, param: Param) -> Diagnostic | None:
    """The error or warning about an argument of this shape, if any."""
    if not param.types or node.kind == "expref" or "expression" in param.types:
        return None
    if shape.kind not in ("any", "null", *param.types):
        message = f"{name}() takes {param.wanted}, but {_what(shape)} is {_a(shape.kind)}"
        return Diagnostic(node.position, "warning", "argument-type", message, _conversion(shape, param))
    if not shape.nullable:
        return None
    default = next(text for kind, text in _DEFAULTS.items() if kind in param.types)
    guarded = f"not_null({shape.written or '…'}, {default})"
    call = f"{name}({guarded})" if len(FUNCTIONS[name].params) == 1 else f"{name}(…{guarded}…)"
    message = f"{name}() fails where {_what(shape)} is missing or null"
    return Diagnostic(node.position, "warning", "may-be-missing", message, f"give it a default: {call}")


def _conversion(shape: Shape, param: Param) -> str | None:
    what = shape.written or "…"
    if "string" in param.types and shape.kind in ("number", "boolean"):
        return f"as text: to_string({what})"
    if "number" in param.types and shape.kind == "string":
        return f"as a number: to_number({what})"
    return None


def _what(shape: Shape) -> str:
    return f"`{shape.written}`" if shape.written else "this"


def _a(kind: str) -> str:
    return _A.get(kind, f"a {kind}")
