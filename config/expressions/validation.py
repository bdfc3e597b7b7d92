"""Finds what makes an expression impossible to run on any event: functions, references, explosions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final

from config.expressions.ast import Diagnostic, ExpressionProblem, Node, Token
from config.expressions.cost import COPIES_LIMIT, copies_of
from config.expressions.functions import FUNCTIONS
from config.expressions.notations import for_method

_FOREIGN: Final = {
    **dict.fromkeys(("len", "size", "count", "strlen", "str_length", "char_length"), "length"),
    **dict.fromkeys(("str", "string", "tostring", "text", "stringify", "to_json", "tojson"), "to_string"),
    **dict.fromkeys(("json_encode", "json_stringify", "dumps", "format_json"), "to_string"),
    **dict.fromkeys(("int", "float", "number", "tonumber", "parse_int", "parseint", "to_int"), "to_number"),
    **dict.fromkeys(("parsefloat", "parse_float", "to_float", "num"), "to_number"),
    **dict.fromkeys(("implode", "string_join"), "join"),
    **dict.fromkeys(("includes", "has", "in", "contain", "index_of", "indexof", "find_first"), "contains"),
    **dict.fromkeys(("startswith", "start_with", "has_prefix", "begins_with"), "starts_with"),
    **dict.fromkeys(("endswith", "end_with", "has_suffix"), "ends_with"),
    **dict.fromkeys(("coalesce", "default", "ifnull", "nvl", "or_default"), "not_null"),
    **dict.fromkeys(("average", "mean"), "avg"),
    **dict.fromkeys(("typeof", "type_of", "kind"), "type"),
    **dict.fromkeys(
        ("to_lower", "tolower", "lowercase", "lower_case", "downcase", "lcase", "tolowercase"), "lower"
    ),
    **dict.fromkeys(
        ("to_upper", "toupper", "uppercase", "upper_case", "upcase", "ucase", "touppercase"), "upper"
    ),
    **dict.fromkeys(("substring", "substr", "truncate", "mid", "left", "right", "sub_string"), "slice"),
    **dict.fromkeys(("strip", "trim_left", "trim_right", "ltrim", "rtrim", "lstrip", "rstrip"), "trim"),
    **dict.fromkeys(("gsub", "str_replace", "substitute", "replace_all", "regex_replace"), "replace"),
    **dict.fromkeys(("explode", "tokenize"), "split"),
    **dict.fromkeys(("plus", "addition"), "add"),
    **dict.fromkeys(("minus", "subtract", "difference"), "sub"),
    **dict.fromkeys(("times", "multiply", "product"), "mul"),
    **dict.fromkeys(("divide", "quotient"), "div"),
    **dict.fromkeys(("ternary", "iif", "cond", "when", "choose"), "if"),
    **dict.fromkeys(("get", "get_or", "get_path"), "lookup"),
    **dict.fromkeys(("exclude", "without", "remove", "del", "delete", "except"), "omit"),
    **dict.fromkeys(("only", "select_keys", "subset"), "pick"),
    **dict.fromkeys(("ceiling", "round_up"), "ceil"),
    **dict.fromkeys(("round_down", "trunc"), "floor"),
    **dict.fromkeys(("assign", "extend", "combine", "union"), "merge"),
    **dict.fromkeys(("order_by", "orderby", "sorted_by"), "sort_by"),
    **dict.fromkeys(("array", "list", "as_array"), "to_array"),
}
"""What other languages call it; did-you-mean by spelling alone would not find these, or find wrong ones."""

_INSTEAD: Final = {
    **dict.fromkeys(("first", "head"), "write payload.items[0]"),
    **dict.fromkeys(("last", "tail"), "write payload.items[-1]"),
    **dict.fromkeys(("filter", "select", "where", "find"), "write payload.items[?price > `10`]"),
    **dict.fromkeys(("flatten", "flat"), "write payload.items[]"),
    **dict.fromkeys(("any", "some"), "write length(not_null(payload.items, `[]`)[?price > `10`]) > `0`"),
    **dict.fromkeys(("all", "every"), "write !(payload.items[?!(price > `10`)])"),
    **dict.fromkeys(("exists", "defined", "isset", "is_defined", "has_key"), "write payload.name != `null`"),
    **dict.fromkeys(("is_null", "isnull", "is_none", "missing"), "write payload.name == `null`"),
    **dict.fromkeys(("empty", "is_empty", "isempty", "blank"), "write !(payload.name)"),
    **dict.fromkeys(("concat", "concatenate", "strcat"), "write join('', [step, type])"),
    **dict.fromkeys(("not",), "write !(payload.done)"),
    **dict.fromkeys(("and",), "write payload.a && payload.b"),
    **dict.fromkeys(("or",), "write payload.a || payload.b"),
    **dict.fromkeys(("eq", "equals", "equal"), "write payload.a == payload.b"),
    **dict.fromkeys(("bool", "boolean", "to_boolean", "to_bool"), "write payload.flag == `true`"),
    **dict.fromkeys(
        ("from_json", "fromjson", "parse_json", "json_parse", "json", "loads", "json_decode"),
        "a chunk is read as JSON where the rule says payload: json; other payloads are JSON already",
    ),
    **dict.fromkeys(
        ("match", "matches", "regex", "regex_match", "test", "search", "like"),
        "there are no patterns: write contains(payload.text, 'word') or starts_with(payload.text, 'start')",
    ),
    **dict.fromkeys(
        ("now", "date", "today", "timestamp", "strftime", "date_format", "parse_date", "time"),
        "the event's time is at, as text; compute others in the step",
    ),
    **dict.fromkeys(
        ("format", "sprintf", "printf", "template", "interpolate"),
        "write join('', ['Token: ', payload.text])",
    ),
    **dict.fromkeys(("mod", "modulo", "remainder", "pow", "power", "sqrt", "log"), "compute it in the step"),
    **dict.fromkeys(("entries", "to_entries", "items"), "write keys(payload) or values(payload)"),
}
"""What to write where no function is meant, or none exists."""

_NEAR: Final = 0.8
"""How like two names must be for did-you-mean: one or two wrong letters; less proposes other meanings."""


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
    methods: dict[int, Node] = {}  # the chain in which a call follows a dot
    for node in nodes:
        if node.kind == "subexpression":
            methods |= {id(child): node for child in node.children[1:] if child.kind == "function_expression"}
        if node.kind == "function_expression":
            yield from _function(node, methods.get(id(node)))
        elif node.kind == "slice" and node.value[2] == 0:
            yield _error(node.position, "slice-step", "a slice's step cannot be 0", "write [start:stop:step]")
    yield from _misplaced_references(nodes)
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


def _function(node: Node, chain: Node | None = None) -> Iterator[Diagnostic]:
    function = FUNCTIONS.get(node.value)
    if function is None:
        message = f"there is no function {node.value}()"
        yield _error(node.position, "unknown-function", message, instead_of(node.value))
        return
    if not function.takes(len(node.children)):
        given = len(node.children)
        yield _error(
            node.position,
            "arity",
            f"{node.value}() takes {function.arity}, but is given {given or 'none'}",
            (for_method(chain, node) if chain is not None else "") or f"write {usage(function.name)}",
        )
        return
    for index, child in enumerate(node.children):
        wanted = "expression" in function.param(index).types
        if wanted and child.kind != "expref":
            yield _error(
                child.position,
                "reference",
                f"{node.value}() needs an expression that it applies to each element",
                f"put an & before it: {usage(function.name)}",
            )
        elif not wanted and child.kind == "expref":
            yield _error(
                child.position,
                "reference",
                f"{node.value}() takes no & here",
                f"write {usage(function.name)}",
            )


@lru_cache(maxsize=256)
def instead_of(name: str) -> str:
    """What to write instead of a function that there is not."""
    low = name.lower()
    if low in _INSTEAD:
        return _INSTEAD[low]
    plain = low.replace("_", "")
    close = _FOREIGN.get(low) or next((known for known in FUNCTIONS if known.replace("_", "") == plain), None)
    close = close or next(iter(get_close_matches(low, FUNCTIONS, 1, _NEAR)), None)
    if close is None:
        return f"compute it in the step, or use one of {', '.join(FUNCTIONS)}"
    return f"did you mean {close}()?" + (f" write {_USAGES[close]}" if close in _ELSEWHERE else "")


_ELSEWHERE: Final = frozenset({"add", "div", "if", "lookup", "mul", "omit", "pick", "slice", "split", "sub"})
"""Functions whose arguments nobody guesses, so the hint shows them."""

_USAGES: Final = {
    "add": "add(attempt, `1`)",
    "div": "div(payload.total, `2`)",
    "if": "if(payload.done, 'yes', 'no')",
    "lookup": "lookup(payload, 'name', 'none')",
    "mul": "mul(payload.price, `2`)",
    "omit": "omit(payload, ['secret'])",
    "pick": "pick(payload, ['id', 'name'])",
    "replace": "replace(payload.text, 'old', 'new')",
    "round": "round(payload.price, `2`)",
    "slice": "slice(payload.text, `0`, `100`)",
    "split": "split(payload.text, ',')",
    "sub": "sub(attempt, `1`)",
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


def _misplaced_references(nodes: list[Node]) -> Iterator[Diagnostic]:
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
