"""Validates values against the model; each of pydantic's errors becomes a Problem with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from config.checks.redaction import without
from config.model.blocks import field_of, keys, model_at
from config.model.types import nearest
from config.problems import Own
from config.source.nodes import MOST_PROBLEMS, Path, Source, YamlNode
from config.source.scalars import is_text

PLAIN: Final = re.compile(r"[A-Za-z0-9/_.$][\w ./=!'{}$:-]*(?<! )")
BRACKETS: Final = re.compile(r"[{}\[\],]")
ELSEWHERE: Final = {  # keys that belong in another place
    ("ProxyFile", "streams"): "streams live in teams/NAME.yaml, one file for each team",
    (
        "ProxyFile",
        "hatchet",
    ): "it belongs under `teams:`, `NAME:`; or take `teams:` away for the single-file form",
    ("ProxyFile", "auth"): "it belongs under `teams:`, `NAME:`",
    ("ProxyFile", "limits"): "it belongs under `teams:`, `NAME:`",
    ("ProxyFile", "shapes"): "shapes live in teams/NAME.yaml",
    ("ProxyFile", "tests"): "tests live in teams/NAME.yaml",
    (
        "TeamFile",
        "hatchet",
    ): "only proxy.yaml says how Hatchet is reached, so that a team's file holds no secret",
    ("TeamFile", "auth"): "only proxy.yaml says who may connect",
    ("TeamFile", "limits"): "only proxy.yaml has limits",
    ("TeamFile", "server"): "only proxy.yaml has the listener",
    ("SingleFile", "teams"): "`teams:` makes this a proxy.yaml; streams then live in teams/NAME.yaml",
    ("RuleBlock", "step"): "did you mean `steps`?",
    ("RuleBlock", "type"): "did you mean `events`?",
    ("RuleBlock", "if"): "did you mean `when`?",
    ("StreamBlock", "auth"): "who may connect is said for the whole team; `allow` narrows it for a stream",
    ("HatchetConfig", "url"): "did you mean `host_port` (gRPC) or `api` (REST)?",
}


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
        if field is None or type(None) not in get_args(field.annotation):
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
    written = (error.get("ctx") or {}).get("hint", "")
    hint = Own(without(written, source.secrets) if written else example_hint(root, path))
    if node.value is None and error["msg"].endswith("empty"):
        source.add(source.key_at(path), "empty", f"{subject} is empty", hint)
    else:
        # The model never quotes what came from a variable (`config.model.wording.shown`).
        source.add(node.start, kind, Own(f"{subject} {without(error['msg'], source.secrets)}"), hint)


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
    if not hint and known:
        hint = f"known here: {', '.join(known)}"
    shown = key if len(key) <= 60 else key[:60] + "…"
    where = f" in `{path[-2]}`" if len(path) > 1 and isinstance(path[-2], str) else ""
    source.add(source.key_at(path), "unknown-key", f"unknown key `{shown}`{where}", Own(hint))


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
