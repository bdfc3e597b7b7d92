"""Finds errors and warnings in an expression that can be parsed: fields, types, literals.

It walks the tree with what is known of each value before any event arrives (`Shape`). What is wrong on every
event is an error, what may fail on some events is a warning; both say what to write instead.
"""

from __future__ import annotations

from typing import Final

from config.expressions import lint_messages
from config.expressions.ast import Diagnostic, Node, Token, Written
from config.expressions.cost import MOST_READINGS, plain_path, readings_of
from config.expressions.functions import FUNCTIONS, Param, type_name
from config.expressions.types import ANY, Shape, known
from config.expressions.validation import structural

Guards = frozenset[tuple[str | int, ...]]
"""Paths that are not null, because a condition tested them; with `IS_TEXT` at the end: that are texts."""

IS_TEXT: Final = "\0text"
"""Marks a guard for a text; no path can hold it, since names in an expression have no such character."""


def diagnostics(
    text: str, tree: Node, tokens: list[Token], root: Shape, wanted: str | None = None
) -> list[Diagnostic]:
    """All diagnostics in the order of their positions; `wanted` is the type that the result must have."""
    found = [*structural(tree, tokens), *lint_messages.words(tokens)]
    walk = _Walk(Written(text, tokens), strict="claims" in (root.fields or {}))
    walk.note_dots(tree)
    result = walk.visit(tree, root.at((0,)), frozenset())
    if walk.strict and result.kind not in ("any", "boolean"):
        found.append(lint_messages.never_true(tree, result))
    if (readings := readings_of(tree)) > MOST_READINGS:
        found.append(lint_messages.too_many_readings(tree, readings))
    if wanted is not None and result.kind not in ("any", wanted):
        found.append(lint_messages.wrong_result(tree, result, wanted))
    known_places = {(diagnostic.position, diagnostic.code) for diagnostic in found}
    found += [other for other in walk.found if (other.position, other.code) not in known_places]
    return sorted(found, key=lambda diagnostic: (diagnostic.position, diagnostic.severity))


class _Walk:
    """The walk and its findings: shapes are passed down and returned, guards are passed down only."""

    def __init__(self, written: Written, *, strict: bool) -> None:
        """`strict`: the root is that of `allow`."""
        self.written = written
        self.strict = strict
        self.found: list[Diagnostic] = []
        self._dotted: set[int] = set()  # ids of the fields that follow a dot
        self._reported: set[tuple[int, str]] = set()
        self._at = {token.position: token for token in written.tokens}
        self._scopes = 0
        self._calls: dict[int, list[str]] = {}  # the arguments as written of each call, read once

    def note_dots(self, tree: Node) -> None:
        """Notes which names follow a dot: ``true`` there is a field, and anywhere else it is no constant."""
        for node in tree.walk():
            if node.kind == "subexpression":
                self._dotted.update(map(id, node.children[1:]))
            elif node.kind in _PROJECTIONS:
                self._dotted.add(id(_leftmost(node.children[1])))

    def visit(self, node: Node, value: Shape, guards: Guards) -> Shape:
        """The shape of the result of `node` on `value`."""
        visit = getattr(self, f"_{node.kind}", None)
        if visit is None:
            return ANY
        shape: Shape = visit(node, value, guards)
        if shape.path is not None and (*shape.path, IS_TEXT) in guards and shape.kind == "any":
            return Shape("string", nullable=False, path=shape.path)
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
        if not self._quoted(node) and not (value.fields is not None and name in value.fields):
            self._check_bare_name(node, value)
        if value.fields is not None:
            if name in value.fields:
                inner = value.fields[name]
                return Shape(inner.kind, inner.fields, inner.nullable or value.nullable, inner.choices, path)
            self._report(lint_messages.unknown_field(node, value, self._quoted(node)))
        elif value.kind not in ("any", "object"):
            self._report(lint_messages.no_fields(node, value))
        return Shape(path=path)

    def _check_bare_name(self, node: Node, value: Shape) -> None:
        """A name that other languages read as a constant or a property."""
        if id(node) in self._dotted:
            if node.value == "length" and value.kind in ("any", "array", "string"):
                self._report(lint_messages.property_length(node, value))
        elif value.fields is None:
            self._report(lint_messages.bare_constant(node))

    def _index(self, node: Node, value: Shape, guards: Guards) -> Shape:
        self._report(lint_messages.not_a_list(node, value))
        return Shape()

    def _slice(self, node: Node, value: Shape, guards: Guards) -> Shape:
        self._report(lint_messages.not_a_list(node, value))
        return known("array", nullable=value.kind != "array")

    # -- chains

    def _chain(self, node: Node, value: Shape, guards: Guards) -> Shape:
        self._check_not_first(node)
        first, second = node.children[:2]
        if first.kind == second.kind == "field" and value.path == (0,):
            self._report(lint_messages.root_named(first, second, value, self.written.text))
        for child in node.children:
            value = self.visit(child, value, guards)
        return value

    _subexpression = _index_expression = _chain

    def _pipe(self, node: Node, value: Shape, guards: Guards) -> Shape:
        for number, child in enumerate(node.children):
            if number and child.kind == "field" and not self._quoted(child) and child.value in FUNCTIONS:
                self._report(lint_messages.piped_into_a_name(child, self.written))
                if value.fields is None or child.value not in value.fields:
                    return ANY
            value = self.visit(child, value, guards)
        return value

    def _check_not_first(self, node: Node) -> None:
        """``!a.b`` is ``(!a).b``: JMESPath's `!` binds before the dot."""
        first = _leftmost(node)
        if first.kind == "not_expression":
            self._report(lint_messages.not_first(first, self.written))
            followers = ("no-fields", "not-a-list")
            self._reported |= {(each.position, code) for each in node.walk() for code in followers}

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
            text = _asked_for_a_text(node)
            if text is not None and value.path is not None:
                return frozenset({(*value.path, *text), (*value.path, *text, IS_TEXT)})
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
        if node.value not in ("eq", "ne"):
            self._report(lint_messages.ordering(node, (left, right), self.written))
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
            if node.children[0].kind == "not_expression" and type_name(literal.value) != "boolean":
                self._report(lint_messages.not_first(node.children[0], self.written))
                self._reported.add((node.position, "never-equal"))
                return
            other = known(type_name(literal.value), nullable=literal.value is None)
            if not _can_be_equal(side, other):
                self._report(lint_messages.never_equal(node, side, other))

    # -- lists

    def _base(self, node: Node, value: Shape, guards: Guards) -> Shape:
        """The shape of what a projection goes through."""
        self._check_not_first(node)
        base = self.visit(node.children[0], value, guards)
        self._report(lint_messages.nothing_to_go_through(node, base))
        return base

    def _projection(self, node: Node, value: Shape, guards: Guards) -> Shape:
        base = self._base(node, value, guards)
        for child in node.children[1:]:
            element = self._elements()
            self.visit(child, element, frozenset())
        return known("array", nullable=base.nullable or base.kind != "array")

    def _filter_projection(self, node: Node, value: Shape, guards: Guards) -> Shape:
        base = self._base(node, value, guards)
        element = self._elements()
        self.visit(node.children[2], element, frozenset())
        self.visit(node.children[1], element, self._asked_for(node.children[2], element))
        return known("array", nullable=base.nullable or base.kind != "array")

    def _value_projection(self, node: Node, value: Shape, guards: Guards) -> Shape:
        base = self._base(node, value, guards)
        self.visit(node.children[1], self._elements(), frozenset())
        return known("array", nullable=base.nullable or base.kind != "object")

    def _flatten(self, node: Node, value: Shape, guards: Guards) -> Shape:
        base = self._base(node, value, guards)
        return known("array", nullable=base.nullable or base.kind != "array")

    # -- new values

    def _multi_select_list(self, node: Node, value: Shape, guards: Guards) -> Shape:
        elements = tuple([self.visit(child, value, guards) for child in node.children])
        return Shape("array", nullable=value.nullable, elements=elements)

    def _multi_select_dict(self, node: Node, value: Shape, guards: Guards) -> Shape:
        fields = {
            child.value: self.visit(child.children[0], value, guards).at(None) for child in node.children
        }
        return Shape("object", fields, value.nullable)

    def _expref(self, node: Node, value: Shape, guards: Guards) -> Shape:
        self.visit(node.children[0], self._elements(), frozenset())
        return ANY

    def _function_expression(self, node: Node, value: Shape, guards: Guards) -> Shape:
        function = FUNCTIONS.get(node.value)
        shapes = []
        for index, child in enumerate(node.children):
            applied = function is not None and "expression" in function.param(index).types
            # Where the & is missing, which is reported, the names are those of an element all the same.
            shapes.append(
                self._expref(Node("expref", 0, None, (child,)), value, guards)
                if applied and child.kind != "expref"
                else self.visit(child, value, guards)
            )
        if function is None or not function.takes(len(shapes)):
            return ANY
        for index, shape in enumerate(shapes):
            self._argument(node, index, shape)
        if node.value == "if":
            return _one_of(shapes[1:])
        if node.value == "div":
            self._report(lint_messages.division_by_zero(node.children[1]))
        if node.value == "lookup":
            return Shape(nullable=shapes[2].nullable)
        if node.value == "not_null":
            return Shape(
                shapes[-1].kind if len({s.kind for s in shapes}) == 1 else "any",
                nullable=all(shape.nullable for shape in shapes),
            )
        return _RESULTS.get(node.value, ANY)

    def _arguments(self, call: Node) -> list[str]:
        if id(call) not in self._calls:
            self._calls[id(call)] = self.written.arguments(call)
        return self._calls[id(call)]

    def _argument(self, node: Node, index: int, shape: Shape) -> None:
        """The argument at `index`, and the elements of a list that is written out."""
        child, param = node.children[index], FUNCTIONS[node.value].param(index)
        if node.value == "contains" and self.strict and index == 0 and shape.kind != "array":
            self._report(lint_messages.contains_in_a_text(node, shape, self.written))
            return  # to_array(), which that proposes, takes null too
        self._report(
            lint_messages.argument(
                node.value, child, shape, param, written=self._arguments(node), index=index
            )
        )
        if param.elements and child.kind == "multi_select_list":
            for element, inner in zip(child.children, shape.elements, strict=True):
                self._report(lint_messages.argument(node.value, element, inner, Param(param.elements)))


def _asked_for_a_text(node: Node) -> tuple[str, ...] | None:
    """The path of ``type(path) == 'string'``; None for any other comparison."""
    call, literal = node.children
    if node.value != "eq" or call.kind != "function_expression" or call.value != "type" or not call.children:
        return None
    return plain_path(call.children[0]) if literal.value == "string" and literal.kind == "literal" else None


def _leftmost(node: Node) -> Node:
    """What a chain or a projection begins with."""
    while node.kind in _FROM_THE_LEFT:
        node = node.children[0]
    return node


def _one_of(shapes: list[Shape]) -> Shape:
    """The shape of a value that is one of several."""
    kinds = {shape.kind for shape in shapes}
    kind = kinds.pop() if len(kinds) == 1 else "any"
    return Shape(kind, nullable=any(shape.nullable for shape in shapes))


_PROJECTIONS: Final = frozenset({"projection", "filter_projection", "value_projection"})
_FROM_THE_LEFT: Final = _PROJECTIONS | {"subexpression", "index_expression", "flatten"}

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
