"""DryRun: what a stream makes of items that are given one after the other, with its rules alone.

It does what a channel does with its rules: chunks are merged, texts are repaired from the step's output, gaps
that a repair may fill are held. There is no backlog, no cursor and no client. `explain`, the tests beside
rules and the console's playground use it.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

from msgspec import Struct

from proxy.core.events import End, Event, Item, Reset, StepGap
from proxy.rules.merging import Merging, Ready
from proxy.rules.rule import Message
from proxy.rules.ruleset import Rules, RuleVerdict
from proxy.rules.whole import Outcome, Repair, WholeTexts


class Cause(StrEnum):
    """Why a stream does something, or does nothing."""

    GIVEN = "given"  # an item, as it was given
    MERGED = "merged"  # chunks that became one event
    WAITS = "waits"  # a chunk waits to be merged: nothing is sent yet
    HELD = "held"  # a gap is held until the step ends, where the text may be repaired
    UNSENT = "unsent"  # a gap or a reset of a step whose chunks no rule forwards
    RELEASED = "released"  # a gap that was held, or the reset before a whole text
    REPAIR = "repair"  # text that was missing, from the step's output


UNSENT: Final = (Cause.WAITS, Cause.HELD, Cause.UNSENT)
"""The causes for which nothing is sent."""


class Made(Struct, frozen=True):
    """One thing that the stream does for `item`.

    Of merged chunks `item` is the event that stands for them, of a repair the chunk that stands for the text.
    `verdicts` are those of an event that was given; `rule` is the rule that took merged chunks.
    """

    item: Item
    cause: Cause
    message: Message | None = None
    verdicts: tuple[RuleVerdict, ...] = ()
    rule: str | None = None


class DryRun:
    """The items of one run, one after the other."""

    def __init__(self, rules: Rules, *, single: bool = False, controls: bool = True) -> None:
        """`single`: there is one event, which is neither merged nor compared with a step's output.

        `controls`: the stream has control frames.
        """
        self._rules = rules
        self._controls = controls
        self._merging = Merging(rules) if rules.merges and not single else None
        self._texts = None if single else WholeTexts(rules)

    def take(self, item: Item, now: float = 0.0) -> list[Made]:
        """What is made now that `item` has come, in order. `now`: seconds; they never run backwards."""
        if self._merging is None:
            return self._make(Ready(item))
        found = [*self._merging.flush(now), *self._merging.take(item, None, now)]
        waits: list[Made] = []
        if isinstance(item, Event) and not any(ready.item is item for ready in found):
            waits.append(Made(item, Cause.WAITS, verdicts=tuple(self._rules.verdicts(item))))
        return [*waits, *(made for ready in found for made in self._make(ready))]

    def finish(self) -> list[Made]:
        """What still waits to be merged."""
        found = [] if self._merging is None else self._merging.flush(math.inf)
        return [made for ready in found for made in self._make(ready)]

    def _make(self, ready: Ready) -> list[Made]:
        item = ready.item
        before = [] if self._texts is None else [_of_text(found) for found in self._texts.before(item)]
        if not isinstance(item, Event):
            return [*before, Made(item, self._cause_of_control(item))]
        if ready.decoded is None:
            verdicts = tuple(self._rules.verdicts(item))
            message = next((each.message for each in verdicts if each.message is not None), None)
            made = Made(item, Cause.GIVEN, message, verdicts)
        else:
            by = ready.decoded.decided
            message = self._rules.message(item, ready.decoded)
            made = Made(item, Cause.MERGED, message, rule=None if by is None else by.name)
        if made.message is not None and self._texts is not None:
            self._texts.record(item, made.message)
        return [*before, made]

    def _cause_of_control(self, item: StepGap | Reset | End) -> Cause:
        """Whether a gap, a reset or the end is sent, as a channel sends it."""
        if not self._controls:
            return Cause.UNSENT
        if isinstance(item, StepGap) and self._texts is not None and self._texts.hold(item):
            return Cause.HELD
        if isinstance(item, End) or item.step is None:
            return Cause.GIVEN
        return Cause.GIVEN if self._rules.forwards_chunks(item.step, item.workflow) else Cause.UNSENT


def _of_text(found: Outcome) -> Made:
    if isinstance(found, Repair):
        return Made(found.event, Cause.REPAIR, found.message)
    return Made(found, Cause.RELEASED)
