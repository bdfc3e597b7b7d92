"""``stream-proxy engine``: an embedded Hatchet engine on two ports of this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from config.problems import ConfigError
from proxy.simulator import Engine, PortTaken
from proxy.simulator.quirks import attribute, facts
from proxy.simulator.recordings.parser import NotARecording, load_recording

START: Final = "from proxy.cli.main import start; start()"
READY: Final = "# gRPC on"  # the last line that the engine prints at its start
OWNER_ONLY: Final = 0o600  # a token is a secret


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
@click.option("--port", default=7077, show_default=True, help="The port of gRPC; 0 takes a free one.")
@click.option(
    "--api-port", default=8888, show_default=True, help="The port of REST and /control; 0 takes a free one."
)
@click.option(
    "--token-file", type=click.Path(dir_okay=False, path_type=Path), help="Write the token to this file."
)
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the environment for hatchet-sdk to this file, as NAME=value lines.",
)
@click.option(
    "--pid-file", type=click.Path(dir_okay=False, path_type=Path), help="Write the process id to this file."
)
@click.option(
    "--detach",
    is_flag=True,
    help="Start the engine in the background and return when it listens. See docs/engine.md.",
)
@click.option(
    "--quirk",
    "quirks",
    multiple=True,
    callback=quirk_switches,
    metavar="NAME=on|off",
    help="Switch a quirk on or off.",
)
@click.option(
    "--tenants",
    default=1,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="The number of tenants.",
)
@click.option("--seed", type=int, help="Make delays, ids and random choices the same in every run.")
@click.option(
    "--recording",
    type=click.Path(path_type=Path),
    help="Play a recorded run at the start and when its file's name is triggered, at --speed.",
)
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.01, 1000),
    help="Run workers, or a recording, this many times faster.",
)
def command(  # noqa: PLR0917 - click passes them by name
    script: Path | None,
    port: int,
    api_port: int,
    token_file: Path | None,
    env_file: Path | None,
    pid_file: Path | None,
    detach: bool,
    quirks: dict[str, bool],
    tenants: int,
    seed: int | None,
    recording: Path | None,
    speed: float,
) -> None:
    """Run a small Hatchet engine with the quirks of the real one, for demos and tests.

    SCRIPT is a YAML file with workflows (see docs/engine.md); the default is the tutorial's workflow `chat`.
    """
    if detach:
        sys.exit(_detach(click.get_current_context()))

    def ready() -> None:
        if recording is not None:
            click.echo(f"# playing {recording.stem} as run {engine.play_recording(recording.stem)}")
        if token_file is not None:
            _write(token_file, engine.token + "\n")
        if env_file is not None:
            _write(env_file, "".join(f"{name}={value}\n" for name, value in engine.env.items()))
        if pid_file is not None:
            _write(pid_file, f"{os.getpid()}\n")

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


def _write(file: Path, text: str) -> None:
    file.touch(mode=OWNER_ONLY)
    file.write_text(text, encoding="utf-8")


def _detach(ctx: click.Context) -> int:
    """Start the command in its own process session and print its output until it listens.

    Returns the exit status.
    """
    command = [sys.executable, "-c", START, "engine", *_arguments(ctx)]
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        assert child.stdout is not None
        for line in child.stdout:
            click.echo(line, nl=False)
            if line.startswith(READY):
                click.echo(f"export STREAM_PROXY_ENGINE_PID={child.pid}")
                return 0
        errors.seek(0)
        click.echo(errors.read().decode(errors="replace"), err=True, nl=False)
        return child.wait()


def _arguments(ctx: click.Context) -> list[str]:
    """The arguments of this call, without --detach."""
    arguments: list[str] = []
    for parameter in ctx.command.params:
        value = ctx.params[str(parameter.name)]
        if parameter.name == "detach" or value is None:
            continue
        if parameter.name == "quirks":
            for name, on in value.items():
                arguments += ["--quirk", f"{name}={'on' if on else 'off'}"]
        elif isinstance(parameter, click.Argument):
            arguments.append(str(value))
        else:
            arguments += [parameter.opts[0], str(value)]
    return arguments
