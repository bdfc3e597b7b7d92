"""docs/cookbook.md: each recipe has no problems and sends what its table says; each function is listed."""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any, Final

import pytest

from config.checks.checker import Form, check
from config.expressions import own_functions
from config.expressions.api import compile_expression
from config.expressions.functions import FUNCTIONS
from config.model.files import SingleFile
from config.model.resolve import DEFAULT_TEAM, grant, team
from config.problems import errors
from proxy.rules.test_runner import run_tests
from tests.support.secrets import HATCHET_TOKEN
from tests.support.tools import ROOT

PAGE: Final = (ROOT / "docs/cookbook.md").read_text(encoding="utf-8")
RECIPES: Final = [
    pytest.param(rule, table, id=rule.strip().splitlines()[-1].strip())
    for rule, table in re.findall(r"```yaml rule\n(.*?)```\n\n((?:\|[^\n]*\n)+)", PAGE, re.DOTALL)
]
FILE: Final = """\
version: 1
hatchet: {token: "${TOKEN}", tap: {stream: "on"}}
streams:
  chat:
    rules:
      - %s
"""


def file_of(rule: str, tests: list[dict[str, Any]] | None = None) -> SingleFile:
    """A file whose stream `chat` has this one rule; `check` finds nothing in it."""
    text = FILE % textwrap.indent(rule, "        ").strip()
    if tests:
        text += f"tests: {json.dumps(tests)}\n"
    checked = check("cookbook.yaml", text.encode(), Form.SINGLE, {"TOKEN": HATCHET_TOKEN})
    assert [str(problem) for problem in checked.problems] == []
    assert isinstance(checked.model, SingleFile)
    return checked.model


def cases(rule: str, table: str) -> list[dict[str, Any]]:
    """The rows of a recipe's table as tests of the file."""
    head, _, *rows = [line.strip("|\n ").split(" | ") for line in table.splitlines()]
    event = re.search(r"[a-z]+_[a-z]+", rule)
    assert event is not None
    tests = []
    for number, (given, sent) in enumerate(rows):
        value = json.loads(given.strip("`"))
        one = {"type": event[0], "step": "answer", "at": "2026-01-01T00:00:00Z", head[0]: value}
        named = re.search(r"^event: (\w+)", rule, re.MULTILINE)
        message = {"data": json.loads(sent.strip("`"))} if sent != "nothing" else None
        if message is not None and named is not None:
            message["event"] = named[1]
        expected = "nothing" if message is None else message
        tests.append({"name": f"row {number}", "stream": "chat", "given": one, "expect": expected})
    return tests


def test_every_block_of_a_rule_has_a_table() -> None:
    assert len(RECIPES) == PAGE.count("```yaml rule") > 15


@pytest.mark.parametrize(("rule", "table"), RECIPES)
def test_a_recipe_sends_what_its_table_says(rule: str, table: str) -> None:
    file = file_of(rule, cases(rule, table))
    results = run_tests(team(grant(DEFAULT_TEAM, file), file))
    assert len(results) == len(table.splitlines()) - 2
    assert [(one.name, one.problem, one.diff) for one in results if not one.passed] == []


SURPRISES: Final = re.findall(
    r"^\| (.+?) \| (.+?) \| (.+?) \|$",
    PAGE.split("## What surprises")[1].split("## Functions")[0],
    re.MULTILINE,
)[2:]


def code(cell: str) -> str:
    """The first code in a cell."""
    found = re.search(r"``(.+?)``|`(.+?)`", cell)
    assert found is not None
    return found[1] or found[2]


def complaints(written: str) -> list[str]:
    """The errors of `check` about an expression, or about a `field: expression` as it stands."""
    data = written if re.match(r"\w+: ", written) else f"field: {written}"
    text = FILE % textwrap.indent(f"events: step_completed\ndata:\n  {data}", "        ").strip()
    checked = check("cookbook.yaml", text.encode(), Form.SINGLE, {"TOKEN": HATCHET_TOKEN})
    return [str(problem) for problem in errors(checked.problems)]


@pytest.mark.parametrize(("written", "happens", "instead"), SURPRISES)
def test_what_surprises_is_an_error_where_the_page_says_so_and_what_to_write_is_none(
    written: str, happens: str, instead: str
) -> None:
    if "an error of `check`" in happens:
        assert complaints(code(written))
    if not code(instead).startswith("const"):
        assert complaints(code(instead)) == []


ROWS: Final = re.findall(
    r"^\| `(\w+)`( •)? \| [^|]+ \| `{1,2}(.+?)`{1,2} \| `(.+)` \|$",
    PAGE.split("## Functions")[1],
    re.MULTILINE,
)


def test_every_function_is_in_the_list_in_order() -> None:
    assert [name for name, *_ in ROWS] == sorted(FUNCTIONS)


def test_the_functions_that_jmespath_does_not_have_are_marked() -> None:
    ours = {name for name, function in FUNCTIONS.items() if function.call in vars(own_functions).values()}
    assert {name for name, mark, *_ in ROWS if mark} == ours


@pytest.mark.parametrize(("name", "mark", "example", "result"), ROWS)
def test_the_example_of_a_function_has_the_result(name: str, mark: str, example: str, result: str) -> None:
    expression = example + "`" if example.count("`") % 2 else example
    assert expression.startswith(f"{name}(")
    assert compile_expression(expression).evaluate({}) == json.loads(result)
