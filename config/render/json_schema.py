"""Renders the model as JSON Schema, so that editors complete and check the YAML.

pydantic's schema is adapted to the YAML: a key may be missing but never empty, and ``none`` is a word. A test
keeps the files ``config/*.schema.json`` current.
"""

from __future__ import annotations

import json
from typing import Any, Final, get_args

from pydantic import BaseModel

from config.model.blocks import bare, block, field_of
from config.model.files import ProxyFile, SingleFile, TeamFile

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
TITLES: Final = {
    "streams": "hatchet-stream-proxy: one team in one file",
    "proxy": "hatchet-stream-proxy: proxy.yaml, the platform team's file",
    "team": "hatchet-stream-proxy: teams/NAME.yaml, a team's own file",
}
FORMS: Final[dict[str, type[BaseModel]]] = {"streams": SingleFile, "proxy": ProxyFile, "team": TeamFile}
NULL: Final = {"type": "null"}


def schema(form: str) -> dict[str, Any]:
    """The JSON Schema of a form: ``streams``, ``proxy`` or ``team``."""
    model = FORMS[form]
    made = model.model_json_schema(by_alias=True)
    definitions = made.pop("$defs", {})
    adapt(made, model)
    for name, definition in definitions.items():
        adapt(definition, model_named(name, model))
    head = {"$schema": DRAFT, **made, "title": TITLES[form]}
    return {**head, "$defs": definitions} if definitions else head


def text(form: str) -> str:
    """The JSON Schema of a form as the text of its file."""
    return json.dumps(schema(form), indent=2, ensure_ascii=False) + "\n"


def adapt(made: dict[str, Any], model: type[BaseModel]) -> None:
    """Adapt the schema of one block to the YAML, in place."""
    made["title"] = model.__name__.removesuffix("Block").removesuffix("Config").removesuffix("File")
    for name, field in made.get("properties", {}).items():
        declared = field_of(model, name)
        field.setdefault("title", name)
        field["title"] = name
        if declared is not None and "none" in (declared.default, *(declared.examples or [])):
            field["anyOf"] = [{"const": "none"} if each == NULL else each for each in field.get("anyOf", [])]
        without_null(field)
        if field.get("default", "") is None:
            del field["default"]
        if not field.get("anyOf", True):
            del field["anyOf"]


def without_null(field: dict[str, Any]) -> None:
    """An empty value is an error, so null is nothing to complete."""
    choices = [each for each in field.get("anyOf", []) if each != NULL]
    if "anyOf" not in field:
        return
    if len(choices) == 1:
        del field["anyOf"]
        for key, value in choices[0].items():
            field.setdefault(key, value)
    else:
        field["anyOf"] = choices


def model_named(name: str, root: type[BaseModel]) -> type[BaseModel]:
    """The block with a name, somewhere below `root`."""
    waiting, seen = [root], set[type[BaseModel]]()
    while waiting:
        model = waiting.pop()
        if model.__name__ == name:
            return model
        seen.add(model)
        waiting += [inner for inner in below(model) if inner not in seen]
    raise LookupError(name)


def below(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The blocks that stand in a block's fields, in lists and mappings too."""
    found = []
    for field in model.model_fields.values():
        inner = nested(field.annotation)
        if inner is not None:
            found.append(inner)
    return found


def nested(kind: Any) -> type[BaseModel] | None:
    """The block that a type is, or that its lists and mappings hold."""

    direct = block(kind)
    if direct is not None:
        return direct
    return next((found for each in get_args(bare(kind)) if (found := nested(each)) is not None), None)
