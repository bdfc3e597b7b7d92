"""Checks what a rule sends: the expressions of `when`, `whole` and `data`, shapes and constants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from config.checks.rules.expressions import Expressions
from config.expressions.api import event_fields
from config.expressions.parser import LENGTH_LIMIT
from config.model.files import DEFAULT_DATA
from config.model.formats import spec_of
from config.model.rules import MOST_CONSTANTS
from config.model.types import nearest
from config.problems import WARNING
from config.source.nodes import Path, Source

EXPRESSION_LIKE: Final = re.compile(r"(payload|metadata)(\.[\w.\[\]]+)?$")


def check_expressions(
    path: Path,
    rule: dict[str, Any],
    shapes: Mapping[str, Any],
    expressions: Expressions,
    events: tuple[str, ...],
) -> None:
    """Lints `when`, `whole`, `data` and the shape that is used."""
    payload = "json" if rule.get("payload") in ("json", "auto") else "text"
    fields = event_fields(events, payload)
    surroundings = f"{events} {payload}"
    expressions.lint((*path, "when"), rule.get("when"), fields, surroundings)
    output = event_fields(("step_completed",))
    expressions.lint((*path, "whole"), rule.get("whole"), output, "whole", "string")
    check_use(expressions.source, path, rule, shapes)
    check_constants(expressions.source, path, rule)
    if "merge" in rule and rule.get("payload") == "json":
        fields, surroundings = event_fields(events, "merged"), f"{events} merged"
    for place, text in sent(path, rule, shapes):
        if place != path:
            expressions.lint(place, text, fields, surroundings)


def sent(path: Path, rule: dict[str, Any], shapes: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """The expressions of a rule's data and of its shape; the default's have the path of the rule."""
    own = rule.get("data")
    use = rule.get("use")
    if isinstance(use, str) and isinstance(shapes.get(use), dict):
        for place, text in data_of(shapes[use], ("shapes", use)):
            if not isinstance(own, dict) or place[-1] not in own:
                yield place, text
    elif not {"data", "use", "const"} & rule.keys():
        part = rule.get("as")
        usual = spec_of(part).default if isinstance(part, str) else None
        yield from ((path, text) for text in ([usual] if usual is not None else DEFAULT_DATA.values()))
    yield from data_of(own, (*path, "data"))


def data_of(data: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """The expressions of `data`: one, or one for each field."""
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict):
        for name, text in data.items():
            yield (*path, name), text


def check_use(source: Source, path: Path, rule: dict[str, Any], shapes: Mapping[str, Any]) -> None:
    """Checks that `use` names a shape and that `data` is a mapping."""
    use = rule.get("use")
    if not isinstance(use, str):
        return
    if use not in shapes:
        hint = nearest(use, list(shapes)) or (
            "the shapes are " + ", ".join(shapes) if shapes else "write it under `shapes:`"
        )
        source.add(source.at((*path, "use")), "unknown-shape", f"there is no shape `{use}`", hint)
    if isinstance(rule.get("data"), str):
        message = "`use` takes a shape's fields, but `data` is one expression"
        source.add(
            source.at((*path, "data")),
            "use-and-data",
            message,
            "write fields (`data: {name: expression}`), or remove one of the two",
        )


def check_constants(source: Source, path: Path, rule: dict[str, Any]) -> None:
    """Warns of constants that look like expressions; checks that `data` leaves room for them."""
    const, data = rule.get("const"), rule.get("data")
    if not isinstance(const, dict):
        return
    for name, value in const.items():
        if isinstance(value, str) and EXPRESSION_LIKE.match(value):
            message = f"`const` sends this text as it is, and does not evaluate it: `{value[:60]}`"
            source.add(
                source.at((*path, "const", name)),
                "constant",
                message,
                "write it under `data` to send its value",
                WARNING,
            )
    if isinstance(data, str) and len(data) > LENGTH_LIMIT - MOST_CONSTANTS:
        message = (
            f"with `const`, one expression in `data` has at most {LENGTH_LIMIT - MOST_CONSTANTS} characters"
        )
        source.add(
            source.at((*path, "data")), "too-large", message, "write fields (`data: {name: expression}`)"
        )
