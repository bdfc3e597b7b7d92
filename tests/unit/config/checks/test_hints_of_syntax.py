"""The hints for files that are no YAML, or YAML of another program: what they propose works in the file."""

from __future__ import annotations

from typing import Final

import pytest

from config.checks.checker import Form, check
from config.problems import Problem, errors
from config.render.report import as_text
from tests.support.secrets import HATCHET_TOKEN

ENV: Final = {"TOKEN": HATCHET_TOKEN}
RULES: Final = "streams:\n  chat:\n    rules:\n"


def problems(text: str) -> tuple[Problem, ...]:
    return check("streams.yaml", text.encode(), Form.SINGLE, ENV).problems


def rule(text: str) -> str:
    return f'version: 1\nhatchet: {{token: "${{TOKEN}}"}}\n{RULES}      - {text}\n'


def hatchet(text: str) -> str:
    return f"version: 1\nhatchet: {text}\n{RULES}      - events: step_completed\n"


CALL: Final = "{events: step_completed, data: {x: %s, s: step}}"

# (the file, with % where the value stands; what was written; the whole hint's proposal)
IN_BRACKETS: Final = [
    (rule(CALL), "add(attempt, `1`)", '"add(attempt, `1`)"'),
    (rule(CALL), "join(', ', payload.tags[0:2])", "\"join(', ', payload.tags[0:2])\""),
    (rule(CALL), "if(contains(step, 'x'), 'y', 'z')", "\"if(contains(step, 'x'), 'y', 'z')\""),
    (rule(CALL), 'payload.a && contains(step, "a")', "'payload.a && contains(step, \"a\")'"),
    (rule(CALL), "not_null(payload.a, payload.b)", '"not_null(payload.a, payload.b)"'),
    (rule(CALL), "step == payload.items[0] || 'n'", "\"step == payload.items[0] || 'n'\""),
    (rule(CALL), "payload.items[?a == 'b'].c", "\"payload.items[?a == 'b'].c\""),
    (rule(CALL), "@", '"@"'),
    (rule("{events: %s, data: step}"), "*", '"*"'),
    (rule("{events: step_completed, use: %s}"), "a{b}", '"a{b}"'),
    (hatchet("{token: %s}"), "${TOKEN}", '"${TOKEN}"'),
    (hatchet("{token: %s, tls: none}"), "${TOKEN}", '"${TOKEN}"'),
    (hatchet('{token: %s, tap: {stream: "on"}}'), "${TOKEN:?make one}", '"${TOKEN:?make one}"'),
]


@pytest.mark.parametrize(("text", "wrong", "right"), IN_BRACKETS)
def test_a_value_that_needs_quotes_between_brackets_is_proposed_whole(
    text: str, wrong: str, right: str
) -> None:
    found = problems(text % wrong)[0]
    assert found.code == "syntax"
    assert found.hint.endswith(f": {right}")
    assert [each for each in errors(problems(text % right)) if each.code == "syntax"] == []


@pytest.mark.parametrize("value", ["${TOKEN:-hunter22hunter22}", "hunter22${TOKEN}", "hunter22[0]"])
def test_a_secret_between_brackets_is_not_proposed(value: str) -> None:
    found = check("streams.yaml", hatchet(f"{{token: {value}}}").encode(), Form.SINGLE, ENV)
    assert found.problems
    assert "hunter22" not in as_text([found])


@pytest.mark.parametrize(
    ("text", "opened"),
    [
        ("version: 1\nteams: {a: ", "`{` of line 2"),
        ("version: 1\nteams: {a: [b, ", "`[` of line 2"),
        ("version: 1\nteams: {a: '}', b: # }\n", "`{` of line 2"),
        ("version: 1\nteams: {a: [b], c: {}, \n", "`{` of line 2"),
    ],
)
def test_a_file_that_ends_between_brackets_names_the_bracket(text: str, opened: str) -> None:
    [found] = problems(text)
    assert found.message == f"the {opened} is not closed before this"


def test_a_comma_too_many_is_named() -> None:
    [found] = problems(rule("{events: [step_completed,, step_failed]}"))
    assert found.message == "a value is missing before this `,`"


@pytest.mark.parametrize(
    "text",
    [
        f"```yaml\n{rule('events: step_completed')}```\n",
        f"{rule('events: step_completed')}```\n",
        f"Here is the file:\n\n```yaml\n{rule('events: step_completed')}```\n",
    ],
)
def test_fences_of_markdown_are_named(text: str) -> None:
    [found] = problems(text)
    assert (found.code, text.splitlines()[found.line - 1][:3]) == ("markdown", "```")


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("${env:TOKEN}", "${TOKEN}"),
        ("${env.TOKEN}", "${TOKEN}"),
        ("${ TOKEN }", "${TOKEN}"),
        ("${TOKEN-abc}", "${TOKEN:-default}"),
        ("${TOKEN:=abc}", "${TOKEN:-default}"),
        ("${TOKEN?make one}", "${TOKEN:?make one}"),
        ('"${{ secrets.TOKEN }}"', "${TOKEN}"),
        ("${TOKEN", "${TOKEN}"),
        ("!env TOKEN", "${TOKEN}"),
        ("!ENV ${TOKEN}", "${TOKEN}"),
        ("!secret token", "${NAME}"),
    ],
)
def test_a_variable_in_another_notation_is_proposed_in_ours(value: str, right: str) -> None:
    [found] = problems(hatchet(f"\n  token: {value}"))
    assert found.hint.endswith(right)
    if right == "${TOKEN}":
        assert problems(hatchet(f"\n  token: {right}")) == ()


@pytest.mark.parametrize("value", ["hunter22${word", "${hunter22-x}", "${A:-${hunter22}}"])
def test_what_may_be_a_part_of_a_secret_is_not_proposed(value: str) -> None:
    assert "hunter22" not in problems(hatchet(f"\n  token: {value}"))[0].hint


def test_a_placeholder_or_a_field_that_is_written_as_a_variable_has_a_hint() -> None:
    path = rule("events: step_completed").replace("    rules", "    path: /chat/${workflowRunId}\n    rules")
    [found] = problems(path)
    assert found.hint == "the placeholder of a path has no `$`: {workflowRunId}"
    assert problems(path.replace("${work", "{work")) == ()
    [found] = problems(rule("{events: step_completed, data: {x: 'Step ${step}'}}"))
    right = found.hint.rpartition("write ")[2]
    assert problems(rule(f'{{events: step_completed, data: {{x: "{right}"}}}}')) == ()


def test_a_tag_that_reads_a_file_is_named_as_such() -> None:
    [found] = problems(hatchet("!include hatchet.yaml"))[:1]
    assert found.hint == "files are never merged: write here what is in that file"


def test_an_alias_within_its_own_value_is_named_as_such() -> None:
    [found] = problems("version: 1\nstreams: &a\n  x: *a\n")
    assert found.message == "`*a` stands for a value that it is a part of"
