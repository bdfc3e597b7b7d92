"""Truth and comparison: as in the library, and strictly for `allow`.

False-like are false, null and empty strings, arrays and objects; 0 is not false-like. 1 does not equal true.
Numbers are ordered among themselves, and so are strings; any other ordering gives null. Under `allow` a side
that is null or contains a null proves nothing: it ends the whole evaluation with `SideMissing`.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import ge, gt, le, lt
from typing import Any, Final

from config.expressions.ast import ExpressionFailed, Node
from config.expressions.budget import CHARACTERS_PER_UNIT, Meter, weigh

Closure = Callable[[Any], Any]
Compare = Callable[[Any, Any], Any]

NUMBERS: Final = (int, float)
CONTAINERS: Final = (list, dict)
_ORDER: Final[dict[str, Compare]] = {"lt": lt, "gt": gt, "lte": le, "gte": ge}
_ORDERED: Final = (str, *NUMBERS)


class SideMissing(ExpressionFailed):
    """In `allow`: a side of a comparison is missing or null."""

    def __init__(self) -> None:
        super().__init__("a side of a comparison is missing or null")


def falsy(value: Any) -> bool:
    """Whether `value` is false-like."""
    return not value and value.__class__ not in NUMBERS


def equals(left: Any, right: Any) -> bool:
    """Equality as in the library: 1 is not true and 0 not false, except within arrays and objects."""
    if left.__class__ is bool or right.__class__ is bool:
        return left is right
    return bool(left == right)


def holds_null(value: Any, meter: Meter) -> bool:
    """Whether `value` is null or a container with a null in it."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if item is None:
            return True
        if item.__class__ in CONTAINERS:
            meter.spend(len(item))
            waiting.extend(item.values() if item.__class__ is dict else item)
    return False


def needs_meter(node: Node) -> bool:
    """Whether the comparison can visit containers; comparing with a text or by order cannot."""
    texts = (child.kind == "literal" and child.value.__class__ is str for child in node.children)
    return node.value not in _ORDER and not any(texts)


def comparison(node: Node, left: Closure, right: Closure, meter: Meter) -> Closure:
    """The closure of a comparator, with short forms for the most common shapes."""
    first, second = node.children
    if node.value in _ORDER:
        if second.kind == "literal" and second.value.__class__ in NUMBERS:
            return _against_number(node.value, left, second.value)
        order = _ordering(node.value)
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
    compare = same if node.value in ("eq", "ne") else _ordering(node.value)
    opposite = node.value == "ne"

    def strictly(value: Any) -> Any:
        one, other = left(value), right(value)
        if holds_null(one, meter) or holds_null(other, meter):
            raise SideMissing
        result = compare(one, other)
        return not result if opposite else result

    return strictly


def _against_text(operator: str, side: Closure, text: str) -> Closure:
    if operator == "eq":
        return lambda value: side(value) == text
    return lambda value: side(value) != text


def _against_number(operator: str, side: Closure, number: float) -> Closure:
    compare, order = _ORDER[operator], _ordering(operator)

    def against(value: Any) -> Any:
        found = side(value)
        if found.__class__ is int or found.__class__ is float:
            return compare(found, number)
        return order(found, number)

    return against


def _equality(meter: Meter) -> Compare:
    def same(left: Any, right: Any) -> bool:
        if left.__class__ in CONTAINERS and right.__class__ is left.__class__:
            if left is right:
                return True
            if len(left) != len(right):
                return False
            meter.spend(weigh(left, meter) // CHARACTERS_PER_UNIT)
        return equals(left, right)

    return same


def _ordering(operator: str) -> Compare:
    compare = _ORDER[operator]

    def order(left: Any, right: Any) -> Any:
        if left.__class__ not in _ORDERED or right.__class__ not in _ORDERED:
            return None
        if (left.__class__ is str) is not (right.__class__ is str):
            raise ExpressionFailed("a string and a number cannot be compared by order")
        return compare(left, right)

    return order
