"""A parsed expression as a tree of nodes with positions, and the two exceptions of expressions.

All modules about expressions build on this one; it uses neither the JMESPath library nor IO. A position
counts characters of the expression's text, from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Node:
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


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an expression's text; `old_literal`: a literal in backticks that is no JSON."""

    kind: str
    position: int
    value: Any
    end: int
    old_literal: bool = False


@dataclass(frozen=True, slots=True)
class Diagnostic:
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
