"""Renders what the proxy makes of its files as YAML: every default, names and shapes filled in, no secret.

The blocks are written with the keys that the files have, so the text can be read beside the reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretStr

from config.checks.redaction import USER_INFO
from config.model.blocks import keys
from config.model.files import (
    AuthConfig,
    Config,
    HatchetConfig,
    RuleBlock,
    RuleConfig,
    ServerConfig,
    StreamBlock,
    StreamConfig,
    TapConfig,
    TeamConfig,
)
from config.model.formats import SSE
from config.model.streams import HOLD
from config.model.types import DURATION_SCHEMA, REDACTED, SIZE_SCHEMA
from config.source.scalars import is_text

WIDTH: Final = 100  # characters of a line; longer values are written in several lines
PLAIN: Final = re.compile(r"[A-Za-z_/][\w./@-]*( [\w./@-]+)*|[0-9]+[A-Za-z]+")  # texts that need no quotes
UNITS: Final = ((3600.0, "h"), (60.0, "m"), (1.0, "s"))
SIZES: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))

Addresses = Mapping[str, Mapping[str, Any]]
"""By team: values of `hatchet` that come from its token or from the environment."""


def effective(config: Config, addresses: Addresses) -> dict[str, Any]:
    """What is in force, with the keys of the files, as JSON values."""
    server = _block(config.server, ServerConfig)
    teams = {name: effective_team(team, addresses.get(name, {})) for name, team in config.teams.items()}
    if config.single:
        return {"version": 1, "server": server, **next(iter(teams.values()), {})}
    return {"version": 1, "server": server, "teams": teams}


def as_yaml(value: Mapping[str, Any]) -> str:
    """The YAML text of `effective`."""
    return "\n".join(_lines(value)) + "\n"


def effective_team(team: TeamConfig, addresses: Mapping[str, Any]) -> dict[str, Any]:
    """What is in force for one team, as in `effective`; `addresses`: its values of `hatchet`."""
    auth = "none" if team.auth is None else _block(team.auth, AuthConfig)
    hatchet = {**_block(team.hatchet, HatchetConfig), **_shown(dict(addresses))}
    return {
        "hatchet": {key: hatchet[key] for key in keys(HatchetConfig) if key in hatchet},
        "auth": auth,
        "limits": _block(team.limits, type(team.limits)),
        "streams": {name: _stream(stream) for name, stream in team.streams.items()},
    }


def _stream(stream: StreamConfig) -> dict[str, Any]:
    found = _block(stream, StreamBlock)
    if stream.hold:
        found["retry"] = HOLD
    else:
        found["retry"] = _duration(stream.retry)
    if stream.format != SSE:
        found.pop("control")  # the format has none
    found["rules"] = [_rule(rule) for rule in stream.rules]
    return found


def _rule(rule: RuleConfig) -> dict[str, Any]:
    """A rule; `use` and `const` are part of its `data` already."""
    found = _block(rule, RuleBlock)
    for name in ("use", "const"):
        found.pop(name, None)
    if rule.passes_on:
        found.pop("on_error")  # written, it would mean that chunks which are no JSON are skipped
    return found


def _block(model: BaseModel, written: type[BaseModel]) -> dict[str, Any]:
    """The fields of `model` that `written` has, by their written names, without empty ones."""
    found = {}
    for key, (name, field) in zip(keys(written), written.model_fields.items(), strict=True):
        value = getattr(model, name)
        if value is None:
            continue
        kinds = set(_metadata(field.annotation)) | set(map(id, field.metadata))
        if id(DURATION_SCHEMA) in kinds and isinstance(value, float):
            found[key] = _duration(value)
        elif id(SIZE_SCHEMA) in kinds and isinstance(value, int):
            found[key] = _size(value)
        else:
            found[key] = _shown(value)
    return found


def _metadata(kind: Any) -> Iterator[int]:
    """The identities of what annotates a type, in it or within."""
    yield from map(id, getattr(kind, "__metadata__", ()))
    for inner in get_args(kind):
        yield from _metadata(inner)


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return REDACTED
    if isinstance(value, TapConfig):
        return {value.key: value.value}
    if isinstance(value, BaseModel):
        return _block(value, type(value))
    if isinstance(value, Mapping):
        return {str(name): _shown(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(each) for each in value]
    return USER_INFO.sub(REDACTED, value) if isinstance(value, str) else value


def _duration(seconds: float) -> str:
    for each, unit in UNITS:
        if seconds >= each and seconds % each == 0:
            return f"{seconds / each:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms" if seconds else "0s"


def _size(count: int) -> str:
    for each, unit in SIZES:
        if count >= each and count % each == 0:
            return f"{count // each}{unit}"
    return f"{count}B"


def _lines(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, each in value.items():
        key = _flow(str(name))
        written = f"{indent}{key}: {_flow(each)}"
        nests = isinstance(each, Mapping) and any(isinstance(inner, dict | list) for inner in each.values())
        blocks = isinstance(each, list) and any(isinstance(inner, dict) for inner in each)
        if isinstance(each, Mapping) and each and (nests or len(written) > WIDTH):
            yield f"{indent}{key}:"
            yield from _lines(each, indent + "  ")
        elif blocks or (isinstance(each, list) and len(written) > WIDTH):
            yield f"{indent}{key}:"
            for item in each:
                yield from _item(item, indent + "  ")
        else:
            yield written


def _flow(value: Any) -> str:
    """A value in one line. A text in quotes is written as in JSON, which is YAML too."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(str(name))}: {_flow(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and is_text(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _item(item: Any, indent: str) -> Iterator[str]:
    """One entry of a list."""
    if not isinstance(item, Mapping):
        yield f"{indent}- {_flow(item)}"
        return
    sign = "- "
    for line in _lines(item):
        yield f"{indent}{sign}{line}"
        sign = "  "
