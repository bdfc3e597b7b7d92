"""Hints for operators of other languages, whose characters mean nothing or something else in JMESPath."""

from __future__ import annotations

import re
from typing import Final

from config.expressions.ast import ExpressionProblem

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
