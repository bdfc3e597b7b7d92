"""The functions that JMESPath does not have: arithmetic, texts, fields of objects, a choice.

Those that JMESPath Community has too (`lower`, `upper`, `trim`, `replace`, `split`) do what it specifies.
Each takes the `Meter` first; `config.expressions.functions` checks the types of the arguments before.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, Final

from config.expressions.ast import ExpressionFailed
from config.expressions.budget import CHANGED_PER_UNIT, CHARACTERS_PER_UNIT, Meter
from config.expressions.comparison import falsy

MOST_DIGITS: Final = 15
"""Decimal digits of `round`: a double has no more that mean anything."""

LARGEST_INTEGER: Final = 1 << 1024
"""Beyond it a number is no double; products of integers would else grow without a bound."""


def number(value: Any) -> Any:
    """`value`, a number that JSON can have; raises ExpressionFailed for any other."""
    if value.__class__ is float and not math.isfinite(value):
        raise ExpressionFailed("gives a number that is too large for JSON")
    if value.__class__ is int and abs(value) > LARGEST_INTEGER:
        raise ExpressionFailed("gives a number that is too large for JSON")
    return value


def add(meter: Meter, one: Any, other: Any) -> Any:
    """The sum of two numbers."""
    return number(one + other)


def sub(meter: Meter, one: Any, other: Any) -> Any:
    """The first number less the second."""
    return number(one - other)


def mul(meter: Meter, one: Any, other: Any) -> Any:
    """The product of two numbers."""
    return number(one * other)


def div(meter: Meter, one: Any, other: Any) -> Any:
    """The first number divided by the second: a whole number where nothing is left over."""
    if other == 0:
        raise ExpressionFailed("div() cannot divide by 0")
    if one.__class__ is int and other.__class__ is int and one % other == 0:
        return one // other
    return number(one / other)


def rounded(meter: Meter, value: Any, digits: Any) -> Any:
    """`value` with so many decimal digits; halves are rounded away from zero."""
    if digits != int(digits) or not 0 <= digits <= MOST_DIGITS:
        raise ExpressionFailed(f"round() takes from 0 to {MOST_DIGITS} digits")
    if value.__class__ is int:
        return value
    try:
        found = Decimal(repr(value)).quantize(Decimal(1).scaleb(-int(digits)), ROUND_HALF_UP)
    except InvalidOperation:  # more digits than a decimal has: the double has no fraction then
        return value
    return int(found) if digits == 0 else float(found)


def part(meter: Meter, text: str, start: Any, end: Any) -> str:
    """The characters from `start` to before `end` (null: to the end); negative ones count from the end."""
    for place in (start, end):
        if place is not None and place != int(place):
            raise ExpressionFailed("slice() takes whole numbers")
    meter.spend(len(text) // CHARACTERS_PER_UNIT)
    return text[int(start) : None if end is None else int(end)]


def lower(meter: Meter, text: str) -> str:
    """The text in lower case."""
    meter.spend(len(text) // CHANGED_PER_UNIT)
    return text.lower()


def upper(meter: Meter, text: str) -> str:
    """The text in upper case."""
    meter.spend(len(text) // CHANGED_PER_UNIT)
    return text.upper()


def trim(meter: Meter, text: str) -> str:
    """The text without blanks and line breaks at both ends."""
    meter.spend(len(text) // CHARACTERS_PER_UNIT)
    return text.strip()


def replace(meter: Meter, text: str, old: str, new: str) -> str:
    """The text with every `old` replaced by `new`; raises ExpressionFailed where `old` is empty."""
    if not old:
        raise ExpressionFailed("replace() cannot look for an empty text")
    meter.spend(len(text) // CHARACTERS_PER_UNIT)
    meter.spend(text.count(old) * (1 + len(new) // CHARACTERS_PER_UNIT))
    return text.replace(old, new)


def split(meter: Meter, text: str, separator: str) -> list[str]:
    """The parts of the text between the separators; with an empty one its characters."""
    meter.spend(len(text) // CHARACTERS_PER_UNIT)
    meter.spend(text.count(separator) if separator else len(text))
    return text.split(separator) if separator else list(text)


def pick(meter: Meter, value: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The object with only the named fields, as far as it has them, in the object's order."""
    meter.spend(len(value) + len(names))
    wanted = set(names)
    return {name: inner for name, inner in value.items() if name in wanted}


def omit(meter: Meter, value: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The object without the named fields."""
    meter.spend(len(value) + len(names))
    unwanted = set(names)
    return {name: inner for name, inner in value.items() if name not in unwanted}


def lookup(meter: Meter, value: dict[str, Any], key: str, default: Any) -> Any:
    """The field called `key`, or `default` where it is missing or null."""
    found = value.get(key)
    return default if found is None else found


def choice(meter: Meter, condition: Any, one: Any, other: Any) -> Any:
    """`one` where `condition` is not false-like, else `other`."""
    return other if falsy(condition) else one
