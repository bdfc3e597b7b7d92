"""libyaml's complaints in words for someone who does not know its grammar, with what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

QUOTE_IT: Final = "put the whole value in quotes"


@dataclass(frozen=True, slots=True)
class Complaint:
    """Where (an index of the text), what is wrong, what to write instead."""

    index: int
    code: str
    message: str
    hint: str


def explain(text: str, context: str | None, opened: int | None, problem: str, index: int) -> Complaint:
    """A complaint from what libyaml says."""
    index = min(index, len(text))
    tab = tab_before(text, index)
    if tab is not None:
        return Complaint(
            tab, "tab", "a tab where YAML wants spaces", "indent with spaces, two for each level"
        )
    if "quoted scalar" in (context or "") and opened is not None:
        return quoted(opened, problem, index)
    if problem == "found character that cannot start any token":
        character = text[index : index + 1]
        value = rest_of_line(text, index)
        hint = f'{QUOTE_IT}: "{value}"' if '"' not in value else QUOTE_IT
        named = "a backtick" if character == "`" else f"`{character}`"
        return Complaint(index, "syntax", f"a value cannot begin with {named}", hint)
    if problem == "mapping values are not allowed in this context":
        hint = 'a value with `: ` in it needs quotes ("a: b"); else an indentation is wrong here'
        return Complaint(index, "syntax", "a `key: value` cannot stand here", hint)
    if "alias" in (context or "") or "anchor" in (context or ""):
        at = opened if opened is not None else index
        glued = glued_bracket(text, text.rfind("\n", 0, at) + 1, at - 1)
        if glued is not None:
            return glued
        value = rest_of_line(text, at)
        hint = f'`*` and `&` begin an alias or an anchor; a glob needs quotes: "{value}"'
        return Complaint(at, "syntax", "this is no name of an alias or an anchor", hint)
    if "tag" in (context or ""):
        hint = f'if `!` means "not", {QUOTE_IT}'
        return Complaint(
            opened if opened is not None else index,
            "tag",
            "`!` begins a YAML tag, and there are none here",
            hint,
        )
    if "block scalar" in (context or ""):
        return Complaint(
            index,
            "syntax",
            f"this block of text is not right: {problem}",
            "after | or > the text begins in the next line, indented with spaces",
        )
    return structure(text, context or "", opened, problem, index)


def structure(text: str, context: str, opened: int | None, problem: str, index: int) -> Complaint:
    """Brackets, keys and indentation."""
    if "flow" in context and opened is not None:
        glued = glued_bracket(text, opened + 1, index)
        if glued is not None:
            return glued
        bracket = text[opened : opened + 1]
        closing = "}" if bracket == "{" else "]"
        line = text.count("\n", 0, opened) + 1
        message = f"the `{bracket}` of line {line} is not closed before this"
        return Complaint(
            index,
            "syntax",
            message,
            f"a `,` between two entries or the `{closing}` is missing, or a value needs quotes",
        )
    if "could not find expected ':'" in problem:
        at = opened if opened is not None else index
        return Complaint(
            at,
            "syntax",
            "this line has no `key: value`",
            "a `:` and a space after the key are missing, or the line is not indented under its text",
        )
    if "block" in context or "expected" in problem:
        if after_quote(text, index):
            return Complaint(
                index,
                "syntax",
                "the quotes end before the value does",
                "put quotes around all of it, and the other kind inside: \"type == 'x'\"",
            )
        return Complaint(
            index,
            "syntax",
            "this line is not indented as its neighbours are, or something is left over before it",
            "entries of one mapping or list begin in the same column",
        )
    return Complaint(index, "syntax", problem, "")


def glued_bracket(text: str, start: int, index: int) -> Complaint | None:
    """A value like ``a.b[0]`` between brackets: YAML takes its own bracket for one more list."""
    before = re.search(r"[^\s,:{}\[\]\"']+$", text[start:index])
    if before is None or text[index : index + 1] not in ("[", "{"):
        return None
    value = re.compile(r"[^\s,}\"]*").match(text, start + before.start())
    assert value is not None
    message = f"between brackets a value cannot have a `{text[index]}` in it without quotes"
    return Complaint(index, "syntax", message, f'{QUOTE_IT}: "{value[0]}"')


def quoted(opened: int, problem: str, index: int) -> Complaint:
    """Quotes: not closed, or with an escape that is none."""
    if "escape" in problem or "hexdecimal" in problem or "Unicode" in problem:
        return Complaint(
            index,
            "syntax",
            "a backslash here begins no known escape",
            "in single quotes ('…') a backslash is only a backslash; in double quotes write \\\\",
        )
    return Complaint(
        opened,
        "syntax",
        "these quotes are never closed",
        "close them; a quote inside is written twice ('it''s') or stands in the other kind (\"it's\")",
    )


def tab_before(text: str, index: int) -> int | None:
    """Where a tab indents the line at `index`."""
    start = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    match = re.compile(r"[ -]*(\t)").match(text, start)
    if match and match.start(1) <= index:
        return match.start(1)
    return None


def rest_of_line(text: str, index: int) -> str:
    """What stands from `index` to the end of the line, without a comment; at most 60 characters."""
    match = re.compile(r"[^\r\n]{0,60}").match(text, index)
    value = match[0] if match else ""
    return value.partition(" #")[0].strip().rstrip(",]}")


def after_quote(text: str, index: int) -> bool:
    """Whether a closing quote stands in the line before `index`."""
    start = text.rfind("\n", 0, index) + 1
    return re.search(r"['\"]\s*$", text[start:index]) is not None
