"""The blocks of the YAML: each field is declared once, with its type, default, sentence and example.

Parsing, error messages, the JSON Schema, ``docs/configuration.md`` and redaction follow from these
declarations. A default is written as in the YAML and read by the field's own type. The end of a block's name
says what it is: ``…Block`` and ``…File`` are as written, ``…Config`` is what the proxy uses. Durations are
seconds and sizes are bytes once they are read. ``config.checks.checker`` checks what concerns several fields.
"""

from typing import Annotated, Any

from msgspec import Struct, field
from pydantic import BeforeValidator, WithJsonSchema

from config.model.access import (
    ALGORITHMS,
    AUTH_SENTENCE,
    Auth,
    AuthConfig,
    ConsoleConfig,
    DrainConfig,
    JwtConfig,
    LimitsConfig,
    ServerConfig,
    TicketsConfig,
)
from config.model.examples import TestConfig
from config.model.fields import PART, Block, choice, setting
from config.model.hatchet import HatchetConfig, TapConfig
from config.model.payload_types import StepTypesConfig
from config.model.rules import DEFAULT_DATA, Expression, RuleBlock, RuleConfig
from config.model.streams import PLACEHOLDER, BacklogConfig, CorsConfig, StreamBlock, StreamConfig
from config.model.types import (
    kind,
    listed,
    mapping,
    wrong,
)
from config.problems import Place, Problem

__all__ = [
    "ALGORITHMS",
    "DEFAULT_DATA",
    "PART",
    "PLACEHOLDER",
    "AuthConfig",
    "BacklogConfig",
    "Block",
    "ConsoleConfig",
    "CorsConfig",
    "DrainConfig",
    "Expression",
    "HatchetConfig",
    "JwtConfig",
    "LimitsConfig",
    "RuleBlock",
    "RuleConfig",
    "ServerConfig",
    "StreamBlock",
    "StreamConfig",
    "TapConfig",
    "TestConfig",
    "TicketsConfig",
    "choice",
    "setting",
]

# -- files --------------------------------------------------------------------------------------

Shape = Annotated[dict[str, Expression], BeforeValidator(mapping)]
Version = Annotated[int, WithJsonSchema({"const": 1})]


def first_version(value: Any) -> int:
    if value == 1 and isinstance(value, int) and not isinstance(value, bool):
        return 1
    raise wrong("version", f"must be 1, but this is {kind(value)}", "write `version: 1`")


class TeamFile(Block):
    """A team's own file: `teams/NAME.yaml`."""

    version: Annotated[int, BeforeValidator(first_version), WithJsonSchema({"const": 1})] = setting(
        ..., "The version of this format: 1.", 1
    )
    streams: Annotated[dict[str, Annotated[StreamBlock, PART]], BeforeValidator(mapping)] = setting(
        ..., "The streams, by their names.", {"chat": {"rules": [{"events": "step_completed"}]}}
    )
    shapes: Annotated[dict[str, Shape], BeforeValidator(mapping)] = setting(
        {},
        "Data mappings that rules take with `use: NAME`.",
        {"result": {"step": "step", "result": "payload"}},
    )
    types: Annotated[dict[str, Annotated[StepTypesConfig, PART]], BeforeValidator(mapping)] = setting(
        {},
        "What is known of the steps' outputs and chunks, by the steps' names: only for `stream-proxy types`.",
        {"answer": {"output": {"type": "object", "properties": {"text": {"type": "string"}}}}},
    )
    tests: Annotated[tuple[Annotated[TestConfig, PART], ...], BeforeValidator(listed)] = setting(
        [],
        "Tests of the rules; a reload runs them before the new version goes live.",
        [
            {
                "name": "results",
                "stream": "chat",
                "given": {"type": "step_completed", "step": "answer", "payload": {}},
                "expect": "nothing",
            }
        ],
    )


class SingleFile(TeamFile):
    """One team in one file."""

    server: Annotated[ServerConfig, PART] = setting({}, "The listener.", {"port": 8080})
    hatchet: Annotated[HatchetConfig, PART] = setting(
        ..., "How Hatchet is reached.", {"token": "${HATCHET_CLIENT_TOKEN}"}
    )
    auth: Auth = setting("none", AUTH_SENTENCE, "none")
    limits: Annotated[LimitsConfig, PART] = setting({}, "The team's limits.", {"connections": 5000})


class GrantBlock(Block):
    """What the platform team grants to a team."""

    hatchet: Annotated[HatchetConfig, PART] = setting(
        ..., "How the team's Hatchet is reached.", {"token": "${file:/run/secrets/payments-hatchet}"}
    )
    auth: Auth = setting("none", AUTH_SENTENCE, "none")
    limits: Annotated[LimitsConfig, PART] = setting({}, "The team's limits.", {"connections": 5000})


class ProxyFile(Block):
    """The platform team's file in the directory form: `proxy.yaml`."""

    version: Annotated[int, BeforeValidator(first_version), WithJsonSchema({"const": 1})] = setting(
        ..., "The version of this format: 1.", 1
    )
    server: Annotated[ServerConfig, PART] = setting({}, "The listener.", {"port": 8080})
    teams: Annotated[dict[str, Annotated[GrantBlock, PART]], BeforeValidator(mapping)] = setting(
        ...,
        "The teams, by their names: each has a file `teams/NAME.yaml`.",
        {"payments": {"hatchet": {"token": "${file:/run/secrets/payments-hatchet}"}}},
    )


# -- what the proxy uses --------------------------------------------------------------------------


class TeamConfig(Block):
    """A team as the proxy uses it; ``auth_written``: the key `auth` is written, be it ``none``."""

    name: str
    hatchet: HatchetConfig
    auth: AuthConfig | None = None
    auth_written: bool = False
    limits: LimitsConfig = setting({}, "The team's limits.")
    streams: dict[str, StreamConfig] = setting({}, "The team's streams.")
    types: dict[str, StepTypesConfig] = setting({}, "What is known of the steps' payloads.")
    tests: tuple[TestConfig, ...] = ()


class Config(Struct, frozen=True):
    """A whole configuration.

    ``teams`` can be served. ``broken`` are granted teams whose file has errors; their ``grants`` have
    hatchet, auth and limits, but no streams. ``ignored`` are errors in files of teams that are not granted.
    ``warnings`` keep nothing from going live. ``tests_at`` has the place of each test of a team. It is kept
    apart from the team, so that a team does not change when a line is added to its file.
    """

    server: ServerConfig
    teams: dict[str, TeamConfig]
    broken: dict[str, tuple[Problem, ...]] = field(default_factory=dict)
    grants: dict[str, TeamConfig] = field(default_factory=dict)
    single: bool = True
    ignored: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    tests_at: dict[str, tuple[Place, ...]] = field(default_factory=dict)
