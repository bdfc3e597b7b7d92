"""Where the log is that replicas share: ``server.log``."""

import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Annotated, Any, Final
from urllib.parse import unquote

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from config.model.types import Resolved, kind, nearest, word, wrong

MEMORY: Final = "memory"
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
SCHEMES: Final = tuple(
    f"{engine}{secure}{way}"
    for engine in ("redis", "valkey")
    for secure in ("", "s")
    for way in ("", "+sentinel")
)
FORM: Final = (
    "like redis://redis:6379/0, rediss://user:${file:/run/secrets/redis}@redis:6379/0 or "
    "redis+sentinel://sentinel-0:26379,sentinel-1:26379/mymaster/0"
)
CLUSTER_FORM: Final = "like redis://redis-0:6379,redis-1:6379 or rediss://…"
_LABEL: Final = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = re.compile(
    rf"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>{_LABEL}(?:\.{_LABEL})*\.?))(?::(?P<port>[0-9]{{1,5}}))?"
)


@dataclass(frozen=True, slots=True)
class LogAddress:
    """A Redis or Valkey.

    `way`: ``""`` for one server or servers of a cluster, or ``sentinel``: then `hosts` are the sentinels, and
    `service` is the name by which they know the servers.
    """

    hosts: tuple[tuple[str, int], ...]
    way: str = ""
    tls: bool = False
    service: str = ""
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """It without its password."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        way = f"+{self.way}" if self.way else ""
        service = f"/{self.service}" if self.service else ""
        return f"redis{'s' if self.tls else ''}{way}://{hosts}{service}/{self.database}"


def log_address(value: Any) -> LogAddress | None:
    """``memory`` (None) or the URL of a Redis. No message shows a URL: it may have a password."""
    if value is None or isinstance(value, LogAddress):
        return value
    written = word(value)
    if written == MEMORY:
        return None
    scheme, found, rest = written.partition("://")
    if not found:
        message = f"must be `memory` or the URL of a Redis, but this is {_what(value)}"
        raise wrong("log", message, nearest(written, [MEMORY]) or FORM)
    if scheme not in SCHEMES:
        raise _no_scheme(scheme)
    _, _, way = scheme.partition("+")
    credentials, signs_in, rest = rest.rpartition("@")  # a password may have any character
    user, _, password = credentials.partition(":")
    if signs_in and not password:
        message = "this URL has an `@` and no password before it"
        raise wrong(
            "log", message, "like redis://:${file:/run/secrets/redis}@redis:6379/0, or remove the `@`"
        )
    if "?" in rest or "#" in rest:
        raise wrong("log", "this URL has parameters, which have no effect", FORM)
    hosts, _, path = rest.partition("/")
    parts = [part for part in path.split("/") if part]
    service = ""
    if way == "sentinel":
        if not parts or parts[0].isdecimal():
            hint = "redis+sentinel://sentinel-0:26379,sentinel-1:26379/mymaster/0"
            raise wrong("log", "this URL lacks the name of the master that the sentinels watch", hint)
        service = unquote(parts.pop(0))
    database = parts.pop(0) if parts else "0"
    if parts or not re.fullmatch("[0-9]{1,4}", database):
        raise wrong("log", "the end of this URL must be the number of a database", FORM)
    found_hosts = _hosts(hosts, way)
    if len(found_hosts) > 1 and not way and int(database):
        message = "several hosts are a Redis Cluster, which has database 0 alone"
        raise wrong("log", message, "write redis+sentinel://… for several sentinels")
    return LogAddress(
        found_hosts,
        way,
        scheme.partition("+")[0] in ("rediss", "valkeys"),
        service,
        int(database),
        unquote(user) or None,
        unquote(password) or None,
    )


def _no_scheme(scheme: str) -> Exception:
    """Why a scheme is none of those that can be used."""
    if "cluster" in scheme:
        message = "a Redis Cluster has no scheme of its own: the proxy sees that it is one"
        return wrong("log", message, CLUSTER_FORM)
    if "unix" in scheme or "socket" in scheme:
        message = "a Redis on a Unix socket cannot be used: replicas on other machines do not reach it"
        return wrong("log", message, FORM)
    close = nearest(scheme, list(SCHEMES))
    return wrong(
        "log", "must be `memory` or the URL of a Redis, but its scheme is another one", close or FORM
    )


def _hosts(written: str, way: str) -> tuple[tuple[str, int], ...]:
    found = []
    for host in written.split(","):
        match = _HOST.fullmatch(host)
        port = int(match["port"] or (SENTINEL_PORT if way == "sentinel" else REDIS_PORT)) if match else 0
        if match is None or not 1 <= port <= 65535 or not _is_v6(match["v6"]):
            raise wrong("log", "this URL has no host, or one that cannot be a host and a port", FORM)
        found.append((match["v6"] or match["name"], port))
    return tuple(found)


def _is_v6(written: str | None) -> bool:
    """Whether what stands in brackets is an address; so is a host without brackets."""
    try:
        return written is None or bool(IPv6Address(written))
    except ValueError:
        return False


def _what(value: Any) -> str:
    """A value in words, without what may be a password."""
    if isinstance(value, Resolved):
        return "the value of a variable"
    return "something else with an `@`" if "@" in value else kind(value)


def log_text(address: LogAddress | None) -> str:
    """As it is written, without a password."""
    return MEMORY if address is None else str(address)


SharedLogAddress = Annotated[
    LogAddress | None,
    BeforeValidator(log_address),
    PlainSerializer(log_text),
    WithJsonSchema({"type": "string", "pattern": r"^memory$|^(redis|valkey)s?(\+sentinel)?://|\$\{"}),
]
