"""Merging: chunks of one step and attempt that come soon after each other become one event.

A rule with `merge` decides about each chunk by itself. What it takes waits, up to `merge` seconds after the
first chunk that waits:

    a chunk that a rule with `merge` takes    waits with the others of its step, attempt and rule
    a chunk that another rule takes           comes after what waits of its step
    a gap of the step                         before what waits if more chunks join it, else after it
    any other item                            comes after everything that waits

Where replicas share the run's log, nobody looks at a clock: a `Flush` in the log ends the waiting.

Texts are joined, JSON becomes an array. The event of the last chunk stands for all of them; its `first_index`
is that of the first.

Pure: the time is given. There is one object per channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct, field, structs

from proxy.core.events import STEP_STREAM, Event, Flush, Item, LogItem, StepGap, step_key
from proxy.rules.rule import DecodedEvent, Rule, milliseconds_of
from proxy.rules.ruleset import Rules

MOST_CHARACTERS: Final = 32 * 1024
"""Characters that wait of one step: more becomes a frame at once, so that no frame fills a backlog."""
MOST_STEPS: Final = 256
"""Steps of which something waits at once; beyond that everything becomes frames, which bounds the memory."""


class Ready(Struct, frozen=True, gc=False):
    """The next item in order; `decoded` is the form of a merged event, None for any other item."""

    item: Item
    decoded: DecodedEvent | None = None


class _Waiting(Struct):
    """Chunks of one step and attempt that one rule takes; `payloads` are all text, or all JSON."""

    rule: Rule
    first: Event
    last: Event
    json: bool
    due: float
    payloads: list[Any] = field(default_factory=list)
    characters: int = 0
    inside: list[StepGap] = field(default_factory=list)  # gaps that later chunks followed
    after: list[StepGap] = field(default_factory=list)

    def fits(self, rule: Rule, event: Event, json: bool) -> bool:
        return self.rule is rule and self.last.attempt == event.attempt and self.json is json

    def waits_for(self, flush: Flush) -> bool:
        return milliseconds_of(self.rule.merge or 0.0) == flush.milliseconds

    def add(self, event: Event, payload: Any) -> None:
        self.last = event
        self.payloads.append(payload)
        self.characters += len(str(event.payload))
        self.inside += self.after
        self.after = []

    def ready(self) -> list[Ready]:
        """Its gaps, and the event that stands for its chunks."""
        payload = self.payloads if self.json else "".join(self.payloads)
        merged = structs.replace(self.last, payload=payload, first_index=self.first.index)
        event = Ready(merged, DecodedEvent(merged, self.rule))
        return [*map(Ready, self.inside), event, *map(Ready, self.after)]


class Merging:
    """The chunks of one channel that wait to be merged."""

    def __init__(self, rules: Rules, *, merged: bool = False) -> None:
        """`merged`: the channel has the items of several runs."""
        self._rules = rules
        self._merged = merged
        self._waiting: dict[str | None, _Waiting] = {}  # by `step_key`, in the order of their first chunks

    @property
    def due(self) -> float | None:
        """When something must be flushed; None where nothing waits."""
        return min((each.due for each in self._waiting.values()), default=None)

    def overdue(self, now: float) -> set[int]:
        """The `merge`, in milliseconds, of each rule whose chunks should have been flushed by now."""
        late = [each.rule for each in self._waiting.values() if each.due <= now]
        return {milliseconds_of(rule.merge or 0.0) for rule in late}

    def take(self, item: LogItem, decoded: DecodedEvent | None, now: float) -> list[Ready]:
        """What is sent now that `item` has come, in order. `now` is in seconds, as for `flush`."""
        if isinstance(item, Flush):
            return self._flush([step for step, each in self._waiting.items() if each.waits_for(item)])
        if isinstance(item, StepGap) and item.step is not None:
            return self._gap(item)
        if not isinstance(item, Event):
            return [*self._flush(list(self._waiting)), Ready(item)]
        if item.type != STEP_STREAM:
            forwarded = self._rules.takes(item)
            return [*self._flush(list(self._waiting) if forwarded else [self._key(item)]), Ready(item)]
        decoded = decoded or DecodedEvent(item)
        decision = self._rules.decision(item, decoded)
        if decision is not None and decision.rule is None:
            return [Ready(item)]
        if decision is None or decision.rule is None or decision.rule.merge is None:
            return [*self._flush([self._key(item)]), Ready(item)]
        return list(self._chunk(item, decision.rule, decision.payload, decision.json, now))

    def _key(self, item: Event | StepGap) -> str | None:
        return step_key(item, merged=self._merged)

    def _gap(self, gap: StepGap) -> list[Ready]:
        waiting = self._waiting.get(self._key(gap))
        if waiting is None:
            return [Ready(gap)]
        if gap.attempt in (None, waiting.last.attempt):
            waiting.after.append(gap)
            return []
        return [*self._flush([self._key(gap)]), Ready(gap)]

    def _chunk(self, event: Event, rule: Rule, payload: Any, json: bool, now: float) -> Iterator[Ready]:
        waiting = self._waiting.get(self._key(event))
        if waiting is not None and not waiting.fits(rule, event, json):
            yield from self._flush([self._key(event)])
            waiting = None
        if waiting is None:
            if len(self._waiting) >= MOST_STEPS:
                yield from self._flush(list(self._waiting))
            waiting = _Waiting(rule, event, event, json, now + (rule.merge or 0.0))
            self._waiting[self._key(event)] = waiting
        waiting.add(event, payload)
        if waiting.characters >= MOST_CHARACTERS:
            yield from self._flush([self._key(event)])

    def flush(self, now: float) -> list[Ready]:
        """What waits no longer, in order."""
        return self._flush([step for step, waiting in self._waiting.items() if waiting.due <= now])

    def _flush(self, steps: list[str | None]) -> list[Ready]:
        waiting = [self._waiting.pop(step) for step in steps if step in self._waiting]
        return [ready for each in waiting for ready in each.ready()]
