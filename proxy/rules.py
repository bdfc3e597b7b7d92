"""A stream's rules: Event -> Message or None.

The law: the first rule that matches an event decides it, alone. Type and step are matched before anything
is decoded. What fails (a chunk that is no JSON, a `when`, a field) never falls through to a later rule,
because that could leak; it is reported with rule, event type and a reason, never with a value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from config.expressions import (
    FEW_COPIES,
    WORK_LIMIT,
    ExpressionFailed,
    Meter,
    check_size,
    compile_expression,
    copies_of_all,
    falsy,
)
from config.globs import matches
from proxy import jsontext
from proxy.events import STEP_STREAM, Event

Failed = Callable[[str, str, str], None]
"""Told of each failure: the rule's name, the event's type, a reason without any value."""

KNOWN_STEPS: Final = 1024
"""(type, step) pairs whose rules are remembered; more than any workflow has, and it bounds the memory."""


class RuleLike(Protocol):
    """What of a rule's configuration matters here (`config.model.RuleConfig` has it)."""

    @property
    def name(self) -> str: ...
    @property
    def events(self) -> tuple[str, ...]: ...
    @property
    def steps(self) -> tuple[str, ...] | None: ...
    @property
    def when(self) -> str | None: ...
    @property
    def payload(self) -> str: ...
    @property
    def event(self) -> str | None: ...
    @property
    def data(self) -> str | dict[str, str]: ...
    @property
    def nulls(self) -> str: ...
    @property
    def on_error(self) -> str: ...


class StreamLike(Protocol):
    """What of a stream's configuration matters here (`config.model.StreamConfig` has it)."""

    @property
    def rules(self) -> Iterable[RuleLike]: ...


class Message(NamedTuple):
    """What a rule made of an event: the SSE event name, if any, and one line of JSON."""

    rule: str
    event: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule makes of an event; a rule that an earlier one left nothing for was not `asked`."""

    rule: str
    asked: bool
    matched: bool
    message: Message | None
    reasons: tuple[str, ...]  # why it did not match, or what failed


class Sight:
    """An event as expressions see it; decoded once, however many rules and streams ask."""

    __slots__ = ("_decoded", "_text", "event")

    def __init__(self, event: Event) -> None:
        self.event = event
        self._text: dict[str, Any] | None = None
        self._decoded: dict[str, Any] | jsontext.NotJson | None = None

    def root(self) -> dict[str, Any]:
        """The event with its payload as it came."""
        if self._text is None:
            event = self.event
            metadata = event.metadata
            self._text = {
                "type": event.type,
                "step": event.step,
                "payload": event.payload,
                "run_id": event.run_id,
                "step_run_id": event.step_run_id,
                "attempt": event.attempt,
                "index": event.index,
                "at": event.at,
                "metadata": metadata if metadata.__class__ is dict else dict(metadata),
                "recovered": event.recovered,
            }
        return self._text

    def decoded(self) -> dict[str, Any]:
        """The event with its chunk read as JSON; raises NotJson."""
        if self._decoded is None:
            try:
                self._decoded = self.root() | {"payload": jsontext.decode(str(self.event.payload))}
            except jsontext.NotJson as error:
                self._decoded = error
        if isinstance(self._decoded, jsontext.NotJson):
            raise self._decoded.with_traceback(None)
        return self._decoded

    def without_payload(self) -> dict[str, Any]:
        """The event with null as its payload."""
        return self.root() | {"payload": None}


def _silent(rule: str, event_type: str, reason: str) -> None:
    """Nobody wants to know of failures."""


class _Stop(Exception):
    """The event is decided and not forwarded; the failure is already reported."""


class Rule:
    """One rule, compiled."""

    def __init__(self, config: RuleLike, meter: Meter) -> None:
        """Compile `config`; raises ExpressionProblem. All rules of a stream share one meter."""
        self.name = config.name
        self.config = config
        self._event = config.event
        self._json = config.payload == "json"
        self._null_on_error = config.on_error == "null"
        self._drop_nulls = config.nulls == "drop"
        self.conditional = config.when is not None
        when = compile_expression(config.when if config.when is not None else "`true`", meter)
        self._when = when.closure if when.plain else when.evaluate
        texts = config.data if isinstance(config.data, dict) else {"": config.data}
        self._whole = not isinstance(config.data, dict)
        fields = {name: compile_expression(text, meter) for name, text in texts.items()}
        self._fields = tuple(
            (name, field.closure if field.plain else field.evaluate) for name, field in fields.items()
        )
        self._weighed = copies_of_all(field.tree for field in fields.values()) > FEW_COPIES

    def mismatch(self, event_type: str, step: str | None) -> str | None:
        """Why events of this type and step are not for this rule; None where they are."""
        if not matches(self.config.events, event_type):
            return f"it is for {_listed(self.config.events)}"
        if self.config.steps is None:
            return None
        if step is None:
            return "a rule with steps never matches run events"
        return None if matches(self.config.steps, step) else f"it is for steps {_listed(self.config.steps)}"

    def view(self, sight: Sight, failed: Failed) -> dict[str, Any]:
        """The root for this rule's expressions; raises _Stop where the chunk cannot be read."""
        if not self._json or sight.event.type != STEP_STREAM:
            return sight.root()
        try:
            return sight.decoded()
        except jsontext.NotJson as error:
            failed(self.name, STEP_STREAM, f"the chunk {error}")
            if self._null_on_error:
                return sight.without_payload()
            raise _Stop from None

    def holds(self, root: dict[str, Any], failed: Failed) -> bool:
        """Whether `when` says yes; raises _Stop where it cannot be told."""
        try:
            return not falsy(self._when(root))
        except ExpressionFailed as failure:
            failed(self.name, root["type"], f"when: {failure.reason}")
            raise _Stop from None

    def shape(self, root: dict[str, Any], failed: Failed) -> Message:
        """The message; raises _Stop where a field fails and the rule says skip."""
        try:
            value: Any = {name: evaluate(root) for name, evaluate in self._fields}
        except ExpressionFailed:
            value = self._shape_slowly(root, failed)
        if self._whole:
            value = value[""]
        elif self._drop_nulls:
            value = {name: field for name, field in value.items() if field is not None}
        try:
            if self._weighed:
                check_size(value)
            return Message(self.name, self._event, jsontext.encode(value))
        except (jsontext.NotJson, ExpressionFailed) as error:
            failed(self.name, root["type"], f"data: {error}")
            raise _Stop from None

    def _shape_slowly(self, root: dict[str, Any], failed: Failed) -> dict[str, Any]:
        """Field by field, so that each failure is told."""
        value = {}
        for name, evaluate in self._fields:
            try:
                value[name] = evaluate(root)
            except ExpressionFailed as failure:
                failed(self.name, root["type"], f"{f'data.{name}' if name else 'data'}: {failure.reason}")
                if not self._null_on_error:
                    raise _Stop from None
                value[name] = None
        return value


def _listed(patterns: tuple[str, ...]) -> str:
    return " or ".join(patterns)


class Rules:
    """A stream's rules, compiled; for one thread."""

    def __init__(self, stream: StreamLike, failed: Failed = _silent) -> None:
        """Compile the stream's rules; raises ExpressionProblem."""
        self._meter = Meter()
        self._rules = tuple(Rule(config, self._meter) for config in stream.rules)
        self._failed = failed
        self._candidates: dict[tuple[str, str | None], tuple[Rule, ...]] = {}
        self.fingerprint: str = fingerprint(stream.rules)

    @property
    def names(self) -> tuple[str, ...]:
        """The rules' names, in order."""
        return tuple(rule.name for rule in self._rules)

    def message(self, event: Event, sight: Sight | None = None) -> Message | None:
        """What the stream says of `event`; None where it is not forwarded.

        Hand the same `Sight` of an event to several streams and its chunk is decoded once for all.
        """
        candidates = self._candidates.get((event.type, event.step))
        if candidates is None:
            candidates = self._select(event.type, event.step)
        if not candidates:
            return None
        if sight is None:
            sight = Sight(event)
        failed = self._failed
        self._meter.left = WORK_LIMIT
        try:
            for rule in candidates:
                root = rule.view(sight, failed)
                if not rule.conditional or rule.holds(root, failed):
                    return rule.shape(root, failed)
        except _Stop:
            return None
        return None

    def forwards_chunks(self, step: str) -> bool:
        """Whether a chunk of `step` could ever be forwarded (a rule with `when` may or may not)."""
        return bool(self._select(STEP_STREAM, step))

    def verdicts(self, event: Event) -> list[Verdict]:
        """What each rule makes of `event`, in order, for people; the reports go into the reasons."""
        verdicts: list[Verdict] = []
        self._meter.left = WORK_LIMIT
        sight, decided = Sight(event), False
        for rule in self._rules:
            if decided:
                verdicts.append(Verdict(rule.name, False, False, None, ("an earlier rule decided",)))
                continue
            verdict = _verdict(rule, sight)
            decided = verdict.matched
            verdicts.append(verdict)
        return verdicts

    def _select(self, event_type: str, step: str | None) -> tuple[Rule, ...]:
        """The rules to ask, up to the first that decides without being asked."""
        known = self._candidates.get((event_type, step))
        if known is not None:
            return known
        chosen: list[Rule] = []
        for rule in self._rules:
            if rule.mismatch(event_type, step) is None:
                chosen.append(rule)
                if not rule.conditional:
                    break
        if len(self._candidates) >= KNOWN_STEPS:
            self._candidates.clear()
        self._candidates[event_type, step] = tuple(chosen)
        return tuple(chosen)


def _verdict(rule: Rule, sight: Sight) -> Verdict:
    event = sight.event
    mismatch = rule.mismatch(event.type, event.step)
    if mismatch is not None:
        return Verdict(rule.name, True, False, None, (mismatch,))
    reasons: list[str] = []

    def failed(name: str, event_type: str, reason: str) -> None:
        reasons.append(reason)

    try:
        root = rule.view(sight, failed)
        if not rule.holds(root, failed):
            return Verdict(rule.name, True, False, None, (*reasons, f"when is not true: {rule.config.when}"))
        return Verdict(rule.name, True, True, rule.shape(root, failed), tuple(reasons))
    except _Stop:
        return Verdict(rule.name, True, True, None, tuple(reasons))


def fingerprint(rules: Iterable[RuleLike]) -> str:
    """The same text for rules that say the same, in every process; names aside, they change no frame."""
    said: list[Mapping[str, Any]] = [
        {
            "events": list(rule.events),
            "steps": None if rule.steps is None else list(rule.steps),
            "when": rule.when,
            "payload": rule.payload,
            "event": rule.event,
            "data": list(rule.data.items()) if isinstance(rule.data, dict) else rule.data,
            "nulls": rule.nulls,
            "on_error": rule.on_error,
        }
        for rule in rules
    ]
    return hashlib.sha256(json.dumps(said).encode("utf-8", "surrogatepass")).hexdigest()[:16]
