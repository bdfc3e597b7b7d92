"""Text that repairs itself: the text that was sent of a step is compared with the step's output at its end.

A rule for chunks may have `whole`: an expression on `step_completed` that gives the text to which the chunks
of the attempt add up. Hatchet delivers each chunk at most once, so nothing else can prove that the end of a
text arrived. When the step completes, the text that was sent so far is compared with that value:

    sent so far                           sent before step_completed        the step's held gaps
    the whole text                        nothing                           dropped
    a beginning of it                     the missing rest, one message     dropped
    nothing                               the whole text, one message       dropped
    anything else                         a reset, then the whole text      dropped
    (`whole` fails or gives no text)      nothing                           released

If a rule without `whole` also forwards chunks of the step, its chunks remain unproven: held gaps are then
released, and a text that would need a reset is left as it is, with a gap.

Pure: items go in, items and messages come out. There is one object per channel; it records what that channel
sent.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

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
    step_key,
)

if TYPE_CHECKING:
    from proxy.rules.rule import Message
    from proxy.rules.ruleset import Rules

MAX_TEXTS: Final = 4096
"""Texts that one channel records at once, some 500 bytes each: more than any run streams at the same time.
Beyond that the oldest record is dropped. From then on a step without a record gets a reset and its whole text
again."""

MAX_HELD: Final = 100
"""Gaps of one step that are held at once; further ones are announced at once, which bounds the memory."""


class Repair(Struct, frozen=True, gc=False):
    """A message that was made from a step's output; `event` is the chunk that it stands for."""

    event: Event
    message: Message


Outcome = StepGap | Reset | Repair


class _SentText(Struct):
    """The text that one rule sent of one attempt; its hash and length are enough to compare it."""

    hash: blake2b = field(default_factory=blake2b)
    length: int = 0
    next_index: int = 0

    def add(self, text: str, index: int | None) -> None:
        self.hash.update(text.encode("utf-8", "surrogatepass"))
        self.length += len(text)
        self.next_index = (self.next_index if index is None else index) + 1

    def is_prefix_of(self, text: str) -> bool:
        """Whether `text` begins with what was sent."""
        if len(text) < self.length:
            return False
        beginning = text[: self.length].encode("utf-8", "surrogatepass")
        return blake2b(beginning).digest() == self.hash.digest()


class _Step(Struct):
    """The record of one step: the text that was sent, by (attempt, rule), and the gaps that are held."""

    sent: dict[tuple[int | None, int], _SentText] = field(default_factory=dict)
    gaps: list[StepGap] = field(default_factory=list)


class WholeTexts:
    """The texts that one channel sends, for those rules of its stream that have `whole`."""

    def __init__(self, rules: Rules, *, merged: bool = False) -> None:
        """`merged`: the channel has the items of several runs."""
        self._rules = rules
        self._merged = merged
        self._steps: dict[str, _Step] = {}  # by `step_key`
        self._texts = 0
        self._forgotten = False  # a record was dropped: no record does not mean that nothing was sent

    def record(self, event: Event, message: Message) -> None:
        """Record that the chunk `event` was sent as `message`."""
        step = step_key(event, merged=self._merged)
        if message.whole is None or step is None:
            return
        key = (event.attempt, message.whole)
        record = self._steps.setdefault(step, _Step())
        if key not in record.sent:
            if self._texts >= MAX_TEXTS:
                self._forget_oldest()
            record.sent[key] = _SentText()
            self._texts += 1
        record.sent[key].add(str(event.payload), event.index)

    def hold(self, gap: StepGap) -> bool:
        """Hold `gap` back until its step ends, where it may be repaired then; False: send it now."""
        if gap.step is None or not self._rules.whole_rules(gap.step, gap.workflow):
            return False
        held = self._steps.setdefault(step_key(gap, merged=self._merged) or "", _Step()).gaps
        if len(held) >= MAX_HELD:
            return False
        held.append(gap)
        return True

    def before(self, item: Item) -> list[Outcome]:
        """What is sent before `item`: gaps that are released, and what repairs a text."""
        if isinstance(item, Event):
            step = step_key(item, merged=self._merged)
            if item.type == STEP_COMPLETED and item.step is not None:
                return self._completed(item, item.step)
            if item.type in STEP_ENDS:
                return self._release(step, None)
            if item.type == STEP_RETRYING:
                return self._release(step, None if item.attempt is None else item.attempt + 1)
            return self._release_all(item.run_id) if item.type in RUN_EVENTS else []
        if isinstance(item, Reset):
            return self._release(step_key(item, merged=self._merged), item.attempt)
        return self._release_all() if isinstance(item, End) else []

    def _completed(self, event: Event, step: str) -> list[Outcome]:
        """What is sent before a step's `step_completed`, by the table above."""
        record = self._forget(step_key(event, merged=self._merged) or "")
        rules = self._rules.whole_rules(step, event.workflow)
        if not rules:
            return list(record.gaps)
        attempt = event.attempt if event.attempt is not None else _latest(record)
        texts = [
            (rule, self._rules.whole_text(rule, event), record.sent.get((attempt, rule.number)))
            for rule in rules
        ]
        differs = any(text is not None and not self._is_beginning(sent, text) for _, text, sent in texts)
        # A reset also voids what the step's other rules sent, and that cannot be sent again.
        can_reset = self._rules.only_whole_rules(step, event.workflow) and all(
            text is not None for _, text, _ in texts
        )
        reset = differs and can_reset
        repairs: list[Outcome] = []
        repaired = can_reset  # after `repairs` every rule has sent its whole text
        for rule, text, sent in texts:
            if text is None or not (reset or self._is_beginning(sent, text)):
                continue
            rest, index = (text, 0) if reset or sent is None else (text[sent.length :], sent.next_index)
            if rest:
                chunk = _chunk(event, attempt, rest, index)
                message = self._rules.whole_message(rule, chunk)
                if message is None:  # the rule's `when` or `data` refuses it
                    repaired = False
                else:
                    repairs.append(Repair(chunk, message))
        if reset and not repaired:
            repairs = []
        elif reset:
            of_run = event.run_id if self._merged else None
            repairs.insert(0, Reset(step, attempt or 1, whole=True, workflow=event.workflow, run_id=of_run))
        if differs and not (reset and repaired) and not record.gaps:
            of_run = event.run_id if self._merged else None
            record.gaps.append(StepGap(GapCause.UPSTREAM, step, attempt, None, event.workflow, run_id=of_run))
        gaps = [gap for gap in record.gaps if not repaired or gap.attempt not in (None, attempt)]
        return [*gaps, *repairs]

    def _is_beginning(self, sent: _SentText | None, text: str) -> bool:
        """Whether what was sent is a beginning of `text`; nothing is one, where it is known."""
        return not self._forgotten if sent is None else sent.is_prefix_of(text)

    def _release(self, step: str | None, attempt: int | None) -> list[Outcome]:
        """Release the gaps of a step's attempts before `attempt` (None: of all), and drop their records."""
        record = self._steps.get(step or "")
        if record is None:
            return []
        if attempt is None:
            return list(self._forget(step or "").gaps)
        earlier = [key for key in record.sent if key[0] is None or key[0] < attempt]
        for key in earlier:
            del record.sent[key]
        self._texts -= len(earlier)
        released = [gap for gap in record.gaps if gap.attempt is None or gap.attempt < attempt]
        record.gaps = [gap for gap in record.gaps if gap not in released]
        return list(released)

    def _release_all(self, run_id: str | None = None) -> list[Outcome]:
        """Release the gaps of all steps; of several runs, those of `run_id` (None: of all)."""
        of_run = f"{run_id}/" if self._merged and run_id is not None else ""
        steps = [step for step in self._steps if step.startswith(of_run)]
        return [gap for step in steps for gap in self._forget(step).gaps]

    def _forget(self, step: str) -> _Step:
        record = self._steps.pop(step, None) or _Step()
        self._texts -= len(record.sent)
        return record

    def _forget_oldest(self) -> None:
        for record in self._steps.values():
            if record.sent:
                self._texts -= len(record.sent)
                record.sent.clear()
                self._forgotten = True
                return


def _latest(record: _Step) -> int | None:
    """The last attempt of which something was sent; None where nothing was."""
    return max((attempt for attempt, _ in record.sent if attempt is not None), default=None)


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
        workflow=event.workflow,
        parent=event.parent,
    )
