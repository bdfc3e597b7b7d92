"""Finds errors and warnings in an expression that can be parsed: fields, types, literals.

It walks the tree with what is known of each value before any event arrives (`Shape`). What is wrong on every
event is an error, what may fail on some events is a warning; both say what to write instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from config.expressions import lint_messages
from config.expressions.ast import Diagnostic, Node, Token
from config.expressions.cost import plain_path
from config.expressions.functions import FUNCTIONS, type_name
from config.expressions.types import ANY, Shape, known
from config.expressions.validation import structural

Guards = frozenset[tuple[str | int, ...]]
"""Paths that are not null, because a condition tested them."""


def diagnostics(tree: Node, tokens: list[Token], root: Shape, wanted: str | None = None) -> list[Diagnostic]:
    """All diagnostics in the order of their positions; `wanted` is the type that the result must have."""
    found = [*structural(tree, tokens), *lint_messages.words(tokens)]
    walk = _Walk(tokens, strict="claims" in (root.fields or {}))
    result = walk.visit(tree, root.at((0,)), frozenset())
    if walk.strict and result.kind not in ("any", "boolean"):
        found.append(lint_messages.never_true(tree, result))
    if wanted is not None and result.kind not in ("any", wanted):
        found.append(lint_messages.wrong_result(tree, result, wanted))
    known_places = {(diagnostic.position, diagnostic.code) for diagnostic in found}
    found += [other for other in walk.found if (other.position, other.code) not in known_places]
    return sorted(found, key=lambda diagnostic: (diagnostic.position, diagnostic.severity))


@dataclass
class _Walk:
    """The walk and its findings: shapes are passed down and returned, guards are passed down only."""

    tokens: list[Token]
    strict: bool  # the root is that of `allow`

    def __post_init__(self) -> None:
        self.found: list[Diagnostic] = []
        self._reported: set[tuple[int, str]] = set()
        self._at = {token.position: token for token in self.tokens}
        self._scopes = 0

    def visit(self, node: Node, value: Shape, guards: Guards) -> Shape:
        """The shape of the result of `node` on `value`."""
        visit = getattr(self, f"_{node.kind}", None)
        if visit is None:
            return ANY
        shape: Shape = visit(node, value, guards)
        if shape.path is not None and shape.path in guards and shape.nullable:
            return Shape(shape.kind, shape.fields, False, shape.choices, shape.path)
        return shape

    def _report(self, diagnostic: Diagnostic | None) -> None:
        if diagnostic is not None and (diagnostic.position, diagnostic.code) not in self._reported:
            self._reported.add((diagnostic.position, diagnostic.code))
            self.found.append(diagnostic)

    def _quoted(self, node: Node) -> bool:
        token = self._at.get(node.position)
        return node.kind == "field" and token is not None and token.kind == "quoted_identifier"

    def _elements(self) -> Shape:
        """The shape of an element of a list, in a scope of its own."""
        self._scopes += 1
        return Shape(nullable=True, path=(self._scopes,))

    # -- leaves

    def _identity(self, node: Node, value: Shape, guards: Guards) -> Shape:
        return value

    _current = _identity

    def _literal(self, node: Node, value: Shape, guards: Guards) -> Shape:
        kind = type_name(node.value)
        return known(kind, nullable=kind == "null")

    def _field(self, node: Node, value: Shape, guards: Guards) -> Shape:
        name: str = node.value
        path = (*value.path, name) if value.path is not None else None
        if value.fields is not None:
            if name in value.fields:
                inner = value.fields[name]
                return Shape(inner.kind, inner.fields, inner.nullable or value.nullable, inner.choices, path)
            self._report(lint_messages.unknown_field(node, value, self._quoted(node)))
        elif value.kind not in ("any", "object"):
            self._report(lint_messages.no_fields(node, value))
        return Shape(path=path)

    def _index(self, node: Node, value: Shape, guards: Guards) -> Shape:
        return Shape()

    def _slice(self, node: Node, value: Shape, guards: Guards) -> Shape:
        return known("array", nullable=value.kind != "array")

    # -- chains

    def _chain(self, node: Node, value: Shape, guards: Guards) -> Shape:
        for child in node.children:
            value = self.visit(child, value, guards)
        return value

    _pipe = _subexpression = _index_expression = _chain

    # -- logic

    def _and_expression(self, node: Node, value: Shape, guards: Guards) -> Shape:
        last = ANY
        for child in node.children:
            last = self.visit(child, value, guards)
            guards = guards | self._asked_for(child, value)
        return Shape(last.kind) if last.kind == "boolean" else ANY

    def _asked_for(self, node: Node, value: Shape) -> Guards:
        """Paths that are not null where `node` is true."""
        if node.kind == "and_expression":
            return frozenset().union(*(self._asked_for(child, value) for child in node.children))
        asked: tuple[Node, ...] = (node,)
        if node.kind == "comparator":
            nulls = any(child.kind == "literal" and child.value is None for child in node.children)
            if (node.value == "ne") != nulls:
                return frozenset()
            asked = node.children
        names = [plain_path(child) for child in asked]
        if value.path is None:
            return frozenset()
        return frozenset((*value.path, *path) for path in names if path is not None)

    def _or_expression(self, node: Node, value: Shape, guards: Guards) -> Shape:
        shapes = [self.visit(child, value, guards) for child in node.children]
        kinds = {shape.kind for shape in shapes}
        kind = shapes[-1].kind if len(kinds | {"any"}) <= 2 else "any"
        # In `payload.name || 'none'` the last side is the result where all others are missing.
        return Shape(kind if kinds == {kind} else "any", nullable=shapes[-1].nullable)

    def _not_expression(self, node: Node, value: Shape, guards: Guards) -> Shape:
        self.visit(node.children[0], value, guards)
        return known("boolean")

    def _comparator(self, node: Node, value: Shape, guards: Guards) -> Shape:
        left, right = (self.visit(child, value, guards) for child in node.children)
        self._check_quotes(node)
        for side, other, literal in ((left, right, node.children[1]), (right, left, node.children[0])):
            if literal.kind == "literal" and literal.value is None and self.strict:
                self._report(lint_messages.null_comparison(node))
            elif literal.kind == "literal":
                self._check_literal(node, side, literal)
            elif node.value in ("eq", "ne") and not _can_be_equal(side, other):
                self._report(lint_messages.never_equal(node, side, other))
                break
        return known("boolean", nullable=node.value not in ("eq", "ne"))

    def _check_quotes(self, node: Node) -> None:
        right = node.children[1]
        if self._quoted(right) and (right.position, "unknown-field") not in self._reported:
            self._report(
                lint_messages.double_quotes(right)
            )  # otherwise it was reported already, with the same hint

    def _check_literal(self, node: Node, side: Shape, literal: Node) -> None:
        token = self._at.get(literal.position)
        if token is not None and token.old_literal:
            return  # reported already, and it is not what was meant
        if side.choices and isinstance(literal.value, str) and literal.value not in side.choices:
            self._report(lint_messages.no_such_choice(literal, side))
        elif node.value in ("eq", "ne"):
            other = known(type_name(literal.value), nullable=literal.value is None)
            if not _can_be_equal(side, other):
                self._report(lint_messages.never_equal(node, side, other))

    # -- lists

    def _projection(self, node: Node, value: Shape, guards: Guards) -> Shape:
        base = self.visit(node.children[0], value, guards)
        for child in node.children[1:]:
            element = self._elements()
            self.visit(child, element, frozenset())
        return known("array", nullable=base.nullable or base.kind != "array")

    def _filter_projection(self, node: Node, value: Shape, guards: Guards) -> Shape:
        base = self.visit(node.children[0], value, guards)
        element = self._elements()
        self.visit(node.children[2], element, frozenset())
        self.visit(node.children[1], element, self._asked_for(node.children[2], element))
        return known("array", nullable=base.nullable or base.kind != "array")

    def _value_projection(self, node: Node, value: Shape, guards: Guards) -> Shape:
        base = self.visit(node.children[0], value, guards)
        self.visit(node.children[1], self._elements(), frozenset())
        return known("array", nullable=base.nullable or base.kind != "object")

    def _flatten(self, node: Node, value: Shape, guards: Guards) -> Shape:
        base = self.visit(node.children[0], value, guards)
        return known("array", nullable=base.nullable or base.kind != "array")

    # -- new values

    def _multi_select_list(self, node: Node, value: Shape, guards: Guards) -> Shape:
        for child in node.children:
            self.visit(child, value, guards)
        return known("array", nullable=value.nullable)

    def _multi_select_dict(self, node: Node, value: Shape, guards: Guards) -> Shape:
        fields = {
            child.value: self.visit(child.children[0], value, guards).at(None) for child in node.children
        }
        return Shape("object", fields, value.nullable)

    def _expref(self, node: Node, value: Shape, guards: Guards) -> Shape:
        self.visit(node.children[0], self._elements(), frozenset())
        return ANY

    def _function_expression(self, node: Node, value: Shape, guards: Guards) -> Shape:
        shapes = [self.visit(child, value, guards) for child in node.children]
        function = FUNCTIONS.get(node.value)
        if function is None or not function.takes(len(shapes)):
            return ANY
        for index, (child, shape) in enumerate(zip(node.children, shapes, strict=True)):
            self._report(lint_messages.argument(node.value, child, shape, function.param(index)))
        if node.value == "not_null":
            return Shape(
                shapes[-1].kind if len({s.kind for s in shapes}) == 1 else "any",
                nullable=all(shape.nullable for shape in shapes),
            )
        return _RESULTS.get(node.value, ANY)


_RESULTS: Final = {
    **{name: known("number") for name in ("abs", "ceil", "floor", "length", "sum")},
    **{name: known("number") for name in ("add", "div", "mul", "round", "sub")},
    **{name: known("string") for name in ("lower", "replace", "slice", "trim", "upper")},
    **{name: known("object") for name in ("omit", "pick")},
    "split": known("array"),
    **{name: known("boolean") for name in ("contains", "ends_with", "starts_with")},
    **{name: known("array") for name in ("keys", "values", "map", "sort", "sort_by", "to_array")},
    **{name: known("string") for name in ("join", "to_string", "type")},
    "avg": known("number", nullable=True),
    "to_number": known("number", nullable=True),
    "merge": Shape("object", nullable=False),
}


def _can_be_equal(one: Shape, other: Shape) -> bool:
    if one.nullable and other.nullable:
        return True
    return "any" in (one.kind, other.kind) or one.kind == other.kind
