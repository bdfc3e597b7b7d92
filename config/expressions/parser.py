"""Parses an expression's text to a tree; the only module that uses the library ``jmespath``.

The library's parser does not keep positions, so a subclass records them. It uses the library's private
methods, which is why ``pyproject.toml`` pins the exact version; the compliance suite runs against it. The
library's error messages are for readers who know the grammar, so `config.expressions.syntax_hints` replaces
them.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

from jmespath import exceptions
from jmespath.lexer import Lexer
from jmespath.parser import Parser

from config.expressions import syntax_hints
from config.expressions.ast import ExpressionProblem, Node, Token

LENGTH_LIMIT: Final = 4096
"""Characters; the contract's 4 KiB. Nobody can review a longer one."""

DEPTH_LIMIT: Final = 64
"""Levels; the contract's. It also keeps every recursion over the tree far from Python's own limit."""

# The stubs do not declare the parts of the parser and lexer; the compliance suite notices a change.
_LibraryLexer: Any = Lexer
_LibraryParser: Any = Parser

_CHAINS: Final = frozenset({"pipe", "or_expression", "and_expression", "subexpression", "index_expression"})
_OPENING: Final = frozenset({"lparen", "lbracket", "lbrace", "filter"})
_CLOSING: Final = frozenset({"rparen", "rbracket", "rbrace"})


REMEMBERED: Final = 2048
"""Short expressions that are read once for checking and compiling, and for all rules that have them."""

SHORT: Final = 100
"""Characters. A hundred of them are at most 17 KB as a tree, so what is remembered stays below 35 MB."""


def parse(text: str) -> tuple[Node, list[Token]]:
    """The tree and the tokens of `text`, which must not be changed; raises ExpressionProblem."""
    return _remembered(text) if len(text) <= SHORT else _parse(text)


def _parse(text: str) -> tuple[Node, list[Token]]:
    if len(text) > LENGTH_LIMIT or len(text.encode("utf-8", "surrogatepass")) > LENGTH_LIMIT:
        raise ExpressionProblem(
            LENGTH_LIMIT if len(text) > LENGTH_LIMIT else 0,
            f"the expression is longer than {LENGTH_LIMIT // 1024} KiB",
            "split it: several rules, or several fields under data",
            "too-long",
        )
    if not text.strip():
        raise ExpressionProblem(
            0, "the expression is empty", "write @ for the whole event, or a field's name, e.g. payload"
        )
    reader = _Reader(text)
    try:
        parsed = reader.read()
    except exceptions.JMESPathError as error:
        raise syntax_hints.for_other_language(text) or _explained(error, text, reader.tokens) from None
    except (RecursionError, IndexError):
        raise _too_deep(0) from None
    return _node(parsed, 0, 1), reader.tokens


def _explained(error: exceptions.JMESPathError, text: str, tokens: list[Token]) -> ExpressionProblem:
    """One of the library's errors, in words for readers who do not know the grammar."""
    if isinstance(error, exceptions.LexerError):
        return syntax_hints.for_unknown_character(text, error.lexer_position)
    if isinstance(error, exceptions.IncompleteExpressionError):
        return syntax_hints.for_early_end(text, tokens)
    position = error.lex_position if isinstance(error, exceptions.ParseError) else 0
    return syntax_hints.for_surprise(text, tokens, position)


_remembered = lru_cache(maxsize=REMEMBERED)(_parse)


def _too_deep(position: int) -> ExpressionProblem:
    return ExpressionProblem(
        position,
        f"the expression is nested deeper than {DEPTH_LIMIT} levels",
        "take it apart: several fields under data, or several rules",
        "too-deep",
    )


class _Words(_LibraryLexer):  # type: ignore[misc]
    """The library's lexer; old-style literals are marked instead of warned about."""

    def _consume_literal(self) -> dict[str, Any]:
        start = self._position
        lexeme = self._consume_until("`").replace("\\`", "`")
        old = False
        try:
            value = json.loads(lexeme)
        except ValueError:
            old = True
            try:
                value = json.loads(f'"{lexeme.lstrip()}"')
            except ValueError:
                raise exceptions.LexerError(start, lexeme, "bad literal") from None
        except RecursionError:
            raise _too_deep(start) from None
        return {"type": "literal", "value": value, "start": start, "end": 0, "old": old}


class _Reader(_LibraryParser):  # type: ignore[misc]
    """The library's parser; every node has its ``start``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self.tokens: list[Token] = []

    def read(self) -> dict[str, Any]:
        self._tokens = []
        for token in _Words().tokenize(self._text):
            self._tokens.append(token)
            end = token["end"] if token["type"] != "literal" else 0
            self.tokens.append(
                Token(token["type"], token["start"], token["value"], end, token.get("old", False))
            )
        self._check_nesting()
        self._index = 0
        parsed: dict[str, Any] = self._expression(0)
        if self._current_token() != "eof":
            self._raise_parse_error_for_token(self._lookahead_token(0), "more than one expression")
        return parsed

    def _check_nesting(self) -> None:
        """Refuses too many nested brackets before the parser recurses into them."""
        open_brackets = prefixes = 0
        for token in self.tokens:
            if token.kind in _OPENING:
                open_brackets += 1
            elif token.kind in _CLOSING:
                open_brackets -= 1
            prefixes = prefixes + 1 if token.kind in ("not", "expref") else 0
            if open_brackets > DEPTH_LIMIT or prefixes > DEPTH_LIMIT:
                raise _too_deep(token.position)

    def _expression(self, binding_power: int = 0) -> dict[str, Any]:
        start = self._lookahead_token(0)["start"]
        node: dict[str, Any] = super()._expression(binding_power)
        node.setdefault("start", start)
        return node

    def _token_nud_unquoted_identifier(self, token: dict[str, Any]) -> dict[str, Any]:
        return {"type": "field", "children": [], "value": token["value"], "start": token["start"]}

    def _token_nud_quoted_identifier(self, token: dict[str, Any]) -> dict[str, Any]:
        if self._current_token() == "lparen":
            self._raise_parse_error_for_token(token, "a quoted name cannot be a function")
        return self._token_nud_unquoted_identifier(token)

    def _token_nud_literal(self, token: dict[str, Any]) -> dict[str, Any]:
        return {"type": "literal", "children": [], "value": token["value"], "start": token["start"]}

    def _token_nud_not(self, token: dict[str, Any]) -> dict[str, Any]:
        node: dict[str, Any] = super()._token_nud_not(token)
        return {**node, "start": token["start"]}

    def _token_nud_lbrace(self, token: dict[str, Any]) -> dict[str, Any]:
        node: dict[str, Any] = super()._token_nud_lbrace(token)
        return {**node, "start": token["start"]}

    def _token_led_lparen(self, left: dict[str, Any]) -> dict[str, Any]:
        node: dict[str, Any] = super()._token_led_lparen(left)
        node["start"] = left["start"]
        return node

    def _parse_index_expression(self) -> dict[str, Any]:
        start = self._lookahead_token(-1)["start"]
        node: dict[str, Any] = super()._parse_index_expression()
        node["start"] = start
        return node

    def _parse_comparator(self, left: dict[str, Any], comparator: str) -> dict[str, Any]:
        start = self._lookahead_token(-1)["start"]
        node: dict[str, Any] = super()._parse_comparator(left, comparator)
        node["start"] = start
        return node


def _node(parsed: dict[str, Any], position: int, depth: int) -> Node:
    """Converts a node and all below it. A chain is one node: ``a | b | c`` has three children."""
    position = parsed.get("start", position)
    if depth > DEPTH_LIMIT:
        raise _too_deep(position)
    kind, children = parsed["type"], parsed["children"]
    if kind == "slice":
        return Node(kind, position, tuple(children))
    if kind in _CHAINS:
        children = _links(kind, children)
    return Node(
        kind, position, parsed.get("value"), tuple([_node(child, position, depth + 1) for child in children])
    )


def _links(kind: str, children: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The links of a chain, first to last; the library nests them to the left, one level each."""
    reversed_links: list[dict[str, Any]] = []
    while children[0]["type"] == kind:
        reversed_links.extend(reversed(children[1:]))
        children = children[0]["children"]
    reversed_links.extend(reversed(children))
    return reversed_links[::-1]
