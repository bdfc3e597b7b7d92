"""Resolves plain scalars by YAML 1.2's core schema: text, null, a boolean or a number.

What only YAML 1.1 takes for something else is text, as in YAML 1.2 (``yes``, ``on``, ``1:30``,
``2026-01-01``), or refused where the two versions read different numbers (``012``).
"""

from __future__ import annotations

import math
import re
from typing import Final

CONSTANTS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
INTEGER: Final = re.compile(r"[-+]?[0-9]+")
OTHER_BASE: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NOT_JSON: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9_]+")
MOST_DIGITS: Final = 400  # more than any number in JSON has; Python itself refuses 4300

TRAPS: Final = (
    (re.compile(r"(?i:yes|no|on|off|y|n)"), "a boolean"),
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"), "a number in base 60"),
    (re.compile(r"\d{4}-\d\d?-\d\d?([Tt \t].*)?"), "a date"),
    (re.compile(r"[-+]?(0b[01_]+|[0-9]+_[0-9_]+)"), "a number"),
)

Scalar = str | int | float | bool | None


class NotAScalar(Exception):
    """The text is refused as a value: `code`, what is wrong, and what to write instead."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


def resolve(text: str) -> Scalar:
    """The value of a plain scalar; raises `NotAScalar`."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    if text[0] not in "+-.0123456789":
        return text
    if len(text) > MOST_DIGITS:
        if FLOAT.fullmatch(text):
            raise NotAScalar("number", "a number of this length cannot be read", "put it in quotes")
        return text
    if LEADING_ZERO.fullmatch(text):
        hint = "in quotes if it is text, without the leading zero if it is a number"
        raise NotAScalar("yaml-1.1", f"`{text}` is octal in YAML 1.1 and decimal in YAML 1.2", hint)
    if INTEGER.fullmatch(text):
        return int(text)
    if OTHER_BASE.fullmatch(text):
        return int(text, 0)
    if NOT_JSON.fullmatch(text):
        raise NotAScalar("number", f"`{text}` is a number that JSON does not have", "put it in quotes")
    if FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise NotAScalar("number", "this number is too large for JSON", "put it in quotes")
        return number
    return text


def is_text(text: str) -> bool:
    """Whether a plain scalar is text both here and in YAML 1.1."""
    try:
        return isinstance(resolve(text), str) and trap(text) is None
    except NotAScalar:
        return False


def trap(text: str) -> str | None:
    """What YAML 1.1 makes of a plain scalar that is text here, like ``a boolean``; None if text too."""
    if len(text) > MOST_DIGITS:
        return None
    return next((named for pattern, named in TRAPS if pattern.fullmatch(text)), None)
