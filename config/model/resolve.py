"""Files as written to what the proxy uses: names and paths filled in, shapes laid under their rules' data."""

from __future__ import annotations

from typing import Any

from config.model.files import (
    DEFAULT_DATA,
    GrantBlock,
    RuleBlock,
    RuleConfig,
    SingleFile,
    StreamBlock,
    StreamConfig,
    TeamConfig,
    TeamFile,
)

DEFAULT_TEAM = "default"


def given(block: RuleBlock | StreamBlock) -> dict[str, Any]:
    """A block's fields as they are."""
    return {name: getattr(block, name) for name in type(block).model_fields}


def rule(block: RuleBlock, number: int, shapes: dict[str, dict[str, str]]) -> RuleConfig:
    """A rule, named, with its data complete; `use` must name a shape and goes with a mapping only."""
    data: str | dict[str, str] = DEFAULT_DATA if block.data is None else block.data
    if block.use is not None:
        own = block.data if isinstance(block.data, dict) else {}
        data = {**shapes[block.use], **own}
    return RuleConfig(**{**given(block), "name": block.name or f"rules[{number}]", "data": data})


def stream(name: str, block: StreamBlock, shapes: dict[str, dict[str, str]]) -> StreamConfig:
    """A stream, named, with its path."""
    rules = tuple(rule(each, number, shapes) for number, each in enumerate(block.rules))
    return StreamConfig(**{**given(block), "name": name, "path": path_of(name, block.path), "rules": rules})


def path_of(name: str, path: str | None) -> str:
    """A stream's path, the default one where none is written."""
    return f"/streams/{name}/{{workflowRunId}}" if path is None else path


def grant(name: str, block: GrantBlock | SingleFile) -> TeamConfig:
    """What a team is granted; no streams yet."""
    return TeamConfig(
        name=name,
        hatchet=block.hatchet,
        auth=block.auth,
        auth_written="auth" in block.model_fields_set,
        limits=block.limits,
    )


def team(granted: TeamConfig, file: TeamFile) -> TeamConfig:
    """A granted team with its own streams and tests."""
    streams = {name: stream(name, block, file.shapes) for name, block in file.streams.items()}
    return granted.model_copy(update={"streams": streams, "tests": file.tests})
