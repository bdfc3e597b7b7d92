"""Finds rules that get no event because earlier rules take them all, judged by names and globs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from typing import Final

from msgspec import Struct, field

from config.checks.event_names import RUN_EVENTS, is_glob
from config.expressions.globs import CHUNKS, matches

MOST_COMPARISONS: Final = (
    200_000  # of globs in one stream, a tenth of a second; beyond that nothing is reported
)


class RuleReach(Struct, frozen=True):
    """What a rule takes: events of some steps and workflows (None: of all); `always`: it has no `when`.

    `passes_on`: chunks that are no JSON are offered to the rules after it. `rest`: it takes what is left of a
    step's chunks, so narrower rules after it are asked before it.
    """

    name: str
    events: frozenset[str]
    steps: tuple[str, ...] | None
    always: bool
    passes_on: bool = False
    rest: bool = False
    narrower: bool = False
    workflows: tuple[str, ...] | None = None

    def shares_steps(self, other: RuleReach) -> bool:
        """Whether some step can be one of both rules."""
        if self.steps is None or other.steps is None:
            return True
        return overlap(self.steps, other.steps)


def overlap(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether a name or glob of one list and one of the other may match the same name."""
    return any(matches((a,), b) or matches((b,), a) for a in some for b in others)


class Taken(Struct):
    """What earlier rules take of one event: all, or that of some steps; with the rule that takes it."""

    all: str | None = None
    steps: dict[str, str] = field(default_factory=dict)
    globs: list[tuple[re.Pattern[str], str, str]] = field(default_factory=list)


class Reachability:
    """What the rules checked so far take."""

    def __init__(self) -> None:
        self.gone: dict[str, dict[str | None, Taken]] = {}  # event -> workflow, None for all -> taken
        self.rest: dict[
            str | None, Taken
        ] = {}  # chunks that are left to a rule; narrower rules still get them
        self.compared = 0

    def add(self, rule: RuleReach) -> None:
        """Adds what a rule takes from the rules after it."""
        events = rule.events - {CHUNKS} if rule.passes_on else rule.events
        for event in events if rule.always else ():
            left = rule.rest and event == CHUNKS
            by_workflow = self.rest if left else self.gone.setdefault(event, {})
            for workflow in (None,) if rule.workflows is None else rule.workflows:
                self._take(by_workflow.setdefault(workflow, Taken()), event, rule)

    @staticmethod
    def _take(gone: Taken, event: str, rule: RuleReach) -> None:
        if rule.steps is None or (event not in RUN_EVENTS and "*" in rule.steps):
            gone.all = gone.all or rule.name
        for step in rule.steps or ():
            if is_glob(step):
                gone.globs.append((re.compile(translate(step.replace("[", "[[]"))), step, rule.name))
            else:
                gone.steps.setdefault(step, rule.name)

    def takers(self, rule: RuleReach) -> dict[str, str]:
        """The events of `rule` that never reach it, each with the rule that takes them."""
        found = {}
        for event in rule.events:
            by = self._taker_in(self.gone.get(event, {}), rule)
            if by is None and event == CHUNKS and not rule.narrower:
                by = self._taker_in(self.rest, rule)
            if by is not None:
                found[event] = by
        return found

    def _taker_in(self, gone: Mapping[str | None, Taken], rule: RuleReach) -> str | None:
        """The rule that takes all of what `rule` would take, in each of its workflows, or None."""
        workflows: tuple[str | None, ...] = (None,) if rule.workflows is None else rule.workflows
        by = [self._taker_of_workflow(gone, workflow, rule.steps) for workflow in workflows]
        return by[0] if by and None not in by else None

    def _taker_of_workflow(
        self, gone: Mapping[str | None, Taken], workflow: str | None, steps: tuple[str, ...] | None
    ) -> str | None:
        """The rule that takes an event of all these steps in a workflow (None: in every one), or None."""
        for wide, taken in gone.items():
            if wide is None or (workflow is not None and within(wide, workflow)):
                by = self.taker(taken, steps)
                if by is not None:
                    return by
        return None

    def taker(self, gone: Taken, steps: Iterable[str] | None) -> str | None:
        """The rule that takes an event of all these steps; None where some are left."""
        if gone.all is not None or steps is None:
            return gone.all
        by = [self.taker_of(gone, step) for step in steps]
        return by[0] if by and all(by) else None

    def taker_of(self, gone: Taken, step: str) -> str | None:
        """The rule that takes all steps of one name or glob; None where some are left."""
        if step in gone.steps:
            return gone.steps[step]
        self.compared += len(gone.globs)
        if self.compared > MOST_COMPARISONS:
            return None
        return next((rule for pattern, wide, rule in gone.globs if covers(pattern, wide, step)), None)


def within(wide: str, narrow: str) -> bool:
    """Whether the glob or name `wide` matches every name that `narrow` matches."""
    return covers(re.compile(translate(wide.replace("[", "[[]"))), wide, narrow)


def covers(pattern: re.Pattern[str], wide: str, narrow: str) -> bool:
    """Whether `wide` matches every name that `narrow` matches; False where that is not obvious."""
    if wide == narrow:
        return True
    # A `*` covers the other's `*` and `?`; a `?` would match a `*` literally.
    plain = not is_glob(narrow) or "?" not in wide
    return plain and pattern.match(narrow) is not None
