"""Authentication, limits, and the listener."""

import contextlib
import ipaddress
import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, WithJsonSchema

from config.model.fields import PART, Block, choice, setting
from config.model.shared_log import SharedLogAddress
from config.model.types import (
    VARIABLE,
    Count,
    Duration,
    Lasting,
    OneOrMany,
    Port,
    Resolved,
    Secret,
    Size,
    Url,
    Word,
    integer,
    kind,
    many,
    meant_by,
    nearest,
    one_or_many,
    variable_or,
    word,
    wrong,
)

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES256K", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"),
)


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
    """How a token is verified: with the keys of an identity provider, or with one key."""

    jwks_url: Url | None = setting(
        None, "Where the identity provider publishes its keys.", "https://id.example.com/jwks.json"
    )
    key: Secret | None = setting(
        None, "A shared secret or a public key in PEM, instead of `jwks_url`.", "${file:/run/secrets/jwt-key}"
    )
    audience: OneOrMany | None = setting(
        None, "What the token's `aud` must be or contain: one or a list.", "streams", ["streams", "api"]
    )
    issuer: Word | None = setting(None, "What the token's `iss` must be.", "https://id.example.com/")
    algorithms: Annotated[
        tuple[Algorithm, ...], BeforeValidator(many), one_or_many({"enum": list(ALGORITHMS)})
    ] = setting(..., "The signature algorithms that are accepted.", ["RS256"])
    leeway: Duration = setting("30s", "By how much clocks may differ.", "30s")


class TicketsConfig(Block):
    """Short-lived tickets for EventSource, which cannot send an Authorization header."""

    key: Secret = setting(
        ...,
        "The key that tickets are signed with; the same for all replicas.",
        "${file:/run/secrets/tickets}",
    )
    lifetime: Lasting = setting("10m", "How long a ticket opens a stream.", "10m")


class AuthConfig(Block):
    """Authentication: which credentials are accepted, and how they are verified."""

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
        "Short-lived tickets that the proxy issues, from `POST /TEAM/tickets`.",
        {"key": "${file:/run/secrets/tickets}", "lifetime": "10m"},
    )

    model_config = ConfigDict(populate_by_name=True)


def written_none(value: Any) -> Any:
    """``none`` as a word: with an empty value a team would be open by accident."""
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
    """A team's limits. A limit that is not written does not apply."""

    connections: Count | None = setting(None, "Open connections.", 5000)
    connections_per_run: Count | None = setting(None, "Open connections on one run.", 500)
    connections_per_subject: Count | None = setting(
        None, "Open connections of one subject (the token's `sub`).", 20
    )
    runs: Count | None = setting(None, "Runs that are followed at a time.", 2000)
    backlog_bytes: Size | None = setting(
        None, "The bytes that all backlogs of the team may hold together.", "256MiB"
    )
    connects_per_second: Count | None = setting(None, "New connections in a second.", 200)


class DrainConfig(Block):
    """The drain: how the process stops."""

    grace: Duration = setting("20s", "The longest time between SIGTERM and exit.", "20s")
    spread: Duration = setting("10s", "The time over which the reconnects of clients are spread.", "10s")


def port_or_none(value: Any) -> Any:
    """None for `none` or no value, anything else as it is."""
    if not isinstance(value, Resolved) and meant_by(value, ("none",)) and value != "none":
        raise wrong("wrong-type", f"must be a port or `none`, but this is {kind(value)}", "write `none`")
    return None if value is None or value == "none" else value


def listening_host(value: Any) -> str:
    """A name or an address to listen on; an IPv6 address may stand in brackets, which are removed."""
    written = word(value)
    bare = written[1:-1] if written.startswith("[") and written.endswith("]") else written
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(bare))
    if re.fullmatch(r"[0-9]+(\.[0-9]+)+", written):
        hint = "four numbers up to 255, like 127.0.0.1; 0.0.0.0 for every IPv4 address"
        raise wrong("address", f"must be an address or a name, but this is {kind(value)}", hint)
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", written):
        return str(written)
    match = re.fullmatch(r"(?:[a-z]+://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?/?", written)
    if match is not None and match[2] is not None and not isinstance(value, Resolved):
        hint = f"write `host: {quoted(match[1].strip('[]'))}` and `port: {match[2]}`"
    elif written == "*":
        hint = 'write 0.0.0.0 for every IPv4 address, or "::" for every IPv6 address'
    else:
        hint = 'like 127.0.0.1, 0.0.0.0, "::1" or localhost, without a scheme'
    raise wrong("address", f"must be an address or a name without a port, but this is {kind(value)}", hint)


def quoted(address: str) -> str:
    """An address as it must be written in YAML: with a colon, in quotes."""
    return f'"{address}"' if ":" in address else address


Host = Annotated[str, BeforeValidator(listening_host)]


class ConsoleConfig(Block):
    """The operators' page, at `/console/` on the admin port."""

    token: Secret = setting(
        ...,
        "What an operator types to open the console; at least 32 bytes.",
        "${file:/run/secrets/console}",
    )
    payloads: Annotated[Literal["hidden", "shown"], choice("hidden", "shown")] = setting(
        "hidden",
        "Whether the console shows payloads, metadata and the data made of them, or only their sizes.",
        "shown",
    )


class ServerConfig(Block):
    """The listener. The command line and the environment override it."""

    host: Host = setting("127.0.0.1", "The address to listen on.", "0.0.0.0")
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
    console: Annotated[ConsoleConfig, PART] | None = setting(
        None,
        "The operators' page, at `/console/` on the admin port; by default there is none.",
        {"token": "${file:/run/secrets/console}"},
    )
    linger: Duration = setting(
        "30s", "How long an upstream subscription stays open after its last client has left.", "30s"
    )
    check_after: Lasting = setting("15s", "After this time without an event the run's state is read.", "15s")
    write_timeout: Lasting = setting(
        "30s", "A client that reads nothing for this time is disconnected.", "30s"
    )
    log: SharedLogAddress = setting(
        "memory",
        "Where runs' events are kept for clients: `memory`, in this process alone, or the URL of a Redis or "
        "Valkey that replicas share. Then any replica goes on exactly where another one stopped.",
        "redis://redis:6379/0",
    )
    log_keep: Lasting = setting("10m", "How long the shared log of a finished run is kept.", "10m")
    log_encrypt: Secret | None = setting(
        None,
        "Encrypts the shared log, with a key that is derived from this text.",
        "${file:/run/secrets/log-key}",
    )
    standby: Annotated[
        int, BeforeValidator(integer(0, 1)), variable_or({"type": "integer", "minimum": 0, "maximum": 1})
    ] = setting(
        0,
        "How many other replicas (0 or 1) follow each run beside the leader, so that no chunk is lost "
        "when a replica is killed. With `hatchet.tap` 0 is enough.",
        1,
    )
    recheck: Lasting = setting(
        "5m",
        "How often open streams are checked, beside each reload: those that would not be admitted any more "
        "are closed with `stream.expired`.",
        "5m",
    )
    drain: Annotated[DrainConfig, PART] = setting(
        {}, "How the process stops and asks its clients to reconnect.", {"grace": "20s", "spread": "10s"}
    )
