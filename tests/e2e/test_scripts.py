"""The scripts: they parse, can be run, say what they do, and CI runs the same checks as everybody."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent.parent
SCRIPTS: Final = [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci/run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_parses_and_says_what_it_does(script: Path) -> None:
    first, second, *_ = script.read_text(encoding="utf-8").splitlines()
    assert first.startswith("#")
    if not first.startswith("#!"):  # sourced by others
        return
    assert os.access(script, os.X_OK)
    if "sh" in first:
        assert second.startswith("# ")
        shell = "bash" if "bash" in first else "sh"
        parsed = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
        assert parsed.stderr == ""


def test_ci_runs_scripts_test_with_nothing_left_out() -> None:
    assert "CI=true exec sh scripts/test" in (ROOT / ".ci/run").read_text(encoding="utf-8")
