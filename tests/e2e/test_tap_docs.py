"""docs/tap.md: the installed SDK has the Python calls with these arguments, and all give the YAML's pair."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from typing import Any, Final

import pytest

from config.checks.checker import Form, check
from config.model.files import SingleFile
from tests.support.secrets import HATCHET_TOKEN
from tests.support.tools import ROOT

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK's own imports use what tenacity and others have deprecated
    from hatchet_sdk.clients.events import EventClient
    from hatchet_sdk.runnables.workflow import Workflow

TEXT: Final = (ROOT / "docs/tap.md").read_text(encoding="utf-8")
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
OWNERS: Final[dict[str, Any]] = {"push": EventClient}  # every other call is a workflow's


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def calls() -> list[Any]:
    """The calls of the SDK in the Python blocks of docs/tap.md and README.md."""
    found = []
    for block in (*blocks(TEXT, "python"), *blocks(README, "python")):
        tree = compile(block, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and any(
                word.arg == "additional_metadata" for word in node.keywords
            ):
                assert isinstance(node.func, ast.Attribute)
                found.append(pytest.param(node, id=ast.unparse(node.func)))
    return found


def test_runs_bulk_runs_events_schedules_crons_and_children_are_shown() -> None:
    names = {param.id for param in calls()}
    assert names == {
        "chat.aio_run",
        "chat.create_bulk_run_item",
        "hatchet.event.push",
        "chat.aio_schedule",
        "chat.aio_create_cron",
        "child.aio_run",
    }


@pytest.mark.parametrize("call", calls())
def test_the_sdk_has_each_call_with_these_arguments(call: ast.Call) -> None:
    assert isinstance(call.func, ast.Attribute)
    method = getattr(OWNERS.get(call.func.attr, Workflow), call.func.attr)
    keywords = {word.arg: word.value for word in call.keywords if word.arg is not None}
    inspect.signature(method).bind("self", *call.args, **keywords)  # raises TypeError


def test_every_language_gives_the_pair_that_the_yaml_names() -> None:
    [yaml] = blocks(TEXT, "yaml")
    checked = check("tap.yaml", yaml.encode(), Form.SINGLE, {"HATCHET_CLIENT_TOKEN": HATCHET_TOKEN})
    assert isinstance(checked.model, SingleFile)
    tap = checked.model.hatchet.tap
    assert tap is not None
    pair = f'"?{tap.key}"?: "{tap.value}"'
    for block in (*blocks(TEXT, "python")[:1], *blocks(TEXT, "ts"), *blocks(TEXT, "go")):
        assert re.search(pair, block), block
