"""Expressions: lints the expressions of a file, within bounds for the whole file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from config.checks.redaction import longest_first, unquoted, values
from config.checks.schema_errors import flow
from config.expressions.api import lint, readings
from config.expressions.syntax_hints import constant
from config.expressions.types import Shape
from config.problems import ERROR, WARNING, Severity
from config.source.nodes import MOST_REPORTED, Path, Source
from config.source.syntax_errors import in_quotes, whole_value

MOST_DIAGNOSTICS: Final = 20  # about one expression
MOST_WEIGHED_TEXT: Final = 32 << 10  # of the expressions in one file whose readings are added up
MOST_EXPRESSION_TEXT: Final = 128 << 10  # in one file; linting that much takes about a second


class Expressions:
    """Lints the expressions of a file, each text once for the same events."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.read = 0
        self.known: dict[tuple[str, str], list[Any]] = {}
        self.weighed = 0

    def lint(
        self,
        path: Path,
        text: Any,
        fields: Shape | Mapping[str, Any],
        surroundings: str,
        result: str | None = None,
    ) -> None:
        """Notes what is wrong with the expression at `path`; `result`: the JSON type that it must give."""
        node = self.source.node(path)
        if self.source.enough or node is None or node.start in self.source.spoiled:
            return
        if not isinstance(text, str) or not text.strip():
            return
        key = (surroundings, text)
        if key not in self.known:
            self.read += len(text)
            if self.read > MOST_EXPRESSION_TEXT:
                self.known[key] = []
                self.stop(path)
                return
            found_here = sorted(lint(text, fields, result), key=lambda each: each.severity)  # errors first
            self.known[key] = found_here[:MOST_DIAGNOSTICS]
        for found in self.known[key]:
            if self.source.enough:
                return
            if found.severity == WARNING and self.source.reported[WARNING] > MOST_REPORTED:
                continue
            severity: Severity = ERROR if found.severity == ERROR else WARNING
            place = self.source.inside(path, found.position)
            # A message quotes the expression in many ways, so its own variables' values are masked here.
            own = longest_first(values(node))
            message, hint = unquoted(found.message, own), unquoted(found.hint or "", own)
            hint = hint.replace(f"a text stands in single quotes: '{text}'", quoted_twice(text))
            if hint.startswith("close it") and self.source.text[node.end :].lstrip().startswith(","):
                whole = in_quotes(whole_value(self.source.text, node.start))
                hint = unquoted(f"between brackets a value with a comma needs quotes: {whole}", own)
            if constant(text) in hint and path[-2:-1] == ("data",):
                hint += f"; or without them: `const: {flow({path[-1]: text})}`"
            self.source.add(place, found.code, message, hint, severity)

    def readings(self, text: Any) -> int:
        """How often an expression reads a long text; 0 where the file has too much text to look."""
        if not isinstance(text, str) or "(" not in text or self.weighed > MOST_WEIGHED_TEXT:
            return 0
        self.weighed += len(text)
        return readings(text)

    def stop(self, path: Path) -> None:
        """Reports once that the file has too much expression text."""
        if self.read < 1 << 40:
            hint = "remove generated rules, or split the file"
            message = f"more than {MOST_EXPRESSION_TEXT >> 10} KiB of expressions in one file"
            self.source.add(self.source.at(path), "too-large", message, hint)
            self.read = 1 << 40


def quoted_twice(text: str) -> str:
    """What to write where a whole value is one word: YAML took the quotes that the expression needs."""
    return f"a constant text is quoted twice, once for YAML: {constant(text)}"
