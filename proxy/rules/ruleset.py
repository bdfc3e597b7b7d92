"""A stream's rules: Event -> Message or None.

The first rule that matches an event decides it alone. In a stream with a format, a rule for text without a
`when` takes what is left of a step's chunks: narrower rules behind it are asked before it. Type and step are
matched before anything is decoded.
An event on which something fails (a chunk that is no JSON, a `when`, a field) is never offered to a later
rule, because that could leak data. The failure is reported with rule, event type and a reason, never with a
value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeVar

from msgspec import Struct

from config.expressions.api import TOO_MUCH, WORK_LIMIT, Meter
from proxy.core import json_codec
from proxy.core.events import STEP_STREAM, Event
from proxy.rules.reading import Reading, reading_of
from proxy.rules.rule import DecodedEvent, Failed, Message, Rule, RuleLike, Stopped, milliseconds_of

_T = TypeVar("_T")

_Candidates = tuple[tuple[Rule, ...], Reading]
"""The rules that are asked about an event, and what they read of it."""

KNOWN_STEPS: Final = 1024
"""Combinations of type, step and workflow whose rules are cached: it bounds the memory."""


class StreamLike(Protocol):
    """The part of a stream's configuration that is used here (of `config.model.files.StreamConfig`)."""

    @property
    def rules(self) -> Iterable[RuleLike]: ...
    @property
    def format(self) -> str: ...
    @property
    def control(self) -> str: ...
    @property
    def hold(self) -> bool: ...


class Decision(Struct, frozen=True, gc=False):
    """The rule that takes a chunk (None: none does), and the payload as it reads it, which may be JSON."""

    rule: Rule | None
    payload: Any = None
    json: bool = False


UNTAKEN: Final = Decision(None)


class RuleVerdict(Struct, frozen=True):
    """What one rule makes of an event; not `asked`: an earlier rule had decided the event."""

    rule: str
    asked: bool
    matched: bool
    message: Message | None
    reasons: tuple[str, ...]  # why it did not match, or what failed


class Allowance(Protocol):
    """How much work the rules of all streams of a team may do now."""

    def grant(self) -> int:
        """How many units the next event may use."""

    def spent(self, units: int, granted: int) -> None:
        """An event used so many units; where they are more than were granted, it was stopped."""


class _NoBound:
    """The allowance of rules that run for nobody else: in tests and in commands."""

    def grant(self) -> int:
        return WORK_LIMIT

    def spent(self, units: int, granted: int) -> None:
        """Nothing is counted."""


USED_UP: Final = "the team's allowance of work is used up for the moment, so this was not evaluated"


def _silent(rule: str, event_type: str, reason: str) -> None:
    """Ignores a failure."""


class Rules:
    """A stream's rules, compiled; for one thread."""

    def __init__(
        self, stream: StreamLike, failed: Failed = _silent, allowance: Allowance | None = None
    ) -> None:
        """Compile the stream's rules; raises ExpressionProblem.

        `allowance` bounds the work of all events; None: each event is bounded for itself alone.
        """
        self._meter = Meter()
        self._allowance = allowance or _NoBound()
        self._rules = tuple(Rule(config, self._meter, number) for number, config in enumerate(stream.rules))
        self._failed = failed
        self._candidates: dict[tuple[str, str | None, str | None], _Candidates] = {}
        self._readings: dict[tuple[frozenset[Rule], bool], Reading] = {}
        self.fingerprint: str = fingerprint(stream)
        self._metered = any(rule.metered for rule in self._rules)
        self._refused = False  # the last event without a message: the allowance was used up
        self._by_workflow = any(rule.config.workflows is not None for rule in self._rules)
        self.repairs_texts = any(rule.has_whole for rule in self._rules)
        self.merge_times: Final = frozenset(
            milliseconds_of(rule.merge) for rule in self._rules if rule.merge is not None
        )
        """Each `merge` of a rule, in milliseconds."""
        self.merges: Final = bool(self.merge_times)

    def message(self, event: Event, decoded: DecodedEvent | None = None) -> Message | None:
        """The message for `event`; None where it is not forwarded.

        Several streams that are given the same `decoded` form of an event decode its chunk once.
        """
        known = self._candidates.get((event.type, event.step, event.workflow))
        if known is None:
            known = self._choose(event.type, event.step, event.workflow)
        candidates, reading = known
        if not candidates:
            return None
        if decoded is None:
            decoded = DecodedEvent(event, None, reading)
        elif decoded.decided is not None:
            return self._merged_message(decoded.decided, event, decoded)
        failed = self._failed
        granted = self._fill_meter() if self._metered else 0
        rule = candidates[0]
        unread: tuple[str, str] | None = None  # the first rule that could not read the chunk, and why
        try:
            for rule in candidates:
                try:
                    root = rule.view(decoded, failed)
                except json_codec.NotJson as error:
                    unread = unread or (rule.name, f"the chunk {error}, and no later rule takes it")
                    continue
                if not rule.conditional or rule.holds(root, failed):
                    return rule.message(decoded, root, failed)
            if unread is not None:
                failed(unread[0], event.type, unread[1])
        except Stopped:
            self._refused = self._meter.left < 0 and self._meter.refusal is USED_UP
            return None
        except Exception as error:
            failed(rule.name, event.type, refusal_of(error))
            return None
        finally:
            if granted != self._meter.left and self._metered:
                self._allowance.spent(granted - self._meter.left, granted)
        return None

    def _fill_meter(self) -> int:
        """Give the meter what the next event may use; returns how much that is."""
        granted = self._allowance.grant()
        self._meter.left = granted
        self._meter.refusal = TOO_MUCH if granted >= WORK_LIMIT else USED_UP
        return granted

    def take_refusal(self) -> bool:
        """Whether the allowance was used up for the last event that became no message; it is asked once."""
        refused, self._refused = self._refused, False
        return refused

    def failed(self, rule: str, event_type: str, reason: str) -> None:
        """Report what cannot be sent of an event although the rule made a message of it."""
        self._failed(rule, event_type, reason)

    def forwards_chunks(self, step: str, workflow: str | None = None) -> bool:
        """Whether a rule takes chunks of `step`; its `when` may still refuse them.

        Where the workflow is not known (None), whether a rule takes them in some workflow.
        """
        if workflow is None and self._by_workflow:
            return any(rule.takes_chunks(step) for rule in self._rules)
        return bool(self._select(STEP_STREAM, step, workflow))

    def whole_rules(self, step: str, workflow: str | None = None) -> list[Rule]:
        """The rules with `whole` that may forward chunks of `step`."""
        if not self.repairs_texts:
            return []
        return [rule for rule in self._select(STEP_STREAM, step, workflow) if rule.has_whole]

    def only_whole_rules(self, step: str, workflow: str | None = None) -> bool:
        """Whether every rule that may forward chunks of `step` has `whole`."""
        return all(rule.has_whole for rule in self._select(STEP_STREAM, step, workflow))

    def whole_text(self, rule: Rule, completed: Event) -> str | None:
        """What `rule` says the chunks add up to of the attempt that `completed` ends; None where no text."""
        return self._bounded(
            rule, completed, lambda: rule.whole_text(DecodedEvent(completed).root(), self._failed)
        )

    def whole_message(self, rule: Rule, chunk: Event) -> Message | None:
        """What `rule` alone makes of a chunk that repairs a text; None where it does not forward it."""

        def message() -> Message | None:
            root = rule.view(DecodedEvent(chunk), self._failed)
            return rule.shape(root, self._failed) if rule.holds(root, self._failed) else None

        return self._bounded(rule, chunk, message)

    def takes(self, event: Event) -> bool:
        """Whether a rule takes such events; its `when` may still refuse them."""
        return bool(self._select(event.type, event.step, event.workflow))

    def decision(self, chunk: Event, decoded: DecodedEvent) -> Decision | None:
        """Which rule takes `chunk`; None where that fails, which `message` then reports."""
        candidates = self._select(STEP_STREAM, chunk.step, chunk.workflow)
        if not candidates:
            return UNTAKEN

        def decide() -> Decision:
            for rule in candidates:
                try:
                    root = rule.view(decoded, _silent)
                except json_codec.NotJson:
                    continue
                if not rule.conditional or rule.holds(root, _silent):
                    return Decision(rule, root["payload"], root is not decoded.root())
            return UNTAKEN

        return self._bounded(candidates[0], chunk, decide, _silent)

    def _merged_message(self, rule: Rule, event: Event, decoded: DecodedEvent) -> Message | None:
        """What `rule` makes of chunks that it has taken one by one."""
        message = self._bounded(rule, event, lambda: rule.shape(decoded.root(), self._failed))
        self._refused = message is None and self._meter.left < 0 and self._meter.refusal is USED_UP
        return message

    def _bounded(
        self, rule: Rule, event: Event, work: Callable[[], _T | None], failed: Failed | None = None
    ) -> _T | None:
        """The result of `work` that one rule does for an event, within the allowance; None where it fails."""
        granted = self._fill_meter()
        try:
            return work()
        except Stopped:
            return None
        except Exception as error:
            (failed or self._failed)(rule.name, event.type, refusal_of(error))
            return None
        finally:
            self._allowance.spent(granted - self._meter.left, granted)

    def verdicts(self, event: Event) -> list[RuleVerdict]:
        """What each rule makes of `event`, as they are written; failures become the verdicts' reasons."""
        verdicts: dict[int, RuleVerdict] = {}
        self._meter.left = WORK_LIMIT
        decoded = DecodedEvent(event)
        by: Rule | None = None  # the rule that decided
        for rule in self._as_asked(event.type, event.step, event.workflow):
            if by is not None:
                reason = "an earlier rule decided" if by.number < rule.number else "a narrower rule decided"
                verdicts[rule.number] = RuleVerdict(rule.name, False, False, None, (reason,))
                continue
            verdict = verdicts[rule.number] = _verdict(rule, decoded)
            by = rule if verdict.matched else None
        return [verdicts[number] for number in sorted(verdicts)]

    def _as_asked(self, event_type: str, step: str | None, workflow: str | None) -> list[Rule]:
        """All rules: as they are written, but narrower ones before the rule that takes the rest."""
        candidates = self._select(event_type, step, workflow)
        if event_type != STEP_STREAM or not candidates or not candidates[-1].takes_rest:
            return list(self._rules)
        rest = candidates[-1]
        last = [
            rule
            for rule in self._rules[rest.number + 1 :]
            if not rule.narrower and rule.mismatch(event_type, step, workflow) is None
        ]
        return [rule for rule in self._rules if rule is not rest and rule not in last] + [rest, *last]

    def _select(self, event_type: str, step: str | None, workflow: str | None) -> tuple[Rule, ...]:
        """The rules that take such events in the order in which they are asked, up to one that takes all."""
        known = self._candidates.get((event_type, step, workflow))
        return (self._choose(event_type, step, workflow) if known is None else known)[0]

    def _choose(self, event_type: str, step: str | None, workflow: str | None) -> _Candidates:
        chosen: list[Rule] = []
        rest: Rule | None = None  # takes all chunks that the narrower rules behind it leave
        for rule in self._rules:
            if rule.mismatch(event_type, step, workflow) is not None or (
                rest is not None and not rule.narrower
            ):
                continue
            if rule.takes_rest and event_type == STEP_STREAM:
                rest = rule
                continue
            chosen.append(rule)
            if not rule.conditional and not (rule.passes_on and event_type == STEP_STREAM):
                break
        if rest is not None:
            chosen.append(rest)
        if len(self._candidates) >= KNOWN_STEPS:
            self._candidates.clear()
            self._readings.clear()
        found = (tuple(chosen), self._reading_of(frozenset(chosen), event_type))
        self._candidates[event_type, step, workflow] = found
        return found

    def _reading_of(self, rules: frozenset[Rule], event_type: str) -> Reading:
        """What `rules` read of an event; one object for all steps that have the same rules."""
        decodes = event_type == STEP_STREAM and any(rule.reads_json for rule in rules)
        reading = self._readings.get((rules, decodes))
        if reading is None:
            paths = frozenset(path for rule in rules for path in rule.paths)
            all_of_it = decodes and any(rule.reads_payload for rule in rules)
            reading = self._readings[rules, decodes] = reading_of(paths, decodes=decodes, mixed=all_of_it)
        return reading


def refusal_of(error: Exception) -> str:
    """The reason for a failure that Python itself raised, such as RecursionError. No text of the error."""
    return f"cannot be evaluated on this event ({type(error).__name__})"


def _verdict(rule: Rule, decoded: DecodedEvent) -> RuleVerdict:
    event = decoded.event
    mismatch = rule.mismatch(event.type, event.step, event.workflow)
    if mismatch is not None:
        return RuleVerdict(rule.name, True, False, None, (mismatch,))
    reasons: list[str] = []

    def failed(name: str, event_type: str, reason: str) -> None:
        reasons.append(reason)

    try:
        root = rule.view(decoded, failed)
        if not rule.holds(root, failed):
            return RuleVerdict(
                rule.name, True, False, None, (*reasons, f"when is not true: {rule.config.when}")
            )
        message = rule.message(decoded, root, failed)
        return RuleVerdict(rule.name, True, True, message, tuple(reasons))
    except json_codec.NotJson as error:
        return RuleVerdict(rule.name, True, False, None, (f"the chunk {error}: the next rule is asked",))
    except Stopped:
        return RuleVerdict(rule.name, True, True, None, tuple(reasons))
    except Exception as error:
        return RuleVerdict(rule.name, True, True, None, (*reasons, refusal_of(error)))


def fingerprint(stream: StreamLike) -> str:
    """A text that is equal in every process for streams that make equal frames; rules' names do not count."""
    settings: list[Mapping[str, Any]] = [
        {
            "events": list(rule.events),
            "steps": None if rule.steps is None else list(rule.steps),
            **({} if rule.workflows is None else {"workflows": list(rule.workflows)}),
            "when": rule.when,
            "payload": rule.payload,
            "event": rule.event,
            "data": list(rule.data.items()) if isinstance(rule.data, dict) else rule.data,
            "nulls": rule.nulls,
            "on_error": rule.on_error,
            "passes_on": rule.passes_on,
            **({} if rule.whole is None else {"whole": rule.whole}),
            **({} if rule.merge is None else {"merge": rule.merge}),
            **({} if rule.as_ is None else {"as": rule.as_}),
        }
        for rule in stream.rules
    ]
    if stream.format != "sse" or stream.control != "named":
        settings.append({"format": stream.format, "control": stream.control, "hold": stream.hold})
    return hashlib.sha256(json.dumps(settings).encode("utf-8", "surrogatepass")).hexdigest()[:16]


__all__ = ["DecodedEvent", "Failed", "Message", "RuleVerdict", "Rules", "fingerprint"]
