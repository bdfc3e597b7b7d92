"""``stream-proxy engine``: an embedded Hatchet on two ports of this machine."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import click

from config.problems import ConfigError
from proxy.simulator import Engine, PortTaken
from proxy.simulator.quirks import attribute, facts
from proxy.simulator.recordings.parser import NotARecording, load_recording


def quirk_switches(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, bool]:
    """NAME=on and NAME=off, as a mapping."""
    switches = {}
    for value in values:
        name, _, state = value.partition("=")
        if state not in ("on", "off"):
            raise click.BadParameter(f"'{value}' is not NAME=on or NAME=off")
        try:
            switches[attribute(name)] = state == "on"
        except ValueError as unknown:
            raise click.BadParameter(str(unknown)) from None
    return switches


@click.command(epilog="Quirks: " + ", ".join(name for name, _, _ in facts()) + ".")
@click.argument("script", required=False, type=click.Path(path_type=Path))
@click.option("--port", default=7077, show_default=True, help="Where to speak gRPC; 0: any free port.")
@click.option("--api-port", default=8888, show_default=True, help="Where to speak REST, and be controlled.")
@click.option("--token-file", type=click.Path(dir_okay=False, path_type=Path), help="Write the token there.")
@click.option(
    "--quirk", "quirks", multiple=True, callback=quirk_switches, metavar="NAME=on|off", help="Switch a quirk."
)
@click.option(
    "--tenants",
    default=1,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="How many tenants there are.",
)
@click.option("--seed", type=int, help="Make delays, ids and chances the same each time.")
@click.option(
    "--recording",
    type=click.Path(path_type=Path),
    help="Tell a recorded run, at once and whenever its file's name is triggered; --speed is its speed then.",
)
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.01, 1000),
    help="Make workers, or a recording, so many times faster.",
)
def command(  # noqa: PLR0917 - click gives them by name
    script: Path | None,
    port: int,
    api_port: int,
    token_file: Path | None,
    quirks: dict[str, bool],
    tenants: int,
    seed: int | None,
    recording: Path | None,
    speed: float,
) -> None:
    """A Hatchet in miniature, with all the real one's quirks, for demos and tests.

    SCRIPT is a YAML file with workflows (see docs/engine.md); without it there is the tutorial's `chat`.
    """

    def ready() -> None:
        if recording is not None:
            click.echo(f"# telling {recording.stem} as run {engine.play_recording(recording.stem)}")
        if token_file is not None:
            token_file.write_text(engine.token + "\n", encoding="utf-8")

    try:
        engine = Engine(
            script,
            quirks=quirks,
            tenants=tenants,
            seed=seed,
            speed=speed,
            port=port,
            api_port=api_port,
            recordings={recording.stem: load_recording(recording)} if recording is not None else None,
        )
    except (NotARecording, OSError) as wrong:
        click.echo(f"--recording: {wrong}", err=True)
        sys.exit(2)
    except ConfigError as wrong:
        click.echo(str(wrong), err=True)
        sys.exit(2 if wrong.unreadable else 1)
    try:
        asyncio.run(_serve(engine, ready))
    except PortTaken as taken:
        click.echo(str(taken), err=True)
        sys.exit(3)


async def _serve(engine: Engine, ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with engine:
        for name, value in engine.env.items():
            click.echo(f"export {name}={value}")
        for other in range(1, len(engine.tokens)):
            click.echo(f"# tenant {other}: HATCHET_CLIENT_TOKEN={engine.tokens[other]}")
        ready()
        workflows = ", ".join([*engine.core.script.workflows, *engine.core.recordings])
        click.echo(
            f"# gRPC on {engine.host_port}, REST and /control on {engine.api_url}; workflows: {workflows}"
        )
        sys.stdout.flush()
        await stop.wait()
