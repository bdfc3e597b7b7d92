"""The functions that JMESPath does not have: arithmetic, texts, fields of objects, a choice.

Those that JMESPath Community has too (`lower`, `upper`, `trim`, `replace`, `split`) do what it specifies.
Each takes the `Meter` first; `config.expressions.functions` checks the types of the arguments before.
"""

from __future__ import annotations

import math
import sys
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
    """`value`, rounded to `digits` decimal digits; halves are rounded away from zero."""
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


def trim(meter: Meter, text: str, characters: str = "") -> str:
    """The text without blanks and line breaks at both ends, or without those `characters`."""
    meter.spend(len(text) // CHARACTERS_PER_UNIT * (1 + len(characters) // CHARACTERS_PER_UNIT))
    return text.strip(characters or None)


def times(function: str, count: Any) -> int:
    """A count of JMESPath's text functions; raises ExpressionFailed where it is no whole number from 0."""
    if (count.__class__ is float and not count.is_integer()) or count < 0:
        raise ExpressionFailed(f"{function}() takes a whole number from 0 as its count")
    return min(int(count), sys.maxsize)


def replace(meter: Meter, text: str, old: str, new: str, count: Any = None) -> str:
    """The text with every `old`, or the first `count` of them, replaced by `new`.

    Raises ExpressionFailed where `old` is empty.
    """
    if not old:
        raise ExpressionFailed("replace() cannot look for an empty text")
    most = -1 if count is None else times("replace", count)
    meter.spend(len(text) // CHARACTERS_PER_UNIT)
    found = text.count(old)
    meter.spend((found if most < 0 else min(found, most)) * (1 + len(new) // CHARACTERS_PER_UNIT))
    return text.replace(old, new, most)


def split(meter: Meter, text: str, separator: str, count: Any = None) -> list[str]:
    """The parts of the text between the separators, at most `count` of which are used.

    With an empty separator the text's characters.
    """
    most = -1 if count is None else times("split", count)
    meter.spend(len(text) // CHARACTERS_PER_UNIT)
    meter.spend(text.count(separator) if separator else len(text))
    if separator:
        return text.split(separator, most)
    if most < 0 or most >= len(text):
        return list(text)
    return [*text[:most], text[most:]]


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
