"""How a block of the YAML is declared: a model whose fields have a default, a sentence, an example."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from config.model.types import (
    mapping,
    one_of,
)


def setting(default: Any, sentence: str, *examples: Any, **more: Any) -> Any:
    """A field: its default as the YAML would say it (``...``: it must be written), a sentence, examples."""
    return Field(default=default, description=sentence, examples=list(examples) or None, **more)


def part(value: Any) -> Any:
    """A mapping, or a block that code made."""
    return value if isinstance(value, BaseModel) else mapping(value)


PART: Final = BeforeValidator(part)


class Block(BaseModel):
    """A mapping of the YAML: unknown keys are errors, values do not change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, defer_build=True, validate_default=True, hide_input_in_errors=True
    )


def choice(*words: str) -> Any:
    return BeforeValidator(one_of(*words))
