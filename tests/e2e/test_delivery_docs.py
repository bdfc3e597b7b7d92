"""docs/delivery.md and tests/GUARANTEES.md agree with the tests and the frames that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from proxy.core.events import GapCause
from tests.support.reference import CONTROL_FRAMES

TESTS = Path(__file__).parent.parent
GUARANTEES = (TESTS / "GUARANTEES.md").read_text(encoding="utf-8")
DOCUMENT = (TESTS.parent / "docs/delivery.md").read_text(encoding="utf-8")


def names_in(name: str) -> set[str]:
    """The tests in all files of that name."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in TESTS.rglob(name)]
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for tree in trees for node in tree.body if isinstance(node, functions)}


def test_every_guarantee_names_tests_that_exist() -> None:
    _, _, *rows = [line for line in GUARANTEES.splitlines() if line.startswith("|")]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        missing = [f"{file}::{test}" for file, test in named if test not in names_in(file)]
        assert not missing


def test_every_control_frame_and_every_cause_of_a_gap_is_explained() -> None:
    rows = set(re.findall(r"^\| `([\w.]+)` \|", DOCUMENT, re.M))
    assert rows >= CONTROL_FRAMES
    assert rows >= {cause.value for cause in GapCause}
