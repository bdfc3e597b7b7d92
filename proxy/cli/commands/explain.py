"""``stream-proxy explain``: shows the result of each rule for an event, and the frame that is sent."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from config.expressions.api import ExpressionProblem
from config.model.files import StreamConfig
from config.problems import ConfigError
from proxy.cli.commands.config_files import PROBLEMS, USAGE, team_named, teams_at
from proxy.cli.commands.problems import show_problems
from proxy.core import json_codec
from proxy.core.events import STEP_COMPLETED, End, Event, Item, Reset
from proxy.core.instant import SECOND, instant
from proxy.rules.dry_run import Cause, DryRun, Made
from proxy.rules.ruleset import Rules, RuleVerdict
from proxy.rules.sample_event import GivenProblem, event_of
from proxy.streams.format_preview import FormatPreview

STANDARD_INPUT: Final = "-"
MOST_BYTES: Final = 64 << 20  # twice Hatchet's largest message, so every possible event fits


class Wrong(Exception):
    """The arguments are not usable; the text is one sentence for the user."""


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--stream", "stream_name", metavar="NAME", help="The stream; needed where there are several.")
@click.option("--team", "team_name", metavar="NAME", help="The team, in the directory form.")
@click.option(
    "--event", "text", metavar="JSON", help="The event: JSON, @FILE with JSON, or - for standard input."
)
@click.option(
    "--recording",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A recorded run (stream-proxy record): explain each of its events.",
)
def command(
    path: Path, stream_name: str | None, team_name: str | None, text: str | None, recording: Path | None
) -> None:
    """Show the result of each rule for an event, and the frame that is sent.

    \b
    stream-proxy explain streams.yaml --stream chat \\
        --event '{"type": "step_completed", "step": "start", "payload": {"ok": true}}'
    stream-proxy explain /etc/stream-proxy --team search --stream chat --event @event.json
    stream-proxy explain streams.yaml --stream chat --recording run.jsonl

    Fields of the event that are not given are filled in. The frame is what a browser gets, without its
    `id:` line, which differs from process to process. Hatchet is not called. Exit status: 0 explained,
    1 the YAML has problems, 2 usage.
    """
    if "NO_COLOR" in os.environ:
        click.get_current_context().color = False
    try:
        stream = _stream(path, team_name, stream_name)
        items = _items(text, recording)
        rules = Rules(stream)
    except ConfigError as error:
        show_problems(path, os.environ, error.problems)
        sys.exit(USAGE if error.unreadable else PROBLEMS)
    except ExpressionProblem as problem:
        click.echo(f"explain: an expression cannot be run: {problem.message}", err=True)
        sys.exit(PROBLEMS)
    except Wrong as wrong:
        click.echo(f"explain: {wrong}", err=True)
        sys.exit(USAGE)
    preview = FormatPreview(stream)
    if text is None and (begin := preview.begin()):
        click.secho("the message begins", bold=True)
        _raw(begin)
    run = DryRun(rules, single=text is not None)
    now = 0.0
    for item in items:
        now = max(now, _time_of(item))
        for made in run.take(item, now):
            explain(rules, made, preview)
    for made in run.finish():
        explain(rules, made, preview)


def _time_of(item: Item) -> float:
    """When it happened, in seconds; 0 where the time is not known."""
    return (instant(item.at) or 0) / SECOND if isinstance(item, Event) else 0.0


def _stream(path: Path, team_name: str | None, stream_name: str | None) -> StreamConfig:
    teams, problems = teams_at(path, os.environ)
    if problems and not any(team.name == team_name for team in teams):
        raise ConfigError(problems)
    try:
        team = team_named(teams, team_name)
    except LookupError as error:
        raise Wrong(str(error)) from None
    names = ", ".join(team.streams) or "none"
    if stream_name is None:
        if len(team.streams) != 1:
            raise Wrong(f"name the stream: --stream NAME (there are: {names})")
        return next(iter(team.streams.values()))
    if stream_name not in team.streams:
        raise Wrong(f"there is no stream {stream_name} (there are: {names})")
    return team.streams[stream_name]


def _items(text: str | None, recording: Path | None) -> Iterator[Item] | list[Item]:
    if (text is None) == (recording is None):
        raise Wrong("give either --event or --recording")
    if text is not None:
        return [_event(text)]
    assert recording is not None
    from proxy.runs.replay import NotARecording, items_of_recording  # noqa: PLC0415 - a single event needs no replay

    try:
        return items_of_recording(recording.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as error:
        reason = str(error) if isinstance(error, NotARecording) else getattr(error, "strerror", None)
        raise Wrong(f"{recording} cannot be read: {reason or 'it is not UTF-8 text'}") from None


def _event(text: str) -> Event:
    try:
        given = json_codec.decode(_content(text))
    except json_codec.NotJson as error:
        hint = """write it like '{"type": "step_started"}', in single quotes for the shell"""
        raise Wrong(f"the event {error}: {hint}") from None
    if not isinstance(given, dict):
        raise Wrong("the event must be a JSON object with at least a type")
    try:
        return event_of(given)
    except GivenProblem as problem:
        raise Wrong(f"{problem.message} ({problem.hint})") from None


def _content(text: str) -> str:
    if text == STANDARD_INPUT:
        return sys.stdin.read(MOST_BYTES)
    if not text.startswith("@"):
        return text
    try:
        with Path(text[1:]).open(encoding="utf-8") as file:
            return file.read(MOST_BYTES)
    except (OSError, ValueError) as error:
        raise Wrong(
            f"{text[1:]} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
        ) from None


def explain(rules: Rules, made: Made, preview: FormatPreview) -> None:
    """Prints one thing that the stream does; of chunks that are merged only what they become."""
    if made.cause is Cause.WAITS:
        return
    click.secho(_title(made), bold=True)
    if made.cause is Cause.HELD:
        click.echo("  held until the step ends: a rule with `whole` may repair the text\n")
    elif made.cause is Cause.UNSENT:
        click.echo("  no rule forwards chunks of this step: not sent\n")
    elif isinstance(made.item, Event) and made.cause in (Cause.GIVEN, Cause.MERGED):
        _explain_event(rules, made, made.item, preview)
    else:
        _written(made, preview)


def _title(made: Made) -> str:
    item = made.item
    if isinstance(item, End):
        return f"the verified end: {item.status}"
    if isinstance(item, Event):
        if made.cause is Cause.REPAIR:
            rule = "" if made.message is None else made.message.rule
            return f"the missing text of step {item.step}, by rule {rule}"
        of = f" of step {item.step}" if item.step is not None else ""
        return f"{item.type}{of}{f', {_chunks(item)}' if made.cause is Cause.MERGED else ''}"
    released = made.cause is Cause.RELEASED
    if isinstance(item, Reset):
        return f"a reset of step {item.step}{': its whole text follows' if released else ''}"
    return f"a gap of step {item.step}{', held until now' if released else ''}"


def _chunks(merged: Event) -> str:
    first, last = merged.first_index, merged.index
    return f"chunk {last}" if first == last else f"chunks {first} to {last}"


def _explain_event(rules: Rules, made: Made, event: Event, preview: FormatPreview) -> None:
    for verdict in made.verdicts:
        _explain_verdict(verdict)
    if made.cause is Cause.MERGED and made.rule is not None:
        merged = "" if event.first_index == event.index else ", merged into one frame"
        click.echo(f"  {made.rule}: {click.style('matched', fg='green')}{merged}")
    if event.type == STEP_COMPLETED and event.step:
        for rule in rules.whole_rules(event.step, event.workflow):
            whole = rules.whole_text(rule, event)
            result = "gives no text" if whole is None else f"the chunks add up to {len(whole)} characters"
            click.echo(f"  whole of {rule.name}: {result}")
    if made.message is not None:
        _written(made, preview)
        return
    matched = made.cause is Cause.MERGED or any(verdict.matched for verdict in made.verdicts)
    click.echo(f"  {'not forwarded' if matched else 'no rule matches: not forwarded'}\n")
    _raw(preview.write(made))  # the end of a step also ends its text


def _explain_verdict(verdict: RuleVerdict) -> None:
    if not verdict.asked:
        outcome, colour = "not evaluated", "bright_black"
    elif verdict.matched:
        outcome, colour = "matched" if verdict.message is not None else "decided", "green"
    else:
        outcome, colour = "no match", "yellow"
    reasons = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
    click.echo(f"  {verdict.rule}: {click.style(outcome, fg=colour)}{reasons}")


def _written(made: Made, preview: FormatPreview) -> None:
    """The frames, or why there are none."""
    frames = preview.write(made)
    if frames:
        _raw(frames)
    else:
        click.echo(f"  {preview.silence(made)}\n")


def _raw(frame: bytes) -> None:
    """The frame, byte for byte."""
    sys.stdout.flush()
    sys.stdout.buffer.write(frame)
    sys.stdout.buffer.flush()
