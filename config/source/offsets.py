"""The position in the file of each character of a scalar's value: plain, quoted and block scalars.

A problem of an expression has an offset in the expression; the operator needs the file's line and column. The
scalar is read once more here, by libyaml's rules, and each character keeps its index. If that reading differs
from the parser's, every character gets the position of the scalar's start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

ESCAPES: Final = {
    **{"0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"},
    **{"e": "\x1b", " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0"},
    **{"L": "\u2028", "P": "\u2029"},
}
HEX: Final = {"x": 2, "u": 4, "U": 8}
PAIR: Final = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")  # as in JSON
BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
DEEPEST_INDENT: Final = 80  # an indentation indicator is relative to the parent, so several are tried

Placed = list[tuple[str, int]]


def offsets(raw: str, style: str | None, value: str) -> list[int]:
    """The index in `raw` of each character of `value`, and of its end."""
    if style in ("|", ">"):
        candidates = (block_scalar(raw, style, indent) for indent in indents(raw))
    else:
        candidates = (flow_scalar(raw, style) for _ in range(1))
    for placed in candidates:
        if "".join(character for character, _ in placed) == value:
            return [index for _, index in placed] + [placed[-1][1] + 1 if placed else 0]
    return [0] * (len(value) + 1)


def indents(raw: str) -> Iterator[int | None]:
    """The possible indentations of a block's text: its first line's, or less with an indicator."""
    yield None
    header, _, rest = raw.partition("\n")
    if re.search("[1-9]", header.partition("#")[0]):
        first = next((line for line in rest.splitlines() if line.strip(" ")), "")
        yield from range(min(DEEPEST_INDENT, len(first) - len(first.lstrip(" "))), 0, -1)


def line_break(raw: str, index: int) -> tuple[str, int] | None:
    """The line break that begins at `index`, as libyaml reads it, and its length."""
    match = BREAK.match(raw, index)
    if match is None:
        return None
    return ("\n" if match[0] in ("\r\n", "\r", "\n", "\x85") else match[0]), len(match[0])


def flow_scalar(raw: str, style: str | None) -> Placed:
    """Plain, ``'single'`` and ``"double"`` scalars."""
    out: Placed = []
    index, end = (1, len(raw) - 1) if style in ("'", '"') else (0, len(raw))
    while index < end:
        if raw[index] in " \t" or line_break(raw, index):
            index = fold(raw, index, end, out, joined=True)
        elif style == "'" and raw.startswith("''", index):
            out.append(("'", index))
            index += 2
        elif style == '"' and raw[index] == "\\":
            index = escape(raw, index, end, out)
        else:
            out.append((raw[index], index))
            index += 1
    return out


def fold(raw: str, index: int, end: int, out: Placed, *, joined: bool) -> int:
    """Blanks and line breaks: blanks alone are kept; one break is a space, n breaks are n - 1."""
    blanks: Placed = []
    first: tuple[str, int] | None = None
    more: Placed = []
    folded = not joined
    while index < end:
        found = line_break(raw, index)
        if found is not None:
            if not folded:
                folded, first = True, (found[0], index)
            else:
                more.append((found[0], index))
            index += found[1]
        elif raw[index] in " \t":
            if not folded:
                blanks.append((raw[index], index))
            index += 1
        else:
            break
    if not folded:
        out += blanks
    elif first is not None and first[0] == "\n":
        out += more or [(" ", first[1])]
    else:
        out += ([first] if first else []) + more
    return index


def escape(raw: str, index: int, end: int, out: Placed) -> int:
    """A backslash and what it stands for."""
    code = raw[index + 1 : index + 2]
    found = line_break(raw, index + 1)
    if found is not None:
        return fold(raw, index + 1 + found[1], end, out, joined=False)
    if code in HEX:
        digits = raw[index + 2 : index + 2 + HEX[code]]
        if (pair := PAIR.match(raw, index)) is not None:
            high, low = int(pair[1], 16), int(pair[2], 16)
            out.append((chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)), index))
            return pair.end()
        try:
            out.append((chr(int(digits, 16)), index))
        except (ValueError, OverflowError):
            out.append(("\ufffd", index))
        return index + 2 + HEX[code]
    out.append((ESCAPES.get(code, code or "\\"), index))
    return index + 2


def block_scalar(raw: str, style: str, indent: int | None) -> Placed:
    """Literal (``|``) and folded (``>``) scalars; `indent` None is the first line's indentation."""
    header = BREAK.search(raw)
    if header is None:
        return []
    chomping = raw[: header.start()].partition("#")[0]
    index = header.end()
    if indent is None:
        indent = detected(raw, index)
    out: Placed = []
    pending: Placed = []
    leading_blank = False
    index, empty = blank_lines(raw, index, indent)
    while index < len(raw) and at_column(raw, index) == indent and not at_end(raw, index):
        blank = raw[index] in " \t"
        if style == ">" and pending and pending[0][0] == "\n" and not leading_blank and not blank:
            if not empty:
                out.append((" ", pending[0][1]))
        else:
            out += pending
        out += empty
        leading_blank = blank
        while index < len(raw) and line_break(raw, index) is None:
            out.append((raw[index], index))
            index += 1
        found = line_break(raw, index)
        pending = [(found[0], index)] if found else []
        index += found[1] if found else 0
        index, empty = blank_lines(raw, index, indent)
    if "-" not in chomping:
        out += pending
        if "+" in chomping:
            out += empty
    return out


def at_column(raw: str, index: int) -> int:
    """The column of an index, counted from 0."""
    start = index
    while start > 0 and raw[start - 1] == " ":
        start -= 1
    return index - start


def at_end(raw: str, index: int) -> bool:
    """Whether `index` is behind the last character."""
    return index >= len(raw)


def detected(raw: str, index: int) -> int:
    """The indentation of the first line that is not empty."""
    match = re.compile(r"(?:[ ]*(?:\r\n|[\r\n\x85\u2028\u2029]))*([ ]*)").match(raw, index)
    return max(1, len(match[1])) if match else 1


def blank_lines(raw: str, index: int, indent: int) -> tuple[int, Placed]:
    """Skips empty lines, which are collected, and the next line's indentation."""
    empty: Placed = []
    while True:
        column = 0
        while column < indent and raw.startswith(" ", index):
            index, column = index + 1, column + 1
        found = line_break(raw, index) if index < len(raw) else None
        if found is None:
            return index, empty
        empty.append((found[0], index))
        index += found[1]
