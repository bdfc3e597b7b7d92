"""``stream-proxy demo``: the embedded engine, the proxy and a page, in one process, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from config.load import load
from config.problems import ConfigError

if TYPE_CHECKING:
    from config.model.files import Config
    from proxy.simulator import Engine

HOST: Final = "127.0.0.1"
PROBLEMS: Final = 1
USAGE: Final = 2
CANNOT_LISTEN: Final = 3


@click.command()
@click.option(
    "--config",
    "path",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The YAML to serve.  [default: the streams.example.yaml that comes with the proxy]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="The page's and the proxy's port; 0 takes a free one.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 100),
    default=1.0,
    show_default=True,
    help="Run the workers this many times faster.",
)
def command(path: Path | None, port: int, speed: float) -> None:
    """Run an engine, the proxy and a page on this machine.

    \b
    stream-proxy demo
    stream-proxy demo --config streams.yaml --port 9000

    Starts an embedded Hatchet engine with three workflows (chat, flaky, broken), the proxy with the YAML, and
    a page whose buttons start runs. The engine imitates the odd behaviour of the real one, except that it
    does not hang up the tap at the end of the first run. Nothing is written to disk and nothing leaves this
    machine. Ctrl-C stops everything.
    """
    from proxy.cli.demo.page import example  # noqa: PLC0415 - --help needs no engine

    # not uvloop, which `serve` uses: the embedded engine in this process sometimes stalls on it
    sys.exit(asyncio.run(demo(path or example(), port, speed)))


async def demo(path: Path, port: int, speed: float) -> int:
    """Run until a signal; returns the exit status."""
    from proxy.cli.demo.workflows import demo_script  # noqa: PLC0415
    from proxy.server.http.sockets import bound  # noqa: PLC0415
    from proxy.simulator import Engine  # noqa: PLC0415

    try:
        sock = bound(HOST, port)
    except OSError as error:
        click.echo(f"demo: cannot listen on {HOST}:{port}: {error.strerror or error}; try --port 0", err=True)
        return CANNOT_LISTEN
    with sock:
        # Hangups at the end of a run are off: the first one would be the last (`proxy.runs.tap.keepalive`).
        async with Engine(demo_script(), speed=speed, quirks={"metadata-hangup": False}) as engine:
            env = {**os.environ, **engine.env}
            try:
                config = load(path, env)
            except ConfigError as error:
                from proxy.cli.commands.problems import show_problems  # noqa: PLC0415

                show_problems(path, env, error.problems)
                return USAGE if error.unreadable else PROBLEMS
            await _serve(engine, path, config, env, sock)
    click.echo("Stopped: the page, the proxy and the engine have ended.")
    return 0


async def _serve(
    engine: Engine, path: Path, config: Config, env: Mapping[str, str], sock: socket.socket
) -> None:
    from proxy.cli.demo.page import with_page  # noqa: PLC0415
    from proxy.observability.log_writer import open_event_log  # noqa: PLC0415
    from proxy.server.assembly import Assembly  # noqa: PLC0415

    proxy = Assembly(path, env, open_event_log(), wrap=lambda other: with_page(other, engine, path))
    await proxy.start(config)
    _print_addresses(engine, path, config, sock.getsockname()[1])
    await proxy.run(sock)


def _print_addresses(engine: Engine, path: Path, config: Config, port: int) -> None:
    click.echo(f"Hatchet  embedded, gRPC on {engine.host_port}, REST and /control on {engine.api_url}")
    click.echo(f"YAML     {path} (edit it: a valid change is live at once)")
    for team in config.teams.values():
        for stream in team.streams.values():
            click.echo(f"stream   {stream.name}: http://{HOST}:{port}{stream.path}")
    click.echo(f"\nOpen http://{HOST}:{port}/ and start a run. Ctrl-C stops everything.\n")
    sys.stdout.flush()
