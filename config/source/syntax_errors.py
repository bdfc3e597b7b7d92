"""Translates libyaml's errors for readers who do not know its grammar, with what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from config.model.wording import INVISIBLE, character

DEEPEST: Final = 32  # levels; the format needs 8, payloads in tests the rest
TOO_DEEP: Final = f"nested deeper than {DEEPEST} levels"
INDENTED: Final = re.compile(rf"^[ \t]*(?:-[ \t]+)?({INVISIBLE.pattern})", re.MULTILINE)
QUOTE_IT: Final = "put the whole value in quotes"


@dataclass(frozen=True, slots=True)
class SyntaxProblem:
    """An index of the text, what is wrong, and what to write instead."""

    index: int
    code: str
    message: str
    hint: str


def explain(text: str, context: str | None, opened: int | None, problem: str, index: int) -> SyntaxProblem:
    """The problem for an error of libyaml."""
    index = min(index, len(text))
    if "maximum nesting depth" in problem:
        return SyntaxProblem(opened or index, "too-deep", TOO_DEEP, "is a bracket not closed?")
    invisible = invisible_before(text, index)
    if invisible is not None:
        return invisible
    tab = tab_before(text, index)
    if tab is not None:
        return SyntaxProblem(
            tab, "tab", "a tab where YAML needs spaces", "indent with spaces, two for each level"
        )
    if "quoted scalar" in (context or "") and opened is not None:
        return quoted(opened, problem, index)
    if problem == "found character that cannot start any token":
        character = text[index : index + 1]
        value = rest_of_line(text, index)
        hint = f'{QUOTE_IT}: "{value}"' if '"' not in value else QUOTE_IT
        named = "a backtick" if character == "`" else f"`{character}`"
        return SyntaxProblem(index, "syntax", f"a value cannot begin with {named}", hint)
    if problem == "mapping values are not allowed in this context":
        hint = 'a value with `: ` in it needs quotes ("a: b"); else an indentation is wrong here'
        return SyntaxProblem(index, "syntax", "a `key: value` cannot stand here", hint)
    if "alias" in (context or "") or "anchor" in (context or ""):
        at = opened if opened is not None else index
        glued = glued_bracket(text, text.rfind("\n", 0, at) + 1, at - 1)
        if glued is not None:
            return glued
        value = rest_of_line(text, at)
        hint = f'`*` and `&` begin an alias or an anchor; a glob needs quotes: "{value}"'
        return SyntaxProblem(at, "syntax", "this cannot be the name of an alias or an anchor", hint)
    if "tag" in (context or ""):
        hint = f'if `!` means "not", {QUOTE_IT}'
        return SyntaxProblem(
            opened if opened is not None else index,
            "tag",
            "`!` begins a YAML tag, and there are none here",
            hint,
        )
    if "block scalar" in (context or ""):
        return SyntaxProblem(
            index,
            "syntax",
            f"this block of text is not right: {problem}",
            "after | or > the text begins in the next line, indented with spaces",
        )
    return structure(text, context or "", opened, problem, index)


def structure(text: str, context: str, opened: int | None, problem: str, index: int) -> SyntaxProblem:
    """Brackets, keys and indentation."""
    if "flow" in context and opened is not None:
        glued = glued_bracket(text, opened + 1, index)
        if glued is not None:
            return glued
        bracket = text[opened : opened + 1]
        closing = "}" if bracket == "{" else "]"
        line = text.count("\n", 0, opened) + 1
        message = f"the `{bracket}` of line {line} is not closed before this"
        return SyntaxProblem(
            index,
            "syntax",
            message,
            f"a `,` between two entries or the `{closing}` is missing, or a value needs quotes",
        )
    if "could not find expected ':'" in problem:
        at = opened if opened is not None else index
        return SyntaxProblem(
            at,
            "syntax",
            "this line has no `key: value`",
            "a `:` and a space after the key are missing, or the line is not indented under its text",
        )
    if "block" in context or "expected" in problem:
        if after_quote(text, index):
            return SyntaxProblem(
                index,
                "syntax",
                "the quotes end before the value does",
                "put quotes around all of it, and the other kind inside: \"type == 'x'\"",
            )
        return SyntaxProblem(
            index,
            "syntax",
            "this line is not indented like its neighbours, or something before it is not finished",
            "entries of one mapping or list begin in the same column",
        )
    return SyntaxProblem(index, "syntax", problem, "")


def glued_bracket(text: str, start: int, index: int) -> SyntaxProblem | None:
    """A value like ``a.b[0]`` between brackets: YAML takes the value's bracket for another list."""
    before = re.search(r"[^\s,:{}\[\]\"']+$", text[start:index])
    if before is None or text[index : index + 1] not in ("[", "{"):
        return None
    value = re.compile(r"[^\s,}\"]*").match(text, start + before.start())
    assert value is not None
    message = f"between brackets a value cannot have a `{text[index]}` in it without quotes"
    return SyntaxProblem(index, "syntax", message, f'{QUOTE_IT}: "{value[0]}"')


def quoted(opened: int, problem: str, index: int) -> SyntaxProblem:
    """Quotes that are not closed, or have an unknown escape."""
    if "escape" in problem or "hexdecimal" in problem or "Unicode" in problem:
        return SyntaxProblem(
            index,
            "syntax",
            "a backslash here begins no known escape",
            "in single quotes ('…') a backslash is only a backslash; in double quotes write \\\\",
        )
    return SyntaxProblem(
        opened,
        "syntax",
        "these quotes are never closed",
        "close them; a quote inside is written twice ('it''s') or stands in the other kind (\"it's\")",
    )


def invisible(text: str, index: int) -> SyntaxProblem:
    """The problem for an invisible character where YAML needs a space or nothing."""
    message = f"{character(text[index])}, which cannot be seen, where YAML needs an ordinary space or nothing"
    hint = "delete it and type spaces; it comes from a page, a chat or a text document"
    return SyntaxProblem(index, "invisible-character", message, hint)


def invisible_before(text: str, index: int) -> SyntaxProblem | None:
    """An invisible character that indents the line at `index`, or the line before it."""
    start = text.rfind("\n", 0, max(0, text.rfind("\n", 0, index))) + 1
    found = INDENTED.search(text, start, index + 1)
    return None if found is None else invisible(text, found.start(1))


def tab_before(text: str, index: int) -> int | None:
    """The position of a tab that indents the line at `index`."""
    start = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    match = re.compile(r"[ -]*(\t)").match(text, start)
    if match and match.start(1) <= index:
        return match.start(1)
    return None


def rest_of_line(text: str, index: int) -> str:
    """The text from `index` to the end of the line without a comment, at most 60 characters."""
    match = re.compile(r"[^\r\n]{0,60}").match(text, index)
    value = match[0] if match else ""
    return value.partition(" #")[0].strip().rstrip(",]}")


def after_quote(text: str, index: int) -> bool:
    """Whether the line has a closing quote right before `index`."""
    start = text.rfind("\n", 0, index) + 1
    return re.search(r"['\"]\s*$", text[start:index]) is not None
