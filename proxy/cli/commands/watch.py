"""``stream-proxy watch``: shows a live run in the terminal, and why events are not forwarded."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from config.problems import ConfigError
from proxy.cli.commands.config_files import PROBLEMS, USAGE, team_named
from proxy.cli.commands.event_printer import EventPrinter
from proxy.cli.commands.problems import show_problems
from proxy.core.events import End, Item
from proxy.hatchet.errors import HatchetError, RunUnknown, TokenRefused
from proxy.rules.ruleset import Rules

if TYPE_CHECKING:
    from config.model.files import StreamConfig, TeamConfig
    from proxy.hatchet.upstream import Upstream

INTERRUPTED: Final = 130  # what a shell expects after Ctrl-C
TRY_AGAIN: Final = 0.5  # seconds between lookups while the run does not exist or Hatchet is unreachable
LOOK_UP: Final = 1.0  # seconds without an event after which an error of Hatchet is shown

Say = Callable[[str], None]


@click.command()
@click.argument("run_id", metavar="RUN_ID")
@click.option("--stream", "stream_name", metavar="NAME", help="The stream; needed where there are several.")
@click.option("--team", "team_name", metavar="NAME", help="The team, in the directory form.")
@click.option(
    "--config",
    "path",
    metavar="PATH",
    type=click.Path(path_type=Path),
    envvar="STREAM_PROXY_CONFIG",
    default=Path("streams.yaml"),
    show_default=True,
    help="A file, or a folder with proxy.yaml and teams/*.yaml. Also: STREAM_PROXY_CONFIG.",
)
def command(run_id: str, stream_name: str | None, team_name: str | None, path: Path) -> None:
    """Watch a live run through a stream, in the terminal.

    \b
    stream-proxy watch 8ff4f149-099e-4c16-a8d1-0535f8c79b83 --stream chat

    Shows each message as a browser gets it, and each event that is not forwarded, with the reason. It
    subscribes as the proxy does and ends at the run's verified end. Ctrl-C ends it; the run continues.
    Exit status: 0 the run ended, 1 the YAML has problems, the run is unknown or the token refused, 2 usage.
    """
    if "NO_COLOR" in os.environ:
        click.get_current_context().color = False
    try:
        run_id = str(uuid.UUID(run_id))
    except ValueError:
        raise click.UsageError("RUN_ID must be a run's id: a UUID, as the dashboard shows it") from None
    team, stream = _chosen(path, team_name, stream_name)
    try:
        sys.exit(asyncio.run(_watch(run_id, team, stream)))
    except KeyboardInterrupt:
        click.echo("stopped watching; the run continues", err=True)
        sys.exit(INTERRUPTED)


def _chosen(path: Path, team_name: str | None, stream_name: str | None) -> tuple[TeamConfig, StreamConfig]:
    from config.load import load  # noqa: PLC0415 - --help needs no YAML

    try:
        config = load(path, os.environ)
    except ConfigError as error:
        show_problems(path, os.environ, error.problems)
        sys.exit(USAGE if error.unreadable else PROBLEMS)
    if team_name in config.broken:
        show_problems(path, os.environ, config.broken[team_name or ""])
        sys.exit(PROBLEMS)
    try:
        team = team_named(list(config.teams.values()), team_name)
    except LookupError as error:
        raise click.UsageError(str(error)) from None
    names = ", ".join(team.streams) or "none"
    if stream_name is None and len(team.streams) == 1:
        return team, next(iter(team.streams.values()))
    if stream_name is None or stream_name not in team.streams:
        what = (
            "name the stream: --stream NAME" if stream_name is None else f"there is no stream {stream_name}"
        )
        raise click.UsageError(f"{what} (there are: {names})")
    return team, team.streams[stream_name]


async def _watch(run_id: str, team: TeamConfig, stream: StreamConfig) -> int:
    from proxy.hatchet.client import HatchetClient  # noqa: PLC0415 - loads gRPC

    client = HatchetClient(team.hatchet, os.environ)
    try:
        return await watch(run_id, stream, client, click.echo, check_after=15.0)
    finally:
        await client.close()


async def watch(
    run_id: str, stream: StreamConfig, upstream: Upstream, say: Say, *, check_after: float
) -> int:
    """Print a line for each event of the run until its verified end; returns the exit status."""
    from proxy.runs.follower import RunFollower, RunSettings  # noqa: PLC0415

    controls = stream.format == "sse" and stream.control == "named"
    printer = EventPrinter(Rules(stream), say, controls=controls)
    queue: asyncio.Queue[Item] = asyncio.Queue()

    def publish(new: Sequence[Item]) -> None:
        for item in new:
            queue.put_nowait(item)

    run = RunFollower(run_id, upstream, publish=publish, settings=RunSettings(check_after=check_after))
    run.start()
    try:
        if not await _found(run.known, stream.wait_for_run, say):
            return PROBLEMS
        trouble: str | None = None
        while True:
            try:
                item = await asyncio.wait_for(queue.get(), LOOK_UP)
            except TimeoutError:
                trouble = _say_trouble(run.trouble, trouble, say)
                continue
            printer.show(item)
            if isinstance(item, End):
                return 0
    finally:
        await run.close()


async def _found(known: Callable[[], object], patience: float, say: Say) -> bool:
    """Wait for the run as the proxy does.

    At most `patience` seconds for the run to exist; while Hatchet is unreachable, without limit.
    Returns whether there is a run to watch.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    trouble: str | None = None
    while True:
        try:
            await known()  # type: ignore[misc]
        except RunUnknown:
            if loop.time() >= until:
                say("there is no such run for this team's token")
                return False
            trouble = _say_once("the run does not exist yet", trouble, say)
        except TokenRefused as error:
            say(f"Hatchet refuses the token: {error}")
            return False
        except HatchetError as error:
            trouble = _say_trouble(error, trouble, say)
        else:
            return True
        await asyncio.sleep(TRY_AGAIN)


def _say_trouble(error: HatchetError | None, said: str | None, say: Say) -> str | None:
    if error is None:
        return None
    return _say_once(f"waiting: {error}", said, say)


def _say_once(text: str, said: str | None, say: Say) -> str:
    if text != said:
        say(click.style(text, fg="yellow"))
    return text
