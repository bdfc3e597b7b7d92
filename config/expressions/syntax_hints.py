"""The error messages for expressions that cannot be parsed, with what to write instead.

They are for readers who have never seen JMESPath. Each hint is for a mistake that people make because another
language writes it that way.
"""

from __future__ import annotations

import re
from typing import Final

from config.expressions.ast import ExpressionProblem, Token

_DASHED: Final = re.compile(r"[A-Za-z_]\w*(?:-\w+)+")

_CHARACTERS: Final = {
    "=": ("a single `=` compares nothing", "write == to compare"),
    "+": ("there is no `+` in an expression", "to put texts together write join('', [a, b])"),
    "$": ("there is no `$` in an expression", "it starts at the event already: write payload, not $.payload"),
    "-": ("there is no `-` here", "numbers stand in backticks, e.g. `-1`; there is no subtraction"),
    "/": (
        "there is no `/` in an expression",
        "there is no arithmetic; compute it in the step or in the browser",
    ),
    "%": (
        "there is no `%` in an expression",
        "there is no arithmetic; compute it in the step or in the browser",
    ),
    "?": ("a `?` stands only in a filter", "write items[?price > `10`], and a || b for a default"),
    ";": ("there is no `;` in an expression", "an expression is one value; take the `;` away"),
    "\\": ("a `\\` stands only inside quotes", "take it away, or put the text in single quotes"),
    "#": ("there is no `#` in an expression", "to count write length(payload.items)"),
    "^": ("there is no `^` in an expression", None),
    "~": ("there is no `~` in an expression", "to search write contains(payload.text, 'word')"),
}

_WORDS: Final = {
    "and": "write && for and",
    "or": "write || for or",
    "not": "write ! for not",
    "is": "write == to compare",
    "in": "write contains(list, value)",
    "like": "write contains(text, 'word')",
    "if": "a condition stands under `when`",
}


def dashed_name(text: str, position: int) -> str | None:
    """The word with dashes at `position`, e.g. ``order-id``."""
    for match in _DASHED.finditer(text):
        if match.start() <= position < match.end():
            return match.group()
    return None


def for_unknown_character(text: str, position: int) -> ExpressionProblem:
    """The error for a character or a quote that begins no token."""
    character = text[position] if position < len(text) else ""
    if character in "'\"`":
        return _unclosed(text, position, character)
    name = dashed_name(text, position)
    if character == "-" and name:
        start = text.rindex(name, 0, position + len(name))
        return _dashed(name, start)
    if character in "\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb":
        return ExpressionProblem(
            position,
            "a curly quotation mark means nothing here",
            "text stands in straight single quotes: 'text'",
        )
    message, hint = _CHARACTERS.get(character, (f"the character {character!r} means nothing here", None))
    if character.isalpha():
        hint = f'a name with other than a-z, 0-9 and _ stands in double quotes: "{_word(text, position)}"'
    if character == "-" and text[position + 1 : position + 2].isdigit():
        hint = "numbers stand in backticks, e.g. `-1`"
    return ExpressionProblem(position, message, hint)


def _dashed(name: str, start: int) -> ExpressionProblem:
    hint = f'put it in double quotes: "{name}"'
    if start == 0:  # YAML would take the quotes for the scalar's
        hint += f""", and in YAML single ones around the whole value: '"{name}"'"""
    return ExpressionProblem(start, f"the name {name} has a dash", hint)


def _word(text: str, position: int) -> str:
    start = position
    while start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    match = re.match(r"\w+", text[start:])
    return match.group() if match else text[position]


def _unclosed(text: str, position: int, quote: str) -> ExpressionProblem:
    if quote == "`":
        if "`" in text[position + 1 :]:
            return ExpressionProblem(
                position, "what stands in the backticks is no JSON", "text stands in single quotes: 'text'"
            )
        return ExpressionProblem(
            position, "the backtick is never closed", "write `1`, `true`, `null` or `[]`"
        )
    if quote == '"' and '"' in text[position + 1 :]:
        return ExpressionProblem(
            position,
            "the name in double quotes is no valid JSON string",
            "text stands in single quotes: 'text'",
        )
    return ExpressionProblem(
        position, f"the quotation mark {quote} is never closed", f"add a {quote} at the end"
    )


_CLOSERS: Final = {"lparen": ")", "lbracket": "]", "filter": "]", "lbrace": "}"}


def for_early_end(text: str, tokens: list[Token]) -> ExpressionProblem:
    """The error for a text that ends too early."""
    waiting: list[str] = []
    for token in tokens:
        if token.kind in _CLOSERS:
            waiting.append(_CLOSERS[token.kind])
        elif token.kind in ("rparen", "rbracket", "rbrace") and waiting:
            waiting.pop()
    last = tokens[-2] if len(tokens) > 1 else None
    hint = f"close it: add {''.join(reversed(waiting))}" if waiting else None
    if last is not None and last.kind in (
        "dot",
        "pipe",
        "or",
        "and",
        "eq",
        "ne",
        "lt",
        "gt",
        "lte",
        "gte",
        "not",
    ):
        hint = f"something must follow the {last.value}"
    return ExpressionProblem(len(text), "the expression ends too early", hint)


def for_surprise(text: str, tokens: list[Token], position: int) -> ExpressionProblem:
    """The error for a token in a place where it cannot be."""
    index = next((n for n, token in enumerate(tokens) if token.position == position), len(tokens) - 1)
    token = tokens[index]
    before = tokens[index - 1] if index else None
    if token.kind == "eof":
        return for_early_end(text, tokens)
    if token.kind == "number":
        return _number(text, token)
    if before is not None and before.kind == "unquoted_identifier" and before.value in _WORDS:
        return ExpressionProblem(
            before.position, f"`{before.value}` is no operator here", _WORDS[str(before.value)]
        )
    if token.kind == "unquoted_identifier" and token.value in _WORDS:
        return ExpressionProblem(position, f"`{token.value}` is no operator here", _WORDS[str(token.value)])
    if token.kind == "quoted_identifier" and index + 1 < len(tokens) and tokens[index + 1].kind == "lparen":
        return ExpressionProblem(
            position, "a function's name stands without quotes", f"write {token.value}(…)"
        )
    if token.kind == "lparen" or (before is not None and before.kind == "dot" and token.kind == "literal"):
        return ExpressionProblem(
            position,
            "nothing that can be called stands before the bracket"
            if token.kind == "lparen"
            else "a text cannot follow a dot",
            "after a dot comes a field's name",
        )
    shown = "this" if token.kind in ("literal", "quoted_identifier") else f"`{token.value}`"
    return ExpressionProblem(position, f"{shown} cannot stand here", _surprise_hint(token, before))


def _number(text: str, token: Token) -> ExpressionProblem:
    name = dashed_name(text, token.position)
    if name and text[token.position] == "-":
        start = text.rindex(name, 0, token.position + len(name))
        return _dashed(name, start)
    match = re.match(r"-?\d+(?:\.\d+)?", text[token.position :])
    number = match.group() if match else str(token.value)
    return ExpressionProblem(
        token.position, "a bare number means nothing here", f"numbers stand in backticks: `{number}`"
    )


def _surprise_hint(token: Token, before: Token | None) -> str | None:
    if token.kind == "lbracket":
        return "a field by name is payload.name; [0] takes the first of a list, [?…] filters it"
    if token.kind in ("literal", "unquoted_identifier", "quoted_identifier") and before is not None:
        return "an operator is missing before it: ==, &&, ||, or a comma between arguments"
    if token.kind == "eq":
        return "write == once, with a value on each side"
    if token.kind in ("and", "or", "pipe"):
        return f"something must stand before {token.value}"
    if token.kind == "star":
        return "there is no multiplication; * alone means every field"
    if token.kind in ("rparen", "rbracket", "rbrace"):
        return f"there is one {token.value} too many, or something is missing before it"
    return None
