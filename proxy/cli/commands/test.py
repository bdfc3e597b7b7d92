"""``stream-proxy test``: run the tests that stand beside the rules."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from config.model.files import TeamConfig
from config.problems import ConfigError, Problem
from proxy.cli.commands.config_files import PROBLEMS, USAGE, folder_of, teams_at
from proxy.cli.commands.problems import show_problems
from proxy.cli.junit import junit
from proxy.rules.test_runner import TestResult, run_tests, unreached
from proxy.teams.recordings import RecordingFiles

MOST_VERDICTS: Final = 12  # lines: a recorded run has hundreds of events
MARKS: Final = {True: ("ok  ", "green"), False: ("FAIL", "red")}


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--junit", "report", metavar="FILE", type=click.Path(path_type=Path), help="Also write a JUnit report."
)
def command(path: Path, report: Path | None) -> None:
    """Run the tests that stand beside the rules.

    \b
    stream-proxy test streams.yaml
    stream-proxy test /etc/stream-proxy            all teams
    stream-proxy test teams/payments.yaml          one team's file
    stream-proxy test . --junit report.xml         for a build server

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
        _write(report, {}, error.problems)
        sys.exit(USAGE if error.unreadable else PROBLEMS)
    if problems:
        show_problems(path, os.environ, problems)
    recordings = RecordingFiles(folder_of(path))
    results = {team.name: run_tests(team, recordings) for team in teams}
    failed = sum([_report(team, results[team.name], named=len(teams) > 1) for team in teams])
    _write(report, results, problems)
    sys.exit(PROBLEMS if failed or problems else 0)


def _write(
    report: Path | None, results: Mapping[str, Sequence[TestResult]], problems: Sequence[Problem]
) -> None:
    """Write the JUnit report, where one is wanted."""
    if report is None:
        return
    try:
        report.write_bytes(junit(results, problems))
    except OSError as error:
        click.echo(f"test: {report} cannot be written: {error.strerror}", err=True)
        sys.exit(USAGE)


def _report(team: TeamConfig, results: Sequence[TestResult], named: bool) -> int:
    """Print the results of a team's tests; returns how many failed."""
    if named:
        click.secho(f"team {team.name}", bold=True)
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
    asked = [verdict for verdict in result.verdicts if verdict.asked]
    for verdict in asked[:MOST_VERDICTS]:
        outcome = "decided" if verdict.matched else "did not match"
        why = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
        click.echo(f"      rule {verdict.rule} {outcome}{why}")
    if len(asked) > MOST_VERDICTS:
        click.echo(f"      … and {len(asked) - MOST_VERDICTS} more")
    if result.decided is None and result.verdicts:
        click.echo("      no rule matched, so the event is not forwarded")
