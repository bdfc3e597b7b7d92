"""A parsed expression as a tree of nodes with positions, and the two exceptions of expressions.

All modules about expressions build on this one; it uses neither the JMESPath library nor IO. A position
counts characters of the expression's text, from 0.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct


class Node(Struct, frozen=True):
    """One node of the syntax tree; `value` is a name, a literal, an index or a slice's three numbers."""

    kind: str
    position: int
    value: Any = None
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """This node and all below it, parents first."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))


class Token(Struct, frozen=True):
    """One token of an expression's text; `old_literal`: a literal in backticks that is no JSON."""

    kind: str
    position: int
    value: Any
    end: int
    old_literal: bool = False


_OPENING: Final = frozenset({"lparen", "lbracket", "lbrace", "filter"})
_CLOSING: Final = frozenset({"rparen", "rbracket", "rbrace"})
_SIDE_ENDS: Final = frozenset({"and", "or", "pipe", "comma", "eof"})


class Written(Struct, frozen=True):
    """An expression as it is written: parts of its text, for hints that can be copied."""

    text: str
    tokens: list[Token]

    def operand(self, position: int) -> str:
        """What follows the token at `position`, to the end of that side of ``&&``, ``||``, ``|`` or ``,``."""
        first = self._index(position) + 1
        return self.text[self.tokens[first].position : self._end(first)].strip()

    def left_of(self, position: int) -> str:
        """What stands before the ``|`` in front of `position`, from the bracket or comma on."""
        pipe = self._index(position) - 1
        return self.text[self._begin(pipe) : self.tokens[pipe].position].strip()

    def arguments(self, call: Node) -> list[str]:
        """The arguments of a function."""
        index = self._index(call.position) + 1
        found: list[str] = []
        depth, begin = 0, self.tokens[index].position + 1
        for number in range(index, len(self.tokens)):
            token = self.tokens[number]
            depth += (token.kind in _OPENING) - (token.kind in _CLOSING)
            if depth == 0 or (depth == 1 and token.kind == "comma"):
                found.append(self.text[begin : token.position].strip())
                begin = token.position + 1
            if depth == 0:
                break
        return found

    def comparison(self, node: Node) -> str:
        """Both sides of a comparator, with the comparator."""
        index = self._index(node.position)
        return self.text[self._begin(index, _SIDE_ENDS) : self._end(index)].strip()

    def _index(self, position: int) -> int:
        return bisect_left(self.tokens, position, key=lambda token: token.position)

    def _end(self, first: int) -> int:
        depth = 0
        for token in self.tokens[first:]:
            depth += (token.kind in _OPENING) - (token.kind in _CLOSING)
            if depth < 0 or (depth == 0 and token.kind in _SIDE_ENDS):
                return token.position
        return len(self.text)

    def _begin(self, last: int, ends: frozenset[str] = frozenset()) -> int:
        depth = 0
        for token in reversed(self.tokens[:last]):
            depth += (token.kind in _CLOSING) - (token.kind in _OPENING)
            if depth < 0 or (depth == 0 and token.kind in ends | {"comma", "colon", "expref"}):
                return token.position + (2 if token.kind in ("filter", "and", "or") else 1)
        return 0


class Diagnostic(Struct, frozen=True):
    """An error or a warning about an expression, and what to write instead."""

    position: int
    severity: str  # error | warning
    code: str
    message: str
    hint: str | None = None


class ExpressionProblem(ValueError):
    """The text is no expression that can be run; raised when it is compiled."""

    def __init__(self, position: int, message: str, hint: str | None = None, code: str = "syntax") -> None:
        super().__init__(message)
        self.position = position
        self.message = message
        self.hint = hint
        self.code = code

    @property
    def diagnostic(self) -> Diagnostic:
        """This problem as a diagnostic."""
        return Diagnostic(self.position, "error", self.code, self.message, self.hint)


class ExpressionFailed(Exception):
    """The expression could not be evaluated on one event; `reason` never contains a value of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
