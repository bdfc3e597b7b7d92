"""`stream-proxy --version`: the version, and with --verbose the facts that a bug report needs."""

from __future__ import annotations

import importlib.metadata
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy import __version__
from proxy.cli.about import LIBRARIES, lines
from proxy.cli.main import main


def output(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_the_version_is_one_line() -> None:
    assert output("--version") == f"stream-proxy, version {__version__}\n"


@pytest.mark.parametrize("arguments", [("--version", "--verbose"), ("--verbose", "--version")])
def test_verbose_prints_the_version_of_each_library(arguments: tuple[str, ...]) -> None:
    facts = dict(line.split(maxsplit=1) for line in output(*arguments).splitlines())
    assert facts["stream-proxy"] == __version__
    assert facts["grpcio"] == importlib.metadata.version("grpcio")
    assert {*LIBRARIES} <= {*facts}


def test_every_dependency_is_listed() -> None:
    required = importlib.metadata.requires("hatchet-stream-proxy") or []
    names = [re.match(r"[\w-]+", line) for line in required if "extra" not in line]
    ours = {name[0].lower() for name in names if name is not None}
    assert len(ours) > 10
    assert ours <= {*LIBRARIES}


def test_the_facts_hold_nothing_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HATCHET_CLIENT_TOKEN", "a-token-of-ours")
    text = "\n".join(lines())
    for private in ("a-token-of-ours", str(Path.home()), str(Path.cwd()), os.uname().nodename):
        assert private not in text


def test_no_arguments_show_the_help() -> None:
    result = CliRunner().invoke(main, [])
    assert "serve" in result.output
