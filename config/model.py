"""The YAML's blocks: each field declared once, with its type, default, sentence and example.

Parsing, complaints, the JSON Schema, ``docs/configuration.md`` and redaction follow from these
declarations. Defaults are written as in the YAML and read by the field's own type. What a block's name
ends in tells what it is: ``…Block`` and ``…File`` are as written, ``…Config`` is what the proxy uses.
Durations are seconds and sizes bytes, once read. What concerns several fields is in ``config.check``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from config.problems import Problem
from config.shapes import EVENT_TYPES
from config.units import (
    ORIGIN_SCHEMA,
    VARIABLE,
    Count,
    Duration,
    Flag,
    Lasting,
    OneOrMany,
    Origin,
    Port,
    Secret,
    Size,
    Url,
    Word,
    kind,
    listed,
    many,
    mapping,
    nearest,
    one_of,
    one_or_many,
    text,
    word,
    wrong,
)

DEFAULT_DATA: Final = {"type": "type", "step": "step", "payload": "payload"}
PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES256K", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"),
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


# -- streams ------------------------------------------------------------------------------------


def null_or_word(value: Any) -> str:
    return "null" if value is None else one_of("skip", "null")(value)


def mapped(value: Any) -> Any:
    """One expression, or a mapping of field to expression."""
    if isinstance(value, str):
        return word(value)
    if not isinstance(value, dict):
        raise wrong(
            "wrong-type",
            f"must be an expression or a mapping of field to expression, but this is {kind(value)}",
            "a constant is an expression too: `'text'` for text, `` `1` `` for a number, each in YAML quotes",
        )
    return value


def expression(value: Any) -> str:
    """The text of a JMESPath expression."""
    if isinstance(value, str):
        return word(value)
    if isinstance(value, dict | list):
        hint = 'an object is an expression in quotes: "{id: payload.id, name: payload.name}"'
    elif value is None:
        hint = 'null is the expression "`null`"'
    else:
        hint = f'a constant is an expression in backticks, in YAML quotes: "`{str(value).lower()}`"'
    raise wrong("wrong-type", f"must be an expression in text, but this is {kind(value)}", hint)


Expression = Annotated[str, BeforeValidator(expression)]
A_GLOB: Final = {"type": "string", "pattern": r"[*?]"}
AN_EVENT: Final = {"anyOf": [{"enum": list(EVENT_TYPES)}, A_GLOB]}
Events = Annotated[OneOrMany, one_or_many(AN_EVENT)]
EventName = Annotated[
    Word, WithJsonSchema({"type": "string", "not": {"pattern": r"^(open|error)$|^stream\."}})
]
Template = Annotated[
    Word, WithJsonSchema({"type": "string", "pattern": r"^/.*\{(workflowRunId|metadata\.[^{}]+)\}"})
]
DATA_SCHEMA: Final = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}]}
)


def one_or_fields(value: Any) -> str:
    """Which of the two a `data` is; pydantic then complains about that one only."""
    return "fields" if isinstance(value, dict) else "one"


Expressions = Annotated[
    Annotated[Expression, Tag("one")] | Annotated[dict[str, Expression], Tag("fields")],
    Discriminator(one_or_fields),
]
Data = Annotated[Expressions, BeforeValidator(mapped), DATA_SCHEMA]


class RuleBlock(Block):
    """A rule: which events it takes, and what becomes of them."""

    name: Word | None = setting(
        None,
        "Its name in errors, metrics and `explain`; by default `rules[0]`, `rules[1]` and so on.",
        "tokens",
    )
    events: Events = setting(
        ...,
        "The events it takes: one or a list; `*` and `?` stand for any characters.",
        "step_completed",
        ["step_*", "run_failed"],
    )
    steps: OneOrMany | None = setting(
        None,
        "The steps it takes: one or a list, globs too; by default every step. "
        "A rule with steps never takes run events.",
        "generate_*",
        ["start", "load_docs"],
    )
    when: Expression | None = setting(
        None,
        "A JMESPath expression over the event; where it is false-like (false, null, empty) "
        "the rule does not match.",
        "payload != ''",
    )
    payload: Annotated[Literal["text", "json"], choice("text", "json")] = setting(
        "text", "How a chunk of `step_stream` is read: as text, or as JSON.", "json"
    )
    event: EventName | None = setting(
        None, "The SSE event's name; by default none, so that `EventSource.onmessage` receives it.", "token"
    )
    use: Word | None = setting(
        None,
        "A shape (see `shapes`) whose fields are the data; the rule's own `data` fields are laid over it.",
        "result",
    )
    data: Data | None = setting(
        None,
        "What is sent: one expression, or a mapping of field to expression; "
        "by default `{type: type, step: step, payload: payload}`.",
        {"text": "payload"},
        "payload.result",
    )
    nulls: Annotated[Literal["keep", "drop"], choice("keep", "drop")] = setting(
        "keep", "What becomes of fields that came out null.", "drop"
    )
    on_error: Annotated[
        Literal["skip", "null"],
        BeforeValidator(null_or_word),
        WithJsonSchema({"enum": ["skip", "null", None]}),
    ] = setting(
        "skip",
        "What becomes of an event on which an expression fails: it is skipped, or what failed becomes null.",
        "null",
    )


class RuleConfig(RuleBlock):
    """A rule as the proxy uses it: named, its shape laid under its data."""

    name: str
    data: Data = setting(DEFAULT_DATA, "What is sent.")


class BacklogConfig(Block):
    """What is kept of a run's frames, for those who come late or come back."""

    events: Count = setting(1000, "At most so many frames.", 1000)
    bytes: Size = setting("1MiB", "At most so much.", "1MiB")
    keep_after_end: Duration = setting("5m", "How long a finished run's frames are kept.", "5m")


class CorsConfig(Block):
    """Which pages of other origins may read the stream."""

    origins: Annotated[tuple[Origin, ...], BeforeValidator(many), one_or_many(ORIGIN_SCHEMA)] = setting(
        ...,
        "The origins that may: scheme, host, and port where it is not the usual one.",
        ["https://app.example.com"],
    )
    credentials: Flag = setting(False, "Whether such pages may send cookies.", True)


class StreamBlock(Block):
    """A stream: a path, and the rules that say what of a run goes to the browser."""

    path: Template | None = setting(
        None,
        "Where it is served: with `{workflowRunId}` or `{metadata.KEY}`; "
        "by default `/streams/NAME/{workflowRunId}`.",
        "/chat/{workflowRunId}",
        "/message/{metadata.message_id}",
    )
    rules: Annotated[tuple[Annotated[RuleBlock, PART], ...], BeforeValidator(listed)] = setting(
        ...,
        "In order: the first rule that matches an event decides; "
        "an event that none matches is not forwarded.",
        [{"events": "step_completed"}],
    )
    heartbeat: Lasting = setting("15s", "A comment is sent after so long without traffic.", "15s")
    retry: Lasting = setting(
        "3s", "How long a browser waits before it reconnects, jittered by a third.", "3s"
    )
    wait_for_run: Duration = setting("10s", "How long a client may be ahead of its run.", "10s")
    backlog: Annotated[BacklogConfig, PART] = setting(
        {}, "What is kept of each run.", {"events": 1000, "bytes": "1MiB", "keep_after_end": "5m"}
    )
    cors: Annotated[CorsConfig, PART] | None = setting(
        None,
        "Which other origins may read it; by default none.",
        {"origins": ["https://app.example.com"], "credentials": True},
    )
    allow: Expression | None = setting(
        None,
        "A JMESPath expression over `claims`, `run` and `request`; anything but true refuses.",
        "claims.sub == run.metadata.user_id",
    )


class StreamConfig(StreamBlock):
    """A stream as the proxy uses it: named, with its path and its rules complete."""

    name: str
    path: str
    rules: tuple[RuleConfig, ...]

    @property
    def metadata_key(self) -> str | None:
        """The KEY of ``{metadata.KEY}`` in the path; None where runs are asked for by their own id."""
        for placeholder in PLACEHOLDER.findall(self.path):
            if placeholder.startswith("metadata."):
                return str(placeholder.removeprefix("metadata."))
        return None


# -- Hatchet ------------------------------------------------------------------------------------


class TapConfig(Block):
    """A metadata pair that every streamed run of the team carries."""

    key: str
    value: str


def pair(value: Any) -> Any:
    """``{key: value}``, both text."""
    if isinstance(value, TapConfig):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise wrong("tap", "must be exactly one pair of text", 'like {stream: "on"}')
    [(key, named)] = value.items()
    return TapConfig(key=word(key), value=word(named))


def api(value: Any) -> str:
    """``auto``, ``off`` or a URL."""
    written = value if isinstance(value, str) else text(value)
    if written in ("auto", "off") or re.fullmatch(r"https?://[^\s/]+\S*", written):
        return str(written)
    hint = nearest(value, ["auto", "off"]) or "a URL is like https://hatchet.example.com"
    raise wrong("choice", f"must be `auto`, `off` or a URL, but this is {kind(value)}", hint)


def address(value: Any) -> str:
    """``host:port``."""
    written = word(value)
    match = re.fullmatch(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", written)
    if match is None or int(match[1]) > 65535:
        raise wrong(
            "address", f"must be host:port, but this is {kind(value)}", "like hatchet:7077, without a scheme"
        )
    return str(written)


Address = Annotated[
    str,
    BeforeValidator(address),
    WithJsonSchema({"type": "string", "pattern": rf"^[^/]+:[0-9]+$|{VARIABLE}"}),
]
Api = Annotated[
    str,
    BeforeValidator(api),
    WithJsonSchema({"type": "string", "pattern": rf"^(auto|off|https?://.+)$|{VARIABLE}"}),
]
TAP_SCHEMA: Final = WithJsonSchema(
    {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": {"type": "string"}}
)


class HatchetConfig(Block):
    """How a team's Hatchet is reached; the rest comes out of the token and `HATCHET_CLIENT_*`."""

    token: Secret = setting(
        ...,
        "The tenant's API token, from Hatchet's dashboard.",
        "${HATCHET_CLIENT_TOKEN}",
        "${file:/run/secrets/hatchet}",
    )
    host_port: Address | None = setting(
        None, "The engine's gRPC address; by default the token's.", "hatchet:7077"
    )
    tls: Annotated[Literal["tls", "mtls", "none"], choice("tls", "mtls", "none")] | None = setting(
        None,
        "How the gRPC connection is secured; by default `HATCHET_CLIENT_TLS_STRATEGY`, else `tls`.",
        "none",
    )
    ca: Word | None = setting(
        None, "A file with the certificates that the engine's is checked against.", "/etc/hatchet/ca.pem"
    )
    cert: Word | None = setting(None, "A file with our certificate, for `mtls`.", "/etc/hatchet/client.pem")
    key: Word | None = setting(
        None, "A file with our certificate's key, for `mtls`.", "/etc/hatchet/client.key"
    )
    api: Api = setting(
        "auto",
        "The REST history: `auto` (the token's server), `off`, or a URL.",
        "https://hatchet.example.com",
    )
    max_message: Size = setting(
        "32MiB", "What is larger is lost, and announced as a gap (`too_large`).", "32MiB"
    )
    tap: Annotated[TapConfig, BeforeValidator(pair), TAP_SCHEMA] | None = setting(
        None,
        "A metadata pair that every streamed run carries: one subscription then serves the whole team.",
        {"stream": "on"},
    )


# -- who may, and how much ----------------------------------------------------------------------


def algorithm(value: Any) -> str:
    """A signature algorithm; never ``none``."""
    if isinstance(value, str) and value in ALGORITHMS:
        return str(value)
    if isinstance(value, str) and value.lower() == "none":
        raise wrong(
            "choice", "must not be `none`: that accepts tokens that nobody signed", "RS256 or ES256 are usual"
        )
    raise wrong(
        "choice",
        f"must be a signature algorithm, but this is {kind(value)}",
        nearest(value, ALGORITHMS) or f"one of {', '.join(ALGORITHMS)}",
    )


def credential(value: Any) -> str:
    """``bearer``, ``cookie:NAME`` or ``ticket``."""
    written = word(value)
    if written in ("bearer", "ticket") or re.fullmatch(r"cookie:[!#$%&'*+.^_`|~0-9A-Za-z-]+", written):
        return str(written)
    hint = (
        "name the cookie: cookie:session"
        if written.startswith("cookie")
        else nearest(value, ["bearer", "ticket"])
    )
    raise wrong("choice", f"must be `bearer`, `cookie:NAME` or `ticket`, but this is {kind(value)}", hint)


Algorithm = Annotated[str, BeforeValidator(algorithm), WithJsonSchema({"enum": list(ALGORITHMS)})]
A_CREDENTIAL: Final = {
    "anyOf": [{"enum": ["bearer", "ticket"]}, {"type": "string", "pattern": "^cookie:.+$"}]
}
Credential = Annotated[str, BeforeValidator(credential)]


class JwtConfig(Block):
    """How a token is verified: by the keys of an identity provider, or by one key."""

    jwks_url: Url | None = setting(
        None, "Where the identity provider publishes its keys.", "https://id.example.com/jwks.json"
    )
    key: Secret | None = setting(
        None, "A shared secret or a public key in PEM, instead of `jwks_url`.", "${file:/run/secrets/jwt-key}"
    )
    audience: Word | None = setting(None, "What the token's `aud` must be or contain.", "streams")
    issuer: Word | None = setting(None, "What the token's `iss` must be.", "https://id.example.com/")
    algorithms: Annotated[
        tuple[Algorithm, ...], BeforeValidator(many), one_or_many({"enum": list(ALGORITHMS)})
    ] = setting(..., "The signature algorithms that are accepted.", ["RS256"])
    leeway: Duration = setting("30s", "By how much clocks may differ.", "30s")


class TicketsConfig(Block):
    """Short-lived tickets for a browser's EventSource, which can send no header."""

    key: Secret = setting(
        ...,
        "The key that tickets are signed with; the same for all replicas.",
        "${file:/run/secrets/tickets}",
    )
    lifetime: Lasting = setting("10m", "How long a ticket opens a stream.", "10m")


class AuthConfig(Block):
    """Who is asking: the credentials that are looked at, and how they are verified."""

    jwt: Annotated[JwtConfig, PART] = setting(
        ...,
        "How tokens are verified.",
        {"jwks_url": "https://id.example.com/jwks.json", "algorithms": ["RS256"]},
    )
    from_: Annotated[tuple[Credential, ...], BeforeValidator(many), one_or_many(A_CREDENTIAL)] = setting(
        ["bearer"],
        "Where credentials are looked for, in order: `bearer`, `cookie:NAME`, `ticket`.",
        ["bearer", "cookie:session", "ticket"],
        alias="from",
    )
    tickets: Annotated[TicketsConfig, PART] | None = setting(
        None,
        "Tickets of our own, from `POST /TEAM/tickets`.",
        {"key": "${file:/run/secrets/tickets}", "lifetime": "10m"},
    )

    model_config = ConfigDict(populate_by_name=True)


def written_none(value: Any) -> Any:
    """``none``, as a word; an empty value would be an open door by accident."""
    if isinstance(value, AuthConfig) or (isinstance(value, str) and value == "none"):
        return None if isinstance(value, str) else value
    if isinstance(value, dict):
        return value
    raise wrong(
        "wrong-type",
        "must be a mapping or the word `none`",
        "`auth: none` lets everybody in; else write `jwt:` under it",
    )


Auth = Annotated[AuthConfig | None, BeforeValidator(written_none)]
AUTH_SENTENCE: Final = (
    "Who may connect; `none` lets everybody in and must be written to listen beyond loopback."
)


class LimitsConfig(Block):
    """A team's limits; those that are not written are not applied."""

    connections: Count | None = setting(None, "Open connections.", 5000)
    connections_per_run: Count | None = setting(None, "Open connections on one run.", 500)
    connections_per_subject: Count | None = setting(
        None, "Open connections of one subject (the token's `sub`).", 20
    )
    runs: Count | None = setting(None, "Runs that are followed at a time.", 2000)
    backlog_bytes: Size | None = setting(None, "What all the team's backlogs may hold together.", "256MiB")
    connects_per_second: Count | None = setting(None, "New connections in a second.", 200)


class DrainConfig(Block):
    """How the process takes its leave."""

    grace: Duration = setting("20s", "At most so long between SIGTERM and exit.", "20s")
    spread: Duration = setting("10s", "Over so long the clients' reconnects are spread.", "10s")


def port_or_none(value: Any) -> Any:
    return None if value is None or value == "none" else value


class ServerConfig(Block):
    """The listener; the command line and the environment win over it."""

    host: Word = setting("127.0.0.1", "The address to listen on.", "0.0.0.0")
    port: Port = setting(8080, "The port to listen on.", 8080)
    admin_port: Annotated[
        Port | None,
        BeforeValidator(port_or_none),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 0, "maximum": 65535},
                    {"type": "string", "pattern": rf"^none$|{VARIABLE}"},
                ]
            }
        ),
    ] = setting("none", "A port of its own for probes and metrics; `none`: on the same port.", 9090)
    linger: Duration = setting("30s", "An upstream subscription stays so long after its last client.", "30s")
    check_after: Lasting = setting("15s", "Without an event for so long, the run's state is read.", "15s")
    write_timeout: Lasting = setting("30s", "A client that takes nothing for so long is disconnected.", "30s")
    drain: Annotated[DrainConfig, PART] = setting(
        {}, "How the process takes its leave of its clients.", {"grace": "20s", "spread": "10s"}
    )


# -- tests --------------------------------------------------------------------------------------


def expected(value: Any) -> Any:
    """``nothing``, or ``{event, data}``."""
    if isinstance(value, str) and value == "nothing":
        return value
    if not isinstance(value, dict):
        raise wrong(
            "expect",
            f"must be `nothing` or a mapping with `data`, but this is {kind(value)}",
            "like {event: paid, data: {order: 7}}",
        )
    for key in value:
        if key not in ("event", "data"):
            raise wrong(
                "unknown-key",
                f"must not have a key `{key[:60]}`",
                nearest(key, ["event", "data"]) or "it has `event` and `data`",
            )
    if "data" not in value:
        raise wrong("missing-key", "must say the data", "like {data: {order: 7}}, or `nothing`")
    if value.get("event") is not None:
        word(value["event"])
    return value


GIVEN_SCHEMA: Final = WithJsonSchema(
    {
        "type": "object",
        "properties": {
            "type": {"enum": list(EVENT_TYPES), "description": "Which event."},
            "step": {"type": ["string", "null"], "description": "The step's name; null on run events."},
            "payload": {"description": "What it carries: text for a chunk, else JSON."},
            "attempt": {"type": ["integer", "null"], "minimum": 1, "description": "1 for the first try."},
            "index": {"type": ["integer", "null"], "minimum": 0, "description": "A chunk's number, from 0."},
            "metadata": {"type": "object", "description": "The run's additional metadata."},
            "recovered": {"type": "boolean", "description": "Rebuilt from the run's state, never seen live."},
            "run_id": {"type": "string", "description": "The run's id."},
            "step_run_id": {"type": ["string", "null"], "description": "The step run's id."},
            "at": {"type": ["string", "null"], "description": "When: ISO 8601, UTC."},
        },
        "required": ["type"],
        "additionalProperties": False,
    }
)
EXPECT_SCHEMA: Final = WithJsonSchema(
    {
        "anyOf": [
            {"const": "nothing"},
            {
                "type": "object",
                "properties": {"event": {"type": "string"}, "data": {}},
                "required": ["data"],
                "additionalProperties": False,
            },
        ]
    }
)


class TestConfig(Block):
    """An event that is given to a stream, and the message that is expected of it."""

    __test__ = False  # no test of ours, whatever pytest makes of the name

    name: Word = setting(..., "What the test shows.", "empty tokens are silent")
    stream: Word = setting(..., "The stream that is asked.", "chat")
    given: Annotated[dict[str, Any], BeforeValidator(mapping), GIVEN_SCHEMA] = setting(
        ...,
        "The event: at least its `type`; see the event's fields.",
        {"type": "step_stream", "step": "answer", "payload": "Hi"},
    )
    expect: Annotated[Any, BeforeValidator(expected), EXPECT_SCHEMA] = setting(
        ...,
        "`nothing`, or the message: its `data`, and its `event` where it has one.",
        "nothing",
        {"event": "token", "data": {"text": "Hi"}},
    )


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
    """What the platform team grants a team."""

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
    """A team as the proxy uses it; ``auth_written`` tells a written ``auth: none`` from none written."""

    name: str
    hatchet: HatchetConfig
    auth: AuthConfig | None = None
    auth_written: bool = False
    limits: LimitsConfig = setting({}, "The team's limits.")
    streams: dict[str, StreamConfig] = setting({}, "The team's streams.")
    tests: tuple[TestConfig, ...] = ()


@dataclass(frozen=True)
class Config:
    """All that is configured.

    ``teams`` can be served. ``broken`` are granted teams whose file is missing what it needs: their
    ``grants`` have hatchet, auth and limits, but no streams. ``ignored`` are the errors of files that no
    granted team owns; ``warnings`` keep nothing from going live.
    """

    server: ServerConfig
    teams: dict[str, TeamConfig]
    broken: dict[str, tuple[Problem, ...]] = field(default_factory=dict)
    grants: dict[str, TeamConfig] = field(default_factory=dict)
    single: bool = True
    ignored: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
