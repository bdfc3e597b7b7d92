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
from msgspec import Struct

from config.load import load
from config.problems import ConfigError

if TYPE_CHECKING:
    import socket

    from config.model.files import Config
    from config.watch import Fingerprint
    from proxy.server.assembly import Worker

PROBLEMS: Final = 1
USAGE: Final = 2
CANNOT_LISTEN: Final = 3
MOST_WORKERS: Final = 64
WITHOUT_EFFECT: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that never end the process; SIGHUP reloads once the listener is open."""
SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://")
"""How STREAM_PROXY_PORT begins in a pod whose namespace has a Service called stream-proxy."""


class Serving(Struct, frozen=True):
    """What is served, and where; `served` is the fingerprint of the files, from before they were read."""

    path: Path
    config: Config
    host: str
    port: int
    served: Fingerprint


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
@click.option(
    "--workers",
    type=click.IntRange(1, MOST_WORKERS),
    default=1,
    envvar="STREAM_PROXY_WORKERS",
    show_default=True,
    help="The number of processes that serve the address, for a machine with several cores.",
)
def command(path: Path | None, host: str | None, port: int | None, workers: int) -> None:
    """Serve streams to browsers.

    \b
    stream-proxy serve --config streams.yaml
    stream-proxy serve --config /etc/stream-proxy --host 0.0.0.0

    The files are watched: a valid change is live within two seconds, an invalid one is refused and logged.
    SIGHUP reloads at once. SIGTERM or SIGQUIT tells every browser to reconnect and ends the process within
    the grace period; a second one ends it at once. With --workers N, signals go to the first process, and
    all follow; the requests of a run are all served by one of them, and each has its share of the teams'
    limits. Exit status: 0 after a drain, 1 problems in the YAML or ended at once, 2 usage, 3 the address
    cannot be listened on.
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

    serving = Serving(path, config, host, port, served)
    if workers > 1:
        from proxy.cli.commands.serve_workers import serve_together  # noqa: PLC0415

        sys.exit(serve_together(serving, workers))
    sys.exit(run(lambda: serve_alone(serving)))


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


async def serve_alone(serving: Serving) -> int:
    """Bind the sockets and serve; the exit status."""
    from proxy.server.http.sockets import bound  # noqa: PLC0415

    admin_port = serving.config.server.admin_port
    try:
        sock = bound(serving.host, serving.port)
        admin = None if admin_port is None else bound(serving.host, admin_port)
    except OSError as error:
        return cannot_listen(serving, error)
    return await serve(serving, sock, admin)


async def serve(
    serving: Serving, sock: socket.socket, admin: socket.socket | None, worker: Worker | None = None
) -> int:
    """Serve on bound sockets until a signal ends the process; the exit status."""
    from proxy.log.base import LogRefused  # noqa: PLC0415
    from proxy.observability.log_writer import open_event_log  # noqa: PLC0415
    from proxy.server.assembly import Assembly  # noqa: PLC0415

    event_log = open_event_log(worker=None if worker is None else worker.mesh.index)
    proxy = Assembly(
        serving.path,
        os.environ,
        event_log,
        on_loopback=_is_loopback(serving.host),
        admin=admin,
        served=serving.served,
        worker=worker,
    )
    try:
        await proxy.start(serving.config)
    except LogRefused as refused:
        click.echo(f"serve: {refused}", err=True)
        return PROBLEMS
    prints_address = worker is None or worker.mesh.index == 0
    try:
        await proxy.run(sock, host=serving.host if prints_address else None)
    except OSError as error:  # another process bound the same address and listened first
        return cannot_listen(serving, error)
    _ignore_signals()
    return 0


def _ignore_signals() -> None:
    """Everything is closed, so another signal must not change the exit status."""
    _ignore(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, *WITHOUT_EFFECT)


def _ignore(*signals: signal.Signals) -> None:
    for number in signals:
        signal.signal(number, signal.SIG_IGN)


def cannot_listen(serving: Serving, error: OSError) -> int:
    """Say that the address cannot be listened on; the exit status."""
    message = f"serve: cannot listen on {serving.host}:{serving.port}: {error.strerror or error}"
    click.echo(message, err=True)
    return CANNOT_LISTEN
