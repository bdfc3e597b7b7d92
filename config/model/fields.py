"""Declares a block of the YAML: a model whose fields have a default, a sentence and an example."""

from typing import Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from config.model.types import (
    mapping,
    one_of,
)


def setting(default: Any, sentence: str, *examples: Any, **more: Any) -> Any:
    """A field: its default as it would be written in YAML (``...``: required), a sentence, examples."""
    return Field(default=default, description=sentence, examples=list(examples) or None, **more)


def part(value: Any) -> Any:
    """A mapping from the YAML, or a block made by code."""
    return value if isinstance(value, BaseModel) else mapping(value)


PART: Final = BeforeValidator(part)


class Block(BaseModel):
    """A mapping of the YAML. Unknown keys are errors; values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, defer_build=True, validate_default=True, hide_input_in_errors=True
    )


def choice(*words: str) -> Any:
    """Validates that a value is one of `words`."""
    return BeforeValidator(one_of(*words))
