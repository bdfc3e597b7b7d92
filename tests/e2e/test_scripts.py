"""The scripts: they parse, are executable and describe themselves; CI runs the same checks."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
from hypothesis import core, settings

from tests.conftest import pytest_report_header

ROOT: Final = Path(__file__).resolve().parent.parent.parent
SCRIPTS: Final = [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci/run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_parses_and_describes_itself(script: Path) -> None:
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


def test_a_failed_test_is_not_tried_again() -> None:
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"--last-failed|--lf|--reruns|flaky", text), script.name


def test_property_tests_draw_new_examples_in_each_run_from_a_seed_that_is_printed(
    request: pytest.FixtureRequest,
) -> None:
    profile = settings.default
    assert profile is not None
    assert (profile.derandomize, profile.print_blob) == (False, True)
    seed = request.config.getoption("hypothesis_seed")
    assert seed is not None
    assert core.global_force_seed == int(seed)
    assert pytest_report_header(request.config) == f"property tests: --hypothesis-seed={seed}"


def test_each_test_has_a_timeout(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.hasplugin("timeout")
    assert 0 < float(request.config.getini("timeout")) <= 60
