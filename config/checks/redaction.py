"""Finds what must not be shown of a file: the values of secret fields, and what may be one.

The model declares which fields are secret (their type is `Secret`). In a block with such fields every
unknown key counts as secret too: it may be a misspelt secret. Where the file is no YAML and so has no tree,
lines that begin like a secret's are masked. Text from a variable is never shown, secret or not.

The proxy's own words, its examples and the names of settings are never masked, whatever a variable holds:
a short value is only looked for where a message quotes something of the file, and never in `Own` texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretStr

from config.expressions.types import EVENT_TYPES
from config.model.blocks import bare, block, field_of, keys
from config.model.files import ProxyFile, SingleFile, TeamFile
from config.model.types import REDACTED
from config.problems import Own
from config.source.nodes import Source, YamlNode, scalars

Span = tuple[int, int]
FILES: Final = (SingleFile, TeamFile, ProxyFile)  # a block in the wrong file still has its secrets
REFERENCE: Final = re.compile(r"['\"]?\$\{([A-Za-z_][A-Za-z0-9_]*(:\?[^{}]*)?|file:[^{}]*)\}['\"]?")
SECRET_LINE: Final = re.compile(
    r"(?i)(?:token|key|secret|passw[a-z]{0,9})['\"]?[ \t]{0,9}:[ \t]{1,99}([^\s#{\[][^\r\n]*)"
)
JWT: Final = re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*)*")
USER_INFO: Final = re.compile(r"(?<=://)[^/@\s'\"{}]{1,999}(?=@)")  # a name and password in a URL
QUOTED_PART: Final = re.compile(r"\w{6,}")  # parts of a value that a message may quote
UNLIKELY: Final = 8  # characters: as long a value is masked wherever it stands
QUOTED: Final = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"")  # what messages quote of the file
SHORTEST: Final = 3  # characters of what is masked inside a message: shorter text would mask words


def secret_spans(source: Source, model: type[BaseModel]) -> list[Span]:
    """The spans of the text that are secret."""
    spans = [match.span() for known in (JWT, USER_INFO) for match in known.finditer(source.text)]
    if source.root is None:
        spans += [after_reference(source.text, *found.span(1)) for found in SECRET_LINE.finditer(source.text)]
    else:
        for node in secret_nodes(source.root, model):
            spans += [(scalar.start, scalar.end) for scalar in scalars(node)]
    return sorted(span for span in spans if not REFERENCE.fullmatch(source.text[slice(*span)].rstrip()))


def after_reference(text: str, start: int, end: int) -> Span:
    """A secret's span in a line, without the reference to a variable that it begins with."""
    found = REFERENCE.match(text, start, end)
    return (
        (start, end)
        if found is None or text[found.end() : found.end() + 1] not in (*" ,}]\t\r\n", "")
        else (found.end(), end)
    )


def secret_nodes(node: YamlNode, kind: Any, *, known: bool = False) -> Iterator[YamlNode]:
    """The nodes below `node`, of type `kind`, that hold secrets; `known`: without those of unknown keys."""
    if not leads_to_secrets(kind):
        return
    model = block(kind)
    if model is None:
        inner = get_args(bare(kind))
        if node.fields is not None and len(inner) == 2:
            for _, value in node.fields.values():
                yield from secret_nodes(value, inner[1], known=known)
        elif node.items is not None and inner:
            for item in node.items:
                yield from secret_nodes(item, inner[0], known=known)
        return
    sensitive = has_secrets(model)
    if node.fields is None:
        if sensitive and not known:
            yield node
        return
    for name, (_, value) in node.fields.items():
        field = field_of(model, name) or (field_of(SingleFile, name) if model in FILES else None)
        if (field is None and sensitive and not known) or (field is not None and is_secret(field.annotation)):
            yield value
        elif field is not None:
            yield from secret_nodes(value, field.annotation, known=known)


def is_secret(kind: Any) -> bool:
    """Whether a field's type is a secret's."""
    found = bare(kind)
    return isinstance(found, type) and issubclass(found, SecretStr)


@cache
def leads_to_secrets(kind: Any) -> bool:
    """Whether a value of this type can hold a secret: streams and rules cannot, and are most of a file."""
    model = block(kind)
    if model is None:
        return is_secret(kind) or any(leads_to_secrets(inner) for inner in get_args(bare(kind)))
    kinds: list[Any] = [field.annotation for field in model.model_fields.values()]
    return model in FILES or any(map(leads_to_secrets, kinds))


@cache
def has_secrets(model: type[BaseModel]) -> bool:
    """Whether a field of the block is a secret's."""
    return any(is_secret(field.annotation) for field in model.model_fields.values())


def secret_words(source: Source, spans: Iterable[Span]) -> list[str]:
    """The literal secrets of a file, which no message may contain, the longest first."""
    return longest_first({source.text[start:end].strip().strip("'\"") for start, end in spans})


def values_of(source: Source) -> list[str]:
    """What came out of the file's variables, the longest first."""
    found: set[str] = set()
    if source.root is not None:
        found.update(*(values(scalar) for scalar in scalars(source.root)))
    return longest_first(found)


def longest_first(words: set[str]) -> list[str]:
    """The words that are long enough to be masked."""
    return sorted((word for word in words if len(word) >= SHORTEST), key=len, reverse=True)


def values(scalar: YamlNode) -> set[str]:
    """What came out of a scalar's variables, and longer words in it; a default is written there anyway."""
    if scalar.substitution is None:
        return set()
    text, pieces = scalar.substitution.text, scalar.substitution.pieces
    ends = [piece.start for piece in pieces[1:]] + [len(text)]
    found = {text[piece.start : end] for piece, end in zip(pieces, ends, strict=True) if not piece.literal}
    words = {word for value in found for word in QUOTED_PART.findall(value)}
    return {value.strip() for value in found | words if value.strip() not in (scalar.written or "")}


def without(text: str, words: Sequence[str]) -> str:
    """`text` without any of the words; `Own` texts stay as they are."""
    if isinstance(text, Own):
        return text
    for word in words:
        if len(word) > UNLIKELY:
            text = QUOTED.sub(partial(_cut, word), text)
    for word in (word for word in words if word in text):
        if word in names_of_settings():
            continue
        if len(word) >= UNLIKELY:
            text = text.replace(word, REDACTED)
        else:
            whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
            text = QUOTED.sub(partial(_masked, whole), text)
    return text


def _cut(word: str, quoted: re.Match[str]) -> str:
    """What is quoted, without the beginning of a word that was cut off at the end."""
    inside = quoted[0][1:-1].removesuffix("…")
    for length in range(min(len(inside), len(word)), UNLIKELY - 1, -1):
        if inside.endswith(word[:length]):
            return f"{quoted[0][0]}{inside[:-length]}{REDACTED}{quoted[0][-1]}"
    return quoted[0]


def _masked(word: re.Pattern[str], quoted: re.Match[str]) -> str:
    return word.sub(REDACTED, quoted[0])


def unquoted(text: str, words: Iterable[str]) -> str:
    """`text` without any of the words, whether they stand in quotes or not."""
    for word in (word for word in words if word in text):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", REDACTED, text)
    return text


@cache
def names_of_settings() -> frozenset[str]:
    """The keys that the YAML has, and the names of events."""
    found = set(EVENT_TYPES)
    waiting: list[Any] = list(FILES)
    seen: set[Any] = set()
    while waiting:
        kind = waiting.pop()
        model = block(kind)
        if kind in seen:
            continue
        seen.add(kind)
        if model is None:
            waiting.extend(get_args(bare(kind)))
            continue
        found.update(keys(model))
        waiting.extend(field.annotation for field in model.model_fields.values())
    return frozenset(found)
