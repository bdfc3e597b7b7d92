"""Shows the problems of a configuration as ``check`` does: the line, a caret, a hint."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from msgspec.structs import replace

from config.checks.checker import Checked
from config.load import survey
from config.problems import ConfigError, Problem
from config.render.report import ansi, as_text, plain
from config.source.nodes import Source


def show_problems(path: Path, env: Mapping[str, str], problems: Sequence[Problem]) -> None:
    """Write `problems`, found in the files at `path`, to standard error."""
    try:
        known = {each.source.file: each for each in survey(path, env)}
    except ConfigError:
        known = {}
    files = dict.fromkeys(problem.file for problem in problems)
    checked = [
        replace(
            known.get(file) or Checked(Source(file, ""), (), None),
            problems=tuple(problem for problem in problems if problem.file == file),
        )
        for file in files
    ]
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    click.echo(as_text(checked, ansi if coloured else plain), nl=False, err=True, color=True)
