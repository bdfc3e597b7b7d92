"""How a team's Hatchet is reached."""

import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, WithJsonSchema

from config.model.fields import Block, choice, setting
from config.model.types import (
    VARIABLE,
    CountOrZero,
    Flag,
    Resolved,
    Secret,
    Size,
    Word,
    kind,
    meant_by,
    nearest,
    text,
    word,
    wrong,
)


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
    meant = meant_by(value, ("auto", "off"))
    written = value if isinstance(value, str) or meant else text(value)
    if written in ("auto", "off"):
        return str(written)
    if isinstance(written, str) and re.match(r"https?://[^\s/]", written):
        return history_url(value, written)
    hint = (
        f'write "{meant}"'
        if meant
        else nearest(value, ["auto", "off"]) or "a URL is like https://hatchet.example.com"
    )
    raise wrong("choice", f"must be `auto`, `off` or a URL, but this is {kind(value)}", hint)


def history_url(value: Any, written: str) -> str:
    """An http or https URL to which the REST API's paths are added."""
    try:
        parts = urlsplit(written)
        usable = parts.hostname is not None and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or re.search(r"\s", written):
        hint = "a host, and a port up to 65535 where it is not the usual one"
        raise wrong("url", f"must be a URL with a host, but this is {kind(value)}", hint)
    if "@" in parts.netloc:
        hint = "remove them: the token of `hatchet` is sent with each request"
        raise wrong("url", "must not have a user's name or password in it", hint)
    if parts.query or parts.fragment or written.endswith(("?", "#")):
        raise wrong("url", "must not have a query or a fragment", "end it before the `?` or `#`")
    return str(written)


def address(value: Any) -> str:
    """``host:port``."""
    written = word(value)
    match = re.fullmatch(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", written)
    if match is None or not 0 < int(match[1]) <= 65535:
        hint = "like hatchet:7077, without a scheme"
        if not isinstance(value, Resolved) and re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", written):
            hint = "add the port of gRPC, which is usually 7077: like hatchet:7077"
        raise wrong("address", f"must be host:port, but this is {kind(value)}", hint)
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
    """How a team's Hatchet is reached. What is left out comes from the token and `HATCHET_CLIENT_*`."""

    token: Secret = setting(
        ...,
        "The tenant's API token, from Hatchet's dashboard.",
        "${HATCHET_CLIENT_TOKEN}",
        "${file:/run/secrets/hatchet}",
    )
    host_port: Address | None = setting(
        None, "The engine's gRPC address; by default the one in the token.", "hatchet:7077"
    )
    tls: Annotated[Literal["tls", "mtls", "none"], choice("tls", "mtls", "none")] | None = setting(
        None,
        "How the gRPC connection is secured; by default `HATCHET_CLIENT_TLS_STRATEGY`, else `tls`.",
        "none",
    )
    ca: Word | None = setting(
        None, "A file with the certificates that the engine's is checked against.", "/etc/hatchet/ca.pem"
    )
    cert: Word | None = setting(
        None, "A file with the proxy's certificate, for `mtls`.", "/etc/hatchet/client.pem"
    )
    key: Word | None = setting(
        None, "A file with the key of the proxy's certificate, for `mtls`.", "/etc/hatchet/client.key"
    )
    api: Api = setting(
        "auto",
        "The REST history: `auto` (the token's server), `off`, or a URL.",
        "https://hatchet.example.com",
    )
    max_message: Size = setting(
        "32MiB", "The largest message. A larger one is lost, and announced as a gap (`too_large`).", "32MiB"
    )
    tap: Annotated[TapConfig, BeforeValidator(pair), TAP_SCHEMA] | None = setting(
        None,
        "A metadata pair that every streamed run carries: one subscription then serves the whole team.",
        {"stream": "on"},
    )
    tap_keepalive: Flag = setting(
        True,
        "Whether the proxy may keep the tap's subscription open: after a hangup it sends one empty chunk "
        "in the name of a finished run that carries the pair, and another one whenever the tap is silent "
        "for 4 s while runs go on, to see that it still brings what is sent. `false`: the proxy only reads "
        "from Hatchet, and more ends of steps come with a gap.",
        False,
    )
    subscriptions: CountOrZero = setting(
        8,
        "How many runs without the pair of `tap` are followed by their own subscription at once, at most: "
        "each subscription costs the engine work for every event of the tenant. "
        "A run beyond that is served from its state, with a gap for each step's chunks.",
        8,
    )
