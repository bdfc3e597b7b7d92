"""YAML in, exact complaints out: each ``cases/NAME.yaml`` has beside it what `check` says of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import pytest

from config.checks.checker import Checked
from config.load import survey
from config.render.report import ansi, as_github, as_json, as_text
from tests.support.secrets import hatchet_token

CASES: Final = Path(__file__).parent / "cases"
NAMES: Final = sorted(str(path.relative_to(CASES)) for path in CASES.rglob("*.yaml"))
ENV: Final = {"TOKEN": hatchet_token("hunter22"), "LONG": "hunter22" * 8, "SHORT": "hunter22" * 3}


def checked(name: str, monkeypatch: pytest.MonkeyPatch) -> list[Checked]:
    """A case, checked as from its own folder, so that the paths are short."""
    monkeypatch.chdir(CASES)
    return survey(Path(name), ENV)


@pytest.mark.parametrize("name", NAMES)
def test_each_case_comes_out_exactly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = as_text(checked(name, monkeypatch))
    expected = (CASES / name).with_suffix(".txt")
    if os.environ.get("STREAM_PROXY_WRITE"):
        expected.write_text(report, encoding="utf-8")
    assert report == expected.read_text(encoding="utf-8")


def test_there_are_more_than_sixty_cases() -> None:
    assert len(NAMES) > 60


@pytest.mark.parametrize("name", NAMES)
def test_no_case_shows_a_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(name, monkeypatch)
    assert "hunter22" not in as_text(found) + as_json(found) + as_github(found)


@pytest.mark.parametrize("name", NAMES)
def test_each_problem_has_a_hint_and_a_place_in_the_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in checked(name, monkeypatch):
        for problem in each.problems:
            assert problem.hint, problem
            assert problem.line <= len(each.source.starts) or not each.source.text
            assert problem.column <= len(each.source.line(problem.line)) + 1


def test_json_is_one_array_of_exactly_these_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(as_json(checked("key_unknown.yaml", monkeypatch)))
    assert {tuple(each) for each in found} == {
        ("file", "line", "column", "severity", "code", "message", "hint")
    }
    assert json.loads(as_json(checked("fine.yaml", monkeypatch))) == []


def test_github_gets_workflow_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert as_github(checked("duration.yaml", monkeypatch)).splitlines()[0] == (
        "::error file=duration.yaml,line=7,col=16,title=duration::`heartbeat` must be a duration, but this is"
        " the number `15`%0Awrite the unit too: `15s`; a whole number and ms, s, m or h, like 500ms, 15s, 5m,"
        " 1h"
    )


def test_colours_change_nothing_but_the_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked("key_unknown.yaml", monkeypatch)
    coloured = as_text(found, ansi)
    for code in ("\x1b[1;31m", "\x1b[1;33m", "\x1b[1;32m", "\x1b[1m", "\x1b[2m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == as_text(found)
