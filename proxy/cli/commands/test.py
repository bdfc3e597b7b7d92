"""``stream-proxy test``: run the tests that stand beside the rules."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from config.model.files import TeamConfig
from config.problems import ConfigError
from proxy.cli.commands.config_files import PROBLEMS, USAGE, teams_at
from proxy.cli.commands.problems import show_problems
from proxy.rules.test_runner import TestResult, run_tests, unreached

MARKS: Final = {True: ("ok  ", "green"), False: ("FAIL", "red")}


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
def command(path: Path) -> None:
    """Run the tests that stand beside the rules.

    \b
    stream-proxy test streams.yaml
    stream-proxy test /etc/stream-proxy            all teams
    stream-proxy test teams/payments.yaml          one team's file

    No token is needed, and Hatchet is not called. A failing test shows what differs, which rule
    decided, and why the earlier rules did not match. Exit status: 0 all pass, 1 some fail or the YAML has
    problems, 2 the path cannot be read.
    """
    if "NO_COLOR" in os.environ:
        click.get_current_context().color = False
    try:
        teams, problems = teams_at(path, os.environ)
    except ConfigError as error:
        show_problems(path, os.environ, error.problems)
        sys.exit(USAGE if error.unreadable else PROBLEMS)
    if problems:
        show_problems(path, os.environ, problems)
    failed = sum([_report(team, named=len(teams) > 1) for team in teams])
    sys.exit(PROBLEMS if failed or problems else 0)


def _report(team: TeamConfig, named: bool) -> int:
    """Print the results of a team's tests; returns how many failed."""
    if named:
        click.secho(f"team {team.name}", bold=True)
    results = run_tests(team)
    for result in results:
        mark, colour = MARKS[result.passed]
        click.echo(f"{click.style(mark, fg=colour)}  {result.name}")
        if not result.passed:
            _explain(result)
    failed = sum(not result.passed for result in results)
    if not results:
        click.echo("There are no tests: write some under `tests:`.")
        return 0
    for stream, rule in unreached(team, results):
        click.echo(f"{click.style('note', fg='yellow')}  no test reaches the rule {rule} of stream {stream}")
    count = f"{len(results)} test{'' if len(results) == 1 else 's'}"
    click.echo(f"{count}, {failed} failed" if failed else f"{count}, all passed")
    return failed


def _explain(result: TestResult) -> None:
    if result.problem is not None:
        click.echo(f"      {result.problem}")
        return
    click.echo("      - expected   + got")
    for line in result.diff:
        colour = {"-": "red", "+": "green"}.get(line[0])
        click.echo("      " + click.style(line, fg=colour))
    for verdict in result.verdicts:
        if verdict.asked:
            said = "decided" if verdict.matched else "did not match"
            why = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
            click.echo(f"      rule {verdict.rule} {said}{why}")
    if result.decided is None:
        click.echo("      no rule matched, so the event is not forwarded")
