"""Checks a file: all its problems at once, and its model where there is no error.

The model checks single fields; the ``check_…`` functions check what concerns several fields. These work on
the values as they are written, so that a mistake in one place hides no mistake in another.
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
from config.checks.redaction import JWT, Span, longest_first, secret_spans, secret_words, values_of, without
from config.checks.rules import Expressions, check_rules, data_of
from config.checks.schema_errors import validate
from config.expressions.api import ALLOW_FIELDS, EVENT_FIELDS
from config.model.files import ProxyFile, SingleFile, TeamFile
from config.problems import ERROR, WARNING, Problem, errors
from config.source.nodes import MOST_PROBLEMS, Source
from config.source.reader import read


class Form(Enum):
    """The form of a file: the whole configuration, the platform team's file, or a team's file."""

    SINGLE = SingleFile
    PROXY = ProxyFile
    TEAM = TeamFile


@dataclass(frozen=True)
class Checked:
    """A checked file: its problems in the order of the lines, and its model if none is an error."""

    source: Source
    problems: tuple[Problem, ...]
    model: BaseModel | None
    masked: tuple[Span, ...] = ()  # where secrets stand in the text


def check(
    file: str, content: bytes, form: Form | None, env: Mapping[str, str], granted: Any = None
) -> Checked:
    """Checks a file's content.

    Without `form` the key `teams` decides which form it has. `granted` is the entry of proxy.yaml for the
    team of this file, as plain values; None where it is not known.
    """
    source = read(file, content, None if form is Form.TEAM else env)
    if form is None:
        form = Form.PROXY if isinstance(source.data, dict) and "teams" in source.data else Form.SINGLE
    spans = secret_spans(source, form.value)
    source.secrets = secret_words(source, spans)
    model = None
    if source.root is not None:
        if isinstance(source.data, dict):
            model = validate(source, form.value)
            between(source, form, granted)
        else:
            said = "the file must be a mapping (`key: value` lines)"
            source.add(source.root.start, "wrong-type", said, "begin with `version: 1`")
    words = longest_first({*source.secrets, *values_of(source)})
    problems = tuple(
        replace(found, message=without(found.message, words), hint=without(found.hint, words))
        for found in ordered(source.problems)
    )
    return Checked(source, problems, None if errors(problems) else model, tuple(spans))


def ordered(problems: list[Problem]) -> tuple[Problem, ...]:
    """The problems in the order of the lines, each once, at most MOST_PROBLEMS."""
    found = sorted(
        dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column, problem.severity)
    )
    if len(found) > MOST_PROBLEMS:
        last = found[MOST_PROBLEMS]
        said = f"and {len(found) - MOST_PROBLEMS} more problems"
        rest = Problem(
            last.file,
            last.line,
            last.column,
            ERROR,
            "too-many",
            said,
            "correct these first, then check again",
        )
        return (*found[:MOST_PROBLEMS], rest)
    return tuple(found)


def between(source: Source, form: Form, granted: Any) -> None:
    """Runs the checks that concern several fields."""
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
        hint = "remove it, and issue a new one: who can read this file has it; secrets belong in proxy.yaml"
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
                f"write `use: {name[:60]}` in a rule, or remove it",
                WARNING,
            )
            for place, text in data_of(shape, ("shapes", name)):
                expressions.lint(place, text, EVENT_FIELDS, "*")
