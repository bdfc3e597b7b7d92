"""What type an expression gives on a root whose type is known; unknown where nothing can be said."""

from __future__ import annotations

from typing import Final

from config.expressions.ast import Node
from config.expressions.parser import parse
from config.render.value_types import (
    ANY_OBJECT,
    BOOLEAN,
    NULL,
    NUMBER,
    STRING,
    UNKNOWN,
    Array,
    Field,
    Literal,
    Object,
    Type,
    element,
    field,
    has_null,
    nullable,
    of_value,
    options,
    union,
    without_null,
)

_RESULTS: Final[dict[str, Type]] = {
    "abs": NUMBER,
    "avg": nullable(NUMBER),
    "ceil": NUMBER,
    "contains": BOOLEAN,
    "ends_with": BOOLEAN,
    "floor": NUMBER,
    "join": STRING,
    "keys": Array(STRING),
    "length": NUMBER,
    "starts_with": BOOLEAN,
    "sum": NUMBER,
    "to_number": nullable(NUMBER),
    "to_string": STRING,
    "type": STRING,
    "values": Array(UNKNOWN),
    "lower": STRING,
    "upper": STRING,
    "trim": STRING,
    "replace": STRING,
    "split": Array(STRING),
    "slice": STRING,
}
"""Functions that always give one type. One that is not here, nor in `_function`, gives unknown."""


def inferred(text: str, root: Type) -> Type:
    """The type of an expression that `check` lets pass, on a value of type `root`."""
    tree, _ = parse(text)
    return _visit(tree, root)


def _visit(node: Node, value: Type) -> Type:  # noqa: PLR0912 - one case for each kind of node
    match node.kind:
        case "identity" | "current":
            return value
        case "literal":
            return of_value(node.value)
        case "field":
            return field(value, node.value)
        case "subexpression" | "pipe" | "index_expression":
            for child in node.children:
                value = _visit(child, value)
            return value
        case "index":
            inner = element(value)
            return NULL if inner is None else nullable(inner)
        case "slice":
            return _list_of(value, element(value))
        case "or_expression":
            return _either([_visit(child, value) for child in node.children])
        case "and_expression":
            return union(_visit(child, value) for child in node.children)
        case "not_expression":
            return BOOLEAN
        case "comparator":
            return BOOLEAN if node.value in ("eq", "ne") else nullable(BOOLEAN)
        case "projection" | "filter_projection":
            base = _visit(node.children[0], value)
            inner = element(base)
            return _list_of(base, None if inner is None else without_null(_visit(node.children[1], inner)))
        case "value_projection":
            return nullable(Array(UNKNOWN))
        case "flatten":
            base = _visit(node.children[0], value)
            inner = element(base)
            return _list_of(base, None if inner is None else _flattened(inner))
        case "multi_select_list":
            made = Array(union(_visit(child, value) for child in node.children))
            return nullable(made) if has_null(value) else made
        case "multi_select_dict":
            fields = tuple(Field(child.value, _visit(child.children[0], value)) for child in node.children)
            return nullable(Object(fields)) if has_null(value) else Object(fields)
        case "function_expression":
            return _function(node, value)
    return UNKNOWN


def _list_of(base: Type, inner: Type | None) -> Type:
    """A list of `inner`; null where `base` is no list."""
    if inner is None:
        return NULL
    made = Array(inner)
    return made if all(isinstance(each, Array) for each in options(base)) else nullable(made)


def _flattened(inner: Type) -> Type:
    if inner == UNKNOWN:
        return UNKNOWN
    return union(each.element if isinstance(each, Array) else each for each in options(inner))


def _either(sides: list[Type]) -> Type:
    """`a || b`: each side but the last counts only where it is not false-like."""
    first = [each for side in sides[:-1] for each in options(side) if each != NULL and each != Literal(False)]
    return union([*first, sides[-1]])


def _function(node: Node, value: Type) -> Type:
    name, arguments = node.value, node.children
    if name in _RESULTS:
        return _RESULTS[name]
    if name == "map":
        inner = element(_visit(arguments[1], value))
        return UNKNOWN if inner is None else Array(_visit(arguments[0].children[0], inner))
    given = [_visit(child, value) for child in arguments if child.kind != "expref"]
    if name == "not_null":
        sides = [each for side in given for each in options(side) if each != NULL]
        return union([*sides, NULL]) if all(map(has_null, given)) else union(sides)
    if name in ("sort", "sort_by", "reverse"):
        return without_null(given[0])  # null is refused: the event is skipped
    if name in ("max", "min", "max_by", "min_by"):
        inner = element(given[0])
        return UNKNOWN if inner is None else nullable(inner)
    if name == "merge":
        return _merged(given)
    if name == "to_array":
        return union(each if isinstance(each, Array) else UNKNOWN if each == UNKNOWN else Array(each)
                     for each in options(given[0]))  # fmt: skip
    return UNKNOWN


def _merged(given: list[Type]) -> Type:
    objects = [each for each in given if isinstance(each, Object)]
    if len(objects) != len(given) or any(one.others is not None for one in objects):
        return ANY_OBJECT
    fields: dict[str, Field] = {}
    for each in (each for one in objects for each in one.fields):
        before = fields.get(each.name)
        if before is not None and each.optional:
            each = Field(each.name, union((before.type, each.type)), before.optional)  # noqa: PLW2901
        fields[each.name] = each
    return Object(tuple(fields.values()))
