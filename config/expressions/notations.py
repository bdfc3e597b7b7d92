"""Hints for what is written in other notations than JMESPath's: operators, literals, methods, JSONPath."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from config.expressions.ast import ExpressionProblem, Node
from config.expressions.functions import FUNCTIONS

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BARE_KEY: Final = re.compile(r"([{,]\s*)([A-Za-z_]\w*)\s*:")
_CONSTANT: Final = re.compile(r"\b(True|False|None)\b")
_DOLLAR: Final = re.compile(r"\$\.?([A-Za-z_][\w.\[\]*]*)")
_RUN: Final = re.compile(r"[=!<>~/]+")

_NO_PATTERNS: Final = (
    "there are no patterns: write contains(payload.text, 'word') or starts_with(payload.text, 'start')"
)

_SAME: Final = {"===": "==", "!==": "!=", "<>": "!=", "=<": "<="}

_OTHER: Final = {
    "=>": "to apply an expression to each element write map(&name, payload.items)",
    "=~": _NO_PATTERNS,
    "~=": _NO_PATTERNS,
    "!~": _NO_PATTERNS,
    "//": "a default is written payload.name || 'none'; there are no comments",
}

_LAMBDA: Final = re.compile(r"map\(\s*\(?(\w+)\)?\s*=>\s*\1\.([\w.\"\[\]]+)\s*,\s*(.+)\)\s*\Z")
_FIELD: Final = re.compile(r"[{,]\s*(\w+|\"[^\"]*\")\s*\Z")


def as_json(literal: str) -> str:
    """What to write for a literal in backticks that was meant as a number, list or object; else empty."""
    if re.fullmatch(r"[+-]?0[xX][0-9a-fA-F]{1,12}", literal):
        return f"the number as JSON has it: `{int(literal, 16)}`"
    if re.fullmatch(r"[+-]?(?:[0-9][0-9_]{0,17}\.?[0-9_]{0,17}|\.[0-9]{1,17})", literal):
        number = float(literal.replace("_", ""))
        return f"the number as JSON has it: `{int(number) if number.is_integer() else number}`"
    if literal[:1] + literal[-1:] not in ("{}", "[]"):
        return ""
    text = _BARE_KEY.sub(r'\1"\2":', re.sub(r"'([^'\"]*)'", r'"\1"', literal))
    text = _CONSTANT.sub(lambda found: {"True": "true", "False": "false"}.get(found[0], "null"), text)
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return 'JSON has its names and texts in double quotes, like `{"a": "x"}` and `["a", 1]`'
    return f"JSON has its names and texts in double quotes: `{text}`"


def for_method(chain: Node, call: Node) -> str:
    """How ``payload.items.length()`` is written; empty where that is no call of a function."""
    function = FUNCTIONS.get(call.value)
    before = chain.children[: chain.children.index(call)]
    arguments = [_written(child) for child in call.children]
    named = all(child.kind == "field" and _NAME.fullmatch(str(child.value)) for child in before)
    if function is None or not before or not named or None in arguments:
        return ""
    if not function.takes(len(arguments) + 1):
        return ""
    path = ".".join(str(child.value) for child in before)
    return (
        f"a function takes the value as an argument: {call.value}({', '.join([path, *map(str, arguments)])})"
    )


def _written(node: Node) -> str | None:
    """The text of a simple argument."""
    value: Any = node.value
    if node.kind == "literal" and isinstance(value, str) and not re.search(r"['\\]", value):
        return f"'{value}'"
    if node.kind == "literal" and not isinstance(value, str):
        return f"`{json.dumps(value)}`"
    return str(value) if node.kind == "field" and _NAME.fullmatch(str(value)) else None


def for_dollar(text: str, position: int) -> str:
    """What to write for a ``$``: JSONPath begins with one, and a name may."""
    if text[:position].endswith("."):
        return for_sign(text, position)
    if (path := _DOLLAR.match(text, position)) is not None:
        return f"it starts at the event already: write {path[1]}"
    return "write @ for the whole event"


def for_sign(text: str, position: int) -> str:
    """How a name after a dot is written that begins with a sign: ``payload.@type``."""
    before, word = re.search(r"([\w.]*)\.\Z", text[:position]), re.match(r".\w*", text[position:])
    whole = f'{before[1] if before else "payload"}."{word[0] if word else text[position:]}"'
    return f"a name with other than a-z, 0-9 and _ stands in double quotes: {whole}"


def for_operator(text: str, position: int) -> ExpressionProblem | None:
    """The error for an operator of another language that has a character at `position`; None for others."""
    for found in _RUN.finditer(text):
        if not found.start() <= position < found.end():
            continue
        hint = _OTHER.get(found[0])
        if (same := _SAME.get(found[0])) is not None:
            hint = f"write {text[: found.start()]}{same}{text[found.end() :]}"
        if hint is None:
            break
        if (called := _LAMBDA.search(text)) is not None:
            hint = f"write map(&{called[2]}, {called[3].strip()})"
        return ExpressionProblem(found.start(), f"`{found[0]}` is no operator here", hint)
    if text[position : position + 1] == "=" and (field := _FIELD.search(text[:position])) is not None:
        return ExpressionProblem(position, "a field's name ends with a colon", f"write {field[1]}: …")
    return None


def for_empty(text: str, position: int) -> ExpressionProblem | None:
    """The error for ``{}`` whose closing brace is at `position`, where it stands for an empty object."""
    if re.search(r"\{\s*\Z", text[:position]) is None:
        return None
    return ExpressionProblem(position, "an object needs a field", "the empty object is `{}`, in backticks")
