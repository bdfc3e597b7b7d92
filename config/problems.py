"""A problem of the YAML, as a value: its place, its severity, what is wrong and what to write instead.

A problem never contains a secret, an environment variable's value or a payload's value.
Lines and columns count from 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import asdict

Severity = Literal["error", "warning"]
Place = tuple[str, int, int]  # file, line, column

ERROR: Final = "error"
WARNING: Final = "warning"


class Own(str):
    """A message or hint that quotes nothing of a file: nothing of it is ever redacted."""

    __slots__ = ()


class Problem(Struct, frozen=True, order=True):
    """One mistake (error), or something that is probably not meant (warning)."""

    file: str
    line: int
    column: int
    severity: Severity
    code: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text

    def as_json(self) -> dict[str, str | int]:
        """The keys of ``check --format json``, in their order."""
        return asdict(self)


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` lists everything that is wrong with it.

    ``unreadable``: nothing was checked, because a path does not exist or cannot be read.
    """

    def __init__(self, problems: Iterable[Problem], *, unreadable: bool = False) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.unreadable = unreadable
        super().__init__("\n".join(str(problem) for problem in self.problems))


def errors(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The problems that keep a file from going live."""
    return tuple(problem for problem in problems if problem.severity == ERROR)
