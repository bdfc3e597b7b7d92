"""``stream-proxy show``: prints the effective configuration, with every default and without secrets."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from config.load import load
from config.model.files import TeamConfig
from config.problems import ConfigError
from config.render.effective import as_yaml, effective
from proxy.cli.commands.config_files import PROBLEMS, USAGE
from proxy.cli.commands.problems import show_problems


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def command(path: Path, form: str) -> None:
    """Print the effective configuration: every default, names and shapes filled in, secrets redacted.

    \b
    stream-proxy show streams.yaml
    stream-proxy show /etc/stream-proxy        all teams

    Where Hatchet is reached comes from the YAML, the token and HATCHET_CLIENT_*, as for `serve`; nothing is
    called. Exit status: 0 printed, 1 the YAML has problems (the teams without are printed), 2 usage.
    """
    try:
        config = load(path, os.environ)
    except ConfigError as error:
        show_problems(path, os.environ, error.problems)
        sys.exit(USAGE if error.unreadable else PROBLEMS)
    problems = [*config.ignored, *(each for found in config.broken.values() for each in found)]
    if problems:
        show_problems(path, os.environ, problems)
    made = effective(config, {name: _address(team) for name, team in config.teams.items()})
    click.echo(
        json.dumps(made, indent=2, ensure_ascii=False) + "\n" if form == "json" else as_yaml(made), nl=False
    )
    sys.exit(PROBLEMS if problems else 0)


def _address(team: TeamConfig) -> Mapping[str, Any]:
    """Where the team's Hatchet is, as far as the token and the environment name it."""
    from proxy.hatchet.endpoint import endpoint  # noqa: PLC0415 - --help needs none
    from proxy.hatchet.errors import HatchetError  # noqa: PLC0415

    try:
        at = endpoint(team.hatchet, os.environ)
    except HatchetError as error:
        click.echo(f"show: team {team.name}: {error}", err=True)
        return {}
    files = {"ca": at.tls.ca, "cert": at.tls.cert, "key": at.tls.key}
    return {
        "host_port": at.host_port,
        "tls": at.tls.strategy,
        **{name: file for name, file in files.items() if file is not None},
        "api": at.api or "off",
    }
