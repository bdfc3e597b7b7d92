"""Finds what makes an expression impossible to run on any event: functions, references, explosions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final

from config.expressions.ast import Diagnostic, ExpressionProblem, Node, Token
from config.expressions.cost import COPIES_LIMIT, copies_of
from config.expressions.functions import FUNCTIONS

_FOREIGN: Final = {
    "len": "length",
    "size": "length",
    "count": "length",
    "str": "to_string",
    "string": "to_string",
    "int": "to_number",
    "float": "to_number",
    "number": "to_number",
    "concat": "join",
    "includes": "contains",
    "has": "contains",
    "startswith": "starts_with",
    "endswith": "ends_with",
    "coalesce": "not_null",
    "default": "not_null",
    "filter": "map",
    "average": "avg",
    "mean": "avg",
    "round": "floor",
    "first": "min_by",
    "typeof": "type",
}
"""What other languages call it; did-you-mean by spelling alone would not find these."""


def check_structure(tree: Node, tokens: list[Token]) -> None:
    """Raise the first structural diagnostic as an ExpressionProblem."""
    for diagnostic in structural(tree, tokens):
        raise ExpressionProblem(diagnostic.position, diagnostic.message, diagnostic.hint, diagnostic.code)


def structural(tree: Node, tokens: list[Token]) -> Iterator[Diagnostic]:
    """All diagnostics that make the expression impossible to run."""
    for token in tokens:
        if token.kind == "literal" and not _is_json(token.value):
            yield _error(
                token.position, "not-json", "NaN and infinity are no JSON", "write a number, or `null`"
            )
    nodes = list(tree.walk())
    for node in nodes:
        if node.kind == "function_expression":
            yield from _function(node)
        elif node.kind == "slice" and node.value[2] == 0:
            yield _error(node.position, "slice-step", "a slice's step cannot be 0", "write [start:stop:step]")
    yield from _strays(nodes)
    if copies_of(tree) > COPIES_LIMIT:
        yield _error(
            _where_it_explodes(tree),
            "explosion",
            f"the result could hold the event more than {COPIES_LIMIT} times",
            "each [..., ...] or {...} over the same value multiplies it: take stages out",
        )


def _error(position: int, code: str, message: str, hint: str | None) -> Diagnostic:
    return Diagnostic(position, "error", code, message, hint)


def _is_json(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, float) and not math.isfinite(item):
            return False
        if isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
    return True


def _function(node: Node) -> Iterator[Diagnostic]:
    function = FUNCTIONS.get(node.value)
    if function is None:
        close = [_FOREIGN[node.value.lower()]] if node.value.lower() in _FOREIGN else []
        close = close or get_close_matches(node.value.lower(), FUNCTIONS, 1)
        hint = f"did you mean {close[0]}()?" if close else f"there are: {', '.join(FUNCTIONS)}"
        yield _error(node.position, "unknown-function", f"there is no function {node.value}()", hint)
        return
    if not function.takes(len(node.children)):
        given = len(node.children)
        yield _error(
            node.position,
            "arity",
            f"{node.value}() takes {function.arity}, but is given {given or 'none'}",
            f"write {usage(function.name)}",
        )
        return
    for index, child in enumerate(node.children):
        wanted = "expression" in function.param(index).types
        if wanted and child.kind != "expref":
            yield _error(
                child.position,
                "reference",
                f"{node.value}() wants an expression that it applies to each element",
                f"put an & before it: {usage(function.name)}",
            )
        elif not wanted and child.kind == "expref":
            yield _error(
                child.position,
                "reference",
                f"{node.value}() takes no & here",
                f"write {usage(function.name)}",
            )


_USAGES: Final = {
    "contains": "contains(payload.text, 'word')",
    "ends_with": "ends_with(payload.text, 'end')",
    "join": "join(', ', payload.names)",
    "map": "map(&name, payload.items)",
    "max_by": "max_by(payload.items, &price)",
    "merge": "merge(payload.a, payload.b)",
    "min_by": "min_by(payload.items, &price)",
    "not_null": "not_null(payload.name, 'none')",
    "sort_by": "sort_by(payload.items, &price)",
    "starts_with": "starts_with(payload.text, 'start')",
}


def usage(name: str) -> str:
    """How `name` is called, as an example."""
    return _USAGES.get(name, f"{name}(payload.value)")


def _strays(nodes: list[Node]) -> Iterator[Diagnostic]:
    """`&` outside of a function's arguments has no value."""
    arguments = {id(child) for node in nodes if node.kind == "function_expression" for child in node.children}
    for node in nodes:
        if node.kind == "expref" and id(node) not in arguments:
            yield _error(
                node.position,
                "reference",
                "a single & stands only before an argument of map, sort_by, min_by or max_by",
                "for `and` write &&",
            )


def _where_it_explodes(tree: Node) -> int:
    """The deepest node that alone is over the limit."""
    node = tree
    while True:
        over = [child for child in node.children if copies_of(child) > COPIES_LIMIT]
        if not over:
            return node.position
        node = over[0]
