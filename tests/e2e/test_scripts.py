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


FAKE_PYTHON: Final = """\
#!/bin/sh
# stands for the Python of .venv: `-m pip install` prints what pip prints, then ends as PIP_STATUS says
case "$*" in *"pip install"*) ;; *) exit 0 ;; esac
case "$*" in *--quiet*) exit "$PIP_STATUS" ;; esac
echo "Obtaining file:///project"
echo "Collecting starlette<2,>=0.46 (from hatchet-stream-proxy==0.1.0)"
echo "  Downloading starlette-1.0-py3-none-any.whl.metadata (6.3 kB)"
echo "Collecting pyjwt[crypto]<3 (from hatchet-stream-proxy==0.1.0)"
echo "Installing collected packages: starlette, pyjwt"
exit "$PIP_STATUS"
"""


def bootstrap(folder: Path, status: int) -> subprocess.CompletedProcess[str]:
    """Runs scripts/bootstrap in a copy of the project whose pip ends with `status`."""
    (folder / "scripts").mkdir()
    (folder / "scripts/bootstrap").write_text((ROOT / "scripts/bootstrap").read_text(encoding="utf-8"))
    (folder / "pyproject.toml").write_text("[project]\n")
    (folder / ".venv/bin").mkdir(parents=True)
    for name in ("python", "pip"):
        (folder / ".venv/bin" / name).write_text(FAKE_PYTHON)
        (folder / ".venv/bin" / name).chmod(0o755)
    return subprocess.run(
        ["sh", folder / "scripts/bootstrap"],
        env={**os.environ, "PIP_STATUS": str(status)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_bootstrap_names_each_package_while_it_installs(tmp_path: Path) -> None:
    ran = bootstrap(tmp_path, 0)
    assert ran.returncode == 0, ran.stderr
    announced, *lines = ran.stdout.splitlines()
    assert announced.startswith("Installing the project into .venv")
    assert lines == ["  1. starlette", "  2. pyjwt", "  unpacking 2 packages"]
    assert (tmp_path / ".venv/installed").exists()


def test_bootstrap_fails_where_pip_fails_and_tries_again_the_next_time(tmp_path: Path) -> None:
    assert bootstrap(tmp_path, 7).returncode != 0
    assert not (tmp_path / ".venv/installed").exists()


def test_no_script_installs_without_a_word() -> None:
    silent = re.compile(r"(pip|npm|apt-get) install\b.*(--quiet|-qq)")
    for script in SCRIPTS:
        lines = script.read_text(encoding="utf-8").splitlines()
        for before, line in zip(["", *lines], lines, strict=False):
            assert not silent.search(line) or "echo " in before, f"{script.name}: {line}"


FAKE_PROGRAM: Final = """\
#!/bin/sh
echo "ran ${0##*/} $*"
[ -n "$FAILS" ] || exit 0
case "${0##*/} $*" in *"$FAILS"*) exit 1 ;; esac
"""


def whole(folder: Path, **fails: str) -> subprocess.CompletedProcess[str]:
    """Runs scripts/test where every program only says its name; those in `fails` fail."""
    (folder / "scripts").mkdir()
    (folder / ".venv/bin").mkdir(parents=True)
    for name in ("test", "checks.sh"):
        (folder / "scripts" / name).write_text((ROOT / "scripts" / name).read_text(encoding="utf-8"))
    for program in ("scripts/bootstrap", "scripts/tools", ".venv/bin/python", ".venv/bin/lint-imports"):
        (folder / program).write_text(FAKE_PROGRAM)
        (folder / program).chmod(0o755)
    return subprocess.run(
        ["sh", folder / "scripts/test", "-k", "some"],
        env={**os.environ, "FAILS": "", **fails},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("fails", ["", "tools", "bootstrap", "ruff format", "mypy", "lint-imports", "pytest"])
def test_scripts_test_fails_where_one_of_its_parts_fails_and_shows_each_part(
    tmp_path: Path, fails: str
) -> None:
    ran = whole(tmp_path, FAILS=fails)
    assert (ran.returncode != 0) == bool(fails), ran.stdout + ran.stderr
    if fails not in {"tools", "bootstrap"}:
        for part in ("tools", "bootstrap test", "python -m ruff format --check .", "python -m mypy"):
            assert f"ran {part}" in ran.stdout
        assert re.search(r"ran python -m pytest .*-k some", ran.stdout)
