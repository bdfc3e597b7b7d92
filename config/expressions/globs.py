"""Globs over event and step names: ``*`` and ``?``, nothing else; upper and lower case differ."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

_WILD: Final = frozenset("*?")


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether one of `patterns` is for `name`; a bracket in a pattern is just a bracket."""
    for pattern in patterns:
        if pattern == name:
            return True
        if not _WILD.isdisjoint(pattern) and fnmatchcase(name, pattern.replace("[", "[[]")):
            return True
    return False
