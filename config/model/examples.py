"""The tests beside the rules: events and messages, or clients and whether they are allowed."""

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema

from config.expressions.types import EVENT_TYPES
from config.model.fields import Block, setting
from config.model.formats import part
from config.model.types import (
    Flag,
    Word,
    kind,
    mapping,
    nearest,
    word,
    wrong,
)


def events(value: Any) -> Any:
    """One event as a mapping, or several of them, one after the other."""
    if not isinstance(value, list | tuple):
        return mapping(value)
    if not value:
        raise wrong("empty", "must not be an empty list", "give an event: {type: step_completed}")
    return tuple(mapping(event) for event in value)


def messages(value: Any) -> Any:
    """``nothing``, a message, or several of them."""
    if isinstance(value, str) and value == "nothing":
        return value
    if isinstance(value, list | tuple):
        if not value:
            raise wrong("empty", "must not be an empty list", "write `nothing` where no message is expected")
        return tuple(message(each) for each in value)
    return message(value)


MESSAGE_KEYS: Final = ("event", "as", "data")


def message(value: Any) -> Any:
    """``{event, data}``, or ``{as, data}`` for a stream with a format."""
    if not isinstance(value, dict):
        silent = str(value).strip().lower() in (
            "none",
            "nothing",
            "no",
            "null",
            "false",
            "silence",
            "empty",
            "",
        )
        hint = "write `nothing`" if silent else "like {event: paid, data: {order: 7}}"
        said = f"must be `nothing` or a mapping with `data`, but this is {kind(value)}"
        raise wrong("expect", said, hint)
    for key in value:
        if key not in MESSAGE_KEYS:
            raise wrong(
                "unknown-key",
                f"must not have a key `{key[:60]}`",
                nearest(key, MESSAGE_KEYS) or "it has `event` and `data`, or `as` and `data`",
            )
    if "data" not in value:
        raise wrong("missing-key", "must have `data`", "like {data: {order: 7}}, or `nothing`")
    if value.get("event") is not None:
        word(value["event"])
    if value.get("as") is not None:
        part(value["as"])
    return value


EVENT_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "type": {"enum": list(EVENT_TYPES), "description": "Which event."},
        "step": {"type": ["string", "null"], "description": "The step's name; null on run events."},
        "payload": {"description": "What it carries: text for a chunk, else JSON."},
        "attempt": {"type": ["integer", "null"], "minimum": 1, "description": "1 for the first try."},
        "index": {"type": ["integer", "null"], "minimum": 0, "description": "A chunk's number, from 0."},
        "metadata": {"type": "object", "description": "The run's additional metadata."},
        "recovered": {"type": "boolean", "description": "Rebuilt from the run's state, never seen live."},
        "run_id": {"type": "string", "description": "The run's id."},
        "step_run_id": {"type": ["string", "null"], "description": "The step run's id."},
        "at": {"type": ["string", "null"], "description": "When: ISO 8601, UTC."},
        "workflow": {"type": ["string", "null"], "description": "The workflow's name."},
        "parent": {
            "type": ["object", "null"],
            "description": "What started a child run; null on events of the run itself.",
            "properties": {
                "run_id": {"type": ["string", "null"], "description": "The run whose step started it."},
                "step": {"type": ["string", "null"], "description": "That step's name."},
                "workflow": {"type": ["string", "null"], "description": "That run's workflow."},
            },
            "additionalProperties": False,
        },
    },
    "required": ["type"],
    "additionalProperties": False,
}
RECORDING_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"recording": {"type": "string", "description": "A file of `stream-proxy record`."}},
    "required": ["recording"],
    "additionalProperties": False,
}
GIVEN_SCHEMA: Final = WithJsonSchema(
    {"anyOf": [EVENT_SCHEMA, {"type": "array", "items": EVENT_SCHEMA, "minItems": 1}, RECORDING_SCHEMA]}
)
MESSAGE_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "as": {"type": "string"}, "data": {}},
    "required": ["data"],
    "additionalProperties": False,
}
EXPECT_SCHEMA: Final = WithJsonSchema(
    {
        "anyOf": [
            {"const": "nothing"},
            MESSAGE_SCHEMA,
            {"type": "array", "items": MESSAGE_SCHEMA, "minItems": 1},
        ]
    }
)


ANY_OBJECT: Final = WithJsonSchema({"type": "object"})
RUN_SCHEMA: Final = WithJsonSchema(
    {
        "type": "object",
        "properties": {"id": {"type": "string"}, "metadata": {"type": "object"}},
        "additionalProperties": False,
    }
)
REQUEST_SCHEMA: Final = WithJsonSchema(
    {
        "type": "object",
        "properties": {"params": {"type": "object"}, "origin": {"type": ["string", "null"]}},
        "additionalProperties": False,
    }
)


class TestConfig(Block):
    """What a stream makes of events, or of a recorded run, or which clients its `allow` lets read a run."""

    __test__ = False  # not a test itself, although pytest would take it for one by its name

    name: Word = setting(..., "What the test shows.", "empty tokens are silent")
    stream: Word = setting(..., "The stream that is tested.", "chat")
    given: Annotated[Any, BeforeValidator(events), GIVEN_SCHEMA] | None = setting(
        None,
        "The event, at least its `type` (see the event's fields); or a list: events one after the other; or "
        "a recorded run (`stream-proxy record`): a file beside this one, or in a folder below.",
        {"type": "step_stream", "step": "answer", "payload": "Hi"},
        {"recording": "runs/chat.jsonl"},
    )
    expect: Annotated[Any, BeforeValidator(messages), EXPECT_SCHEMA] | None = setting(
        None,
        "`nothing`, or the message: its `data`, and its `event` where it has one; or a list of messages. "
        "With a `format` it has `as` instead of `event`.",
        "nothing",
        {"event": "token", "data": {"text": "Hi"}},
    )
    claims: Annotated[dict[str, Any], BeforeValidator(mapping), ANY_OBJECT] | None = setting(
        None, "Instead of `given`: what the stream's `allow` sees as `claims`.", {"sub": "u1"}
    )
    run: Annotated[dict[str, Any], BeforeValidator(mapping), RUN_SCHEMA] | None = setting(
        None, "What `allow` sees as `run`.", {"metadata": {"user_id": "u1"}}
    )
    request: Annotated[dict[str, Any], BeforeValidator(mapping), REQUEST_SCHEMA] | None = setting(
        None,
        "What `allow` sees as `request`.",
        {"params": {"page": "1"}, "origin": "https://app.example.com"},
    )
    allowed: Flag | None = setting(
        None, "Instead of `expect`: whether `allow` lets such a client read the run.", False
    )

    @property
    def given_events(self) -> tuple[dict[str, Any], ...]:
        """The events that are given, in order."""
        if self.given is None or self.recording is not None:
            return ()
        return self.given if isinstance(self.given, tuple) else (self.given,)

    @property
    def recording(self) -> str | None:
        """The file of the recorded run that is given; None where events are given."""
        return self.given.get("recording") if isinstance(self.given, dict) else None

    @property
    def expected_messages(self) -> tuple[dict[str, Any], ...]:
        """The messages that are expected, in order."""
        if self.expect in (None, "nothing"):
            return ()
        return self.expect if isinstance(self.expect, tuple) else (self.expect,)
