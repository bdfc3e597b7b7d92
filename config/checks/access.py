"""Checks across several fields of ``hatchet``, ``auth``, ``cors`` and ``server``."""

from __future__ import annotations

import ipaddress
import re
from itertools import pairwise
from typing import Any, Final

from pydantic_core import PydanticCustomError

from config.checks.keys import GUESSED, SHORTEST_SECRET, check_jwks_url, check_key
from config.checks.paths import OWN_PATHS, metadata_paths, streams_of
from config.checks.secrets import check_token
from config.checks.workflows import workflow_keys
from config.model.access import listening_host
from config.model.files import ALGORITHMS
from config.model.shared_log import MEMORY
from config.model.types import DURATION, SECONDS
from config.problems import WARNING, Own
from config.source.nodes import Path, Source

TEAM_NAME: Final = re.compile(r"[a-z0-9-]{1,63}")
PLAIN_HTTP: Final = re.compile("http://")
WRITTEN_PASSWORD: Final = re.compile(r"://[^/@\s]*:(?!\$\{)[^@\s]+@")
USUAL_PORT: Final = 8080  # of `server.port`
VARIED: Final = 8
"""Different characters: `openssl rand -hex 32` has fewer in none of a trillion cases."""
TYPED: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
"""What a browser can send behind `Bearer`: it cuts blanks at the ends, and refuses other characters."""
PAIRED: Final = 64
"""So many characters of a token are looked at for pairs that repeat."""
LOOPBACK: Final = re.compile(r"http://(localhost|127\.[0-9.]+|\[::1\])(:|/|$)")


def mapping(data: Any, *keys: str) -> dict[str, Any]:
    """The mapping below some keys, or an empty one."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def check_server(source: Source) -> None:
    """The drain, in which every client must be sent away before the process ends; and the console."""
    check_console(source)
    check_open_teams(source)
    server = mapping(source.data, "server")
    if server.get("admin_port") == server.get("port", USUAL_PORT) not in (0, "none"):
        message = "`admin_port` is the same as `port`: each needs a port of its own"
        source.add(
            source.at(("server", "admin_port")),
            "same-port",
            message,
            "choose another, like `admin_port: 9090`",
        )
    drain = mapping(source.data, "server", "drain")
    spread, grace = seconds(drain.get("spread", "10s")), seconds(drain.get("grace", "20s"))
    if spread is not None and grace is not None and spread > grace:
        place = source.at(("server", "drain", "spread" if "spread" in drain else "grace"))
        message = "`spread` is longer than `grace`: the process ends before every client was sent away"
        source.add(place, "drain", message, "make `spread` shorter, or `grace` longer")
    check_log(source)


def check_open_teams(source: Source) -> None:
    """Warns of a listener beyond loopback for teams that have no `auth`, which `serve` refuses."""
    host, node = mapping(source.data, "server").get("host"), source.node(("server", "host"))
    if not isinstance(host, str) or not host.strip() or node is None or node.start in source.spoiled:
        return
    try:
        if loopback(listening_host(host)):
            return
    except PydanticCustomError:
        return  # the model says that it is no address
    teams = mapping(source.data, "teams")
    without = [name for name, block in teams.items() if isinstance(block, dict) and "auth" not in block]
    if without if teams else "auth" not in mapping(source.data):
        of = f" for the team `{without[0][:60]}`" if without else ""
        message = f"this is beyond loopback, and no `auth` is written{of}: `serve` refuses that"
        hint = "write `auth:` with `jwt:`, or `auth: none` to let everybody in"
        source.add(node.start, "no-auth", message, hint, WARNING)


def loopback(host: str) -> bool:
    """Whether the address itself is loopback; another name may resolve to any."""
    try:
        return ipaddress.ip_address(host.strip("[] ")).is_loopback
    except ValueError:
        return host == "localhost"


def check_log(source: Source) -> None:
    """The log that replicas share."""
    server = mapping(source.data, "server")
    log, node = server.get("log", MEMORY), source.node(("server", "log"))
    if log == MEMORY:
        for name in ("log_keep", "log_encrypt", "standby"):
            if name in server:
                message = f"`{name}` has no effect without a log that replicas share"
                hint = "write `log:` with the URL of a Redis, or remove it"
                source.add(source.key_at(("server", name)), "without-effect", message, hint, WARNING)
    elif node is not None and WRITTEN_PASSWORD.search(source.text[node.start : node.end]):
        message = "the password of the shared log is written in this file"
        hint = "write `${NAME}` or `${file:/path}` in its place"
        source.add(node.start, "secret-in-file", Own(message), Own(hint), WARNING)


def check_console(source: Source) -> None:
    """The console: it needs the admin port, and a token that nobody finds by trying."""
    server = mapping(source.data, "server")
    console, path = mapping(server, "console"), ("server", "console")
    if not console:
        return
    if server.get("admin_port", "none") in ("none", None):
        message = "the console needs `admin_port`: it is served there"
        source.add(source.key_at(path), "console", message, "add `admin_port: 9090`, or remove `console`")
    token = console.get("token")
    node = source.node((*path, "token"))
    if not isinstance(token, str) or node is None or node.start in source.spoiled or not token.strip():
        return
    token, message = token.rstrip("\r\n"), ""
    if len(token.encode()) < SHORTEST_SECRET:
        message = f"the console's token is shorter than {SHORTEST_SECRET} bytes"
    elif not TYPED.fullmatch(token):
        message = "the console's token has blanks at its ends, or characters that no browser can send"
    elif len(set(token)) < VARIED:
        message = f"the console's token has fewer than {VARIED} different characters"
    elif repeats(token[:PAIRED]):
        message = "the console's token repeats itself"
    if message:
        source.add(node.start, "weak-secret", Own(message), Own("make one with `openssl rand -hex 32`"))


def repeats(text: str) -> bool:
    """Whether few of the pairs of characters differ: 55 % is four deviations from what random digits have."""
    pairs = list(pairwise(text))
    return len(set(pairs)) < 0.55 * len(pairs)


def seconds(value: Any) -> float | None:
    """The seconds of a duration as it is written, like `5m`; None for anything else."""
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
    return int(match[1]) * SECONDS[match[2]] if match else None


def check_team_names(source: Source) -> None:
    """The teams that `proxy.yaml` grants."""
    teams = mapping(source.data, "teams")
    if "teams" in mapping(source.data) and not teams and isinstance(source.data["teams"], dict):
        source.add(source.at(("teams",)), "empty", "`teams` is empty", "name a team, with its `hatchet:`")
    for name in teams:
        path: Path = ("teams", name)
        if name in OWN_PATHS:
            source.add(
                source.key_at(path),
                "team-name",
                f"`{name}` is the proxy's own path and cannot be a team's name",
                "choose another",
            )
        elif not TEAM_NAME.fullmatch(name):
            hint = "a-z, 0-9 and `-`, at most 63: it is the first part of the team's paths"
            source.add(source.key_at(path), "team-name", f"`{name[:60]}` cannot be a team's name", hint)
        check_grant(source, path)


def check_grant(source: Source, path: Path) -> None:
    """A team's hatchet and auth, under `path`."""
    block = source.node(path)
    data = block.value if block is not None else {}
    check_hatchet(source, (*path, "hatchet"), mapping(data, "hatchet"))
    check_token(source, (*path, "hatchet", "token"), mapping(data, "hatchet").get("token"))
    check_auth(source, (*path, "auth"), mapping(data, "auth"))


def check_hatchet(source: Source, path: Path, hatchet: dict[str, Any]) -> None:
    """TLS files and the TLS mode that uses them; a team that no subscription could bring chunks."""
    if hatchet.get("tls") == "mtls":
        for needed in ("cert", "key"):
            if needed not in hatchet:
                message = f"`tls: mtls` needs `{needed}`"
                source.add(
                    source.at((*path, "tls")),
                    "missing-key",
                    message,
                    f"like `{needed}: /etc/hatchet/client.pem`",
                )
    for named in ("ca", "cert", "key"):
        if named in hatchet and hatchet.get("tls") == "none":
            source.add(
                source.key_at((*path, named)),
                "no-effect",
                f"`{named}` is not used with `tls: none`",
                "remove it",
                WARNING,
            )
    if hatchet.get("subscriptions") == 0 and "tap" not in hatchet:
        message = (
            "with `subscriptions: 0` and no `tap` no chunk ever arrives: every run is served from its state"
        )
        hint = (
            'write `tap: {stream: "on"}` and trigger the runs with that metadata, or allow some subscriptions'
        )
        source.add(source.at((*path, "subscriptions")), "no-chunks", message, hint, WARNING)


def check_auth(source: Source, path: Path, auth: dict[str, Any]) -> None:
    """The verification of tokens, and tickets that are both configured and accepted."""
    jwt, given = mapping(auth, "jwt"), auth.get("from", ["bearer"])
    if jwt:
        check_jwt(source, (*path, "jwt"), jwt)
    sources = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    if "ticket" in sources and "tickets" not in auth:
        hint = "add `tickets: {key: …}`, or remove `ticket`"
        source.add(
            source.at((*path, "from")), "tickets", "`from` has `ticket`, but there is no `tickets`", hint
        )
    if "tickets" in auth and "ticket" not in sources:
        hint = "add `ticket` to `from`"
        source.add(
            source.key_at((*path, "tickets")),
            "tickets",
            "tickets are issued, but `from` does not accept them",
            hint,
            WARNING,
        )
    secret_length(source, (*path, "tickets", "key"), mapping(auth, "tickets").get("key"))


def check_jwt(source: Source, path: Path, jwt: dict[str, Any]) -> None:
    """Keys and algorithms that fit: a public key must never be used as a shared secret."""
    if ("jwks_url" in jwt) == ("key" in jwt):
        hint = "`jwks_url` for an identity provider, `key` for one key of your own"
        message = "has both `jwks_url` and `key`" if "key" in jwt else "needs `jwks_url` or `key`"
        source.add(source.key_at(path), "jwt", f"`jwt` {message}", hint)
        return
    algorithms = [jwt["algorithms"]] if isinstance(jwt.get("algorithms"), str) else jwt.get("algorithms")
    named = [each for each in algorithms if each in ALGORITHMS] if isinstance(algorithms, list) else []
    shared = [each for each in named if each.startswith("HS")]
    key = jwt.get("key")
    node = source.node((*path, "key"))
    unusable = node is not None and "key" in jwt and node.start in source.spoiled
    if unusable or check_key(source, (*path, "key"), key, named):
        return  # what else could be wrong depends on the right key
    place = source.at((*path, "algorithms"))
    public = "jwks_url" in jwt or (isinstance(key, str) and "-----BEGIN" in key)
    if shared and public:
        message = f"`{shared[0]}` needs a shared secret, and this is a public key"
        source.add(
            place, "jwt", message, "anybody could sign with the public key: name RS256, ES256 or the like"
        )
    elif named and not public and isinstance(key, str) and key and len(shared) < len(named):
        message = "this algorithm needs a public key in PEM, and `key` is not one"
        source.add(place, "jwt", message, "write HS256 for a shared secret, or give the key in PEM")
    elif not public and shared:
        secret_length(source, (*path, "key"), key)
    if "audience" not in jwt:
        message = "without `audience` only tokens without `aud` are accepted, whoever they were issued for"
        source.add(
            source.key_at(path), "jwt", message, "add `audience: NAME`, the `aud` of your tokens", WARNING
        )
    url = jwt.get("jwks_url")
    check_jwks_url(source, (*path, "jwks_url"), url)
    if isinstance(url, str) and PLAIN_HTTP.match(url) and not LOOPBACK.match(url):
        message = "keys that are fetched over plain http can be replaced on the way"
        source.add(source.at((*path, "jwks_url")), "jwt", message, "write https://", WARNING)


def secret_length(source: Source, path: Path, secret: Any) -> None:
    """Reports a short secret, which can be guessed, without saying how short it is."""
    node = source.node(path)
    if not isinstance(secret, str) or node is None or node.start in source.spoiled or not secret:
        return
    length = len(secret.rstrip("\r\n").encode())
    hint = "make one with `openssl rand -hex 32`"
    if length < GUESSED:
        message = f"a secret of less than {GUESSED} bytes is found by trying"
        source.add(node.start, "weak-secret", Own(message), Own(hint))
    elif length < SHORTEST_SECRET:
        source.add(
            node.start, "weak-secret", f"this secret is shorter than {SHORTEST_SECRET} bytes", hint, WARNING
        )


def check_cors(source: Source) -> None:
    """Refuses `*` together with credentials."""
    for _, path, block in streams_of(source):
        cors = mapping(block, "cors")
        origins = [cors["origins"]] if isinstance(cors.get("origins"), str) else cors.get("origins")
        if isinstance(origins, list) and "*" in origins and cors.get("credentials") is True:
            message = (
                "`*` with credentials would let every page on the internet read with your users' cookies"
            )
            here = (*path, "cors", "origins")
            place = here if isinstance(cors["origins"], str) else (*here, origins.index("*"))
            source.add(source.at(place), "cors", message, "list the origins, like https://app.example.com")


def check_against_grant(source: Source, hatchet: Any, auth: Any) -> None:
    """What a team's streams need of its grant: the history, and authentication for claims."""
    if isinstance(hatchet, dict) and hatchet.get("api") == "off":
        for path in metadata_paths(source):
            message = "finding a run by its metadata needs the history, and `api` is `off`"
            source.add(source.at(path), "needs-api", message, "write `api: auto`, or use {workflowRunId}")
        for path in workflow_keys(source):
            message = (
                f"`{path[-1]}` needs the history, which knows workflows and children, and `api` is `off`"
            )
            source.add(
                source.key_at(path), "needs-api", message, f"write `api: auto`, or remove `{path[-1]}`"
            )
    if auth is None or auth == "none":
        for _, path, block in streams_of(source):
            allow = block.get("allow")
            if isinstance(allow, str) and re.search(r"\bclaims\b", allow):
                message = "without `auth` there are no claims, so this refuses every client"
                source.add(
                    source.at((*path, "allow")),
                    "no-claims",
                    message,
                    "write `auth:` with `jwt:`, or remove the claims",
                    WARNING,
                )
