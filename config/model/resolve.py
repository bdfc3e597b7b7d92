"""Turns files as written into what the proxy uses: with names, paths and shapes filled in."""

import json
from typing import Any, Final

from msgspec.structs import replace

from config.model.files import (
    DEFAULT_DATA,
    Config,
    GrantBlock,
    RuleBlock,
    RuleConfig,
    SingleFile,
    StreamBlock,
    StreamConfig,
    TeamConfig,
    TeamFile,
)
from config.model.formats import AI_SDK, HOLDS, spec_of
from config.model.streams import HOLD, RETRY

DEFAULT_TEAM = "default"


def given(block: RuleBlock | StreamBlock) -> dict[str, Any]:
    """A block's fields by name, values unchanged."""
    return {name: getattr(block, name) for name in type(block).model_fields}


def rule(block: RuleBlock, number: int, shapes: dict[str, dict[str, str]]) -> RuleConfig:
    """A rule with its name and complete data. A `use` must name a shape, and goes with a mapping only."""
    part = None if block.as_ is None else spec_of(block.as_)
    usual = DEFAULT_DATA if part is None or part.default is None else part.default
    data: str | dict[str, str] = usual if block.data is None else block.data
    if block.use is not None:
        own = block.data if isinstance(block.data, dict) else {}
        data = {**shapes[block.use], **own}
    if block.const is not None:
        data = with_constants({} if block.data is None and block.use is None else data, block.const)
    name = block.name or f"rules[{number}]"
    passes_on = block.payload == "json" and "on_error" not in block.model_fields_set
    return RuleConfig(**{**given(block), "name": name, "data": data, "passes_on": passes_on})


def with_constants(data: str | dict[str, str], const: dict[str, Any]) -> str | dict[str, str]:
    """Data with constant fields laid over it, which are literals of JMESPath."""
    if isinstance(data, str):
        return f"merge({data}, {literal(const)})"
    return {**data, **{name: literal(value) for name, value in const.items()}}


def literal(value: Any) -> str:
    """A JSON value as a JMESPath literal."""
    return "`" + json.dumps(value, ensure_ascii=False).replace("`", "\\u0060") + "`"


def stream(name: str, block: StreamBlock, shapes: dict[str, dict[str, str]]) -> StreamConfig:
    """A stream with its name and path."""
    rules = tuple(rule(each, number, shapes) for number, each in enumerate(block.rules))
    hold = block.retry == HOLD
    nothing = "204" if block.format == AI_SDK else None
    return StreamConfig(
        **{
            **given(block),
            "name": name,
            "path": path_of(name, block.path),
            "rules": rules,
            "retry": RETRY if hold else block.retry,
            "hold": hold or block.format in HOLDS,
            "unknown": block.unknown or nothing or "wait",
            "finished": block.finished or nothing or "replay",
        }
    )


def path_of(name: str, path: str | None) -> str:
    """A stream's path: as written, or the default."""
    return f"/streams/{name}/{{workflowRunId}}" if path is None else path


def grant(name: str, block: GrantBlock | SingleFile) -> TeamConfig:
    """A team with what it is granted, without streams."""
    return TeamConfig(
        name=name,
        hatchet=block.hatchet,
        auth=block.auth,
        auth_written="auth" in block.model_fields_set,
        limits=block.limits,
    )


def team(granted: TeamConfig, file: TeamFile) -> TeamConfig:
    """A granted team with the streams and tests of its file."""
    streams = {name: stream(name, block, file.shapes) for name, block in file.streams.items()}
    return granted.model_copy(update={"streams": streams, "types": file.types, "tests": file.tests})


SHARED: Final = ("connections", "runs", "backlog_bytes", "connects_per_second")
"""The limits on what a team has in all; those for each run and each subject are not divided."""


def shared(config: Config, workers: int) -> Config:
    """The configuration of one of several workers: each has its share of what a team may have in all."""
    if workers == 1:
        return config
    return replace(config, teams={name: _share(team, workers) for name, team in config.teams.items()})


def _share(whole: TeamConfig, workers: int) -> TeamConfig:
    written = {name: getattr(whole.limits, name) for name in SHARED}
    limits = {name: -(-most // workers) for name, most in written.items() if most is not None}
    subscriptions = -(-whole.hatchet.subscriptions // workers)
    return whole.model_copy(
        update={
            "limits": whole.limits.model_copy(update=limits),
            "hatchet": whole.hatchet.model_copy(update={"subscriptions": subscriptions}),
        }
    )
