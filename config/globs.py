"""Globs over event and step names: ``*`` and ``?``, nothing else; upper and lower case differ."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether one of `patterns` is for `name`; a bracket in a pattern is just a bracket."""
    return any(fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns)
