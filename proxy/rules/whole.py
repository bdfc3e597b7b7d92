"""Text that repairs itself: what a step's chunks have told, compared with the step's output at its end.

A rule for chunks may say with `whole` what the chunks of an attempt add up to. Hatchet's stream delivers
each chunk at most once, so nothing else can prove that the end of a text arrived. When the step completes,
the text told so far is compared with that value:

    told                                  sent before step_completed        the step's held gaps
    the whole text                        nothing                           dropped
    a beginning of it                     the missing rest, one message     dropped
    nothing                               the whole text, one message       dropped
    anything else                         a reset, then the whole text      dropped
    (`whole` fails or gives no text)      nothing                           let out

Where another rule without `whole` also tells chunks of the step, its chunks remain unproven: held gaps are
let out, and a text that would need a reset is left as it is, with a gap.

Pure: items go in, items and messages come out. One object per channel: it notes what that channel told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from proxy.core.events import (
    RUN_EVENTS,
    STEP_COMPLETED,
    STEP_ENDS,
    STEP_RETRYING,
    STEP_STREAM,
    End,
    Event,
    GapCause,
    Item,
    Reset,
    StepGap,
)
from proxy.core.value import value

if TYPE_CHECKING:
    from proxy.rules.rule import Message
    from proxy.rules.ruleset import Rules

MOST_TEXTS: Final = 4096
"""Texts that one channel keeps track of at once, some 500 bytes each: more than any run streams at the same
time. Beyond that the oldest is forgotten, and from then on a step's text is sent again whole."""

MOST_HELD: Final = 100
"""Gaps of one step that are held at once; further ones are announced at once, which bounds the memory."""


@value
class Repair:
    """A message that no chunk of Hatchet's made: `event` is the chunk as it would have come."""

    event: Event
    message: Message


Outcome = StepGap | Reset | Repair


@dataclass(slots=True)
class _Told:
    """The text that one rule told of one attempt; its hash and length are enough to compare it."""

    hash: blake2b = field(default_factory=blake2b)
    length: int = 0
    next_index: int = 0

    def add(self, text: str, index: int | None) -> None:
        self.hash.update(text.encode("utf-8", "surrogatepass"))
        self.length += len(text)
        self.next_index = (self.next_index if index is None else index) + 1

    def begins(self, text: str) -> bool:
        """Whether `text` begins with what was told."""
        if len(text) < self.length:
            return False
        beginning = text[: self.length].encode("utf-8", "surrogatepass")
        return blake2b(beginning).digest() == self.hash.digest()


@dataclass(slots=True)
class _Step:
    """What a channel knows of one step: the text told per (attempt, rule), and the gaps that are held."""

    told: dict[tuple[int | None, int], _Told] = field(default_factory=dict)
    gaps: list[StepGap] = field(default_factory=list)


class WholeTexts:
    """The texts that one channel tells, for those rules of its stream that have `whole`."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._steps: dict[str, _Step] = {}
        self._texts = 0
        self._forgotten = False  # a text was dropped, so that "nothing told" is not known any more

    def told(self, event: Event, message: Message) -> None:
        """Notes that the chunk `event` was sent as `message`."""
        if message.whole is None or event.step is None:
            return
        key = (event.attempt, message.whole)
        known = self._steps.setdefault(event.step, _Step())
        if key not in known.told:
            if self._texts >= MOST_TEXTS:
                self._forget_oldest()
            known.told[key] = _Told()
            self._texts += 1
        known.told[key].add(str(event.payload), event.index)

    def hold(self, gap: StepGap) -> bool:
        """Whether `gap` is held back until its step ends: it may be repaired then."""
        if gap.step is None or not self._rules.whole_rules(gap.step):
            return False
        held = self._steps.setdefault(gap.step, _Step()).gaps
        if len(held) >= MOST_HELD:
            return False
        held.append(gap)
        return True

    def before(self, item: Item) -> list[Outcome]:
        """What is sent before `item`: gaps that are let out, and what repairs a text."""
        if isinstance(item, Event):
            if item.type == STEP_COMPLETED and item.step is not None:
                return self._completed(item, item.step)
            if item.type in STEP_ENDS:
                return self._leave(item.step, None)
            if item.type == STEP_RETRYING:
                return self._leave(item.step, None if item.attempt is None else item.attempt + 1)
            return self._leave_all() if item.type in RUN_EVENTS else []
        if isinstance(item, Reset):
            return self._leave(item.step, item.attempt)
        return self._leave_all() if isinstance(item, End) else []

    def _completed(self, event: Event, step: str) -> list[Outcome]:
        known = self._forget(step)
        rules = self._rules.whole_rules(step)
        if not rules:
            return list(known.gaps)
        attempt = event.attempt if event.attempt is not None else _latest(known)
        texts = [
            (rule, self._rules.whole_text(rule, event), known.told.get((attempt, rule.number)))
            for rule in rules
        ]
        misfits = any(text is not None and not self._fits(told, text) for _, text, told in texts)
        # A reset also voids what the step's other rules told, and that cannot be sent again.
        alone = self._rules.only_whole_rules(step) and all(text is not None for _, text, _ in texts)
        void = misfits and alone
        repairs: list[Outcome] = []
        proven = alone
        for rule, text, told in texts:
            if text is None or not (void or self._fits(told, text)):
                continue
            rest, index = (text, 0) if void or told is None else (text[told.length :], told.next_index)
            if rest:
                chunk = _chunk(event, attempt, rest, index)
                message = self._rules.whole_message(rule, chunk)
                if message is None:  # the rule's `when` or `data` refuses it
                    proven = False
                else:
                    repairs.append(Repair(chunk, message))
        if void and not proven:
            repairs = []
        elif void:
            repairs.insert(0, Reset(step, attempt or 1, whole=True))
        if misfits and not (void and proven) and not known.gaps:
            known.gaps.append(StepGap(GapCause.UPSTREAM, step, attempt, None))
        gaps = [gap for gap in known.gaps if not proven or gap.attempt not in (None, attempt)]
        return [*gaps, *repairs]

    def _fits(self, told: _Told | None, text: str) -> bool:
        """Whether what was told is a beginning of `text`."""
        return not self._forgotten if told is None else told.begins(text)

    def _leave(self, step: str | None, attempt: int | None) -> list[Outcome]:
        """Lets out the gaps of a step's attempts before `attempt` (None: of all), and forgets their texts."""
        known = self._steps.get(step or "")
        if known is None:
            return []
        if attempt is None:
            return list(self._forget(step or "").gaps)
        gone = [key for key in known.told if key[0] is None or key[0] < attempt]
        for key in gone:
            del known.told[key]
        self._texts -= len(gone)
        out = [gap for gap in known.gaps if gap.attempt is None or gap.attempt < attempt]
        known.gaps = [gap for gap in known.gaps if gap not in out]
        return list(out)

    def _leave_all(self) -> list[Outcome]:
        return [gap for step in list(self._steps) for gap in self._forget(step).gaps]

    def _forget(self, step: str) -> _Step:
        known = self._steps.pop(step, None) or _Step()
        self._texts -= len(known.told)
        return known

    def _forget_oldest(self) -> None:
        for known in self._steps.values():
            if known.told:
                self._texts -= len(known.told)
                known.told.clear()
                self._forgotten = True
                return


def _latest(known: _Step) -> int | None:
    """The last attempt of which something was told; None where nothing was."""
    return max((attempt for attempt, _ in known.told if attempt is not None), default=None)


def _chunk(event: Event, attempt: int | None, text: str, index: int) -> Event:
    """The chunk that repairs a text, made from the step's `step_completed`."""
    return Event(
        STEP_STREAM,
        event.run_id,
        event.step,
        event.step_run_id,
        text,
        attempt,
        index,
        event.at,
        event.metadata,
        recovered=True,
    )
