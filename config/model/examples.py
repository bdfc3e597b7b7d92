"""The tests beside the rules: an event that is given, a message that is expected."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema

from config.expressions.types import EVENT_TYPES
from config.model.fields import Block, setting
from config.model.types import (
    Word,
    kind,
    mapping,
    nearest,
    word,
    wrong,
)


def expected(value: Any) -> Any:
    """``nothing``, or ``{event, data}``."""
    if isinstance(value, str) and value == "nothing":
        return value
    if not isinstance(value, dict):
        raise wrong(
            "expect",
            f"must be `nothing` or a mapping with `data`, but this is {kind(value)}",
            "like {event: paid, data: {order: 7}}",
        )
    for key in value:
        if key not in ("event", "data"):
            raise wrong(
                "unknown-key",
                f"must not have a key `{key[:60]}`",
                nearest(key, ["event", "data"]) or "it has `event` and `data`",
            )
    if "data" not in value:
        raise wrong("missing-key", "must say the data", "like {data: {order: 7}}, or `nothing`")
    if value.get("event") is not None:
        word(value["event"])
    return value


GIVEN_SCHEMA: Final = WithJsonSchema(
    {
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
        },
        "required": ["type"],
        "additionalProperties": False,
    }
)
EXPECT_SCHEMA: Final = WithJsonSchema(
    {
        "anyOf": [
            {"const": "nothing"},
            {
                "type": "object",
                "properties": {"event": {"type": "string"}, "data": {}},
                "required": ["data"],
                "additionalProperties": False,
            },
        ]
    }
)


class TestConfig(Block):
    """An event that is given to a stream, and the message that is expected of it."""

    __test__ = False  # no test of ours, whatever pytest makes of the name

    name: Word = setting(..., "What the test shows.", "empty tokens are silent")
    stream: Word = setting(..., "The stream that is asked.", "chat")
    given: Annotated[dict[str, Any], BeforeValidator(mapping), GIVEN_SCHEMA] = setting(
        ...,
        "The event: at least its `type`; see the event's fields.",
        {"type": "step_stream", "step": "answer", "payload": "Hi"},
    )
    expect: Annotated[Any, BeforeValidator(expected), EXPECT_SCHEMA] = setting(
        ...,
        "`nothing`, or the message: its `data`, and its `event` where it has one.",
        "nothing",
        {"event": "token", "data": {"text": "Hi"}},
    )
