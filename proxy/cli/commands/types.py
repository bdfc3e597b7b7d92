"""``stream-proxy types``: writes TypeScript types of what the streams send."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from config.problems import ConfigError
from config.render.typescript import typescript, typescript_of_teams
from proxy.cli.commands.config_files import PROBLEMS, USAGE, team_named, teams_at


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--team", "team_name", metavar="NAME", help="Only this team, in the directory form.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, allow_dash=True),
    default="-",
    help="The file to write.  [default: standard output]",
)
def command(path: Path, team_name: str | None, output: Path) -> None:
    """Write TypeScript types of what the streams send.

    \b
    stream-proxy types streams.yaml > src/streams.ts
    stream-proxy types /etc/stream-proxy --team search -o src/streams.ts

    A file has an interface `Streams`, with one union of all frames for each stream: Streams["chat"].
    A folder with several teams has `Teams`, with the streams of each team: Teams["search"]["chat"].
    What the YAML does not define is `unknown`; a block `types:` gives JSON Schemas for steps' outputs and
    chunks. Exit status: 0 written, 1 the YAML has problems, 2 usage.
    """
    try:
        teams, problems = teams_at(path, os.environ)
        if problems and not any(team.name == team_name for team in teams):
            raise ConfigError(problems)
        if team_name is None and len(teams) != 1:
            text = typescript_of_teams({team.name: (team.streams, team.types) for team in teams})
        else:
            team = team_named(teams, team_name)
            text = typescript(team.streams, team.types)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(USAGE if error.unreadable else PROBLEMS)
    except LookupError as error:
        click.echo(f"types: {error}", err=True)
        sys.exit(USAGE)
    if str(output) == "-":
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written: {error.strerror}") from None
