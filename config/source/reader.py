"""Reads YAML text into nodes that know their line, from libyaml's events.

PyYAML's own composer is not used, so that no file can cost more than its size: reading stops at the
first event that is too deep, one too many, or expanded too often by aliases. Tags, directives, merge keys and
second documents are refused; keys are text. Variables are resolved inside scalars, or refused (in a team's
file).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

import yaml
from yaml.cyaml import CParser  # type: ignore[attr-defined]

from config.model.types import Resolved
from config.model.wording import INVISIBLE
from config.source.nodes import Source, YamlNode
from config.source.offsets import flow_scalar
from config.source.scalars import NotAScalar, resolve
from config.source.syntax_errors import (
    DEEPEST,
    INDENTED,
    TOO_DEEP,
    SyntaxProblem,
    explain,
    instead_of_tag,
    invisible,
)
from config.source.variables import OPEN, REFERENCE, Fault, substitute

MOST_BYTES: Final = 1 << 20  # as much as a Kubernetes ConfigMap may hold
UTF_16: Final = re.compile(rb"\xff\xfe|\xfe\xff|[^\0]\0[^\0]\0|\0[^\0]\0[^\0]")
SAVE_AS_UTF8: Final = "save it as UTF-8; in most editors that is in the status line"
MOST_NODES: Final = 50_000  # checking so many values takes under half a second
MOST_REFERENCES: Final = 1000  # variables: each may read a file
CONTROL: Final = (
    re.compile(  # as libyaml; the complement as a set would take `re` 4 ms to compile at each start
        "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]|[\ud800-\udfff]"
    )
)
SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
TEMPLATE: Final = re.compile(r"\{\{\s*\.?([A-Za-z_][\w.]*)\s*\}\}")
MOST_INVISIBLE: Final = 20  # invisible characters that are reported for one file
DIRECTIVE: Final = re.compile("^%", re.MULTILINE)
CONTENT: Final = re.compile(r"^[ \t]*[^#\s]", re.MULTILINE)


def referenced_files(text: str) -> list[str]:
    """The paths that a file's values name with ``${file:…}``, at most `MOST_REFERENCES`.

    Comments do not count. Of a file with a syntax error only the part before it counts.
    """
    found: dict[str, None] = {}
    parser = CParser(text)
    try:
        while parser.check_event():
            event = parser.get_event()
            if isinstance(event, yaml.ScalarEvent) and OPEN in event.value:
                found |= {match["path"]: None for match in REFERENCE.finditer(event.value) if match["path"]}
            if len(found) >= MOST_REFERENCES:
                break
    except yaml.YAMLError:
        pass
    finally:
        parser.dispose()
    return list(found)[:MOST_REFERENCES]


class Stop(Exception):
    """The rest of the file cannot be read; the problem is already reported."""


def read(file: str, content: bytes, env: Mapping[str, str] | None) -> Source:
    """Reads a file's content; its errors are in ``problems``. Without `env` variables are refused."""
    source = Source(file, "")
    if len(content) > MOST_BYTES:
        hint = "split it into teams, or take generated parts out"
        source.add(0, "too-large", "the file is larger than 1 MiB", hint)
        return source
    if UTF_16.match(content):
        source.add(0, "encoding", "the file is UTF-16 text", SAVE_AS_UTF8)
        return source
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", errors="replace")
        source = Source(file, before)
        source.add(len(before), "encoding", "the file is not UTF-8 text from here on", SAVE_AS_UTF8)
        return source
    source = Source(file, text)
    try:
        refuse_characters(source)
        source.root = Composer(source, env).compose()
    except Stop:
        source.root = None
    return source


def refuse_characters(source: Source) -> None:
    """Reports the first control character or directive, and stops there."""
    if match := CONTROL.search(source.text):
        hint = 'in a quoted text write it as an escape, like "\\u001b"'
        source.add(match.start(), "control-character", f"a control character (U+{ord(match[0]):04X})", hint)
        raise Stop
    match = DIRECTIVE.search(source.text)
    if match and not CONTENT.search(source.text, 0, match.start()):
        source.add(match.start(), "directive", "YAML directives are not used here", "take the line away")
        raise Stop


class Composer:
    """Composes events to nodes, and counts them."""

    def __init__(self, source: Source, env: Mapping[str, str] | None) -> None:
        self.source = source
        self.env = env
        self.anchors: dict[str, YamlNode] = {}
        self.open_anchors: set[str] = set()  # of values that are being read
        self.nodes = self.references = self.resolved = 0
        self.events = self.parse()

    def parse(self) -> Iterator[Any]:
        """The parser's events; its errors are translated."""
        # libyaml refuses JSON's escapes of surrogates, so it reads other ones of the same length.
        parser = CParser(SURROGATE.sub(unlike_a_surrogate, self.source.text))
        try:
            while True:
                event = parser.get_event()
                if event is None:
                    return
                yield event
        except yaml.MarkedYAMLError as error:
            self.stop(
                explain(
                    self.source.text,
                    error.context,
                    index_of(error.context_mark),
                    str(error.problem),
                    index_of(error.problem_mark) or 0,
                )
            )
        except (yaml.YAMLError, ValueError) as error:
            self.stop(SyntaxProblem(0, "syntax", f"this is not YAML: {type(error).__name__}", ""))
        finally:
            parser.dispose()

    def stop(self, found: SyntaxProblem) -> NoReturn:
        self.source.add(found.index, found.code, found.message, found.hint)
        raise Stop

    def compose(self) -> YamlNode:
        """The only document's root."""
        next(self.events)
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            self.stop(SyntaxProblem(0, "empty", "the file is empty", "begin with `version: 1`"))
        root = self.node(next(self.events), 0)
        next(self.events)
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            hint = "take the `---` away, or make it two files"
            if root.fields is not None and "apiVersion" in root.fields:
                return root  # a Kubernetes manifest, which is said as a whole
            self.stop(
                SyntaxProblem(start_of(event), "second-document", "a second document begins here", hint)
            )
        return root

    def node(self, event: Any, depth: int) -> YamlNode:
        index = start_of(event)
        if depth > DEEPEST:
            self.stop(SyntaxProblem(index, "too-deep", TOO_DEEP, "is a bracket not closed?"))
        self.count(1, index)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        if event.anchor is not None:
            self.open_anchors.add(event.anchor)
        if isinstance(event, yaml.ScalarEvent):
            node = self.scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            node = self.mapping(event, depth)
        else:
            node = self.sequence(event, depth)
        if event.tag is not None and event.tag not in ("!", "tag:yaml.org,2002:str"):
            self.tag(event, node)
        if event.anchor is not None:
            self.open_anchors.discard(event.anchor)
            self.anchors[event.anchor] = node
        return node

    def count(self, more: int, index: int) -> None:
        self.nodes += more
        if self.nodes > MOST_NODES:
            message = "the file's aliases expand to too much" if more > 1 else "the file has too many values"
            hint = f"at most {MOST_NODES} values, each use of an alias counted in full"
            self.stop(SyntaxProblem(index, "too-many", message, hint))

    def alias(self, event: Any) -> YamlNode:
        node = self.anchors.get(event.anchor)
        index = start_of(event)
        if node is None:
            hint = f'if a glob is meant, put it in quotes: "*{event.anchor}"'
            message = f"there is no anchor `&{event.anchor}` before this"
            if event.anchor in self.open_anchors:
                message, hint = f"`*{event.anchor}` stands for a value that it is a part of", "write it out"
            self.stop(SyntaxProblem(index, "alias", message, hint))
        self.count(node.weight, index)
        return node

    def tag(self, event: Any, node: YamlNode) -> None:
        line, column = self.source.place(start_of(event))
        rest = self.source.line(line)[column - 1 :].partition(" #")[0].strip()
        written = rest.split(None, 1)[0]
        hint = instead_of_tag(rest, scalar=isinstance(event, yaml.ScalarEvent))
        self.source.add(start_of(event), "tag", f"`{written}` is a YAML tag, and there are none here", hint)
        self.source.spoiled.add(node.start)

    def text_of(self, event: Any) -> str:
        """A scalar's text; escapes of surrogates, which libyaml did not see, are read here."""
        raw = self.source.text[start_of(event) : event.end_mark.index]
        escapes = SURROGATE.findall(raw)
        if not escapes:
            return str(event.value)
        text = str(event.value)
        if event.style != '"':
            for escape in escapes:
                text = text.replace(unlike(escape), escape, 1)
            return text
        begin = self.begin(event, event.style) - start_of(event)
        placed = flow_scalar(raw[begin:], '"')
        text = "".join(part for part, _ in placed)
        lone = next((at for part, at in placed if "\ud800" <= part <= "\udfff"), None)
        if lone is not None:
            hint = "one character is written as two escapes, like \\ud83d\\ude00"
            message = "half of a character: a surrogate without the other one of its pair"
            self.stop(SyntaxProblem(start_of(event) + begin + lone, "surrogate", message, hint))
        return text

    def scalar(self, event: Any) -> YamlNode:
        text, style = self.text_of(event), event.style
        plain = event.implicit[0] and style not in ("'", '"', "|", ">")
        node = YamlNode(
            self.begin(event, style),
            event.end_mark.index,
            text,
            style=style if not plain else None,
            written=text,
        )
        if OPEN in text:
            self.variables(node, text)
        elif plain:
            try:
                node.value = resolve(text)
            except NotAScalar as error:
                self.source.add(node.start, error.code, error.message, error.hint)
                self.source.spoiled.add(node.start)
        return node

    def begin(self, event: Any, style: str | None) -> int:
        """The start of the scalar itself, after its anchor and tag."""
        index: int = start_of(event)
        while event.anchor is not None or event.tag is not None:
            match = re.compile(r"[&!]\S*\s*").match(self.source.text, index, event.end_mark.index)
            if match is None:
                break
            index = match.end()
        return index

    def variables(self, node: YamlNode, text: str) -> None:
        """Resolves a scalar's variables; a team's file has none."""
        if self.env is None:
            hint = "secrets and variables belong into proxy.yaml, which the platform team keeps"
            faults: tuple[Fault, ...] = (
                Fault(text.find(OPEN), "variable-in-team-file", "a team's file has no variables", hint),
            )
        else:
            self.references += text.count(OPEN)
            if self.references > MOST_REFERENCES or self.resolved > MOST_BYTES:
                hint = f"at most {MOST_REFERENCES} in a file, and 1 MiB of what they stand for"
                self.stop(SyntaxProblem(node.start, "too-many", "the file has too many variables", hint))
            done = substitute(text, self.env)
            self.resolved += len(done.text)
            node.value, node.substitution, faults = Resolved(done.text), done, done.faults
        for fault in faults:
            place = self.source.written_at(node, fault.offset)
            self.source.add(place, fault.code, fault.message, fault.hint)
            self.source.spoiled.add(node.start)
        if node.substitution is not None and node.substitution.assumed:
            self.source.spoiled.add(node.start)  # what it stands for is not known here

    def sequence(self, event: Any, depth: int) -> YamlNode:
        items: list[YamlNode] = []
        weight = 1
        for inner in self.events:
            if isinstance(inner, yaml.SequenceEndEvent):
                break
            items.append(self.node(inner, depth + 1))
            weight += items[-1].weight
        value = [item.value for item in items]
        return YamlNode(start_of(event), inner.end_mark.index, value, items=items, weight=weight)

    def mapping(self, event: Any, depth: int) -> YamlNode:
        fields: dict[str, tuple[int, YamlNode]] = {}
        weight = 1
        for inner in self.events:
            if isinstance(inner, yaml.MappingEndEvent):
                break
            key = self.key(inner, depth)
            value = self.node(next(self.events), depth + 1)
            weight += value.weight
            if key in fields:
                line, _ = self.source.place(fields[key][0])
                hint = f"it is also in line {line}: keep one"
                self.source.add(
                    inner.start_mark.index, "duplicate-key", f"the key `{shortened(key)}` is here twice", hint
                )
            elif key == "<<" and not inner.style:
                hint = "repeat the fields, or use `shapes:` and `use:`"
                self.source.spoiled.add(start_of(event))
                self.source.add(
                    inner.start_mark.index, "merge-key", "there are no merge keys in YAML 1.2", hint
                )
            else:
                fields[key] = (inner.start_mark.index, value)
        values = {key: node.value for key, (_, node) in fields.items()}
        return YamlNode(start_of(event), inner.end_mark.index, values, fields=fields, weight=weight)

    def no_key(self, index: int) -> SyntaxProblem:
        """The problem for a mapping or a list as a key; ``{{ payload }}`` is one too."""
        text = self.source.text
        outer = text.rfind("{", 0, index)
        template = TEMPLATE.match(text, outer) if outer >= 0 else None
        if template is not None:
            name = template[1]
            hint = f"write {name} without brackets"
            if name.isupper():
                hint = f"a variable is written ${{{name}}}"
            message = "`{{ … }}` is a template, and there are none here"
            return SyntaxProblem(outer, "template", message, hint)
        hint = "is a `{` or `[` too many, or are quotes missing?"
        return SyntaxProblem(index, "key", "a key must be text", hint)

    def invisible(self, index: int) -> NoReturn:
        """Reports every invisible character that indents a line, and stops: the structure is another one."""
        found = [match.start(1) for match in INDENTED.finditer(self.source.text)]
        for each in sorted({*found, index})[:MOST_INVISIBLE]:
            problem = invisible(self.source.text, each)
            self.source.add(problem.index, problem.code, problem.message, problem.hint)
        raise Stop

    def key(self, event: Any, depth: int) -> str:
        """A key's text, as it is written."""
        if not isinstance(event, yaml.ScalarEvent):
            self.stop(self.no_key(start_of(event)))
        self.count(1, start_of(event))
        if not event.style and (found := INVISIBLE.search(event.value)) is not None:
            self.invisible(start_of(event) + found.start())
        if OPEN in event.value:
            self.source.add(
                start_of(event), "leftover-variable", "a key cannot hold a variable", "write it out"
            )
        return self.text_of(event)


def unlike(escape: str) -> str:
    """An escape of the same length that is no surrogate."""
    return escape[:2] + ("e" if escape[2] == "d" else "E") + escape[3:]


def unlike_a_surrogate(found: re.Match[str]) -> str:
    """The replacement of a matched surrogate."""
    return unlike(found[0])


def start_of(event: Any) -> int:
    """Where an event begins."""
    return int(event.start_mark.index)


def index_of(mark: Any) -> int | None:
    """The character's index of a YAML mark, None where there is no mark."""
    return None if mark is None else int(mark.index)


def shortened(key: str) -> str:
    """A key as messages quote it: at most 60 characters."""
    return key if len(key) <= 60 else key[:60] + "…"
