"""A file's text and the values in it, each with its position.

Positions are indices into the text; they become lines and columns when a problem is reported.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct, field

from config.problems import ERROR, Problem, Severity
from config.source.offsets import offsets
from config.source.variables import Substitution

Path = tuple[str | int, ...]
MOST_PROBLEMS: Final = 200  # shown for one file; a broken generator can make thousands
MOST_REPORTED: Final = 1000  # errors, and as many warnings, are kept for one file


class YamlNode(Struct, eq=False):
    """A value and its position: `start` and `end` are indices into the text."""

    start: int
    end: int
    value: Any
    style: str | None = None
    written: str | None = None  # a scalar's text before its variables are resolved
    substitution: Substitution | None = None
    fields: dict[str, tuple[int, YamlNode]] | None = None  # of a mapping: key position and value
    items: list[YamlNode] | None = None  # of a list
    weight: int = 1  # the number of nodes, aliases expanded


def scalars(node: YamlNode) -> Iterator[YamlNode]:
    """The scalars below a node."""
    if node.fields is not None:
        for _, value in node.fields.values():
            yield from scalars(value)
    elif node.items is not None:
        for item in node.items:
            yield from scalars(item)
    else:
        yield node


class Source(Struct, eq=False):
    """A file's text, its nodes, and the problems found so far."""

    file: str
    text: str
    root: YamlNode | None = None
    problems: list[Problem] = field(default_factory=list)
    spoiled: set[int] = field(
        default_factory=set
    )  # start of each node that has a problem already, so that no more are reported
    starts: list[int] = field(default_factory=list)
    reported: Counter[Severity] = field(default_factory=Counter)
    places: dict[int, list[int]] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)  # literal secrets of the file, the longest first

    def __post_init__(self) -> None:
        self.starts = [0, *(match.end() for match in re.finditer("\r\n|\n|\r", self.text))]

    @property
    def data(self) -> Any:
        """The plain values."""
        return self.root.value if self.root else None

    @property
    def enough(self) -> bool:
        """Whether so many errors were found that checking further is useless."""
        return self.reported[ERROR] > MOST_PROBLEMS

    def place(self, index: int) -> tuple[int, int]:
        """Line and column, from 1."""
        line = bisect_right(self.starts, index)
        return line, index - self.starts[line - 1] + 1

    def line(self, number: int) -> str:
        """A line's text, without its end."""
        end = self.starts[number] if number < len(self.starts) else len(self.text)
        return self.text[self.starts[number - 1] : end].rstrip("\r\n")

    def add(self, index: int, code: str, message: str, hint: str = "", severity: Severity = ERROR) -> None:
        """Reports a problem at an index of the text."""
        self.reported[severity] += 1
        if self.reported[severity] > MOST_REPORTED:
            return
        line, column = self.place(index)
        self.problems.append(Problem(self.file, line, column, severity, code, message, hint))

    def node(self, path: Path) -> YamlNode | None:
        """The node at a path, or the deepest one on the way to it."""
        found = self.root
        for step in path:
            if found is None:
                return None
            if found.fields is not None and step in found.fields:
                found = found.fields[str(step)][1]
            elif found.items is not None and isinstance(step, int) and step < len(found.items):
                found = found.items[step]
            else:
                break
        return found

    def names(self, path: Path) -> list[tuple[Path, str]]:
        """The names at a path that holds one or a list, without those that are reported or not known."""
        node = self.node(path)
        if node is None:
            return []
        if isinstance(node.value, str):
            found = [(path, node.value)]
        elif isinstance(node.value, list):
            found = [((*path, n), item) for n, item in enumerate(node.value) if isinstance(item, str)]
        else:
            return []
        return [(place, name) for place, name in found if self.at(place) not in self.spoiled]

    def at(self, path: Path) -> int:
        """The start of the value at a path."""
        node = self.node(path)
        return node.start if node else 0

    def key_at(self, path: Path) -> int:
        """The position of the last key of a path; for an item of a list, the start of the item."""
        parent = self.node(path[:-1])
        if parent is not None and parent.fields is not None and path[-1] in parent.fields:
            return parent.fields[str(path[-1])][0]
        return self.at(path)

    def inside(self, path: Path, offset: int) -> int:
        """The position of a character of a scalar's value, with quotes, folding and variables considered."""
        node = self.node(path)
        if node is None or node.written is None:
            return self.at(path)
        if node.substitution is not None:
            offset = node.substitution.written(offset)
        return self.written_at(node, offset)

    def written_at(self, node: YamlNode, offset: int) -> int:
        """The position of a character of a scalar's text as written."""
        if node.start not in self.places:
            raw = self.text[node.start : node.end]
            self.places[node.start] = offsets(raw, node.style, node.written or "")
        places = self.places[node.start]
        return node.start + places[min(offset, len(places) - 1)]
