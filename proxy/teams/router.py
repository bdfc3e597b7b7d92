"""Finds the stream that a path means, and the value of its placeholder.

A template has one placeholder, ``{workflowRunId}`` or ``{metadata.KEY}``, alone in its segment (`check`
requires it). So finding a path is a dictionary look-up, however many streams a team has. Paths are split
before they are unquoted: ``%2f`` never makes a segment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Generic, TypeVar
from urllib.parse import unquote

from msgspec import Struct

PLACEHOLDER: Final = re.compile(r"\{(workflowRunId|metadata\.[^{}]+)\}")

T = TypeVar("T")


class Match(Struct, Generic[T], frozen=True, gc=False):
    """The stream of a path, and the unquoted value of the placeholder."""

    target: T
    value: str


class Router(Generic[T]):
    """The path templates of a team and their targets."""

    def __init__(self, templates: Mapping[str, T]) -> None:
        self._whole: dict[tuple[str, ...], T] = {}
        self._by_metadata: set[tuple[str, ...]] = set()  # an empty value there is a bad request
        self._sizes: set[int] = set()
        self._at_end: dict[str, T] = {}  # by what is in front of a placeholder at the path's end
        for template, target in templates.items():
            self._add(template, target)

    def _add(self, template: str, target: T) -> None:
        segments = [unquote(segment) for segment in template.split("/")]
        placeholders = [place for place, text in enumerate(segments) if PLACEHOLDER.fullmatch(text)]
        if not placeholders:
            return  # `check` refuses such a template; without a run there is nothing to serve
        by_metadata = segments[placeholders[0]].startswith("{metadata.")
        segments[placeholders[0]] = "\0"
        self._whole[tuple(segments)] = target
        if segments[-1] == "\0" and not any("/" in segment for segment in segments):
            self._at_end["/".join(segments[:-1])] = target
        if by_metadata:
            self._by_metadata.add(tuple(segments))
        self._sizes.add(len(segments))

    def match(self, raw_path: str) -> Match[T] | None:
        """The stream of a path (still quoted), or None."""
        before, _, value = raw_path.rpartition("/")
        target = self._at_end.get(before)
        if target is not None and value and "%" not in raw_path:  # nearly every path
            return Match(target, value)
        parts = raw_path.split("/")
        if len(parts) in self._sizes:
            segments = [unquote(part) for part in parts] if "%" in raw_path else parts
            for place in range(len(segments) - 1, 0, -1):
                value = segments[place]
                template = (*segments[:place], "\0", *segments[place + 1 :])
                target = self._whole.get(template)
                if target is not None and (value or template in self._by_metadata):
                    return Match(target, value)
        return None
