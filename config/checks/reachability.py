"""Which events earlier rules of a stream leave for later ones, as far as names and globs tell it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Final

from config.checks.event_names import RUN_EVENTS, is_glob

MOST_COMPARISONS: Final = 200_000  # of globs in one stream (a tenth of a second); past that nothing is said


@dataclass(frozen=True)
class Taker:
    """A rule, and which events of which steps (None: of all) it takes; `always`: whatever they hold."""

    name: str
    events: frozenset[str]
    steps: tuple[str, ...] | None
    always: bool


@dataclass
class Gone:
    """What is gone of one event: all of it, or that of some steps; each with the rule that takes it."""

    all: str | None = None
    steps: dict[str, str] = field(default_factory=dict)
    globs: list[tuple[re.Pattern[str], str, str]] = field(default_factory=list)


class Reach:
    """What the rules so far have taken."""

    def __init__(self) -> None:
        self.gone: dict[str, Gone] = {}
        self.compared = 0

    def add(self, rule: Taker) -> None:
        """Notes what a rule takes from those after it."""
        for event in rule.events if rule.always else ():
            gone = self.gone.setdefault(event, Gone())
            if rule.steps is None or (event not in RUN_EVENTS and "*" in rule.steps):
                gone.all = gone.all or rule.name
            for step in rule.steps or ():
                if is_glob(step):
                    gone.globs.append((re.compile(translate(step.replace("[", "[[]"))), step, rule.name))
                else:
                    gone.steps.setdefault(step, rule.name)

    def takers(self, rule: Taker) -> dict[str, str]:
        """The events of `rule` that never get to it, each with the rule that takes them."""
        found = {}
        for event in rule.events:
            gone = self.gone.get(event)
            by = None if gone is None else self.taker(gone, rule.steps)
            if by is not None:
                found[event] = by
        return found

    def taker(self, gone: Gone, steps: Iterable[str] | None) -> str | None:
        """Who takes all of an event's steps that are wanted; None where something is left."""
        if gone.all is not None or steps is None:
            return gone.all
        by = [self.taker_of(gone, step) for step in steps]
        return by[0] if by and all(by) else None

    def taker_of(self, gone: Gone, step: str) -> str | None:
        """Who takes all that one name or glob means."""
        if step in gone.steps:
            return gone.steps[step]
        self.compared += len(gone.globs)
        if self.compared > MOST_COMPARISONS:
            return None
        return next((rule for pattern, wide, rule in gone.globs if covers(pattern, wide, step)), None)


def covers(pattern: re.Pattern[str], wide: str, narrow: str) -> bool:
    """Whether every name that `narrow` matches is matched by `wide`, as far as that is plain to see."""
    if wide == narrow:
        return True
    # A `*` takes whatever the other's `*` and `?` stand for; a `?` would take a `*` literally.
    plain = not is_glob(narrow) or "?" not in wide
    return plain and pattern.match(narrow) is not None
