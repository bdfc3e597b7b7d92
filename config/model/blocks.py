"""The blocks of the model and their fields, found by the paths of a file."""

from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Path = tuple[str | int, ...]


def keys(model: type[BaseModel]) -> list[str]:
    """The keys as they are written."""
    return [field.alias or name for name, field in model.model_fields.items()]


def field_of(model: type[BaseModel], key: str | int) -> FieldInfo | None:
    """The field that a key means; by its written name only."""
    return _fields(model).get(key)


@cache
def _fields(model: type[BaseModel]) -> dict[str | int, FieldInfo]:
    """The fields by their written names."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def model_at(model: type[BaseModel] | None, path: Path) -> type[BaseModel] | None:
    """The block that stands at a path below `model`."""
    kind: Any = model
    for step in path:
        inner = block(kind)
        if inner is not None:
            found = field_of(inner, step)
            kind = found.annotation if found is not None else None
        elif get_origin(bare(kind)) is dict:
            kind = get_args(bare(kind))[1]
        elif get_origin(bare(kind)) is tuple:
            kind = get_args(bare(kind))[0]
        else:
            return None
    return block(kind)


@cache  # at least the number of types in the model
def bare(kind: Any) -> Any:
    """A type without its annotations and without None."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif type(None) in get_args(kind) and get_origin(kind) not in (dict, tuple):
            kind = next(choice for choice in get_args(kind) if choice is not type(None))
        else:
            return kind


@cache
def block(kind: Any) -> type[BaseModel] | None:
    """The block that a type is, or None."""
    found = bare(kind)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None
