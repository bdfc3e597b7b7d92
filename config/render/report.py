"""Renders problems for people, programs and GitHub: text with a caret, JSON, workflow commands.

Pure: the text is returned. A line is shown with its secrets masked; of a long line only the part around the
problem is shown.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from config.checks.checker import Checked
from config.model.types import REDACTED
from config.problems import ERROR, WARNING, Problem

WIDEST: Final = 110  # characters of a line that are shown
BEFORE: Final = 60  # characters of them before the problem, at most
COLOURS: Final = {
    "error": "1;31",
    "warning": "1;33",
    "place": "1",
    "quiet": "2",
    "caret": "1;32",
    "fine": "1;32",
}

Paint = Callable[[str, str], str]


def plain(text: str, colour: str) -> str:
    """No colours."""
    return text


def ansi(text: str, colour: str) -> str:
    """Colours for a terminal."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"


def as_text(checked: Sequence[Checked], paint: Paint = plain) -> str:
    """Each problem with its line, a caret and a hint; then how many there are."""
    parts = [one(found, each, paint) for each in checked for found in each.problems]
    return "\n\n".join([*parts, total(checked, paint)]) + "\n"


def one(problem: Problem, checked: Checked, paint: Paint) -> str:
    """One problem."""
    place = paint(f"{visible(problem.file)}:{problem.line}:{problem.column}:", "place")
    lines = [
        f"{place} {paint(problem.severity + ':', problem.severity)} {visible(problem.message)} "
        + paint(f"[{problem.code}]", "quiet")
    ]
    excerpt = excerpt_of(problem, checked)
    if excerpt is not None:
        shown, before = excerpt
        number = str(problem.line)
        gutter = " " * len(number)
        lines.append(f"  {paint(number + ' |', 'quiet')} {shown}")
        lines.append(f"  {paint(gutter + ' |', 'quiet')} {before}{paint('^', 'caret')}")
    if problem.hint:
        lines.append(f"  {paint('hint:', 'caret')} {visible(problem.hint)}")
    return "\n".join(lines)


def excerpt_of(problem: Problem, checked: Checked) -> tuple[str, str] | None:
    """The line as shown, and the blanks before the caret; None for a file without text."""
    source = checked.source
    if not source.text or problem.line > len(source.starts):
        return None
    start = source.starts[problem.line - 1]
    line, column = masked(source.line(problem.line), problem.column - 1, start, checked.masked)
    first = max(0, column - BEFORE) if len(line) > WIDEST else 0
    before, after = line[first:column], line[column : first + WIDEST]
    before = ("…" if first else "") + before
    after += "…" if first + WIDEST < len(line) else ""
    blanks = "".join("\t" if character == "\t" else " " * width(character) for character in before)
    return visible(before + after, keep="\t"), blanks


def masked(line: str, column: int, start: int, spans: Iterable[tuple[int, int]]) -> tuple[str, int]:
    """The line with its secrets masked, and where the column (from 0) is now."""
    out, index, moved = "", 0, column
    for left, right in spans:
        begin, end = max(left - start, index), min(right - start, len(line))
        if begin >= end:
            continue
        out += line[index:begin]
        if column >= end:
            moved += len(REDACTED) - (end - begin)
        elif column >= begin:
            moved = len(out)
        out += REDACTED
        index = end
    return out + line[index:], moved


def width(character: str) -> int:
    """How many cells of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def visible(text: str, keep: str = "") -> str:
    """Text without characters that would move the cursor or change the terminal."""
    return "".join(c if c.isprintable() or c in keep else "�" for c in text)


def count(checked: Sequence[Checked], severity: str) -> int:
    """The number of problems of this severity."""
    return sum(found.severity == severity for each in checked for found in each.problems)


def total(checked: Sequence[Checked], paint: Paint) -> str:
    """The last line."""
    files = f"{len(checked)} file" + ("" if len(checked) == 1 else "s")
    found, warned = count(checked, ERROR), count(checked, WARNING)
    if not found and not warned:
        return f"{files}: {paint('no problems', 'fine')}"
    parts = []
    if found:
        parts.append(paint(f"{found} error" + ("" if found == 1 else "s"), "error"))
    if warned:
        parts.append(paint(f"{warned} warning" + ("" if warned == 1 else "s"), "warning"))
    return f"{files}: {', '.join(parts)}"


def as_json(checked: Sequence[Checked]) -> str:
    """One array of all problems."""
    found = [problem.as_json() for each in checked for problem in each.problems]
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def as_github(checked: Sequence[Checked]) -> str:
    """Workflow commands that annotate the lines of a pull request."""
    lines = []
    for problem in (found for each in checked for found in each.problems):
        text = f"{problem.message}\n{problem.hint}" if problem.hint else problem.message
        at = f"file={prop(problem.file)},line={problem.line},col={problem.column},title={prop(problem.code)}"
        lines.append(f"::{problem.severity} {at}::{escaped(text)}\n")
    return "".join(lines)


def escaped(text: str) -> str:
    """A workflow command's message (GitHub's toolkit, `command.ts`)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def prop(text: str) -> str:
    """A workflow command's property."""
    return escaped(text).replace(":", "%3A").replace(",", "%2C")


def masked_text(checked: Checked) -> str:
    """The text of a file with its secrets masked, each as a YAML text in quotes."""
    text, out, end = checked.source.text, "", 0
    for left, right in sorted(checked.masked):
        if left >= end:  # spans may overlap
            out += f'{text[end:left]}"{REDACTED}"'
        end = max(end, right)
    return out + text[end:]
