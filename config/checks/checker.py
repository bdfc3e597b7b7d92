"""A file's text to every Problem at once, and to the model where there is no error.

The model says what a single field may be; the ``check_…`` files say what must be right between fields.
These look at the values as they stand, so that a mistake in one place hides none in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from pydantic import BaseModel

from config.checks.access import (
    check_against_grant,
    check_cors,
    check_grant,
    check_server,
    check_team_names,
    mapping,
)
from config.checks.examples import check_tests
from config.checks.paths import check_paths, streams_of
from config.checks.redaction import JWT, Span, secret_spans, secret_words, without
from config.checks.rules import Expressions, check_rules, data_of
from config.checks.schema_errors import validate
from config.expressions.api import ALLOW_FIELDS, EVENT_FIELDS
from config.model.files import ProxyFile, SingleFile, TeamFile
from config.problems import ERROR, WARNING, Problem, errors
from config.source.nodes import MOST_PROBLEMS, Source
from config.source.reader import read


class Form(Enum):
    """What a file is: the whole configuration, the platform team's part of it, or a team's."""

    SINGLE = SingleFile
    PROXY = ProxyFile
    TEAM = TeamFile


@dataclass(frozen=True)
class Checked:
    """A file that was checked: its problems in the order of the lines, and its model if none is an error."""

    source: Source
    problems: tuple[Problem, ...]
    model: BaseModel | None
    masked: tuple[Span, ...] = ()  # where secrets stand in the text


def check(
    file: str, content: bytes, form: Form | None, env: Mapping[str, str], granted: Any = None
) -> Checked:
    """Checks a file's content.

    Without `form` the key `teams` tells what it is. `granted` is what stands in proxy.yaml for the team
    whose file this is, as plain values; None where that is not known.
    """
    source = read(file, content, None if form is Form.TEAM else env)
    if form is None:
        form = Form.PROXY if isinstance(source.data, dict) and "teams" in source.data else Form.SINGLE
    model = None
    if source.root is not None:
        if isinstance(source.data, dict):
            model = validate(source, form.value)
            between(source, form, granted)
        else:
            said = "the file must be a mapping (`key: value` lines)"
            source.add(source.root.start, "wrong-type", said, "begin with `version: 1`")
    spans = secret_spans(source, form.value)
    words = secret_words(source, spans)
    problems = tuple(
        replace(found, message=without(found.message, words), hint=without(found.hint, words))
        for found in ordered(source.problems)
    )
    return Checked(source, problems, None if errors(problems) else model, tuple(spans))


def ordered(problems: list[Problem]) -> tuple[Problem, ...]:
    """In the order of the lines, each once; a flood is cut off."""
    found = sorted(
        dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column, problem.severity)
    )
    if len(found) > MOST_PROBLEMS:
        last = found[MOST_PROBLEMS]
        said = f"and {len(found) - MOST_PROBLEMS} more problems"
        rest = Problem(
            last.file, last.line, last.column, ERROR, "too-many", said, "mend the first ones, and check again"
        )
        return (*found[:MOST_PROBLEMS], rest)
    return tuple(found)


def between(source: Source, form: Form, granted: Any) -> None:
    """What must be right between fields."""
    if form is Form.PROXY:
        check_server(source)
        check_team_names(source)
        return
    check_streams(source, at_root=form is Form.SINGLE)
    check_tests(source)
    check_cors(source)
    if form is Form.SINGLE:
        check_server(source)
        check_grant(source, ())
        check_against_grant(source, mapping(source.data, "hatchet"), mapping(source.data).get("auth"))
        return
    for match in JWT.finditer(source.text):
        hint = "take it out, and renew it: who can read this file has it; secrets belong into proxy.yaml"
        source.add(match.start(), "secret-in-team-file", "this looks like a token", hint)
    if isinstance(granted, dict):
        check_against_grant(source, granted.get("hatchet"), granted.get("auth"))


def check_streams(source: Source, *, at_root: bool) -> None:
    """Paths, rules, shapes and `allow`."""
    if isinstance(source.data, dict) and source.data.get("streams") == {}:
        source.add(source.at(("streams",)), "empty", "`streams` is empty", "name a stream, with its `rules:`")
    check_paths(source, at_root=at_root)
    shapes = mapping(source.data, "shapes")
    expressions = Expressions(source)
    used: set[str] = set()
    for _, path, block in streams_of(source):
        check_rules(source, (*path, "rules"), shapes, expressions)
        expressions.lint((*path, "allow"), block.get("allow"), ALLOW_FIELDS, "allow")
        rules = block.get("rules")
        used |= {
            str(rule.get("use"))
            for rule in (rules if isinstance(rules, list) else [])
            if isinstance(rule, dict)
        }
    for name, shape in shapes.items():
        if name not in used:
            said = f"no rule uses the shape `{name[:60]}`"
            source.add(
                source.key_at(("shapes", name)),
                "unused-shape",
                said,
                f"write `use: {name[:60]}` in a rule, or take it away",
                WARNING,
            )
            for place, text in data_of(shape, ("shapes", name)):
                expressions.lint(place, text, EVENT_FIELDS, "*")
