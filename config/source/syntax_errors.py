"""Translates libyaml's errors for readers who do not know its grammar, with what to write instead."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from config.model.wording import INVISIBLE, character
from config.problems import Own

DEEPEST: Final = 32  # levels; the format needs 8, payloads in tests the rest
TOO_DEEP: Final = f"nested deeper than {DEEPEST} levels"
INDENTED: Final = re.compile(rf"^[ \t]*(?:-[ \t]+)?({INVISIBLE.pattern})", re.MULTILINE)
INCLUDING: Final = frozenset(
    {"include", "include_dir_named", "import", "inc", "file", "merge", "extends", "reference"}
)
REFERRING: Final = frozenset(
    {"env", "env_var", "environ", "secret", "vault", "ref", "sub", "var", "getatt", "getenv"}
)
"""Tags of other programs: those that read a file, and those that stand for a variable."""

QUOTE_IT: Final = "put the whole value in quotes"
FENCE: Final = re.compile(r"[ \t]*(```)[\w+-]*[ \t]*(?:$|[\r\n])")
VALUE_BEGINS: Final = re.compile(r"[,{\[]\s*|:\s+|-\s+")  # what stands before a plain value between brackets
TOKENS: Final = re.compile(
    r"""(?P<skip>(?:^|(?<=\s))\#[^\r\n]*|(?<=[\s,{\[])(?:'(?:[^']|'')*+'|"(?:[^"\\]|\\.)*+"))"""
    r"""|(?P<open>[{\[])|(?P<close>[}\]])""",
    re.MULTILINE | re.DOTALL,
)
"""Brackets, and what is skipped to find them: comments and texts in quotes."""


class SyntaxProblem(Struct, frozen=True):
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
    if (fence := fence_at(text, index)) is not None:
        message = "this is a line of Markdown, which begins or ends a block of code"
        return SyntaxProblem(
            fence, "markdown", message, "delete the lines with ```; the file is the text between them"
        )
    invisible = invisible_before(text, index)
    if invisible is not None:
        return invisible
    tab = tab_before(text, index)
    if tab is not None:
        return SyntaxProblem(
            tab, "tab", "a tab where YAML needs spaces", "indent with spaces, two for each level"
        )
    if "quoted scalar" in (context or "") and opened is not None:
        return call_before(text, opened) or quoted(opened, problem, index)
    if problem == "found character that cannot start any token":
        if (cut := call_before(text, index) or glued_before(text, index)) is not None:
            return cut
        character = text[index : index + 1]
        value = value_at(text, index)
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
        value = value_at(text, at)
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
        glued = glued_bracket(text, opened + 1, index) or call_before(text, index)
        if glued is not None:
            return glued
        if "expected node content" in problem:
            if text[index : index + 1] in (",", ":", "?"):
                sign = text[index]
                message = f"a value is missing before this `{sign}`"
                return SyntaxProblem(index, "syntax", message, f"write the value, or take the `{sign}` away")
            opened = open_bracket(text, index)
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


def open_bracket(text: str, index: int) -> int:
    """The innermost bracket that is open at `index`; `index` itself where none is found."""
    opened: list[int] = []
    for found in TOKENS.finditer(text, 0, index):
        if found["open"]:
            opened.append(found.start("open"))
        elif found["close"] and opened:
            opened.pop()
    return opened[-1] if opened else index


def glued_bracket(text: str, start: int, index: int) -> SyntaxProblem | None:
    """A value like ``a.b[0]`` between brackets: YAML takes the value's bracket for another list."""
    glued = index > start and text[index - 1] not in " \t\r\n,:{}[]\"'"
    if not glued or text[index : index + 1] not in ("[", "{"):
        return None
    before = [*VALUE_BEGINS.finditer(text, start, index)]
    begin = before[-1].end() if before else start
    message = f"between brackets a value cannot have a `{text[index]}` in it without quotes"
    return SyntaxProblem(index, "syntax", message, f"{QUOTE_IT}: {in_quotes(whole_value(text, begin))}")


def glued_before(text: str, index: int) -> SyntaxProblem | None:
    """A value with brackets of its own that begins in this line, before `index`."""
    start = text.rfind("\n", 0, index) + 1
    if open_bracket(text, index) == index:
        return None
    opened = (found.start() for found in TOKENS.finditer(text, start, index) if found["open"])
    return next(filter(None, (glued_bracket(text, start, each) for each in opened)), None)


def call_before(text: str, index: int) -> SyntaxProblem | None:
    """A function between brackets whose comma, before `index`, YAML takes for the end of the value."""
    if open_bracket(text, index) == index:
        return None
    start = text.rfind("\n", 0, index) + 1
    waiting: list[int] = []  # brackets of calls that are open
    for found in re.compile(r"[()]").finditer(text, start, index):
        if found[0] == "(":
            waiting.append(found.start())
        elif waiting:
            waiting.pop()
    comma = text.find(",", waiting[0], index) if waiting else -1
    before = [*VALUE_BEGINS.finditer(text, start, waiting[0])] if waiting else []
    if comma < 0 or not before:
        return None
    message = "between brackets a value cannot have a `,` in it without quotes"
    hint = f"{QUOTE_IT}: {in_quotes(whole_value(text, before[-1].end()))}"
    return SyntaxProblem(comma, "syntax", message, hint)


def value_at(text: str, index: int) -> str:
    """The value that begins at `index`: to the end of the line, or between brackets to its end."""
    return rest_of_line(text, index) if open_bracket(text, index) == index else whole_value(text, index)


def whole_value(text: str, begin: int) -> str:
    """The value at `begin` between brackets, with the brackets that are its own."""
    depth = 0
    for index in range(begin, len(text)):
        character = text[index]
        comment = character == "#" and text[index - 1] in " \t"
        if character in "\r\n" or comment or (not depth and character in ",]}"):
            return text[begin:index].strip()
        depth += (character in "[{(") - (character in "]})")
    return text[begin:].strip()


def in_quotes(value: str) -> str:
    """A text as a YAML scalar in quotes."""
    if '"' in value or "\\" in value:
        return "'" + value.replace("'", "''") + "'"
    return f'"{value}"'


def fence_at(text: str, index: int) -> int | None:
    """The fence of Markdown (three backticks) that is the line at `index`; None where it is none."""
    start = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    found = FENCE.match(text, start)
    return None if found is None else found.start(1)


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


def instead_of_tag(rest: str, *, scalar: bool) -> str:
    """What to write instead of a tag: `rest` is the line from its `!` on, `scalar`: a text follows."""
    written, _, value = rest.partition(" ")
    name = written.lstrip("!").lower()
    if name in INCLUDING:
        return "files are never merged: write here what is in that file"
    if name in REFERRING:
        variable = re.fullmatch(r"(?:\$\{)?([A-Z][A-Z0-9_]*)\}?", value.strip(" \"'"))
        return Own(f"a variable is written without a tag: ${{{variable[1] if variable else 'NAME'}}}")
    if not scalar or written.startswith("!!"):
        return "take it away"
    hint = f'if `!` means "not", {QUOTE_IT.replace("value", "expression")}'
    return hint if '"' in rest else f'{hint}: "{rest}"'


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
