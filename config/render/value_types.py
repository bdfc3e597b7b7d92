"""What is known of a JSON value before it exists, as far as TypeScript can say it.

A `Type` comes from a `Shape` of the expressions or from a JSON Schema; `field` and `element` say what lies
inside, and `written` writes TypeScript. Where nothing is known the type is `UNKNOWN`, which is never wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from config.expressions.types import Shape

NAME: Final = re.compile(r"[A-Za-z_$][\w$]*")
LOCAL: Final = "#/"
DEEPEST: Final = 24  # levels of a schema; a schema that refers to itself ends there as unknown


@dataclass(frozen=True, slots=True)
class Plain:
    """A type that TypeScript has a word for."""

    word: str  # unknown | string | number | boolean | null


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """One value: a string, a number or a boolean."""

    value: str | int | float | bool

    def __eq__(self, other: object) -> bool:
        """Unlike in Python, 1 is not true."""
        return isinstance(other, Literal) and (type(self.value), self.value) == (
            type(other.value),
            other.value,
        )

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an object; `optional`: it may be missing."""

    name: str
    type: Type
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Object:
    """An object: its known fields, and the type of all others; None if there are no others."""

    fields: tuple[Field, ...] = ()
    others: Type | None = None


@dataclass(frozen=True, slots=True)
class Array:
    """An array of elements of one type."""

    element: Type


@dataclass(frozen=True, slots=True)
class Union:
    """One of several types; made by `union`."""

    options: tuple[Type, ...]


Type = Plain | Literal | Object | Array | Union

UNKNOWN: Final = Plain("unknown")
STRING: Final = Plain("string")
NUMBER: Final = Plain("number")
BOOLEAN: Final = Plain("boolean")
NULL: Final = Plain("null")
ANY_OBJECT: Final = Object(others=UNKNOWN)


def union(types: Iterable[Type]) -> Type:
    """One of `types`, each once; unknown if one of them is."""
    found: dict[Type, None] = {}
    for each in types:
        for option in options(each):
            found[option] = None
    if UNKNOWN in found or not found:
        return UNKNOWN
    kept = [each for each in found if not (isinstance(each, Literal) and _wider(each) in found)]
    kept.sort(key=lambda each: each == NULL)  # null last, as people write it
    return kept[0] if len(kept) == 1 else Union(tuple(kept))


def options(given: Type) -> tuple[Type, ...]:
    """The alternatives of a type."""
    return given.options if isinstance(given, Union) else (given,)


def nullable(given: Type) -> Type:
    """The type, or null."""
    return union((given, NULL))


def without_null(given: Type) -> Type:
    """The type without null; null itself stays."""
    left = [each for each in options(given) if each != NULL]
    return union(left) if left else given


def has_null(given: Type) -> bool:
    """Whether the value may be null."""
    return given == UNKNOWN or NULL in options(given)


def _wider(literal: Literal) -> Type:
    if isinstance(literal.value, bool):
        return BOOLEAN
    return STRING if isinstance(literal.value, str) else NUMBER


def field(of: Type, name: str) -> Type:
    """What the JMESPath expression `name` gives on a value of this type: null on what is no object."""
    return union(_field(each, name) for each in options(of))


def _field(of: Type, name: str) -> Type:
    if of == UNKNOWN:
        return UNKNOWN
    if not isinstance(of, Object):
        return NULL
    for each in of.fields:
        if each.name == name:
            return nullable(each.type) if each.optional else each.type
    return NULL if of.others is None else nullable(of.others)


def element(of: Type) -> Type | None:
    """The elements of the arrays among the alternatives; None if there is no array."""
    if of == UNKNOWN:
        return UNKNOWN
    found = [each.element for each in options(of) if isinstance(each, Array)]
    return union(found) if found else None


def of_value(value: Any) -> Type:
    """The type of a constant: literals for text, numbers and booleans."""
    if value is None:
        return NULL
    if isinstance(value, list):
        return Array(union(map(of_value, value)) if value else UNKNOWN)
    if isinstance(value, dict):
        return Object(tuple(Field(name, of_value(inner)) for name, inner in value.items()))
    return Literal(value)


def of_shape(shape: Shape) -> Type:
    """The type of what the expressions know."""
    found: Type
    if shape.choices:
        found = union(map(Literal, shape.choices))
    elif shape.kind == "object":
        fields = shape.fields
        if fields is None:
            found = ANY_OBJECT
        else:
            found = Object(tuple(Field(name, of_shape(inner)) for name, inner in fields.items()))
    elif shape.kind == "array":
        found = Array(UNKNOWN)
    elif shape.kind in ("string", "number", "boolean", "null"):
        found = Plain(shape.kind)
    else:
        return UNKNOWN
    return nullable(found) if shape.nullable else found


# -- JSON Schema --------------------------------------------------------------------------------------

_WORDS: Final[Mapping[str, Type]] = {
    "string": STRING,
    "number": NUMBER,
    "integer": NUMBER,
    "boolean": BOOLEAN,
    "null": NULL,
}


def of_schema(schema: Any) -> Type:
    """The type of the values that a JSON Schema permits; what TypeScript cannot say is left out."""
    return _of_schema(schema, schema, 0)


def _of_schema(schema: Any, root: Any, depth: int) -> Type:
    if not isinstance(schema, dict) or depth > DEEPEST:
        return UNKNOWN
    if "$ref" in schema:
        return _of_schema(referred(root, schema["$ref"]), root, depth + 1)
    if "const" in schema:
        return of_value(schema["const"])
    if "enum" in schema:
        return union(map(of_value, schema["enum"]))
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return union(_of_schema(each, root, depth + 1) for each in schema[key])
    if "allOf" in schema:
        return _all_of([*schema["allOf"], _without(schema, "allOf")], root, depth)
    return _of_keywords(schema, root, depth)


def _of_keywords(schema: Mapping[str, Any], root: Any, depth: int) -> Type:
    kinds = schema.get("type")
    if kinds is None and ("properties" in schema or "additionalProperties" in schema):
        kinds = "object"
    if kinds is None and "items" in schema:
        kinds = "array"
    if kinds is None:
        return UNKNOWN
    return union(
        _of_kind(kind, schema, root, depth) for kind in ([kinds] if isinstance(kinds, str) else kinds)
    )


def _of_kind(kind: str, schema: Mapping[str, Any], root: Any, depth: int) -> Type:
    if kind == "array":
        return Array(_of_schema(schema.get("items"), root, depth + 1))
    if kind != "object":
        return _WORDS.get(kind, UNKNOWN)
    required = schema.get("required", [])
    fields = tuple(
        Field(name, _of_schema(inner, root, depth + 1), name not in required)
        for name, inner in schema.get("properties", {}).items()
    )
    others = schema.get("additionalProperties", True)
    return Object(fields, None if others is False else _of_schema(others, root, depth + 1))


def _all_of(schemas: list[Any], root: Any, depth: int) -> Type:
    """Objects are laid over each other; of anything else the first type that is known is taken."""
    found = [made for each in schemas if (made := _of_schema(each, root, depth + 1)) != UNKNOWN]
    objects = [each for each in found if isinstance(each, Object)]
    if len(objects) != len(found) or not found:
        return found[0] if found else UNKNOWN
    fields = {each.name: each for one in objects for each in one.fields}
    closed = any(one.others is None for one in objects)
    return Object(tuple(fields.values()), None if closed else UNKNOWN)


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def referred(root: Any, reference: Any) -> Any:
    """What a reference like ``#/$defs/name`` points to; None where it points to nothing."""
    if not isinstance(reference, str) or not reference.startswith(LOCAL):
        return None
    found = root
    for step in reference.removeprefix(LOCAL).split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


# -- TypeScript ---------------------------------------------------------------------------------------


def written(given: Type) -> str:
    """The type as TypeScript, on one line."""
    if isinstance(given, Plain):
        return given.word
    if isinstance(given, Literal):
        return json.dumps(given.value, ensure_ascii=False)
    if isinstance(given, Union):
        return " | ".join(map(written, given.options))
    if isinstance(given, Array):
        inner = written(given.element)
        return f"({inner})[]" if isinstance(given.element, Union) else f"{inner}[]"
    return _object(given)


def _object(given: Object) -> str:
    fields = [
        f"{name_of(each.name)}{'?' if each.optional else ''}: {written(each.type)}" for each in given.fields
    ]
    if given.others is not None:
        # an index signature must agree with the named fields, so beside them the rest is unknown
        rest = given.others if not given.fields else UNKNOWN
        fields.append(f"[name: string]: {written(rest)}")
    return f"{{ {'; '.join(fields)} }}" if fields else "{}"


def name_of(name: str) -> str:
    """A field's name as TypeScript writes it."""
    return name if NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)
