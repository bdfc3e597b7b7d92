"""Validates values against the model; each of pydantic's errors becomes a Problem with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Final, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from config.checks.redaction import without
from config.model.blocks import field_of, keys, model_at
from config.model.types import nearest
from config.problems import Own
from config.source.nodes import MOST_PROBLEMS, Path, Source, YamlNode
from config.source.scalars import is_text

QUOTED_NUMBER: Final = 'put it in quotes: "'
PLAIN: Final = re.compile(r"[A-Za-z0-9/_.$][\w ./=!'{}$:-]*(?<! )")
BRACKETS: Final = re.compile(r"[{}\[\],]")
ELSEWHERE: Final = {  # keys that belong in another place
    ("ProxyFile", "streams"): "write the streams in teams/NAME.yaml, one file for each team",
    (
        "ProxyFile",
        "hatchet",
    ): "it belongs under `teams:`, `NAME:`; or take `teams:` away for the single-file form",
    ("ProxyFile", "auth"): "it belongs under `teams:`, `NAME:`",
    ("ProxyFile", "limits"): "it belongs under `teams:`, `NAME:`",
    ("ProxyFile", "shapes"): "write shapes in teams/NAME.yaml",
    ("ProxyFile", "tests"): "tests live in teams/NAME.yaml",
    (
        "TeamFile",
        "hatchet",
    ): "only proxy.yaml says how Hatchet is reached, so that a team's file holds no secret",
    ("TeamFile", "auth"): "only proxy.yaml says who may connect",
    ("TeamFile", "limits"): "only proxy.yaml has limits",
    ("TeamFile", "server"): "only proxy.yaml has the listener",
    ("SingleFile", "teams"): "`teams:` makes this a proxy.yaml: write the streams in teams/NAME.yaml",
    ("RuleBlock", "step"): "did you mean `steps`?",
    ("RuleBlock", "type"): "did you mean `events`?",
    ("RuleBlock", "if"): "did you mean `when`?",
    ("SingleFile", "token"): "it belongs under `hatchet:`",
    ("ServerConfig", "tls"): "the proxy speaks plain HTTP: the server in front of it has the certificate",
    ("ServerConfig", "workers"): "it is an option of the command: serve --workers N",
    ("StreamBlock", "name"): "a stream's name is its key: `streams: {chat: …}`",
    **{
        ("HatchetConfig", name): "did you mean `token`?"
        for name in ("api_key", "apikey", "api_token", "key_file")
    },
    ("StreamBlock", "auth"): "write `auth` once for the team; in a stream, `allow` decides who may read it",
    ("HatchetConfig", "url"): "did you mean `host_port` (gRPC) or `api` (REST)?",
}


RULE: Final = "to a rule, under `rules:`"
HOMES: Final[dict[str, Path]] = {
    RULE: ("streams", "NAME", "rules", 0),
    "to a stream, beside its `rules:`": ("streams", "NAME"),
    "to a stream, under its `cors:`": ("streams", "NAME", "cors"),
    "to a stream, under its `backlog:`": ("streams", "NAME", "backlog"),
    "under `hatchet:`": ("hatchet",),
    "under `server:`": ("server",),
    "under `server:`, `drain:`": ("server", "drain"),
    "under `auth:`": ("auth",),
    "under `auth:`, `jwt:`": ("auth", "jwt"),
    "under `limits:`": ("limits",),
    "to a team, under `teams:`": ("teams", "NAME"),
}
"""The blocks whose keys are written in the wrong place, and the words for them."""

COMMON: Final = frozenset({"api", "ca", "cert", "host", "key", "name", "tls", "token", "version"})
"""Keys that can be meant for more than the one block that has them."""


def validate(source: Source, model: type[BaseModel]) -> BaseModel | None:
    """The file as `model`, or None with the problems added to `source`."""
    found = None
    try:
        found = model.model_validate(source.data, context={"yaml": True})
    except ValidationError as error:
        for wrong in error.errors(include_url=False, include_input=False)[:MOST_PROBLEMS]:
            note(source, model, wrong)
    return None if left_empty(source, model) else found


def left_empty(source: Source, root: type[BaseModel]) -> bool:
    """Reports each key that is left empty: an empty `allow:` must not mean that every client is allowed."""
    reported = {(problem.line, problem.column) for problem in source.problems}
    found = False
    for path in empties(source.root):
        model = model_at(root, path[:-1])
        field = field_of(model, path[-1]) if model else None
        node = source.node(path)
        bare = path[-1] == "on_error" and node is not None and not node.written  # `on_error: null` is a value
        if field is None or not (bare or type(None) in get_args(field.annotation)):
            continue
        key, value = source.key_at(path), source.at(path)
        if reported.isdisjoint({source.place(key), source.place(value)}):
            found = True
            source.add(key, "empty", f"`{path[-1]}` is empty", Own(example_hint(root, path)))
        if source.enough:
            break
    return found


def fragment(data: Any, model: type[BaseModel]) -> BaseModel | None:
    """A part of a file as `model`, or None; its problems are reported elsewhere."""
    try:
        return model.model_validate(data, context={"yaml": True})
    except ValidationError:
        return None


def note(source: Source, root: type[BaseModel], error: Any) -> None:
    """Adds one of pydantic's errors, at its place."""
    path = written_path(source, error["loc"])
    kind = error["type"]
    if kind == "extra_forbidden":
        unknown(source, root, path)
        return
    node = source.node(path)
    if node is None or node.start in source.spoiled:
        return
    name = path[-1]
    if kind == "missing":
        at = source.key_at(path[:-1]) if path[:-1] else 0
        where = f" in `{path[-2]}`" if len(path) > 1 and isinstance(path[-2], str) else ""
        source.add(at, "missing-key", f"the key `{name}` is missing{where}", Own(example_hint(root, path)))
        return
    subject = f"`{name}`" if isinstance(name, str) else f"entry {name + 1} of `{owner(path)}`"
    written = instead(node, root, path, (error.get("ctx") or {}).get("hint", ""))
    hint = Own(without(written, source.secrets) if written else example_hint(root, path))
    message = as_written(node, error["msg"])
    if node.value is None and message.endswith("empty"):
        source.add(source.key_at(path), "empty", f"{subject} is empty", hint)
    else:
        # The model never quotes what came from a variable (`config.model.wording.shown`).
        source.add(node.start, kind, Own(f"{subject} {without(message, source.secrets)}"), hint)


def instead(node: YamlNode, root: type[BaseModel], path: Path, hint: str) -> str:
    """The hint of the model for a value at `path`, or another one where only the file shows what is meant."""
    if hint.startswith(QUOTED_NUMBER):
        hint = as_written(node, hint)
        return hint if (node.fields is not None or fits(root, path, hint[len(QUOTED_NUMBER) : -1])) else ""
    if path[-1] == "whole" and not isinstance(node.value, str):
        return ""
    items = node.value if isinstance(node.value, list) else []
    if path[-1] in ("when", "allow") and items and all(type(item) is str for item in items):
        return f'conditions stand in one expression: "{" && ".join(items)}"'
    return hint


def as_written(node: YamlNode, text: str) -> str:
    """A message about a number or a boolean, as the file has it: ``1.10``, where Python has 1.1."""
    inner = next(iter(node.fields.values()))[1] if node.fields and len(node.fields) == 1 else node
    if isinstance(inner.value, bool) and inner.written:
        return text.replace(f'"{str(inner.value).lower()}"', f'"{inner.written}"')
    if not isinstance(inner.value, int | float) or not inner.written:
        return text
    value = str(inner.value)
    for left, right in ("``", '""'):
        text = text.replace(f"{left}{value}{right}", f"{left}{inner.written}{right}")
    return text


def fits(root: type[BaseModel], path: Path, value: str) -> bool:
    """Whether the field at `path` (or the list there) takes a text; True where the field is not known."""
    *above, name = path[:-1] if isinstance(path[-1], int) else path
    model = model_at(root, tuple(above))
    field = field_of(model, name) if model is not None else None
    if field is None:
        return True
    try:
        _adapter(model, name).validate_python(value, context={"yaml": True})
    except ValidationError:
        return False
    return True


@cache
def _adapter(model: type[BaseModel], name: str | int) -> TypeAdapter[Any]:
    """What validates one field alone."""
    field = field_of(model, name)
    assert field is not None
    kind: Any = field.annotation
    return TypeAdapter(Annotated[kind, *field.metadata] if field.metadata else kind)


def empties(node: YamlNode | None, path: Path = ()) -> Iterator[Path]:
    """The paths of the keys that have no value."""
    if node is None:
        return
    if node.items is not None:
        for position, item in enumerate(node.items):
            yield from empties(item, (*path, position))
    for key, (_, value) in (node.fields or {}).items():
        if value.value is None:
            yield (*path, key)
        else:
            yield from empties(value, (*path, key))


def written_path(source: Source, loc: Path) -> Path:
    """The path of an error without pydantic's own steps (the tag of a union, the key of a mapping)."""
    path: Path = ()
    for position, step in enumerate(loc):
        node = source.node(path)
        missing = node is None or node.fields is None or step not in node.fields
        if (
            isinstance(step, str)
            and missing
            and (position < len(loc) - 1 or step in ("one", "fields", "[key]"))
        ):
            continue
        path = (*path, step)
    return path


def owner(path: Path) -> str:
    """The name of the key that holds a list."""
    return next((str(step) for step in reversed(path) if isinstance(step, str)), "file")


def unknown(source: Source, root: type[BaseModel], path: Path) -> None:
    """Adds the error for an unknown key, with the nearest known one."""
    key = str(path[-1])
    model = model_at(root, path[:-1])
    known = keys(model) if model else []
    hint = ELSEWHERE.get((model.__name__ if model else "", key)) or nearest(key, known)
    hint = hint or (home(root, key) if model else "")
    if not hint and known:
        hint = f"known here: {', '.join(known)}"
    shown = key if len(key) <= 60 else key[:60] + "…"
    where = f" in `{path[-2]}`" if len(path) > 1 and isinstance(path[-2], str) else ""
    source.add(source.key_at(path), "unknown-key", f"unknown key `{shown}`{where}", Own(hint))


@cache
def homes(root: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Where each key of a file may stand, in words."""
    found: dict[str, tuple[str, ...]] = dict.fromkeys(keys(root), ("at the top of the file",))
    for where, at in HOMES.items():
        model = model_at(root, at)
        for key in keys(model) if model is not None else ():
            found[key] = (*found.get(key, ()), where)
    return found


def home(root: type[BaseModel], key: str) -> str:
    """Where a key belongs that stands in the wrong place; empty where that is not plain."""
    places = homes(root).get(key, ())
    plain = len(places) == 1 or (places and places[0] == RULE)
    return f"it belongs {places[0]}" if plain and key not in COMMON else ""


def example_hint(root: type[BaseModel], path: Path) -> str:
    """An example of the field at a path, or of the field that contains it."""
    while path:
        model = model_at(root, path[:-1])
        field = field_of(model, path[-1]) if model else None
        if field is not None and field.examples:
            return f"like `{path[-1]}: {flow(field.examples[0])}`"
        path = path[:-1]
    return ""


def flow(value: Any, *, inside: bool = False) -> str:
    """A value as YAML writes it in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner, inside=True)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(inner, inside=True) for inner in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if not isinstance(value, str):
        return text
    plain = PLAIN.fullmatch(text) and is_text(text)
    return text if plain and not (inside and BRACKETS.search(text)) else json.dumps(text, ensure_ascii=False)
