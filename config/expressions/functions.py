"""The functions of expressions, each with the types it takes. No error contains a value.

The results of JMESPath's functions are those of the library ``jmespath`` 1.x (tested with its compliance
suite), with these differences: no function returns NaN or an infinity, `merge` takes only objects (the
library checks the first argument alone), `contains` tells 1 from true, `to_number` reads JSON's numbers only
(the library reads Python's, like ``1_000``), and a function whose work grows with the event spends from the
`Meter`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from config.expressions import own_functions as own
from config.expressions.ast import ExpressionFailed
from config.expressions.budget import CHARACTERS_PER_UNIT, COMPARED_PER_UNIT, Meter, weigh
from config.expressions.comparison import equals


class ExpressionReference:
    """The value of ``&expression``: a function to apply to each element, and the cost of one call."""

    __slots__ = ("apply", "cost")

    def __init__(self, apply: Callable[[Any], Any], cost: int) -> None:
        self.apply = apply
        self.cost = cost


TYPE_NAMES: Final[dict[type, str]] = {
    dict: "object",
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
    ExpressionReference: "expression",
}


def type_name(value: Any) -> str:
    """JMESPath's word for a value's type."""
    return TYPE_NAMES.get(value.__class__, "unknown")


class Param(Struct, frozen=True):
    """The types of one argument: by name, and for arrays those of the elements, all alike."""

    types: tuple[str, ...]  # empty: anything
    elements: tuple[str, ...] = ()

    @property
    def classes(self) -> frozenset[type]:
        """The Python types of `types`."""
        return frozenset(cls for cls, name in TYPE_NAMES.items() if name in self.types)

    @property
    def wanted(self) -> str:
        """In words, for messages."""
        if self.elements:
            return "an array of " + " or of ".join(f"{element}s" for element in self.elements)
        names = [f"{'an' if name[0] in 'aeo' else 'a'} {name}" for name in self.types]
        return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

    def check(self, value: Any, function: str, meter: Meter) -> None:
        """Raise ExpressionFailed unless `value` fits; elements of arrays are checked too."""
        if not self.types:
            return
        if type_name(value) not in self.types:
            raise ExpressionFailed(f"{function}() takes {self.wanted}, but was given {type_name(value)}")
        if self.elements and value:
            meter.spend(len(value))
            self._check_elements(value, function)

    def _check_elements(self, array: list[Any], function: str) -> None:
        wanted = type_name(array[0])
        for element in array:
            found = type_name(element)
            if found != wanted or found not in self.elements:
                raise ExpressionFailed(f"{function}() takes {self.wanted}, but one element is {found}")


class Function(Struct, frozen=True):
    """A function: its parameters (the last one repeats if `variadic`) and what it does.

    The last `optional` parameters may be left out.
    """

    name: str
    params: tuple[Param, ...]
    call: Callable[..., Any]  # (meter, *arguments)
    variadic: bool = False
    optional: int = 0

    @property
    def required(self) -> int:
        """How many arguments it has at least."""
        return len(self.params) - self.optional

    def takes(self, count: int) -> bool:
        """Whether it may be called with so many arguments."""
        return self.required <= count and (self.variadic or count <= len(self.params))

    def param(self, index: int) -> Param:
        """The parameter that takes argument `index`."""
        return self.params[min(index, len(self.params) - 1)]

    @property
    def arity(self) -> str:
        """In words, for messages."""
        count = len(self.params)
        words = ("no", "one", "two", "three", "four")
        fewer = "".join(f"{word} or " for word in words[self.required : count])
        return (
            f"{'at least ' if self.variadic else ''}{fewer}{words[count]} argument{'' if count == 1 else 's'}"
        )


def _finite(number: Any) -> Any:
    if number.__class__ is float and not math.isfinite(number):
        raise ExpressionFailed("gives a number that is too large for JSON")
    return number


def _avg(meter: Meter, array: list[Any]) -> Any:
    return _finite(sum(array) / len(array)) if array else None


def _contains(meter: Meter, subject: Any, search: Any) -> bool:
    if subject.__class__ is str:
        if search.__class__ is not str:
            raise ExpressionFailed(f"contains() looks for a string in a string, not for {type_name(search)}")
        meter.spend(len(subject) // CHARACTERS_PER_UNIT)
        return search in subject
    meter.spend(len(subject))
    if search.__class__ is str:
        meter.spend(len(subject) * (len(search) // COMPARED_PER_UNIT))
        return search in subject
    return any(equals(element, search, meter) for element in subject)


def _starts_with(meter: Meter, text: str, start: str) -> bool:
    meter.spend(len(start) // COMPARED_PER_UNIT)
    return text.startswith(start)


def _ends_with(meter: Meter, text: str, end: str) -> bool:
    meter.spend(len(end) // COMPARED_PER_UNIT)
    return text.endswith(end)


def _join(meter: Meter, separator: str, array: list[str]) -> str:
    length = len(separator) * len(array) + sum(map(len, array))
    meter.spend(length // CHARACTERS_PER_UNIT)
    return separator.join(array)


def _keys(meter: Meter, value: dict[str, Any]) -> list[Any]:
    meter.spend(len(value))
    return list(value)


def _values(meter: Meter, value: dict[str, Any]) -> list[Any]:
    meter.spend(len(value))
    return list(value.values())


def _map(meter: Meter, reference: ExpressionReference, array: list[Any]) -> list[Any]:
    meter.spend(len(array) * reference.cost)
    return [reference.apply(element) for element in array]


def _merge(meter: Meter, *objects: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for value in objects:
        meter.spend(len(value))
        merged.update(value)
    return merged


def _not_null(meter: Meter, *arguments: Any) -> Any:
    return next((argument for argument in arguments if argument is not None), None)


def _reverse(meter: Meter, value: Any) -> Any:
    meter.spend(len(value) // CHARACTERS_PER_UNIT if value.__class__ is str else len(value))
    return value[::-1]


def _sort(meter: Meter, array: list[Any]) -> list[Any]:
    meter.spend(_cost_of_order(array) * len(array).bit_length())
    return sorted(array)


def _max(meter: Meter, array: list[Any]) -> Any:
    meter.spend(_cost_of_order(array))
    return max(array) if array else None


def _min(meter: Meter, array: list[Any]) -> Any:
    meter.spend(_cost_of_order(array))
    return min(array) if array else None


def _cost_of_order(values: list[Any]) -> int:
    """What one pass costs that compares each value with another one."""
    if values and values[0].__class__ is str:
        return len(values) + sum(map(len, values)) // COMPARED_PER_UNIT
    return len(values)


def _sum(meter: Meter, array: list[Any]) -> Any:
    return _finite(sum(array))


def _to_array(meter: Meter, value: Any) -> list[Any]:
    return value if value.__class__ is list else [value]


LONGEST_NUMBER: Final = 4300
"""Digits: Python converts no longer integers, because the work grows with the square of their length."""

_JSON_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(?P<fraction>\.[0-9]+)?(?P<exponent>[eE][-+]?[0-9]+)?")


def _to_number(meter: Meter, value: Any) -> Any:
    if value.__class__ in (int, float):
        return value
    if value.__class__ is not str:
        return None
    found = _JSON_NUMBER.fullmatch(value) if len(value) <= LONGEST_NUMBER else None
    if found is None:
        return None
    number = float(value) if found["fraction"] or found["exponent"] else int(value)
    return number if number.__class__ is int or math.isfinite(number) else None


def _to_string(meter: Meter, value: Any) -> str:
    if value.__class__ is str:
        return str(value)
    meter.spend(weigh(value, meter) // CHARACTERS_PER_UNIT)
    text = json.dumps(value, separators=(",", ":"))
    meter.spend(len(text) // CHARACTERS_PER_UNIT)
    return text


def _type(meter: Meter, value: Any) -> str:
    return type_name(value)


def _keyed(
    function: str, meter: Meter, array: list[Any], reference: ExpressionReference, wanted: tuple[str, ...]
) -> list[Any]:
    meter.spend(len(array) * reference.cost)
    keys = [reference.apply(element) for element in array]
    types = {type_name(key) for key in keys}
    strange = sorted(types.difference(wanted))
    if strange:
        raise ExpressionFailed(
            f"{function}() needs a {' or a '.join(wanted)} for each element, but one gives {strange[0]}"
        )
    if len(types) > 1:
        raise ExpressionFailed(f"{function}() cannot order strings and numbers together")
    meter.spend(_cost_of_order(keys) * len(array).bit_length())
    return keys


_ORDERED: Final = ("number", "string")


def _sort_by(meter: Meter, array: list[Any], reference: ExpressionReference) -> list[Any]:
    keys = _keyed("sort_by", meter, array, reference, _ORDERED)
    return [array[index] for index in sorted(range(len(array)), key=keys.__getitem__)]


def _max_by(meter: Meter, array: list[Any], reference: ExpressionReference) -> Any:
    keys = _keyed("max_by", meter, array, reference, _ORDERED)
    return array[max(range(len(array)), key=keys.__getitem__)] if array else None


def _min_by(meter: Meter, array: list[Any], reference: ExpressionReference) -> Any:
    keys = _keyed("min_by", meter, array, reference, _ORDERED)
    return array[min(range(len(array)), key=keys.__getitem__)] if array else None


_ANY: Final = Param(())
_NUMBER: Final = Param(("number",))
_STRING: Final = Param(("string",))
_ARRAY: Final = Param(("array",))
_OBJECT: Final = Param(("object",))
_REFERENCE: Final = Param(("expression",))
_NUMBERS: Final = Param(("array",), ("number",))
_STRINGS: Final = Param(("array",), ("string",))
_ORDERABLE: Final = Param(("array",), ("number", "string"))

FUNCTIONS: Final[dict[str, Function]] = {
    function.name: function
    for function in (
        Function("abs", (_NUMBER,), lambda meter, number: abs(number)),
        Function("add", (_NUMBER, _NUMBER), own.add),
        Function("avg", (_NUMBERS,), _avg),
        Function("ceil", (_NUMBER,), lambda meter, number: math.ceil(number)),
        Function("contains", (Param(("array", "string")), _ANY), _contains),
        Function("div", (_NUMBER, _NUMBER), own.div),
        Function("ends_with", (_STRING, _STRING), _ends_with),
        Function("floor", (_NUMBER,), lambda meter, number: math.floor(number)),
        Function("if", (_ANY, _ANY, _ANY), own.choice),
        Function("join", (_STRING, _STRINGS), _join),
        Function("keys", (_OBJECT,), _keys),
        Function("length", (Param(("string", "array", "object")),), lambda meter, value: len(value)),
        Function("lookup", (_OBJECT, _STRING, _ANY), own.lookup),
        Function("lower", (_STRING,), own.lower),
        Function("map", (_REFERENCE, _ARRAY), _map),
        Function("max", (_ORDERABLE,), _max),
        Function("max_by", (_ARRAY, _REFERENCE), _max_by),
        Function("merge", (_OBJECT,), _merge, variadic=True),
        Function("min", (_ORDERABLE,), _min),
        Function("min_by", (_ARRAY, _REFERENCE), _min_by),
        Function("mul", (_NUMBER, _NUMBER), own.mul),
        Function("not_null", (_ANY,), _not_null, variadic=True),
        Function("omit", (_OBJECT, _STRINGS), own.omit),
        Function("pick", (_OBJECT, _STRINGS), own.pick),
        Function("replace", (_STRING, _STRING, _STRING, _NUMBER), own.replace, optional=1),
        Function("reverse", (Param(("array", "string")),), _reverse),
        Function("round", (_NUMBER, _NUMBER), own.rounded),
        Function("slice", (_STRING, _NUMBER, Param(("number", "null"))), own.part),
        Function("sort", (_ORDERABLE,), _sort),
        Function("sort_by", (_ARRAY, _REFERENCE), _sort_by),
        Function("split", (_STRING, _STRING, _NUMBER), own.split, optional=1),
        Function("starts_with", (_STRING, _STRING), _starts_with),
        Function("sub", (_NUMBER, _NUMBER), own.sub),
        Function("sum", (_NUMBERS,), _sum),
        Function("to_array", (_ANY,), _to_array),
        Function("to_number", (_ANY,), _to_number),
        Function("to_string", (_ANY,), _to_string),
        Function("trim", (_STRING, _STRING), own.trim, optional=1),
        Function("type", (_ANY,), _type),
        Function("upper", (_STRING,), own.upper),
        Function("values", (_OBJECT,), _values),
    )
}
