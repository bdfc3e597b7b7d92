"""The block `types`: what is known of a step's output and chunks, as JSON Schema. Only TypeScript uses it."""

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema

from config.model.fields import Block, setting
from config.model.types import kind, mapping, nearest, wrong

TYPE_WORDS: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_MAPS: Final = ("properties", "$defs", "definitions", "patternProperties")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS: Final = ("items", "additionalProperties", "not")


def schema(value: Any) -> Any:
    """A JSON Schema: a mapping whose `type` and nested schemas can be read."""
    mapping(value)
    _check(value, value)
    return value


def _check(value: Any, root: Any) -> None:
    if isinstance(value, bool):
        return
    if not isinstance(value, dict):
        raise wrong(
            "schema", f"must be a JSON Schema, but there is {kind(value)} in it", "like {type: string}"
        )
    words = value.get("type", [])
    for word in words if isinstance(words, list) else [words]:
        if word not in TYPE_WORDS:
            hint = nearest(word, TYPE_WORDS) or f"there are: {', '.join(TYPE_WORDS)}"
            raise wrong("schema", "is no JSON Schema: there is no such `type` as the one in it", hint)
    if "$ref" in value and not _exists(root, value["$ref"]):
        raise wrong(
            "schema", "has a `$ref` that leads nowhere", "only `#/…` within this schema can be followed"
        )
    _check_nested(value, root)


def _check_nested(value: dict[str, Any], root: Any) -> None:
    for key in _MAPS:
        if key in value:
            for each in mapping(value[key]).values():
                _check(each, root)
    for key in _LISTS:
        if key in value and not isinstance(value[key], list):
            raise wrong("schema", f"must have a list of schemas under `{key}`", "like [{type: string}]")
        for each in value.get(key, []):
            _check(each, root)
    for key in _SCHEMAS:
        if key in value:
            _check(value[key], root)
    for key in ("enum", "required"):
        if key in value and not isinstance(value[key], list):
            raise wrong("schema", f"must have a list under `{key}`", "like [one, two]")


def _exists(root: Any, reference: Any) -> bool:
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return False
    for step in reference[2:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(root, dict) or name not in root:
            return False
        root = root[name]
    return True


Schema = Annotated[dict[str, Any], BeforeValidator(schema), WithJsonSchema({"type": "object"})]


class StepTypesConfig(Block):
    """What is known of one step's values, for `stream-proxy types`."""

    output: Schema | None = setting(
        None,
        "The JSON Schema of the step's output, the payload of its `step_completed`.",
        {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]},
    )
    chunk: Schema | None = setting(
        None,
        "The JSON Schema of a chunk, where a rule reads chunks as JSON.",
        {"type": "object", "properties": {"thought": {"type": "string"}}},
    )
