"""``stream-proxy serve``: serve streams to browsers."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from config.load import load
from config.problems import ConfigError

if TYPE_CHECKING:
    from config.model.files import Config, HatchetConfig
    from proxy.hatchet.upstream import Upstream

PROBLEMS: Final = 1
USAGE: Final = 2
CANNOT_LISTEN: Final = 3


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
    type=click.IntRange(0, 65535),
    envvar="STREAM_PROXY_PORT",
    help="The port to listen on; 0 takes a free one.  [default: 8080]",
)
def command(path: Path | None, host: str | None, port: int | None) -> None:
    """Serve streams to browsers.

    \b
    stream-proxy serve --config streams.yaml
    stream-proxy serve --config /etc/stream-proxy --host 0.0.0.0

    The files are watched: a good change is live within two seconds, a bad one is refused and logged, and
    SIGHUP looks at once. SIGTERM tells every browser to reconnect and ends within the grace period. Exit
    status: 0 after a drain, 1 problems in the YAML, 2 usage, 3 it cannot listen there.
    """
    if path is None:
        raise click.UsageError("say which YAML to serve: --config PATH, or STREAM_PROXY_CONFIG")
    try:
        config = load(path, os.environ)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(USAGE if error.unreadable else PROBLEMS)
    host = host or config.server.host
    port = config.server.port if port is None else port
    _refuse_open_doors(config, host)
    from proxy.server.listener import run  # noqa: PLC0415 - what is wrong with the YAML is said before uvicorn is loaded

    sys.exit(run(lambda: serve(path, config, host, port)))


def _refuse_open_doors(config: Config, host: str) -> None:
    if _is_loopback(host):
        return
    from proxy.server.reloader import teams_without_auth  # noqa: PLC0415

    open_teams = teams_without_auth(config)
    if open_teams:
        names = ", ".join(open_teams)
        where = "at the top of the file" if config.single else f"in proxy.yaml (teams: {names})"
        click.echo(
            f"serve: refusing to listen on {host}, beyond loopback, without authentication: "
            f"write `auth:` {where}, or `auth: none` to let everybody in",
            err=True,
        )
        sys.exit(PROBLEMS)


def _is_loopback(host: str) -> bool:
    """By what it is, not by how it begins: 127.example.com is somebody's name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


async def serve(path: Path, config: Config, host: str, port: int) -> int:
    """Serve until a signal says farewell; the exit status."""
    from config.watch import watch  # noqa: PLC0415
    from proxy import __version__  # noqa: PLC0415
    from proxy.observability.counters import Counters  # noqa: PLC0415
    from proxy.observability.log_writer import open_event_log  # noqa: PLC0415
    from proxy.server.gc_policy import GcPolicy  # noqa: PLC0415
    from proxy.server.http.app import StreamApp  # noqa: PLC0415
    from proxy.server.http.endpoints import admin_app, endpoints_app  # noqa: PLC0415
    from proxy.server.http.sockets import bound  # noqa: PLC0415
    from proxy.server.listener import AdminServer, Server  # noqa: PLC0415
    from proxy.server.reloader import Reloader  # noqa: PLC0415
    from proxy.teams.hub import Hub  # noqa: PLC0415

    try:
        sock = bound(host, port)
        admin = None if config.server.admin_port is None else bound(host, config.server.admin_port)
    except OSError as error:
        return _cannot_listen(host, port, error)
    event_log = open_event_log()
    counts = Counters()
    hub = Hub(_open_door, counts, event_log)
    cycles = GcPolicy(counts.collector_pauses, hub.held)
    process = Reloader(path, os.environ, hub, event_log, on_loopback=_is_loopback(host))
    tasks: set[asyncio.Task[None]] = set()

    async def load_again() -> None:
        await process.reload()
        cycles.reloaded()

    def reload() -> None:
        task = asyncio.get_running_loop().create_task(load_again())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await process.start(config)
    hub.start()
    url = f"http://{host}:{sock.getsockname()[1]}/"
    admin_url = None if admin is None else f"http://{host}:{admin.getsockname()[1]}/"

    def listening() -> None:
        event_log.listening(
            url=url,
            admin_url=admin_url,
            teams=len(hub.teams),
            streams=sum(len(team.streams) for team in hub.teams.values()),
            version=__version__,
        )

    front = StreamApp(hub, endpoints_app(hub, probes_too=admin is None))
    server = Server(front, reload=reload, listening=listening)
    watcher = asyncio.create_task(watch(path, load_again))
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(cycles.kept())
        stack.callback(watcher.cancel)
        if admin is not None:
            await stack.enter_async_context(AdminServer(admin_app(hub)).beside(admin))
        try:
            await server.serve(sockets=[sock])
            _deaf_to_signals()
        except OSError as error:  # somebody else was bound there too, and listened first
            return _cannot_listen(host, port, error)
    return 0


def _open_door(config: HatchetConfig) -> Upstream:
    from proxy.hatchet.client import HatchetClient  # noqa: PLC0415

    return HatchetClient(config, os.environ)


def _deaf_to_signals() -> None:
    """The farewell is said: a signal now would only spoil the exit status."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _cannot_listen(host: str, port: int, error: OSError) -> int:
    click.echo(f"serve: cannot listen on {host}:{port}: {error.strerror or error}", err=True)
    return CANNOT_LISTEN
