"""``stream-proxy check``: finds every mistake in the YAML before it is live."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from config.checks.checker import Checked
from config.load import survey
from config.problems import ConfigError, errors
from config.render.report import ansi, as_github, as_json, as_text, plain
from config.source.nodes import Source
from config.source.variables import WithoutEnvironment

FINE, PROBLEMS, USAGE = 0, 1, 2


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH…")
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "github"]), default="text", show_default=True
)
@click.option("--strict", is_flag=True, help="Treat warnings as problems; name rules that no test reaches.")
@click.option(
    "--live",
    is_flag=True,
    help="Also ask Hatchet and the Redis of server.log: token, history, workflows, steps.",
)
@click.option("--no-env", is_flag=True, help="Assume that variables and files that are missing here exist.")
def command(paths: tuple[Path, ...], form: str, strict: bool, live: bool, no_env: bool) -> None:
    """Find every mistake in the YAML before it is live.

    \b
    stream-proxy check streams.yaml
    stream-proxy check /etc/stream-proxy      proxy.yaml and teams/*.yaml
    stream-proxy check teams/payments.yaml    one team's file
    stream-proxy check --no-env .             without the production's secrets
    stream-proxy check --live streams.yaml    with what Hatchet knows of workflows and steps

    Exit status: 0 no problems, 1 problems, 2 usage, or a path cannot be read.
    """
    if live and no_env:
        raise click.UsageError("--live needs the token, so it does not go with --no-env")
    checked: list[Checked] = []
    status = FINE
    env = WithoutEnvironment(os.environ) if no_env else os.environ
    for path in dict.fromkeys(paths):
        try:
            found_here = survey(path, env)
            checked += _asked(path, found_here) if live else found_here
        except ConfigError as error:
            checked.append(Checked(Source(str(path), ""), error.problems, None))
            status = USAGE
    if strict:
        from proxy.cli.unreached_rules import with_unreached  # noqa: PLC0415 - runs the tests: only when asked

        checked = [with_unreached(each, os.environ) for each in checked]
    found = [problem for each in checked for problem in each.problems]
    if status == FINE and (errors(found) or (strict and found)):
        status = PROBLEMS
    show(checked, form)
    sys.exit(status)


def _asked(path: Path, checked: list[Checked]) -> list[Checked]:
    """The files at `path`, with what Hatchet says of them."""
    import asyncio  # noqa: PLC0415 - takes a tenth of the command's time

    from proxy.cli.live_check import with_live  # noqa: PLC0415 - loads the connection to Hatchet: only when asked

    return asyncio.run(with_live(path, checked, os.environ))


def show(checked: list[Checked], form: str) -> None:
    """Writes the report; with colours only on a terminal."""
    if form == "json":
        click.echo(as_json(checked), nl=False)
    elif form == "github":
        click.echo(as_github(checked), nl=False)
    else:
        click.echo(as_text(checked, ansi if coloured() else plain), nl=False, color=True)


def coloured() -> bool:
    """Whether standard output is a terminal that wants colours (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
