"""Checks a file: all its problems at once, and its model where there is no error.

The model checks single fields; the ``check_…`` functions check what concerns several fields. These work on
the values as they are written, so that a mistake in one place hides no mistake in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from pydantic import BaseModel

from config.checks.access import (
    check_against_grant,
    check_cors,
    check_grant,
    check_server,
    check_team_names,
    mapping,
)
from config.checks.environment import check_environment
from config.checks.examples import check_tests
from config.checks.formats import check_format
from config.checks.paths import check_paths, streams_of
from config.checks.redaction import (
    JWT,
    Span,
    longest_first,
    secret_nodes,
    secret_spans,
    secret_words,
    values_of,
    without,
)
from config.checks.rules.data import data_of
from config.checks.rules.expressions import Expressions
from config.checks.rules.stream_rules import check_rules
from config.checks.schema_errors import validate
from config.checks.secrets import check_secrets, check_unexpanded
from config.checks.step_names import check_step_names
from config.checks.workflows import check_workflows
from config.expressions.api import ALLOW_FIELDS, EVENT_FIELDS
from config.model.files import ProxyFile, SingleFile, TeamFile
from config.model.wording import on_one_line
from config.problems import ERROR, WARNING, Own, Problem, Severity, errors
from config.source.nodes import MOST_PROBLEMS, Source
from config.source.reader import read


class Form(Enum):
    """The form of a file: the whole configuration, the platform team's file, or a team's file."""

    SINGLE = SingleFile
    PROXY = ProxyFile
    TEAM = TeamFile


class Checked(Struct, frozen=True):
    """A checked file: its problems in the order of the lines, and its model if none is an error."""

    source: Source
    problems: tuple[Problem, ...]
    model: BaseModel | None
    masked: tuple[Span, ...] = ()  # where secrets stand in the text


def check(
    file: str,
    content: bytes,
    form: Form | None,
    env: Mapping[str, str],
    granted: Any = None,
    *,
    secrets: bool = True,
) -> Checked:
    """Checks a file's content; without `secrets` anything may stand in a secret's place.

    Without `form` the key `teams` decides which form it has. `granted` is the entry of proxy.yaml for the
    team of this file, as plain values; None where it is not known.
    """
    source = read(file, content, None if form is Form.TEAM else env)
    if form is None:
        form = Form.PROXY if isinstance(source.data, dict) and "teams" in source.data else Form.SINGLE
    stranger = foreign_file(source)
    if stranger is not None:
        return Checked(source, (stranger,), None, tuple(secret_spans(source, form.value)))
    spans = secret_spans(source, form.value)
    source.secrets = secret_words(source, spans)
    model = None
    if source.root is not None:
        if isinstance(source.data, dict):
            if secrets and form is not Form.TEAM:  # a team's file has no secrets, which is said of its keys
                check_secrets(source, form.value)
                check_unexpanded(source)
            model = validate(source, form.value)
            if not secrets:
                source.spoiled.update(node.start for node in secret_nodes(source.root, form.value))
            between(source, form, granted, env)
        else:
            message = "the file must be a mapping (`key: value` lines)"
            source.add(source.root.start, "wrong-type", message, "begin with `version: 1`")
    words = longest_first({*source.secrets, *values_of(source)})
    problems = tuple(
        replace(
            found,
            message=on_one_line(without(found.message, words)),
            hint=on_one_line(without(found.hint, words)),
        )
        for found in ordered(source.problems)
    )
    return Checked(source, problems, None if errors(problems) else model, tuple(spans))


def ordered(problems: list[Problem]) -> tuple[Problem, ...]:
    """The problems in the order of the lines, each once, at most MOST_PROBLEMS."""
    found = sorted(dict.fromkeys(problems), key=placed)
    if (count := len(found)) > MOST_PROBLEMS:
        # No error may be cut off by warnings before it: the file would seem to be fine.
        wrong = errors(found)
        warned = [each for each in found if each.severity == WARNING]
        found = sorted([*wrong, *warned][:MOST_PROBLEMS], key=placed)
        last = found[-1]
        cut: Severity = ERROR if len(wrong) > MOST_PROBLEMS else WARNING
        message = f"and {count - MOST_PROBLEMS} more {'problems' if cut == ERROR else 'warnings'}"
        hint = "correct these first, then check again"
        return (*found, Problem(last.file, last.line, last.column, cut, "too-many", message, hint))
    return tuple(found)


def foreign_file(source: Source) -> Problem | None:
    """The one problem of a file that is another program's, and whose keys are not worth naming one by one."""
    data = source.data if isinstance(source.data, dict) else {}
    message = hint = ""
    if "apiVersion" in data and "kind" in data:
        held = data.get("data") or data.get("stringData")
        named = (
            [name for name in held if str(name).endswith((".yaml", ".yml"))] if isinstance(held, dict) else []
        )
        key = named[0] if named else "streams.yaml"
        message = "this is a Kubernetes manifest; the configuration is a text in its `data`"
        hint = f"check the file it is made from, or take it out: yq '.data[\"{key}\"]' {source.file} > {key}"
    elif isinstance(data.get("services"), dict) and "streams" not in data:
        message, hint = "this is a compose file", "check the file that a service mounts, like ./streams.yaml"
    elif "jobs" in data and ("on" in data or "stages" in data):
        message, hint = (
            "this is a workflow of a build service",
            "check the proxy's own file, like streams.yaml",
        )
    elif "openapi" in data:
        message, hint = "this is an OpenAPI description", "check the proxy's own file, like streams.yaml"
    if not message:
        return None
    line, column = source.place(source.root.start if source.root is not None else 0)
    return Problem(source.file, line, column, ERROR, "foreign-file", Own(message), Own(hint))


def placed(problem: Problem) -> tuple[int, int, str]:
    """The order of problems."""
    return problem.line, problem.column, problem.severity


def between(source: Source, form: Form, granted: Any, env: Mapping[str, str]) -> None:
    """Runs the checks that concern several fields."""
    if form is Form.PROXY:
        check_server(source)
        check_team_names(source)
        for name, block in mapping(source.data, "teams").items():
            check_environment(source, ("teams", name, "hatchet"), mapping(block, "hatchet"), env)
        return
    check_streams(source, at_root=form is Form.SINGLE)
    check_tests(source)
    check_cors(source)
    if form is Form.SINGLE:
        check_server(source)
        check_grant(source, ())
        check_environment(source, ("hatchet",), mapping(source.data, "hatchet"), env)
        check_against_grant(source, mapping(source.data, "hatchet"), mapping(source.data).get("auth"))
        return
    for match in JWT.finditer(source.text):
        hint = "write it in proxy.yaml, and issue a new one: everybody who can read this file knows it"
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
        check_format(source, path, block, shapes, expressions)
        expressions.lint((*path, "allow"), block.get("allow"), ALLOW_FIELDS, "allow")
        rules = block.get("rules")
        used |= {
            str(rule.get("use"))
            for rule in (rules if isinstance(rules, list) else [])
            if isinstance(rule, dict)
        }
    check_step_names(source)
    check_workflows(source)
    for name, shape in shapes.items():
        if name not in used:
            message = f"no rule uses the shape `{name[:60]}`"
            source.add(
                source.key_at(("shapes", name)),
                "unused-shape",
                message,
                f"write `use: {name[:60]}` in a rule, or remove it",
                WARNING,
            )
            for place, text in data_of(shape, ("shapes", name)):
                expressions.lint(place, text, EVENT_FIELDS, "*")
