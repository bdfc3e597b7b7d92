"""One compiled rule: whether it takes an event, and the message that it makes of the event.

A failure is reported and stops the event (`Stopped`), unless the rule has ``on_error: null``. The event is
not offered to a later rule, because that could leak data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from config.expressions.api import (
    FEW_COPIES,
    ExpressionFailed,
    Meter,
    check_size,
    compile_expression,
    copies_of_all,
    falsy,
)
from config.expressions.globs import matches, matches_event
from config.expressions.reading import ROOT, paths_read
from config.model.formats import fault, is_narrower, takes_rest
from proxy.core import json_codec
from proxy.core.events import STEP_STREAM, Event
from proxy.rules.reading import PAYLOAD, WHOLE, Reading

Failed = Callable[[str, str, str], None]
"""Called for each failure with the rule's name, the event's type, and a reason without any value."""


class RuleLike(Protocol):
    """The part of a rule's configuration that is used here (of `config.model.files.RuleConfig`)."""

    @property
    def name(self) -> str: ...
    @property
    def events(self) -> tuple[str, ...]: ...
    @property
    def steps(self) -> tuple[str, ...] | None: ...
    @property
    def workflows(self) -> tuple[str, ...] | None: ...
    @property
    def when(self) -> str | None: ...
    @property
    def payload(self) -> str: ...
    @property
    def event(self) -> str | None: ...
    @property
    def as_(self) -> str | None: ...
    @property
    def data(self) -> str | dict[str, str]: ...
    @property
    def nulls(self) -> str: ...
    @property
    def on_error(self) -> str: ...
    @property
    def passes_on(self) -> bool: ...
    @property
    def whole(self) -> str | None: ...
    @property
    def merge(self) -> float | None: ...


class Message(Struct, frozen=True, gc=False):
    """What a rule made of an event: the SSE event name, if any, and one line of JSON.

    `whole` is the rule's number in its stream where the rule has `whole` and the event is a chunk. `part` is
    the rule's `as`, and then `value` is what `data` has as JSON.
    """

    rule: str
    event: str | None
    data: bytes
    whole: int | None = None
    part: str | None = None
    value: Any = None


class DecodedEvent:
    """The root that expressions see of an event; decoded once for all rules and streams.

    `decided` is the rule that has taken each chunk of a merged event; its payload is joined text or an array.
    `reading`: what is read by the rules that get it.
    """

    __slots__ = ("_refused", "_text", "decided", "event", "json", "reading")

    def __init__(self, event: Event, decided: Rule | None = None, reading: Reading = WHOLE) -> None:
        self.event = event
        self.decided = decided
        self.reading = reading
        self.json: dict[str, Any] | None = (
            None  # the event with its chunk read as JSON, once it was asked for
        )
        self._text: dict[str, Any] | None = None
        self._refused: json_codec.NotJson | None = None

    def root(self) -> dict[str, Any]:
        """The event with its payload as it came."""
        if self._text is None:
            self._text = self._with(self.event.payload)
        return self._text

    def json_root(self) -> dict[str, Any]:
        """The event with its chunk read as JSON; raises NotJson."""
        if self._refused is not None:
            raise self._refused.with_traceback(None)
        if self.json is None:
            try:
                reading = self.reading
                decode = json_codec.decode if reading.expects_all else reading.decode
                self.json = self._with(decode(str(self.event.payload)))
            except json_codec.NotJson as error:
                self._refused = error
                raise
        return self.json

    def as_read_by(self, rule: Rule, root: dict[str, Any]) -> dict[str, Any]:
        """`root` with all of the payload if `rule` reads it; the next one is decoded as this one is read."""
        reading = self.reading
        expected, reading.expects_all = reading.expects_all, rule.reads_payload
        if expected or not rule.reads_payload or root is not self.json:
            return root
        return self._with(json_codec.decode(str(self.event.payload)))

    def auto_root(self) -> dict[str, Any]:
        """The event with its chunk read as JSON where that is an object or an array, else as text."""
        try:
            found = self.json_root()
        except json_codec.NotJson:
            return self.root()
        return found if isinstance(found["payload"], dict | list) else self.root()

    def without_payload(self) -> dict[str, Any]:
        """The event with null as its payload."""
        return self._with(None)

    def _with(self, payload: Any) -> dict[str, Any]:
        event = self.event
        fields = self.reading.fields
        if fields is not None:
            root = {"type": event.type, "payload": payload}
            for name in fields:
                root[name] = getattr(event, name)
            return root
        metadata = event.metadata
        return {
            "type": event.type,
            "step": event.step,
            "payload": payload,
            "run_id": event.run_id,
            "step_run_id": event.step_run_id,
            "attempt": event.attempt,
            "index": event.index,
            "first_index": event.index if event.first_index is None else event.first_index,
            "at": event.at,
            "metadata": metadata if metadata.__class__ is dict else dict(metadata),
            "recovered": event.recovered,
            "workflow": event.workflow,
            "parent": event.parent,
        }


class Stopped(Exception):
    """The event is not forwarded because of a failure, which is already reported."""


class Rule:
    """One rule, compiled.

    `takes_rest`: the text of a message, whatever it is; of chunks it takes what no `narrower` rule takes.
    """

    def __init__(self, config: RuleLike, meter: Meter, number: int = 0) -> None:
        """Compile `config`, rule `number` of its stream (from 0); raises ExpressionProblem.

        All rules of a stream share one meter.
        """
        self.name = config.name
        self.number = number
        self.config = config
        self._event = config.event
        self._part = config.as_
        self._reads = config.payload
        self.passes_on = config.passes_on  # a chunk that is not JSON does not match
        self.merge = config.merge
        self._null_on_error = config.on_error == "null"
        tool = config.as_ is not None and config.as_.startswith(
            "tool-"
        )  # its fields may be null, not missing
        self._drop_nulls = config.nulls == "drop" and not tool
        self.conditional = config.when is not None
        self.takes_rest = takes_rest(config.as_, conditional=self.conditional, payload=config.payload)
        self.narrower = is_narrower(
            conditional=self.conditional, payload=config.payload, passes_on=config.passes_on
        )
        when = compile_expression(config.when if config.when is not None else "`true`", meter)
        self._when = when.closure if when.plain else when.evaluate
        texts = config.data if isinstance(config.data, dict) else {"": config.data}
        self._one_value = not isinstance(config.data, dict)
        self._whole = None if config.whole is None else compile_expression(config.whole, meter)
        fields = {name: compile_expression(text, meter) for name, text in texts.items()}
        self._fields = tuple(
            (name, field.closure if field.plain else field.evaluate) for name, field in fields.items()
        )
        self.metered = not all(each.plain for each in (when, *fields.values()))  # it spends from the meter
        self.reads_json = config.payload != "text"
        read = {path for field in fields.values() for path in paths_read(field.tree)}
        self.reads_payload = self.reads_json and PAYLOAD in read
        """Whether `data` reads all of a JSON payload; `paths`: what else it reads, and what `when` reads."""
        self.paths = frozenset(paths_read(when.tree) | (read - {PAYLOAD}))
        if config.merge is not None:
            self.paths = frozenset({ROOT})  # the payload of merged chunks has another form
        self._weighed = copies_of_all(field.tree for field in fields.values()) > FEW_COPIES

    def mismatch(self, event_type: str, step: str | None, workflow: str | None) -> str | None:
        """Why the rule does not take events of this type, step and workflow; None where it does.

        A rule with `workflows` takes nothing of a run whose workflow is not known (None).
        """
        if not matches_event(self.config.events, event_type):
            by_glob = matches(self.config.events, event_type)
            return f"it is for {_listed(self.config.events)}" + (
                ", and globs take no chunks" if by_glob else ""
            )
        workflows = self.config.workflows
        if workflows is not None and (workflow is None or not matches(workflows, workflow)):
            return f"it is for workflows {_listed(workflows)}"
        if self.config.steps is None:
            return None
        if step is None:
            return "a rule with steps never matches run events"
        return None if matches(self.config.steps, step) else f"it is for steps {_listed(self.config.steps)}"

    def takes_chunks(self, step: str) -> bool:
        """Whether the rule takes chunks of `step`, in some workflow at least."""
        events, steps = self.config.events, self.config.steps
        return matches_event(events, STEP_STREAM) and (steps is None or matches(steps, step))

    def view(self, decoded: DecodedEvent, failed: Failed) -> dict[str, Any]:
        """The root for the rule's expressions.

        A chunk that is not JSON raises NotJson where the rule passes such chunks on, else Stopped, or its
        payload is null.
        """
        if self._reads == "text" or decoded.event.type != STEP_STREAM:
            return decoded.root()
        if self._reads == "auto":
            return decoded.auto_root()
        if decoded.json is not None:
            return decoded.json
        try:
            return decoded.json_root()
        except json_codec.NotJson as error:
            if self.passes_on:
                raise
            failed(self.name, STEP_STREAM, f"the chunk {error}")
            if self._null_on_error:
                return decoded.without_payload()
            raise Stopped from None

    def holds(self, root: dict[str, Any], failed: Failed) -> bool:
        """Whether `when` is true-like; raises Stopped where it fails."""
        try:
            found = self._when(root)
            return found is True or (found is not False and not falsy(found))
        except ExpressionFailed as failure:
            failed(self.name, root["type"], f"when: {failure.reason}")
            raise Stopped from None

    def message(self, decoded: DecodedEvent, root: dict[str, Any], failed: Failed) -> Message:
        """The message of an event that was not merged with others; `root` is its `view`.

        Raises as `shape` does.
        """
        if self.merge is not None:
            root = self._alone(decoded, root)
        elif decoded.reading.is_mixed:
            root = decoded.as_read_by(self, root)
        return self.shape(root, failed)

    def _alone(self, decoded: DecodedEvent, root: dict[str, Any]) -> dict[str, Any]:
        """The root for `data`, which is made for the payload of merged chunks."""
        if decoded.event.type != STEP_STREAM or root is decoded.root():
            return root
        return {**root, "payload": [root["payload"]]}

    def shape(self, root: dict[str, Any], failed: Failed) -> Message:
        """The message; raises Stopped where a field fails and the rule has ``on_error: skip``."""
        try:
            value: Any = {name: evaluate(root) for name, evaluate in self._fields}
        except ExpressionFailed:
            value = self._shape_slowly(root, failed)
        if self._one_value:
            value = value[""]
        elif self._drop_nulls:
            value = {name: field for name, field in value.items() if field is not None}
        try:
            if self._weighed:
                check_size(value)
            data = json_codec.encode(value)
            if self._part is not None:
                return self._part_message(self._part, value, data, root, failed)
            if self._whole is not None and root["type"] == STEP_STREAM:
                return Message(self.name, self._event, data, self.number)
            return Message(self.name, self._event, data)
        except (json_codec.NotJson, ExpressionFailed) as error:
            failed(self.name, root["type"], f"data: {error}")
            raise Stopped from None

    def _part_message(
        self, part: str, value: Any, data: bytes, root: dict[str, Any], failed: Failed
    ) -> Message:
        """The message for a format; raises Stopped where `value` is not what the part needs."""
        reason = fault(part, value)
        if reason is not None:
            failed(self.name, root["type"], f"data: {reason}")
            raise Stopped from None
        whole = self.number if self._whole is not None and root["type"] == STEP_STREAM else None
        return Message(self.name, self._event, data, whole, part, value)

    @property
    def has_whole(self) -> bool:
        """Whether the rule says what a step's chunks add up to."""
        return self._whole is not None

    def whole_text(self, root: dict[str, Any], failed: Failed) -> str | None:
        """What the chunks of the attempt add up to that completed with `root`.

        None where the expression fails or gives no text, which is reported.
        """
        if self._whole is None:
            return None
        try:
            text = self._whole.evaluate(root)
        except ExpressionFailed as failure:
            failed(self.name, root["type"], f"whole: {failure.reason}")
            return None
        if isinstance(text, str):
            return text
        failed(self.name, root["type"], "whole: gives no text")
        return None

    def _shape_slowly(self, root: dict[str, Any], failed: Failed) -> dict[str, Any]:
        """Evaluates field by field, so that each failure is reported."""
        value = {}
        for name, evaluate in self._fields:
            try:
                value[name] = evaluate(root)
            except ExpressionFailed as failure:
                failed(self.name, root["type"], f"{f'data.{name}' if name else 'data'}: {failure.reason}")
                if not self._null_on_error:
                    raise Stopped from None
                value[name] = None
        return value


def _listed(patterns: tuple[str, ...]) -> str:
    return " or ".join(patterns)


def milliseconds_of(merge: float) -> int:
    """A rule's `merge`, which is in seconds, as a shared log has it."""
    return round(merge * 1000)
