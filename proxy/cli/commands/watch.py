"""``stream-proxy watch``: shows a live run in the terminal, and why events are not forwarded."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from config.model.units import DURATION, SECONDS
from config.problems import ConfigError
from proxy.cli.commands.config_files import PROBLEMS, USAGE, team_named
from proxy.cli.commands.event_printer import EventPrinter
from proxy.cli.commands.problems import show_problems
from proxy.core.events import End, Item
from proxy.hatchet.errors import HatchetError, RunUnknown, TokenRefused
from proxy.rules.ruleset import Rules

if TYPE_CHECKING:
    from config.model.files import StreamConfig, TeamConfig
    from proxy.hatchet.client import HatchetClient
    from proxy.hatchet.upstream import Upstream

INTERRUPTED: Final = 130  # what a shell expects after Ctrl-C
TRY_AGAIN: Final = 0.5  # seconds between lookups while the run does not exist or Hatchet is unreachable
REPEAT_AFTER: Final = 60.0  # seconds between two lines about the same outage, where there is no terminal
LOOK_UP: Final = 1.0  # seconds without an event after which an error of Hatchet is shown

Echo = Callable[[str], None]


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """The seconds of a duration like ``30s``."""
    if value is None:
        return None
    match = DURATION.fullmatch(value)
    if match is None:
        raise click.BadParameter("a whole number with its unit: 500ms, 30s, 5m or 1h")
    return float(int(match[1]) * SECONDS[match[2]])


@click.command()
@click.argument("run_id", metavar="RUN_ID", required=False)
@click.option("--workflow", metavar="NAME", help="Instead of RUN_ID: the next run of this workflow.")
@click.option("--url", metavar="URL", help="Instead of RUN_ID: what a running proxy sends at this URL.")
@click.option(
    "--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="With --url: a header of the request."
)
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
@click.option(
    "--timeout",
    metavar="TIME",
    callback=_seconds,
    help="End after this time, like 30s or 5m.  [default: never]",
)
def command(  # noqa: PLR0917 - click passes them by name
    run_id: str | None,
    workflow: str | None,
    url: str | None,
    headers: tuple[str, ...],
    stream_name: str | None,
    team_name: str | None,
    path: Path,
    timeout: float | None,
) -> None:
    """Watch a live run through a stream, in the terminal.

    \b
    stream-proxy watch 8ff4f149-099e-4c16-a8d1-0535f8c79b83 --stream chat
    stream-proxy watch --workflow chat --timeout 5m
    stream-proxy watch --url https://app.example.com/streams/chat/RUN_ID --header "Authorization: Bearer …"

    Shows each message as a browser gets it, and each event that is not forwarded, with the reason. It
    subscribes as the proxy does and ends at the run's verified end. Ctrl-C ends it; the run continues.
    With --url it reads no YAML and asks a running proxy instead, as an EventSource does: it reconnects with
    the last cursor. Exit status: 0 the run ended, 1 the YAML has problems, the run is unknown, the token or
    the request refused, or the time over, 2 usage.
    """
    if "NO_COLOR" in os.environ:
        click.get_current_context().color = False
    if sum(each is not None for each in (run_id, workflow, url)) != 1:
        raise click.UsageError(
            "name the run: RUN_ID, --workflow NAME for the next run of a workflow, or the --url of a stream"
        )
    if url is not None:
        _end(_watch_url(url, headers, timeout))
    try:
        run_id = None if run_id is None else str(uuid.UUID(run_id))
    except ValueError:
        raise click.UsageError("RUN_ID must be a run's id: a UUID, as the dashboard shows it") from None
    team, stream = _chosen(path, team_name, stream_name)
    _end(_watch(run_id, workflow or "", team, stream, timeout))


def _end(watching: Coroutine[Any, Any, int]) -> NoReturn:
    """Watch to the end, then end the process."""
    try:
        sys.exit(asyncio.run(watching))
    except KeyboardInterrupt:
        click.echo("stopped watching; the run continues", err=True)
        sys.exit(INTERRUPTED)


async def _watch_url(url: str, headers: Sequence[str], timeout: float | None) -> int:
    from proxy.cli.url_watcher import BadRequest, watch_url  # noqa: PLC0415 - loads aiohttp

    try:
        async with asyncio.timeout(timeout):
            return await watch_url(url, headers, click.echo)
    except BadRequest as error:
        click.echo(f"watch: {error}", err=True)
        return USAGE
    except TimeoutError:
        click.echo(f"stopped watching after {timeout:g} s; the run continues", err=True)
        return PROBLEMS


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


async def _watch(
    run_id: str | None, workflow: str, team: TeamConfig, stream: StreamConfig, timeout: float | None
) -> int:
    from proxy.hatchet.client import HatchetClient  # noqa: PLC0415 - loads gRPC

    client = HatchetClient(team.hatchet, os.environ)
    try:
        async with asyncio.timeout(timeout):
            if run_id is None:
                run_id = await _next_run(client, workflow, click.echo)
            if run_id is None:
                return PROBLEMS
            return await watch(run_id, stream, client, click.echo, check_after=15.0)
    except TimeoutError:
        click.echo(f"stopped watching after {timeout:g} s; the run continues", err=True)
        return PROBLEMS
    finally:
        await client.close()


async def _next_run(client: HatchetClient, workflow: str, echo: Echo) -> str | None:
    """The id of the first run of `workflow` that is triggered from now on; None where it does not exist."""
    since = datetime.now(UTC)
    waiting = Waiting(echo)
    workflow_id: str | None = None
    while True:
        try:
            if workflow_id is None:
                workflow_id = await client.workflow_id(workflow)
                if workflow_id is None:
                    echo(f"there is no workflow {workflow} for this team's token")
                    return None
                echo(f"waiting for the next run of {workflow}")
            run_id = await client.run_since(workflow_id, since)
        except HatchetError as error:
            waiting.met(error)
        else:
            waiting.over()
            if run_id is not None:
                echo(f"watching {run_id}")
                return run_id
        await asyncio.sleep(TRY_AGAIN)


async def watch(
    run_id: str, stream: StreamConfig, upstream: Upstream, echo: Echo, *, check_after: float
) -> int:
    """Print a line for each event of the run until its verified end; returns the exit status."""
    from proxy.runs.follower import RunFollower, RunSettings  # noqa: PLC0415

    controls = stream.format == "sse" and stream.control == "named"
    printer = EventPrinter(Rules(stream), echo, controls=controls)
    queue: asyncio.Queue[Item] = asyncio.Queue()

    def publish(new: Sequence[Item]) -> None:
        for item in new:
            queue.put_nowait(item)

    run = RunFollower(run_id, upstream, publish=publish, settings=RunSettings(check_after=check_after))
    run.start()
    try:
        if not await _found(run.first_state, stream.wait_for_run, echo):
            return PROBLEMS
        waiting = Waiting(echo)
        while True:
            try:
                item = await asyncio.wait_for(queue.get(), LOOK_UP)
            except TimeoutError:
                waiting.met(run.trouble)
                continue
            waiting.over()
            printer.show(item)
            if isinstance(item, End):
                return 0
    finally:
        await run.close()


async def _found(first_state: Callable[[], object], patience: float, echo: Echo) -> bool:
    """Wait for the run as the proxy does.

    At most `patience` seconds for the run to exist; while Hatchet is unreachable, without limit.
    Returns whether there is a run to watch.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    waiting, unknown = Waiting(echo), False
    while True:
        try:
            await first_state()  # type: ignore[misc]
        except RunUnknown:
            waiting.over()
            if loop.time() >= until:
                echo("there is no such run for this team's token")
                return False
            if not unknown:
                echo(click.style("the run does not exist yet", fg="yellow"))
            unknown = True
        except TokenRefused as error:
            echo(f"Hatchet refuses the token: {error}")
            return False
        except HatchetError as error:
            waiting.met(error)
        else:
            waiting.over()
            return True
        await asyncio.sleep(TRY_AGAIN)


class Waiting:
    """One line while Hatchet does not answer: a count that grows on a terminal, else a line a minute."""

    def __init__(self, echo: Echo, *, now: Callable[[], float] = time.monotonic) -> None:
        self._echo = echo
        self._now = now
        self._since: float | None = None  # None: Hatchet answers
        self._printed_at = 0.0
        self._times = 0

    def met(self, error: HatchetError | None) -> None:
        """Hatchet did not answer; None: it does."""
        if error is None:
            self.over()
            return
        now = self._now()
        self._times += 1
        first = self._since is None
        if self._since is None:
            self._since = now
        if sys.stdout.isatty():
            text = f"waiting: {error} (asked {self._times} times in {now - self._since:.0f} s)"
            click.echo(f"\r\x1b[K{click.style(text, fg='yellow')}", nl=False)
        elif first or now >= self._printed_at + REPEAT_AFTER:
            self._printed_at = now
            count = "" if first else f" (asked {self._times} times in {now - self._since:.0f} s)"
            self._echo(click.style(f"waiting: {error}{count}", fg="yellow"))

    def over(self) -> None:
        """Hatchet answers."""
        if self._since is None:
            return
        if sys.stdout.isatty():
            click.echo()
        self._echo(click.style(f"Hatchet answers after {self._now() - self._since:.0f} s", fg="yellow"))
        self._since, self._times = None, 0
