"""JMESPath's own compliance suite through our evaluation: the judge of every shortcut in the lowering."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from config.expressions.api import ExpressionFailed, ExpressionProblem, compile_expression, lint

SUITE: Final = Path(__file__).resolve().parents[4] / ".tools" / "compliance"
ATLEAST: Final = 849
"""Cases that the suite has; fewer would mean that something was not read."""


def cases() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(name, the data, the case) of the whole suite."""
    for file in sorted(SUITE.glob("*.json")):
        for number, group in enumerate(json.loads(file.read_text(encoding="utf-8"))):
            for place, case in enumerate(group["cases"]):
                if "bench" not in case:
                    yield f"{file.stem}-{number}-{place}", group["given"], case


CASES: Final = list(cases())


def test_the_suite_is_there_and_whole() -> None:
    if not CASES and os.environ.get("CI") != "true":
        pytest.skip("JMESPath's compliance suite is missing: run scripts/compliance (it needs npm)")
    assert len(CASES) >= ATLEAST, "run scripts/compliance: it brings the suite through npm"


@pytest.mark.parametrize(("given", "case"), [pytest.param(g, c, id=name) for name, g, c in CASES])
def test_a_case_of_the_suite(given: Any, case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises((ExpressionProblem, ExpressionFailed)):
            compile_expression(case["expression"]).evaluate(given)
        return
    result = compile_expression(case["expression"]).evaluate(given)
    assert result == case["result"]
    assert json.dumps(result, sort_keys=True) == json.dumps(case["result"], sort_keys=True)


@pytest.mark.parametrize("case", [pytest.param(c, id=name) for name, _, c in CASES])
def test_lint_has_an_answer_for_every_case(case: dict[str, Any]) -> None:
    diagnostics = lint(case["expression"], {})
    for diagnostic in diagnostics:
        assert 0 <= diagnostic.position <= len(case["expression"])
        assert diagnostic.message
    if case.get("error") in ("syntax", "unknown-function", "invalid-arity"):
        assert any(diagnostic.severity == "error" for diagnostic in diagnostics)
