"""``HATCHET_CLIENT_*``: checked with the same care as the keys for which they stand in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import PydanticCustomError

from config.model.hatchet import address, history_url
from config.model.types import Resolved, kind, wrong
from config.source.nodes import Path, Source

STRATEGIES: Final = ("tls", "mtls", "none")
TARGET: Final = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds|passthrough):")
"""How a gRPC target begins that names its resolver; the SDK takes such a one too."""


def host_port(value: Any) -> Any:
    """``host:port``, or a gRPC target."""
    return value if TARGET.match(value) else address(value)


def server_url(value: Any) -> Any:
    """An http or https URL."""
    if not re.match(r"https?://[^\s/]", value):
        raise wrong(
            "choice", f"must be a URL, but this is {kind(value)}", "a URL is like https://hatchet.example.com"
        )
    return history_url(value, value)


def tls_strategy(value: Any) -> Any:
    """How the connection is secured."""
    if value not in STRATEGIES:
        message = f"must be one of {', '.join(STRATEGIES)}, but this is {kind(value)}"
        raise wrong(
            "choice",
            message,
            f"it is written in lower case: `{value.lower()}`" if value.lower() in STRATEGIES else "",
        )
    return value


VARIABLES: Final[tuple[tuple[str, str, Callable[[Any], Any]], ...]] = (
    ("HATCHET_CLIENT_HOST_PORT", "host_port", host_port),
    ("HATCHET_CLIENT_SERVER_URL", "api", server_url),
    ("HATCHET_CLIENT_TLS_STRATEGY", "tls", tls_strategy),
)
"""The variables, the keys of `hatchet` that win over them, and the check of their values."""


def check_environment(source: Source, path: Path, hatchet: Mapping[str, Any], env: Mapping[str, str]) -> None:
    """Check the variables that stand in for what the block at `path` does not say."""
    given = {name.upper(): value for name, value in env.items() if value}
    for variable, key, check in VARIABLES:
        if variable not in given or hatchet.get(key, "auto") != "auto":
            continue
        try:
            check(Resolved(given[variable]))  # so its value is not shown
        except PydanticCustomError as error:
            hint = (error.context or {}).get("hint", "")
            message = f"the environment variable {variable} {error.message()}"
            source.add(
                source.key_at(path),
                str(error.type),
                message,
                "; or ".join(filter(None, (hint, f"write `{key}:` here"))),
            )
