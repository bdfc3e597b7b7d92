"""Rules of a stream, as they are written and as the proxy uses them."""

import json
import math
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Tag, ValidationInfo, WithJsonSchema

from config.expressions.types import EVENT_TYPES
from config.model.fields import Block, choice, setting
from config.model.formats import EVERY_PART, NAMED_DATA, PARTS, part
from config.model.types import (
    Lasting,
    OneOrMany,
    Resolved,
    Word,
    duration,
    kind,
    mapping,
    one_of,
    one_or_many,
    word,
    wrong,
)

DEFAULT_DATA: Final = {"type": "type", "step": "step", "payload": "payload"}


def null_or_word(value: Any) -> str:
    """`skip` or `null`; the YAML's null counts as the word."""
    return "null" if value is None else one_of("skip", "null")(value)


LONGEST_MERGE: Final = 10.0
"""Seconds: with more, a reader would take the stream for broken."""


def merge_time(value: Any, info: ValidationInfo) -> Any:
    """A duration for which a reader can wait for chunks."""
    if type(value) is int and (info.context or {}).get("yaml"):
        message = f"must be a duration, but this is {kind(value)}"
        raise wrong("duration", message, f"write the unit too: `{value}ms`")
    if duration(0.001)(value, info) > LONGEST_MERGE:
        raise wrong("out-of-range", f"must be at most {LONGEST_MERGE:g}s", "`50ms` is 20 frames a second")
    return value


def mapped(value: Any) -> Any:
    """One expression, or a mapping of field to expression."""
    if isinstance(value, str):
        return word(value)
    if not isinstance(value, dict):
        raise wrong(
            "wrong-type",
            f"must be an expression or a mapping of field to expression, but this is {kind(value)}",
            instead_of_a_value(value),
        )
    return value


def instead_of_a_value(value: Any) -> str:
    """The expression for a YAML value that is none."""
    if isinstance(value, list | tuple):
        if not value:
            return 'an empty list is the expression "`[]`"'
        if any(isinstance(item, Resolved | dict | list) for item in value):
            return 'a list is one expression in quotes: "[payload.a, payload.b]"'
        if all(isinstance(item, str) for item in value):
            return f'a list is one expression in quotes: "[{", ".join(value)}]"'
        return f"a list of constants is the expression '`{json.dumps(list(value), default=str)}`'"
    if isinstance(value, dict):
        if not value:
            return 'an empty object is the expression "`{}`"'
        if not all(type(inner) is str for inner in value.values()):
            return 'an object is an expression in quotes: "{id: payload.id, name: payload.name}"'
        fields = ", ".join(f"{name}: {inner}" for name, inner in value.items())
        return f'an object is an expression in quotes: "{{{fields}}}"'
    if value is None:
        return 'null is the expression "`null`"'
    return f'a constant is an expression in backticks, in YAML quotes: "`{str(value).lower()}`"'


def expression(value: Any) -> str:
    """The text of a JMESPath expression."""
    if isinstance(value, str):
        return word(value)
    hint = instead_of_a_value(value)
    raise wrong("wrong-type", f"must be an expression in text, but this is {kind(value)}", hint)


Expression = Annotated[str, BeforeValidator(expression)]
A_GLOB: Final = {"type": "string", "pattern": r"[*?]"}
AN_EVENT: Final = {"anyOf": [{"enum": list(EVENT_TYPES)}, A_GLOB]}
Events = Annotated[OneOrMany, one_or_many(AN_EVENT)]
EventName = Annotated[
    Word, WithJsonSchema({"type": "string", "not": {"pattern": r"^(open|error)$|^stream\."}})
]
DATA_SCHEMA: Final = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}]}
)


def one_or_fields(value: Any) -> str:
    """Which of the two forms `data` has, so that pydantic reports errors of that form only."""
    return "fields" if isinstance(value, dict) else "one"


Part = Annotated[
    str,
    BeforeValidator(part),
    WithJsonSchema(
        {"anyOf": [{"enum": list(PARTS)}, {"type": "string", "pattern": f"^{NAMED_DATA.pattern}$"}]}
    ),
]
Expressions = Annotated[
    Annotated[Expression, Tag("one")] | Annotated[dict[str, Expression], Tag("fields")],
    Discriminator(one_or_fields),
]
Data = Annotated[Expressions, BeforeValidator(mapped), DATA_SCHEMA]


MOST_CONSTANTS: Final = 2048
"""Characters of a rule's constants as JSON: they become a part of expressions, which have 4 KiB at most."""


def constants(value: Any) -> Any:
    """A mapping of field to any JSON value."""
    found = mapping(value)
    if not isinstance(found, dict):
        return found
    for name, each in found.items():
        if not is_json(each):
            message = f"must have a JSON value as `{name[:60]}`"
            raise wrong("not-json", message, "numbers are finite, and whole numbers have 64 bits")
    if len(json.dumps(found, ensure_ascii=False)) > MOST_CONSTANTS:
        message = f"must not be longer than {MOST_CONSTANTS} characters"
        raise wrong("too-large", message, "send a short name here, and let the page hold the long text")
    return found


def is_json(value: Any) -> bool:
    """Whether a value from the YAML can be sent as JSON."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_json(each) for name, each in value.items())
    if isinstance(value, list | tuple):
        return all(is_json(each) for each in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if type(value) is int:
        return -(1 << 63) <= value < 1 << 64
    return value is None or isinstance(value, str | bool)


Constants = Annotated[dict[str, Any], BeforeValidator(constants), WithJsonSchema({"type": "object"})]


class RuleBlock(Block):
    """A rule: which events it takes, and which message it makes of them."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    name: Word | None = setting(
        None,
        "Its name in errors, metrics and `explain`; by default `rules[0]`, `rules[1]` and so on.",
        "tokens",
    )
    events: Events = setting(
        ...,
        "The events it takes: one or a list; `*` and `?` stand for any characters of lifecycle events. "
        "Chunks are taken only by their name, `step_stream`.",
        "step_completed",
        ["step_*", "run_failed"],
    )
    steps: OneOrMany | None = setting(
        None,
        "The steps it takes: one or a list, globs too; by default every step. "
        "A rule with steps never takes run events.",
        "generate_*",
        ["start", "load_docs"],
    )
    workflows: OneOrMany | None = setting(
        None,
        "The workflows whose runs it takes events of: one or a list, globs too; by default every workflow.",
        "research-*",
        ["chat", "agent"],
    )
    when: Expression | None = setting(
        None,
        "A JMESPath expression over the event; where it is false-like (false, null, empty) "
        "the rule does not match.",
        "payload != ''",
    )
    payload: Annotated[Literal["text", "json", "auto"], choice("text", "json", "auto")] = setting(
        "text",
        "How a chunk of `step_stream` is read: as text, as JSON, or (`auto`) as JSON where it is an object "
        "or an array, else as text. A chunk that is not JSON does not match a rule with `json`, unless the "
        "rule has `on_error`; it is offered to the next rule.",
        "json",
    )
    merge: Annotated[Lasting, BeforeValidator(merge_time)] | None = setting(
        None,
        "Only with `step_stream`: chunks of one step and attempt that come within this time become one "
        "frame. Texts are joined; with `payload: json` the payload is an array of the chunks. "
        "By default each chunk is a frame.",
        "50ms",
    )
    event: EventName | None = setting(
        None, "The SSE event's name; by default none, so that `EventSource.onmessage` receives it.", "token"
    )
    as_: Part | None = setting(
        None,
        "Only with a `format` other than `sse`: what the event is in the message, "
        f"one of {', '.join(f'`{name}`' for name in EVERY_PART)}. "
        "Without `when`, `text` and `reasoning` take the chunks that narrower rules leave, "
        "also rules behind them.",
        "text",
        "data-plan",
        alias="as",
    )
    use: Word | None = setting(
        None,
        "A shape (see `shapes`) whose fields are the data; the rule's own `data` fields override them.",
        "result",
    )
    data: Data | None = setting(
        None,
        "What is sent: one expression, or a mapping of field to expression; "
        "by default `{type: type, step: step, payload: payload}`, "
        "with `as: text` and `as: reasoning` the payload as text.",
        {"text": "payload"},
        "payload.result",
    )
    const: Constants | None = setting(
        None,
        "Fields that are sent as they are written here: no expressions. They are added to the fields of "
        "`data` and replace those of the same name. Without `data` and `use` nothing else is sent.",
        {"kind": "answer", "message": "Something went wrong"},
    )
    nulls: Annotated[Literal["keep", "drop"], choice("keep", "drop")] = setting(
        "keep", "Whether fields whose value is null are kept or dropped.", "drop"
    )
    whole: Expression | None = setting(
        None,
        "Only with `step_stream`: the text that the chunks of an attempt add up to, an expression over "
        "`step_completed`, whose `payload` is the step's output. When the step completes, what is missing of "
        "that text is sent as one more message of this rule, and no gap is announced for it.",
        "payload.answer",
    )
    on_error: Annotated[
        Literal["skip", "null"],
        BeforeValidator(null_or_word),
        WithJsonSchema({"enum": ["skip", "null", None]}),
    ] = setting(
        "skip",
        "What happens to an event on which an expression fails: it is skipped, or the failed value is null. "
        "Where it is written, it also holds for a chunk that `payload: json` cannot read.",
        "null",
    )


class RuleConfig(RuleBlock):
    """A rule as the proxy uses it: with its name, and with its shape merged into its data."""

    name: str
    data: Data = setting(DEFAULT_DATA, "What is sent.")
    passes_on: bool = setting(
        False, "Whether a chunk that is not JSON does not match the rule, and is offered to the next one."
    )
