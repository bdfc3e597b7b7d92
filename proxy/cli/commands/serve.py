"""``stream-proxy serve``: serve streams to browsers."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from config.load import load
from config.problems import ConfigError

if TYPE_CHECKING:
    from config.model.files import Config
    from config.watch import Fingerprint

PROBLEMS: Final = 1
USAGE: Final = 2
CANNOT_LISTEN: Final = 3
WITHOUT_EFFECT: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that never end the process; SIGHUP reloads once the listener is open."""
SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://")
"""How STREAM_PROXY_PORT begins in a pod whose namespace has a Service called stream-proxy."""


class PortOption(click.IntRange):
    """A port. An address that Kubernetes sets in the environment for a Service is no port, and is ignored."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name = None if param is None or ctx is None or param.name is None else param.name
        variable = param.envvar if isinstance(param, click.Option) else None
        if ctx is None or name is None or ctx.get_parameter_source(name) is not ParameterSource.ENVIRONMENT:
            return super().convert(value, param, ctx)
        if SERVICE_LINK.match(str(value)):
            return None
        try:
            return super().convert(value, None, ctx)
        except click.BadParameter as error:
            raise click.UsageError(f"the environment variable {variable}: {error.message}", ctx) from None


@click.command()
@click.option(
    "--config",
    "path",
    metavar="PATH",
    type=click.Path(path_type=Path),
    envvar="STREAM_PROXY_CONFIG",
    help="A file (one team), or a folder with proxy.yaml and teams/*.yaml. Also: STREAM_PROXY_CONFIG.",
)
@click.option("--host", envvar="STREAM_PROXY_HOST", help="The address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=PortOption(0, 65535),
    envvar="STREAM_PROXY_PORT",
    help="The port to listen on; 0 takes a free one.  [default: 8080]",
)
def command(path: Path | None, host: str | None, port: int | None) -> None:
    """Serve streams to browsers.

    \b
    stream-proxy serve --config streams.yaml
    stream-proxy serve --config /etc/stream-proxy --host 0.0.0.0

    The files are watched: a valid change is live within two seconds, an invalid one is refused and logged.
    SIGHUP reloads at once. SIGTERM or SIGQUIT tells every browser to reconnect and ends the process within
    the grace period; a second one ends it at once. Exit status: 0 after a drain, 1 problems in the YAML or
    ended at once, 2 usage, 3 the address cannot be listened on.
    """
    _ignore(*WITHOUT_EFFECT)  # until the listener handles them: by default each would end the process
    if path is None:
        raise click.UsageError("name the YAML to serve: --config PATH, or STREAM_PROXY_CONFIG")
    from config.watch import fingerprint  # noqa: PLC0415 - --help needs no file notifications

    served = fingerprint(path)
    try:
        config = load(path, os.environ)
    except ConfigError as error:
        from proxy.cli.commands.problems import show_problems  # noqa: PLC0415

        show_problems(path, os.environ, error.problems)
        sys.exit(USAGE if error.unreadable else PROBLEMS)
    host = _host(host) if host else config.server.host
    port = config.server.port if port is None else port
    _refuse_open_teams(config, host)
    from proxy.server.listener import run  # noqa: PLC0415 - problems in the YAML are shown before uvicorn is loaded

    sys.exit(run(lambda: serve(path, config, host, port, served)))


def _host(written: str) -> str:
    """The host of --host or STREAM_PROXY_HOST, as in the YAML: an IPv6 address may stand in brackets."""
    from pydantic_core import PydanticCustomError  # noqa: PLC0415

    from config.model.access import listening_host  # noqa: PLC0415

    try:
        return listening_host(written)
    except PydanticCustomError as error:
        hint = (error.context or {}).get("hint", "")
        raise click.UsageError(f"--host (or STREAM_PROXY_HOST) {error.message()}: {hint}") from None


def _refuse_open_teams(config: Config, host: str) -> None:
    if _is_loopback(host):
        return
    from proxy.server.reloader import teams_without_auth  # noqa: PLC0415

    open_teams = teams_without_auth(config)
    if open_teams:
        names = ", ".join(open_teams)
        where = "at the top of the file" if config.single else f"in proxy.yaml (teams: {names})"
        click.echo(
            f"serve: refusing to listen on {host}, which is not loopback, without authentication: "
            f"write `auth:` {where}, or `auth: none` to admit everybody",
            err=True,
        )
        sys.exit(PROBLEMS)


def _is_loopback(host: str) -> bool:
    """Whether the address itself is loopback: 127.example.com is a name that may resolve to any."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


async def serve(path: Path, config: Config, host: str, port: int, served: Fingerprint) -> int:
    """Serve until a signal ends the process; the exit status. `served`: see `Assembly`."""
    from proxy.observability.log_writer import open_event_log  # noqa: PLC0415
    from proxy.server.assembly import Assembly  # noqa: PLC0415
    from proxy.server.http.sockets import bound  # noqa: PLC0415

    try:
        sock = bound(host, port)
        admin = None if config.server.admin_port is None else bound(host, config.server.admin_port)
    except OSError as error:
        return _cannot_listen(host, port, error)
    on_loopback = _is_loopback(host)
    proxy = Assembly(path, os.environ, open_event_log(), on_loopback=on_loopback, admin=admin, served=served)
    await proxy.start(config)
    try:
        await proxy.run(sock, host=host)
    except OSError as error:  # another process bound the same address and listened first
        return _cannot_listen(host, port, error)
    _ignore_signals()
    return 0


def _ignore_signals() -> None:
    """Everything is closed, so another signal must not change the exit status."""
    _ignore(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, *WITHOUT_EFFECT)


def _ignore(*signals: signal.Signals) -> None:
    for number in signals:
        signal.signal(number, signal.SIG_IGN)


def _cannot_listen(host: str, port: int, error: OSError) -> int:
    click.echo(f"serve: cannot listen on {host}:{port}: {error.strerror or error}", err=True)
    return CANNOT_LISTEN
