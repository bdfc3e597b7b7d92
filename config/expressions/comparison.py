"""Truth and comparison: as JMESPath and JSON have it, and strictly for `allow`.

False-like are false, null and empty strings, arrays and objects; 0 is not false-like. 1 does not equal true,
at any depth. Numbers are ordered among themselves, and so are strings; any other ordering gives null. Under
`allow` a side that is null or contains a null proves nothing: it ends the whole evaluation with
`SideMissing`. So does a float that stands for several integers, and an ordering of other types, since ``!``
would turn its null into true.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import ge, gt, le, lt
from typing import Any, Final

from config.expressions.ast import ExpressionFailed, Node
from config.expressions.budget import COMPARED_PER_UNIT, Meter

Closure = Callable[[Any], Any]
Compare = Callable[[Any, Any], Any]

NUMBERS: Final = (int, float)
CONTAINERS: Final = (list, dict)
EXACT: Final = float(2**53)
"""From here on a float stands for several integers (IEEE 754 binary64): equal floats may be different ids."""
_ORDER: Final[dict[str, Compare]] = {"lt": lt, "gt": gt, "lte": le, "gte": ge}


class SideMissing(ExpressionFailed):
    """In `allow`: a side of a comparison is missing or null."""

    def __init__(self) -> None:
        super().__init__("a side of a comparison is missing or null")


def falsy(value: Any) -> bool:
    """Whether `value` is false-like."""
    return not value and value.__class__ not in NUMBERS


def equals(left: Any, right: Any, meter: Meter) -> bool:
    """Equality of JSON values: 1 is not true and 0 not false at any depth, 1 equals 1.0."""
    if left.__class__ not in CONTAINERS or right.__class__ not in CONTAINERS:
        return _equal_scalars(left, right, meter)
    waiting: list[tuple[Any, Any]] = [(left, right)]
    compared: set[tuple[int, int]] = set()  # values can share parts; a pair of them is compared once
    while waiting:
        one, other = waiting.pop()
        if one is other or (id(one), id(other)) in compared:
            continue
        if one.__class__ not in CONTAINERS or one.__class__ is not other.__class__:
            if not _equal_scalars(one, other, meter):
                return False
            continue
        if len(one) != len(other):
            return False
        meter.spend(len(one) + 1)
        compared.add((id(one), id(other)))
        if not isinstance(one, dict):
            waiting.extend(zip(one, other, strict=True))
        elif set(one) != set(other):
            return False
        else:
            waiting.extend((value, other[name]) for name, value in one.items())
    return True


def _equal_scalars(left: Any, right: Any, meter: Meter) -> bool:
    """Equality where at most one side is an array or an object."""
    if left.__class__ is bool or right.__class__ is bool:
        return left is right
    if left.__class__ is str and right.__class__ is str and len(left) == len(right):
        meter.spend(len(left) // COMPARED_PER_UNIT)
    return bool(left == right)


def check_side(value: Any, meter: Meter, *, nulls: bool = False) -> None:
    """Raises ExpressionFailed if `value`, or anything in it, proves nothing under `allow`.

    `nulls` may be in it where the other side is known to be none.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if item is None and not nulls:
            raise SideMissing
        if item.__class__ is float and not -EXACT < item < EXACT:
            raise ExpressionFailed("a number is too large to be compared exactly")
        if item.__class__ in CONTAINERS:
            meter.spend(len(item))
            waiting.extend(item.values() if item.__class__ is dict else item)


def needs_meter(node: Node) -> bool:
    """Whether the comparison can visit containers or long texts: not where one side is a written constant.

    A constant text is at most as long as an expression, so a test for equality with it is always cheap.
    """
    cheap = (*NUMBERS, bool, type(None), *(() if node.value in _ORDER else (str,)))
    return not any(child.kind == "literal" and child.value.__class__ in cheap for child in node.children)


def comparison(node: Node, left: Closure, right: Closure, meter: Meter) -> Closure:
    """The closure of a comparator, with short forms for the most common shapes."""
    first, second = node.children
    if node.value in _ORDER:
        if second.kind == "literal" and second.value.__class__ in NUMBERS:
            return _against_number(node.value, left, second.value, meter)
        order = _ordering(node.value, meter)
        return lambda value: order(left(value), right(value))
    if second.kind == "literal" and second.value.__class__ is str:
        return _against_text(node.value, left, second.value)
    if first.kind == "literal" and first.value.__class__ is str:
        return _against_text(node.value, right, first.value)
    same = _equality(meter)
    if node.value == "eq":
        return lambda value: same(left(value), right(value))
    return lambda value: not same(left(value), right(value))


def strict_comparison(node: Node, left: Closure, right: Closure, meter: Meter) -> Closure:
    """The closure of a comparator under `allow`."""
    same = _equality(meter)
    compare = same if node.value in ("eq", "ne") else _ordering(node.value, meter)
    by_order = node.value in _ORDER
    opposite = node.value == "ne"

    def strictly(value: Any) -> Any:
        one, other = left(value), right(value)
        check_side(one, meter)
        check_side(other, meter)
        result = compare(one, other)
        if by_order and result is None:
            raise ExpressionFailed("only two numbers or two strings can be compared by order")
        return not result if opposite else result

    return strictly


def _against_text(operator: str, side: Closure, text: str) -> Closure:
    if operator == "eq":
        return lambda value: side(value) == text
    return lambda value: side(value) != text


def _against_number(operator: str, side: Closure, number: float, meter: Meter) -> Closure:
    compare, order = _ORDER[operator], _ordering(operator, meter)

    def against(value: Any) -> Any:
        found = side(value)
        if found.__class__ is int or found.__class__ is float:
            return compare(found, number)
        return order(found, number)

    return against


def _equality(meter: Meter) -> Compare:
    def same(left: Any, right: Any) -> bool:
        return equals(left, right, meter)

    return same


def _ordering(operator: str, meter: Meter) -> Compare:
    compare = _ORDER[operator]

    def order(left: Any, right: Any) -> Any:
        if left.__class__ is str and right.__class__ is str:
            meter.spend(min(len(left), len(right)) // COMPARED_PER_UNIT)
        elif left.__class__ not in NUMBERS or right.__class__ not in NUMBERS:
            return None
        return compare(left, right)

    return order
