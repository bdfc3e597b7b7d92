"""Writes TypeScript for streams: for each stream one union of all frames that it can send.

A rule gives one member for each event that it takes, and for each step where the payload's type depends on
it, so that `type` and `step` are literals and TypeScript can tell the members apart. A stream that speaks
another protocol (`format`) has the parts that its rules send, by their `as`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from config.expressions.globs import CHUNKS, matches_event
from config.expressions.types import EVENT_TYPES, event_fields
from config.model.formats import SSE, spec_of
from config.model.payload_types import StepTypesConfig
from config.model.rules import RuleConfig
from config.model.streams import StreamConfig
from config.render.inference import inferred
from config.render.value_types import (
    NULL,
    STRING,
    UNKNOWN,
    Array,
    Field,
    Literal,
    Object,
    Type,
    has_null,
    name_of,
    nullable,
    of_schema,
    of_shape,
    union,
    without_null,
    written,
)

Types = Mapping[str, StepTypesConfig]

GLOB: Final = re.compile(r"[*?\[]")

HEAD: Final = """\
// Written by `stream-proxy types`. Do not edit: run the command again when the YAML changes.

/** A frame: its event name ("message" where the rule names none), its data, and its cursor. */
export interface Frame<Event extends string, Data> {
  readonly event: Event;
  readonly data: Data;
  readonly id?: string;
}

/** What a rule sends on a stream with a `format` of a chat front end: its `as`, and its data. */
export interface Part<As extends string, Data> {
  readonly as: As;
  readonly data: Data;
}

/** What the proxy itself sends on each stream. */
export type ControlFrame =
  | Frame<
      "stream.gap",
      {
        cause: "joined_late" | "upstream" | "backlog" | "slow_client" | "unknown_cursor" | "too_large";
        step: string | null;
        attempt: number | null;
        missed: number | null;
      }
    >
  | Frame<"stream.reset", { step: string; attempt: number; whole?: boolean }>
  | Frame<"stream.end", { status: "completed" | "failed" | "cancelled" }>
  | Frame<"stream.wait", { cause: "hatchet" | "limit" | "config" }>
  | Frame<"stream.expired", Record<string, never>>
  | Frame<"stream.drain", Record<string, never>>;
"""


def typescript(streams: Mapping[str, StreamConfig], types: Types) -> str:
    """The TypeScript of one team: an interface `Streams` with a field for each stream."""
    return f"{HEAD}\n{_interface('Streams', streams, types)}"


def typescript_of_teams(teams: Mapping[str, tuple[Mapping[str, StreamConfig], Types]]) -> str:
    """The TypeScript of several teams: an interface `Teams` with a field for each team."""
    blocks = []
    for team, (streams, types) in teams.items():
        lines = _interface("", streams, types).splitlines()
        blocks.append("\n".join([f"  {name_of(team)}: {{", *(f"  {line}" for line in lines[1:])]) + ";")
    return (
        f"{HEAD}\n/** What each stream of each team sends. */\nexport interface Teams {{\n"
        + "\n".join(blocks)
        + "\n}\n"
    )


def _interface(name: str, streams: Mapping[str, StreamConfig], types: Types) -> str:
    lines = [f"/** What each stream sends. */\nexport interface {name} {{" if name else "{"]
    for stream in streams.values():
        lines.append(f"  /** {stream.path.replace('*/', '* /')} */")
        lines.append(f"  {name_of(stream.name)}:")
        frames = stream.format == SSE
        kind = "Frame" if frames else "Part"
        found = [f"    | {kind}<{_text(name)}, {written(data)}>" for name, data in members(stream, types)]
        found += ["    | ControlFrame"] if frames and stream.control == "named" else []
        lines += [*found[:-1], f"{found[-1]};"] if found else ["    never;"]
    return "\n".join([*lines, "}"]) + "\n"


def _text(event: str) -> str:
    return written(Literal(event))


def members(stream: StreamConfig, types: Types) -> list[tuple[str, Type]]:
    """Each message that the stream can send, once: its event name or its `as`, and the type of its data."""
    found = dict.fromkeys(each for rule in stream.rules for each in _of_rule(rule, types))
    return list(found)


def _of_rule(rule: RuleConfig, types: Types) -> Iterator[tuple[str, Type]]:
    matched = [
        event
        for event in EVENT_TYPES
        if matches_event(rule.events, event) and not (rule.steps is not None and event.startswith("run_"))
    ]
    for event in matched:
        for steps in _steps(rule, event, types):
            yield rule.as_ or rule.event or "message", _data(rule, _root(rule, event, steps, types))


def _steps(rule: RuleConfig, event: str, types: Types) -> Sequence[tuple[str, ...] | None]:
    """The steps of each member; None stands for any step. A step whose payload has a type is alone."""
    if event.startswith("run_"):
        return [None]
    names = None if rule.steps is None or any(map(GLOB.search, rule.steps)) else tuple(rule.steps)
    if names is None:
        return [None]
    typed = [name for name in names if _payload(rule, event, name, types) is not None]
    rest = tuple(name for name in names if name not in typed)
    return [*((name,) for name in typed), *([rest] if rest else [])]


def _payload(rule: RuleConfig, event: str, step: str, types: Types) -> Type | None:
    """What the block `types` says of the payload of this event of a step; None if nothing."""
    declared = types.get(step)
    if declared is None:
        return None
    if event == "step_completed" and declared.output is not None:
        return of_schema(declared.output)
    if event == CHUNKS and declared.chunk is not None and rule.payload != "text":
        made = of_schema(declared.chunk)
        if rule.merge is not None:
            made = Array(made)
        return made if rule.payload == "json" else union((made, STRING))
    return None


def _root(rule: RuleConfig, event: str, steps: tuple[str, ...] | None, types: Types) -> Type:
    """The type of the event, as expressions see it."""
    merged = event == CHUNKS and rule.merge is not None and rule.payload == "json"
    steps_of = None if event.startswith("run_") else ("*",)
    known = of_shape(event_fields((event,), "merged" if merged else rule.payload, steps_of))
    assert isinstance(known, Object)
    fields = {each.name: each.type for each in known.fields}
    fields["metadata"] = Object(others=UNKNOWN)
    if steps is not None:
        fields["step"] = union(map(Literal, steps))
    if event.startswith("run_"):
        fields.update(step=NULL, step_run_id=NULL, attempt=NULL)
    elif event != CHUNKS:
        fields["attempt"] = nullable(fields["attempt"])  # unknown for some events that were rebuilt
    if event != CHUNKS:
        fields.update(index=NULL, first_index=NULL)
    payload = _payload(rule, event, steps[0], types) if steps is not None and len(steps) == 1 else None
    if payload is not None:
        fields["payload"] = payload
    elif event == "run_completed":
        fields["payload"] = _outputs(types)
    elif event in ("step_started", "step_skipped", "step_cancelled", "run_cancelled"):
        fields["payload"] = NULL
    return Object(tuple(Field(name, each) for name, each in fields.items()))


def _outputs(types: Types) -> Type:
    """The payload of `run_completed`: each step's output by its name."""
    known = [
        Field(step, nullable(of_schema(declared.output)), optional=True)
        for step, declared in types.items()
        if declared.output is not None
    ]
    return Object(tuple(known), UNKNOWN)


def _data(rule: RuleConfig, root: Type) -> Type:
    if rule.as_ is not None and spec_of(rule.as_).text:
        return STRING  # anything else is not sent
    if isinstance(rule.data, str):
        return _value(rule, rule.data, root)
    fields = []
    for name, expression in rule.data.items():
        made = _value(rule, expression, root)
        if rule.nulls == "drop" and has_null(made):
            if made != NULL:
                fields.append(Field(name, without_null(made), optional=True))
        else:
            fields.append(Field(name, made))
    return Object(tuple(fields))


def _value(rule: RuleConfig, expression: str, root: Type) -> Type:
    made = inferred(expression, root)
    return nullable(made) if rule.on_error == "null" else made
