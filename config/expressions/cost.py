"""How often an expression can repeat the event in its result, computed from its text alone.

``[@, @] | [@, @] | …`` doubles with each stage: thirty stages are a billion copies, yet cost nothing
until they are written as JSON. Paths that cannot overlap (``{a: payload.a, b: payload.b}``) count once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from config.expressions.ast import Node
from config.expressions.budget import CHANGED_PER_UNIT, CHARACTERS_PER_UNIT, WORK_LIMIT

COPIES_LIMIT: Final = 64
"""Copies of the event in one value. Honest mappings stay below ten, explosions pass any bound."""

_ENOUGH: Final = 1 << 40  # beyond this the exact number does not matter

_ONE_OF_ARGUMENTS: Final = frozenset({"if", "lookup", "not_null"})
_OF_FIRST: Final = frozenset({"max_by", "min_by", "omit", "pick", "slice", "sort_by", "split"})
_OF_ALL: Final = frozenset({"merge", "join", "replace"})
_SMALL: Final = frozenset(
    {
        *("abs", "add", "avg", "ceil", "contains", "div", "ends_with", "floor", "length", "mul", "round"),
        *("starts_with", "sub", "sum", "type"),
    }
)

LARGE_TEXT: Final = 256 << 10
"""Characters: what a step's output may well have. An expression must be cheap enough for one such text."""

MOST_READINGS: Final = WORK_LIMIT * CHARACTERS_PER_UNIT // LARGE_TEXT
"""How often one event's rules may read a LARGE_TEXT within the budget: 48 times."""

_READING: Final = {
    **dict.fromkeys(("contains", "join", "replace", "reverse", "slice", "split", "to_string", "trim"), 1),
    **dict.fromkeys(("lower", "upper"), CHARACTERS_PER_UNIT // CHANGED_PER_UNIT),
}
"""The functions that read a text, and how often `contains` could do so in the same time."""

_SHORT: Final = frozenset(
    {
        "type",
        "step",
        "run_id",
        "step_run_id",
        "attempt",
        "index",
        "first_index",
        "at",
        "recovered",
        "workflow",
        "parent",
    }
)
"""Fields of the event that hold no long text."""

Path = tuple[str, ...]


def readings_of(node: Node) -> int:
    """How often an evaluation reads the event's longest text, counted in readings of `contains`."""
    return sum(
        _READING[each.value]
        for each in node.walk()
        if each.kind == "function_expression" and each.value in _READING and _may_be_long(each)
    )


def _may_be_long(call: Node) -> bool:
    names = {each.value for each in call.walk() if each.kind == "field"}
    constant = all(each.kind in ("literal", "function_expression") for each in call.walk())
    return not constant and not (names and names <= _SHORT)


def copies_of_all(nodes: Iterable[Node]) -> int:
    """How often the input can occur in the values of all `nodes` together."""
    paths: list[Path] = []
    total = 0
    for node in nodes:
        path = plain_path(node)
        if path is None:
            total += copies_of(node)
        else:
            paths.append(path)
    return min(total + _overlap(paths), _ENOUGH)


def copies_of(node: Node) -> int:
    """How often the input of `node` can occur in its result; at least 1."""
    counted = max(1, _count(node))
    return min(counted, _ENOUGH)


def plain_path(node: Node) -> Path | None:
    """The names of ``a.b.c``, () for ``@``; None for anything else."""
    if node.kind == "field":
        return (node.value,)
    if node.kind in ("current", "identity"):
        return ()
    if node.kind == "subexpression" and all(child.kind == "field" for child in node.children):
        return tuple(child.value for child in node.children)
    return None


def _overlap(paths: list[Path]) -> int:
    """The most paths that one leaf of the input can be under."""
    deepest = 0
    counts: dict[Path, int] = {}
    for path in paths:
        counts[path] = counts.get(path, 0) + 1
    for path in counts:
        deepest = max(deepest, sum(counts.get(path[:length], 0) for length in range(len(path) + 1)))
    return deepest


def _count(node: Node) -> int:
    if node.kind in ("pipe", "subexpression", "index_expression"):
        return _product(node.children)
    if node.kind in ("projection", "value_projection", "filter_projection"):
        return _product(node.children[:2])
    if node.kind in ("or_expression", "and_expression"):
        return max(map(copies_of, node.children))
    if node.kind == "multi_select_list":
        return copies_of_all(node.children)
    if node.kind == "multi_select_dict":
        return copies_of_all(child.children[0] for child in node.children)
    if node.kind in ("flatten", "key_val_pair", "expref"):
        return copies_of(node.children[0])
    if node.kind == "function_expression":
        return _count_function(node)
    return 1


def _count_function(node: Node) -> int:
    if node.value in _SMALL or not node.children:
        return 1
    if node.value in _ONE_OF_ARGUMENTS:
        return max(map(copies_of, node.children))
    if node.value in _OF_FIRST:
        return copies_of(node.children[0])
    if node.value in _OF_ALL:
        return copies_of_all(node.children)
    return _product(node.children)  # map() is the product; the others have one argument


def _product(nodes: Iterable[Node]) -> int:
    product = 1
    for node in nodes:
        product = min(product * copies_of(node), _ENOUGH)
    return product
