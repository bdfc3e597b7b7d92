"""Set-up shared by all tests: the hypothesis profile, and a new seed for property tests in each run.

The seed is printed in the header and again at the end. `--hypothesis-seed=N` draws the same examples again.
Each test, async ones included, has a timeout: `timeout` in pyproject.toml, enforced by pytest-timeout.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.support import property_settings

property_settings.load_profile()


@pytest.hookimpl(tryfirst=True)  # before hypothesis's own hook reads the option
def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed unless one was given; pytest-xdist hands the option on to its workers."""
    if config.getoption("hypothesis_seed") is None:
        config.option.hypothesis_seed = str(secrets.randbelow(2**32))


def _weight(item: pytest.Item) -> int:
    """How early an item begins: the lower, the earlier."""
    if item.get_closest_marker("slow") or item.path.parent.name == "chaos":
        return 0
    if item.get_closest_marker("browser"):
        return 1
    return {"e2e": 2, "laws": 3}.get(item.path.parent.name, 4)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under pytest-xdist, begin with the files that take longest: all workers end at about the same time.

    pytest-xdist itself begins with the files that have the most tests, and those are the quick ones.
    """
    if hasattr(config, "workerinput"):
        weights: dict[Path, int] = {}
        for item in items:
            weights[item.path] = min(_weight(item), weights.get(item.path, 9))
        items.sort(key=lambda item: weights[item.path])


def _seed_line(config: pytest.Config) -> str:
    return f"property tests: --hypothesis-seed={config.getoption('hypothesis_seed')}"


def pytest_report_header(config: pytest.Config) -> str:
    """The seed, before the first test: a run that is killed has it in its output."""
    return _seed_line(config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The seed again at the end: `pytest -q` prints no header."""
    terminalreporter.write_line(_seed_line(terminalreporter.config))
