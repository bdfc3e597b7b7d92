"""A team's endpoint: address, token and TLS, from the config, HATCHET_CLIENT_* and the token's claims.

The precedence is that of hatchet-sdk's ClientConfig: the config, then the environment, then the token's
claims; `tests/unit/hatchet/test_endpoint.py` compares the two. ClientConfig itself is not used: it reads the
process's own environment and `.env` files, takes 0.1 s, and quotes the beginning of the token in its errors.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson
from msgspec import Struct
from pydantic_core import PydanticCustomError

from config.checks.environment import host_port as host_port_of
from config.model.types import Resolved
from config.source.files import read_regular
from proxy.hatchet.errors import HatchetAway, TokenRefused

if TYPE_CHECKING:
    from config.model.files import HatchetConfig

PREFIX: Final = "HATCHET_CLIENT_"
API_PATH: Final = re.compile(r"(/api(/v1(/stable)?)?)?/*$")
"""The end of a URL that names the API itself instead of the server: the client adds that path."""
LARGEST_PEM: Final = 1 << 20  # bytes: a bundle of every public CA has 200 KB
STRATEGIES: Final = ("tls", "mtls", "none")


class Tls(Struct, frozen=True):
    """How the connection is protected: file paths, and the name that the certificate must have."""

    strategy: str
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str = "localhost"

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """CA, key and certificate as PEM. Raises HatchetAway naming the file that cannot be read."""
        return (
            self._file("ca", self.ca),
            self._file("key", self.key if self.strategy == "mtls" else None),
            self._file("cert", self.cert if self.strategy == "mtls" else None),
        )

    def _file(self, field_name: str, path: str | None) -> bytes | None:
        if path is None:
            return None
        try:
            return read_regular(Path(path), LARGEST_PEM)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            raise HatchetAway(f"hatchet.{field_name}: cannot read {path}: {reason}") from None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One tenant of one Hatchet. `api` is the REST root without a final slash, None if it is off."""

    token: str = field(repr=False)
    tenant: str
    host_port: str
    api: str | None
    tls: Tls
    max_message: int


def endpoint(config: HatchetConfig, env: Mapping[str, str]) -> Endpoint:
    """A team's endpoint. Raises TokenRefused for a malformed token, else HatchetAway for what is missing."""
    token = config.token.get_secret_value().strip()
    claims = _claims(token)
    setting = {name.upper(): value for name, value in env.items() if value}.get
    in_env = _checked(setting, "HOST_PORT", host_port_of)
    host_port = config.host_port or in_env or claims.get("grpc_broadcast_address")
    if not host_port:
        raise HatchetAway(
            "hatchet.host_port is not set, and neither HATCHET_CLIENT_HOST_PORT nor the token has an address"
        )
    return Endpoint(
        token=token,
        tenant=setting(f"{PREFIX}TENANT_ID") or claims.get("sub", ""),
        host_port=host_port,
        api=_api(config.api, setting(f"{PREFIX}SERVER_URL") or claims.get("server_url")),
        tls=_tls(config, setting, host_port),
        max_message=config.max_message,
    )


def _checked(setting: Callable[[str], str | None], name: str, check: Callable[[str], object]) -> str | None:
    """The value of HATCHET_CLIENT_`name`. Raises HatchetAway in the words in which `check` refuses it."""
    value = setting(f"{PREFIX}{name}")
    try:
        if value:
            check(Resolved(value))  # so that no message shows it
    except PydanticCustomError as error:
        hint = (error.context or {}).get("hint", "")
        raise HatchetAway(f"{PREFIX}{name} {error.message()}: {hint}") from None
    return value


def _claims(token: str) -> dict[str, str]:
    refused = TokenRefused("hatchet.token is no Hatchet API token (a JWT that begins with ey)")
    parts = token.split(".")
    if len(parts) != 3 or not token.startswith("ey"):
        raise refused
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        raise refused from None
    if not isinstance(claims, dict):
        raise refused
    return {name: value for name, value in claims.items() if isinstance(value, str)}


def _api(written: str, server_url: str | None) -> str | None:
    if written == "off":
        return None
    url = server_url if written == "auto" else written
    return API_PATH.sub("", url) if url else None


def _tls(config: HatchetConfig, setting: Callable[[str], str | None], host_port: str) -> Tls:
    strategy = config.tls or setting(f"{PREFIX}TLS_STRATEGY") or "tls"
    if strategy not in STRATEGIES:
        raise HatchetAway(f"{PREFIX}TLS_STRATEGY must be one of {', '.join(STRATEGIES)}")
    tls = Tls(
        strategy,
        ca=_path(config.ca) or setting(f"{PREFIX}TLS_ROOT_CA_FILE"),
        cert=_path(config.cert) or setting(f"{PREFIX}TLS_CERT_FILE"),
        key=_path(config.key) or setting(f"{PREFIX}TLS_KEY_FILE"),
        server_name=setting(f"{PREFIX}TLS_SERVER_NAME") or _host(host_port),
    )
    missing = [name for name in ("ca", "cert", "key") if getattr(tls, name) is None]
    if strategy == "mtls" and missing:
        raise HatchetAway(f"hatchet.tls is mtls, so hatchet.{missing[0]} must name a file")
    return tls


def _path(written: object | None) -> str | None:
    return None if written is None else str(written)


def _host(host_port: str) -> str:
    """The host of `host:port` or `[v6]:port`; of a gRPC target with a scheme, what follows its slashes."""
    authority = host_port.rpartition("/")[2]
    return authority.rpartition(":")[0].strip("[]") or authority or "localhost"
