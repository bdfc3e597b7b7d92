"""A file's text to every Problem at once, and to the model where there is no error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from config.model import Block, ProxyFile, SingleFile, TeamFile
from config.nodes import Source
from config.problems import Problem, errors
from config.source import read
from config.blocks import validate


class Form(Enum):
    """What a file is: the whole configuration, the platform team's part of it, or a team's."""

    SINGLE = SingleFile
    PROXY = ProxyFile
    TEAM = TeamFile


@dataclass(frozen=True)
class Checked:
    """A file that was checked: its problems in the order of the lines, and its model if none is an error."""

    source: Source
    problems: tuple[Problem, ...]
    model: Block | None


def check(file: str, content: bytes, form: Form | None, env: Mapping[str, str]) -> Checked:
    """Checks a file's content; without `form` it is told by the key `teams`."""
    source = read(file, content, None if form is Form.TEAM else env)
    if form is None:
        form = Form.PROXY if isinstance(source.data, dict) and "teams" in source.data else Form.SINGLE
    model = validate(source, form.value) if source.root is not None else None
    problems = tuple(sorted(set(source.problems), key=lambda problem: (problem.line, problem.column)))
    return Checked(source, problems, None if errors(problems) else model)  # type: ignore[arg-type]
