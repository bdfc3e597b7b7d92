"""The error messages for expressions that cannot be parsed, with what to write instead.

They are for readers who have never seen JMESPath. Each hint is for a mistake that people make because another
language writes it that way.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from config.expressions.ast import ExpressionProblem, Token
from config.expressions.functions import FUNCTIONS
from config.expressions.notations import for_dollar, for_empty, for_operator, for_sign
from config.expressions.types import EVENT_FIELDS
from config.expressions.validation import instead_of

_DASHED: Final = re.compile(r"[A-Za-z_]\w*(?:-\w+)+")

_CHARACTERS: Final = {
    "=": ("a single `=` compares nothing", "write == to compare"),
    "%": ("there is no `%` in an expression", "compute it in the step or in the browser"),
    ";": ("there is no `;` in an expression", "an expression is one value; take the `;` away"),
    "\\": ("a `\\` stands only inside quotes", "take it away, or put the text in single quotes"),
    "#": ("there is no `#` in an expression", "to count write length(payload.items)"),
    "^": ("there is no `^` in an expression", "compute it in the step or in the browser"),
    "~": ("there is no `~` in an expression", "to search write contains(payload.text, 'word')"),
}

_WORDS: Final = {
    "and": "write && for and",
    "or": "write || for or",
    "not": "write !(payload.done)",
    "is": "write == to compare",
    "in": "write contains(list, value)",
    "like": "write contains(text, 'word')",
    "if": "write if(payload.done, 'yes', 'no'); the condition of a rule is written under `when`",
    "then": "write if(payload.done, 'yes', 'no')",
    "else": "write if(payload.done, 'yes', 'no')",
    "contains": "write contains(payload.text, 'word')",
}

_ARITHMETIC: Final = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
_PROSE: Final = re.compile(r"[^\W\d_][\w'\u2019,;:!?.\u2026 -]*")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH_BEFORE: Final = re.compile(r"[\w.@*\"\[\]]*\Z")
_PLACE: Final = r"\s*([\w.\"\[\]@-]+)\s*"
_TEMPLATE: Final = re.compile(rf"\{{\{{{_PLACE}\}}\}}|[#$]?\{{{_PLACE}\}}|<%=?{_PLACE}%>|%([a-z][\w.]*)%")
_QUOTED_TEMPLATE: Final = re.compile(r"[fF]?(['\"`])(.*)\1")
_TERNARY: Final = re.compile(r"([^?:]+?)\s*\?\s*([^?:]+?)\s*:\s*([^?:]+?)\s*")


def for_other_language(text: str) -> ExpressionProblem | None:
    """The error for a text that is no expression at all: a template, or a sentence; None for any other."""
    if (found := _TEMPLATE.search(text)) is not None:
        return ExpressionProblem(found.start(), "there are no templates in an expression", joined(text))
    if is_prose(text):
        hint = f"a constant text has quotes of its own within those of YAML: {constant(text)}"
        return ExpressionProblem(0, "this is a text and no expression", hint)
    return None


def is_prose(text: str) -> bool:
    """Whether a text that cannot be parsed reads like a sentence."""
    words = text.split()
    return (
        len(words) > 1
        and _PROSE.fullmatch(text) is not None
        and not any(word in _WORDS or word in FUNCTIONS for word in words)
        and not any(word.partition(".")[0] in (EVENT_FIELDS.fields or ()) for word in words)
        and not any("." in word.strip(".,;:!?\u2026") or "?." in word or "??" in word for word in words)
        and not any(word.startswith("-") or word in ":?!" for word in words)
    )


def constant(text: str) -> str:
    """A text as a constant expression, with the quotes that YAML needs around it."""
    if "'" not in text:
        return f"\"'{text}'\""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("'", "''")
    return f"'`\"{quoted}\"`'"


def joined(text: str) -> str:
    """What to write for ``Token: {payload}``."""
    parts: list[str] = []
    index = 0
    if (quoted := _QUOTED_TEMPLATE.fullmatch(text)) is not None:  # an f-string, or one of JavaScript
        text = quoted[2]
    for found in _TEMPLATE.finditer(text):
        parts += [f"'{text[index : found.start()]}'"] if found.start() > index else []
        parts.append(next(group for group in found.groups() if group))
        index = found.end()
    parts += [f"'{text[index:]}'"] if index < len(text) else []
    return f"write {parts[0]}" if len(parts) == 1 else f"write join('', [{', '.join(parts)}])"


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
    if (foreign := for_operator(text, position)) is not None:
        return foreign
    name = dashed_name(text, position)
    if character == "-" and (digits := _digit_first(text, position)) is not None:
        return digits
    if character == "-" and name:
        start = text.rindex(name, 0, position + len(name))
        return _dashed(name, start, text)
    if character in _ARITHMETIC and not (character == "-" and text[position + 1 : position + 2].isdigit()):
        message = f"there is no `{character}` in an expression"
        return ExpressionProblem(position, message, _arithmetic(text, position))
    if character == "?":
        return ExpressionProblem(position, "a `?` stands only in a filter", _question(text, position))
    if unicodedata.category(character or "a") in ("Zs", "Cf"):
        name = unicodedata.name(character, "character").lower()
        message = f"a {name} (U+{ord(character):04X}), which cannot be seen, means nothing here"
        return ExpressionProblem(position, message, "delete it and type an ordinary space")
    if character in "\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb":
        return ExpressionProblem(
            position,
            "a curly quotation mark means nothing here",
            "text stands in straight single quotes: 'text'",
        )
    if character == "$":
        return ExpressionProblem(position, "there is no `$` in an expression", for_dollar(text, position))
    message, hint = _CHARACTERS.get(
        character,
        (f"the character {character!r} means nothing here", "text stands in single quotes: 'text'"),
    )
    if character.isalpha():
        hint = (
            f'a name with characters other than a-z, 0-9 and _ is in double quotes: "{_word(text, position)}"'
        )
    if character == "-" and text[position + 1 : position + 2].isdigit():
        hint = "numbers stand in backticks, e.g. `-1`"
    return ExpressionProblem(position, message, hint)


def _digit_first(text: str, position: int) -> ExpressionProblem | None:
    """``payload.2fa-code``: a name after a dot that begins with a digit."""
    for found in re.finditer(r"\.([0-9][\w-]*[A-Za-z_][\w-]*)", text):
        if found.start(1) <= position < found.end(1):
            path = _PATH_BEFORE.search(text[: found.start()])
            quoted = f'{path[0] if path else ""}."{found[1]}"'
            hint = f"a name that begins with a digit stands in double quotes: {quoted}"
            return ExpressionProblem(found.start(1), "a name cannot begin with a digit", hint)
    return None


def _arithmetic(text: str, position: int) -> str:
    """What to write for ``index + 1``."""
    operator = text[position]
    left = re.search(r"('[^']*'|`[^`]*`|[^\s(,]+)\s*\Z", text[:position])
    right = re.match(r"\s*('[^']*'|`[^`]*`|[^\s),]+)", text[position + 1 :])
    sides = [_number_or_path(found[1]) for found in (left, right) if found is not None]
    if len(sides) < 2:
        sides = ["payload.a", "payload.b"]
    texts = operator == "+" and any(side.startswith("'") for side in sides)
    if texts:
        return f"to put texts together write join('', [{', '.join(sides)}])"
    call = f"{_ARITHMETIC[operator]}({', '.join(sides)})"
    if operator == "+" and not any(side.startswith("`") for side in sides):
        return f"to put texts together write join('', [{', '.join(sides)}]), to add numbers {call}"
    return f"write {call}"


def _number_or_path(side: str) -> str:
    return f"`{side}`" if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", side) else side


def _question(text: str, position: int) -> str:
    """What to write for a `?` of another language: a choice, a default, a path that may be missing."""
    after = text[position + 1 : position + 2]
    if after == ".":
        path = _PATH_BEFORE.search(text[:position])
        rest = re.match(r"[\w.?]*", text[position + 1 :])
        whole = (path[0] if path else "") + (rest[0] if rest else "").replace("?", "")
        return f"what is missing is null anyway: write {whole}"
    if after in ("?", ":"):
        left = re.search(r"(\S+)\s*\Z", text[:position])
        right = re.match(r"\s*(\S+)", text[position + 2 :])
        if left and right:
            return f"a default is written {left[1]} || {right[1]}"
    if (found := _TERNARY.fullmatch(text)) is not None:
        return f"write if({found[1]}, {found[2]}, {found[3]})"
    return (
        "a choice is written if(payload.done, 'yes', 'no'), a filter items[?price > `10`], a default a || b"
    )


def _dashed(name: str, start: int, text: str) -> ExpressionProblem:
    plain = name.replace("-", "_")
    if text[start + len(name) :].lstrip().startswith("("):
        arguments = re.match(r"\s*(\([^()]*\))", text[start + len(name) :])
        hint = f"write {plain}{arguments[1] if arguments else '(…)'}"
        hint = hint if plain in FUNCTIONS else instead_of(plain)
        return ExpressionProblem(start, f"there is no function {name}()", hint)
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
                position, "the text in the backticks is not JSON", "text stands in single quotes: 'text'"
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
    hint = "something is missing at its end"
    if waiting:
        hint = f"close it: add {''.join(reversed(waiting))}"
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
        return _number(text, token, before)
    foreign = for_operator(text, position) if token.kind in ("gt", "eq") else None
    if foreign is None and token.kind == "rbrace":
        foreign = for_empty(text, position)
    if foreign is not None:
        return foreign
    if before is not None and before.kind == "lbracket" and index > 1 and _is_key(token):
        return _key_in_brackets(text, before, token)
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
    if token.kind == "current" and before is not None and before.kind == "dot":
        return ExpressionProblem(position, "a name cannot begin with `@`", for_sign(text, position))
    shown = "this" if token.kind in ("literal", "quoted_identifier") else f"`{token.value}`"
    return ExpressionProblem(position, f"{shown} cannot stand here", _surprise_hint(text, token, before))


def _is_key(token: Token) -> bool:
    quoted = token.kind == "literal" and isinstance(token.value, str)
    return quoted or token.kind in ("quoted_identifier", "unquoted_identifier")


def _key_in_brackets(text: str, bracket: Token, token: Token) -> ExpressionProblem:
    """``payload['key']``."""
    base = _PATH_BEFORE.search(text[: bracket.position])
    path, key = base[0] if base else "", str(token.value)
    hint = f"write {path}.{key}" if _NAME.fullmatch(key) else f'write {path}."{key}"'
    if token.kind == "unquoted_identifier":
        hint += f", or lookup({path}, {key}, `null`) for the field that {key} names"
    return ExpressionProblem(
        token.position, "brackets hold the number of an entry, not the name of a field", hint
    )


def _number(text: str, token: Token, before: Token | None) -> ExpressionProblem:
    match = re.match(r"[\w-]+", text[token.position :])
    word = match[0] if match else str(token.value)
    dot = text.rfind(".", 0, token.position)
    if before is not None and before.kind in ("dot", "lbracket") and dot >= 0:
        path = _PATH_BEFORE.search(text[:dot])
        base = path[0] if path else ""
        end = token.position + len(word)
        if (digits := _digit_first(text, token.position)) is not None:
            return digits
        if before.kind == "dot" or not text[dot + 1 : before.position].strip():
            rest = re.match(r"\]?([\w.\"\[\]*]*)", text[end:])
            hint = f"the entries of a list have numbers in brackets: {base}[{word}]{rest[1] if rest else ''}"
            return ExpressionProblem(token.position, "a number cannot follow a dot", hint)
    name = dashed_name(text, token.position)
    if name and text[token.position] == "-":
        start = text.rindex(name, 0, token.position + len(name))
        return _dashed(name, start, text)
    match = re.match(r"-?\d+(?:\.\d+)?", text[token.position :])
    number = match.group() if match else str(token.value)
    return ExpressionProblem(
        token.position, "a bare number means nothing here", f"numbers stand in backticks: `{number}`"
    )


def _surprise_hint(text: str, token: Token, before: Token | None) -> str:
    if token.kind == "star" and before is not None:
        return _arithmetic(text, token.position)
    if before is not None and before.kind == "comma" and token.kind in ("rparen", "rbracket", "rbrace"):
        return f"take the comma away: write {text[: before.position]}{text[token.position :]}"
    if before is not None and before.kind == "lbrace" and token.kind == "literal":
        return f"a field's name has no single quotes: write {{{token.value}: …}}"
    if token.kind == "dot" and before is not None and before.kind == "star":
        return "write [*] before the dot, like payload.items[*].name"
    if token.kind == "comma":
        return f"an expression is one value: write [{text.strip()}] for a list"
    if token.kind == "colon":
        return "write an object as {name: payload.name}"
    if token.kind == "dot" and before is None:
        rest = text[token.position + 1 :].strip()
        return f"it starts at the event already: write {rest}" if rest else "write @ for the whole event"
    if token.kind == "lbracket":
        return "a field by name is payload.name; [0] takes the first of a list, [?…] filters it"
    if token.kind in ("literal", "unquoted_identifier", "quoted_identifier") and before is not None:
        return "an operator is missing before it: ==, &&, ||, or a comma between arguments"
    if token.kind == "eq":
        return "write == once, with a value on each side"
    if token.kind in ("and", "or", "pipe"):
        return f"something must stand before {token.value}"
    if token.kind in ("rparen", "rbracket", "rbrace"):
        return f"there is one {token.value} too many, or something is missing before it"
    return "take it away, or write an operator before it: ==, &&, ||, |"
