"""Formats: the protocols that a stream can speak, what its rules can send in them, and what each needs.

A *part* is what a rule's `as` says an event is. Each part is declared once; checks, rules and documentation
follow from it. The machines that write the parts are in `proxy.formats`.
"""

import re
from typing import Any, Final

from msgspec import Struct

from config.model.wording import alternatives, kind, nearest, wrong

SSE: Final = "sse"
AI_SDK: Final = "ai-sdk"
AG_UI: Final = "ag-ui"
OPENAI: Final = "openai"
TEXT: Final = "text"
FORMATS: Final = (SSE, AI_SDK, AG_UI, OPENAI, TEXT)
HOLDS: Final = (OPENAI, TEXT)
"""Formats that cannot take back what was sent: a step's text is held until its attempt cannot fail any
more."""
TEXT_PARTS: Final = ("text", "reasoning")
NAMED_DATA: Final = re.compile(r"data-[A-Za-z0-9_][A-Za-z0-9_.-]*")
OWN_DATA: Final = ("data-gap",)  # the proxy's own


class PartSpec(Struct, frozen=True):
    """What one part needs of a rule's `data`.

    `fields` are the fields that the data must have, `optional` those that it may have; empty: the data is no
    mapping of these. With `mapping` it must be an object of any fields. With `text` the data, or each field
    in `texts`, must be text. `default` is the data of a rule that has none; None: it must be written.
    """

    sentence: str
    example: str
    fields: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    text: bool = False
    texts: tuple[str, ...] = ()
    mapping: bool = False
    default: str | None = None


_PAYLOAD: Final = "payload && to_string(payload) || ''"
PARTS: Final = {
    "text": PartSpec("text of the answer", "payload.text", text=True, default=_PAYLOAD),
    "reasoning": PartSpec("text of the reasoning", "payload.text", text=True, default=_PAYLOAD),
    "tool-input": PartSpec(
        "a tool is called",
        "{id: payload.id, name: payload.name, input: payload.args}",
        fields=("id", "name", "input"),
        texts=("id", "name"),
    ),
    "tool-output": PartSpec(
        "a tool's result",
        "{id: step_run_id, output: payload}",
        fields=("id", "output"),
        optional=("name",),
        texts=("id",),
    ),
    "metadata": PartSpec("an object for the message's metadata", "{model: payload.model}", mapping=True),
    "step": PartSpec("a step begins or ends", "step", text=True, default="step"),
    "error": PartSpec("a sentence for the user", "\"'Something went wrong, please try again'\"", text=True),
}
DATA: Final = PartSpec("data of the application's own, named NAME", "payload")
EVERY_PART: Final = (*PARTS, "data-NAME")
KNOWN: Final = {
    AI_SDK: EVERY_PART,
    AG_UI: EVERY_PART,
    OPENAI: ("text", "reasoning", "error"),
    TEXT: ("text",),
}
"""The parts that each format can write."""


def spec_of(part: str) -> PartSpec:
    """What `part` needs; for ``data-NAME`` too."""
    return PARTS.get(part, DATA)


def is_part(part: str) -> bool:
    """Whether `as` may have this value."""
    return part in PARTS or (NAMED_DATA.fullmatch(part) is not None and part not in OWN_DATA)


def knows(form: str, part: str) -> bool:
    """Whether a format can write `part`."""
    if part in OWN_DATA:
        return False
    return ("data-NAME" if part.startswith("data-") else part) in KNOWN.get(form, ())


def part(value: Any) -> str:
    """The value of `as`."""
    if isinstance(value, str) and is_part(value):
        return value
    if isinstance(value, str) and value in OWN_DATA:
        message = f"must not be `{value}`: the proxy sends gaps under this name"
        raise wrong("choice", message, "choose another name")
    named = "data of your own has a name, like `data-plan`"
    hint = named if str(value).lower().startswith("data") else nearest(value, tuple(PARTS)) or named
    raise wrong("choice", f"must be {alternatives(EVERY_PART)}, but this is {kind(value)}", hint)


def takes_rest(part: Any, *, conditional: bool, payload: Any) -> bool:
    """Whether a rule takes what is left of a step's chunks: all text, whatever it is.

    Narrower rules behind it are asked before it. So a rule for the text may stand anywhere.
    """
    return part in TEXT_PARTS and not conditional and payload == "text"


def is_narrower(*, conditional: bool, payload: Any, passes_on: bool) -> bool:
    """Whether a rule leaves chunks to others: what is no JSON, or what its `when` refuses."""
    return passes_on or (conditional and payload != "json")


def fault(part: str, data: Any) -> str | None:
    """What keeps `data` from being sent as `part`, without any value; None where nothing does."""
    spec = spec_of(part)
    if spec.text:
        return None if isinstance(data, str) else f"is {kind_of(data)}, and `as: {part}` needs text"
    if spec.mapping and not isinstance(data, dict):
        return f"is {kind_of(data)}, and `as: {part}` needs an object"
    if not spec.fields:
        return None
    if not isinstance(data, dict):
        return f"is {kind_of(data)}, and `as: {part}` needs an object with {', '.join(spec.fields)}"
    for name in spec.fields:
        if name not in data:
            return f"has no `{name}`, which `as: {part}` needs"
    for name in (*spec.texts, *spec.optional):
        if (
            name in data
            and not isinstance(data[name], str)
            and not (name in spec.optional and data[name] is None)
        ):
            return f"has `{name}` as {kind_of(data[name])}, and `as: {part}` needs text there"
    if "id" in spec.fields and not data["id"]:
        return f"has an empty `id`, which `as: {part}` needs"
    return None


def kind_of(value: Any) -> str:
    """The JSON type of a value, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"
