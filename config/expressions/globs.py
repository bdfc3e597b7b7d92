"""Globs over event and step names: ``*`` and ``?``, nothing else; upper and lower case differ."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

CHUNKS: Final = "step_stream"
"""The one event that no glob matches: chunks can hold what must not leave, so a rule takes them by name."""

_WILD: Final = frozenset("*?")


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether one of `patterns` matches `name`; a bracket in a pattern is just a bracket."""
    for pattern in patterns:
        if pattern == name:
            return True
        if not _WILD.isdisjoint(pattern) and fnmatchcase(name, pattern.replace("[", "[[]")):
            return True
    return False


def matches_event(patterns: Iterable[str], event_type: str) -> bool:
    """Whether a rule's `events` take an event: globs match lifecycle events, chunks are matched by name."""
    if event_type == CHUNKS:
        return CHUNKS in patterns
    return matches(patterns, event_type)
