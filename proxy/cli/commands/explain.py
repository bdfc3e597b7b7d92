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
from proxy.core.events import STEP_COMPLETED, End, Event, Item, Reset, StepGap
from proxy.core.instant import SECOND, instant
from proxy.rules.merging import Merging, Ready
from proxy.rules.ruleset import Rules, RuleVerdict
from proxy.rules.sample_event import GivenProblem, event_of
from proxy.rules.whole import Repair, WholeTexts
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
    texts = None if text is not None else WholeTexts(rules)  # a single event does not show a step's chunks
    preview = FormatPreview(stream)
    if text is None and (begin := preview.begin()):
        click.secho("the message begins", bold=True)
        _raw(begin)
    merging = Merging(rules) if rules.merges and text is None else None
    now = 0.0
    for item in items:
        if merging is None:
            explain(rules, item, preview, texts)
            continue
        now = max(now, _time_of(item))
        for ready in [*merging.flush(now), *merging.take(item, None, now)]:
            if ready.decoded is None:
                explain(rules, ready.item, preview, texts)
            else:
                _explain_merged(rules, ready, preview, texts)


def _time_of(item: Item) -> float:
    """When it happened, in seconds; 0 where the time is not known."""
    return (instant(item.at) or 0) / SECOND if isinstance(item, Event) else 0.0


def _explain_merged(rules: Rules, ready: Ready, preview: FormatPreview, texts: WholeTexts | None) -> None:
    """Prints what the stream sends for chunks that were merged."""
    event, decoded = ready.item, ready.decoded
    assert isinstance(event, Event)
    assert decoded is not None
    assert decoded.decided is not None
    last, first = event.index, event.first_index
    which = f"chunk {last}" if first == last else f"chunks {first} to {last}"
    click.secho(f"{event.type} of step {event.step}, {which}", bold=True)
    merged = "" if first == last else ", merged into one frame"
    click.echo(f"  {decoded.decided.name}: {click.style('matched', fg='green')}{merged}")
    message = rules.message(event, decoded)
    if message is None:
        click.echo("  not forwarded\n")
        return
    if texts is not None:
        texts.record(event, message)
    _written(preview.message(event, message), preview, event)


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
    from proxy.runs.replay import NotARecording, played  # noqa: PLC0415 - a single event needs no replay

    try:
        return played(recording.read_text(encoding="utf-8").splitlines())
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


def explain(rules: Rules, item: Item, preview: FormatPreview, texts: WholeTexts | None = None) -> None:
    """Prints what the stream sends for `item`; `texts` records the texts of a run, for rules with `whole`."""
    for found in texts.before(item) if texts is not None else []:
        _explain_outcome(found, preview)
    if not isinstance(item, Event):
        if texts is not None and isinstance(item, StepGap) and texts.hold(item):
            click.secho(f"a gap of step {item.step}", bold=True)
            click.echo("  held until the step ends: a rule with `whole` may repair the text\n")
        else:
            _explain_notice(rules, item, preview)
        return
    of = f" of step {item.step}" if item.step is not None else ""
    click.secho(f"{item.type}{of}", bold=True)
    verdicts = rules.verdicts(item)
    for verdict in verdicts:
        _explain_verdict(verdict)
    for rule in (
        rules.whole_rules(item.step, item.workflow) if item.type == STEP_COMPLETED and item.step else []
    ):
        whole = rules.whole_text(rule, item)
        says = "gives no text" if whole is None else f"the chunks add up to {len(whole)} characters"
        click.echo(f"  whole of {rule.name}: {says}")
    message = next((verdict.message for verdict in verdicts if verdict.message is not None), None)
    if message is None:
        why = "not forwarded" if any(v.matched for v in verdicts) else "no rule matches: not forwarded"
        click.echo(f"  {why}\n")
        _raw(preview.message(item, None))  # the end of a step also ends its text
    else:
        if texts is not None:
            texts.record(item, message)
        _written(preview.message(item, message), preview, item)


def _explain_outcome(found: StepGap | Reset | Repair, preview: FormatPreview) -> None:
    if isinstance(found, StepGap):
        click.secho(f"a gap of step {found.step}, held until now", bold=True)
        _written(preview.control(found), preview)
    elif isinstance(found, Reset):
        click.secho(f"a reset of step {found.step}: its whole text follows", bold=True)
        _written(preview.control(found), preview)
    else:
        click.secho(f"the missing text of step {found.event.step}, by rule {found.message.rule}", bold=True)
        _written(preview.message(found.event, found.message), preview, found.event)


def _explain_verdict(verdict: RuleVerdict) -> None:
    if not verdict.asked:
        said, colour = "not evaluated", "bright_black"
    elif verdict.matched:
        said, colour = "matched" if verdict.message is not None else "decided", "green"
    else:
        said, colour = "no match", "yellow"
    reasons = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
    click.echo(f"  {verdict.rule}: {click.style(said, fg=colour)}{reasons}")


def _explain_notice(rules: Rules, item: StepGap | Reset | End, preview: FormatPreview) -> None:
    if isinstance(item, End):
        click.secho(f"the verified end: {item.status}", bold=True)
        _written(preview.end(item.status), preview)
        return
    what = "a reset" if isinstance(item, Reset) else "a gap"
    click.secho(f"{what} of step {item.step}", bold=True)
    if item.step is not None and not rules.forwards_chunks(item.step, item.workflow):
        click.echo("  no rule forwards chunks of this step: not sent\n")
    else:
        _written(preview.control(item), preview)


def _written(frames: bytes, preview: FormatPreview, event: Event | None = None) -> None:
    """The frames, or why there are none."""
    if frames:
        _raw(frames)
    else:
        click.echo(f"  {preview.silence(event)}\n")


def _raw(frame: bytes) -> None:
    """The frame, byte for byte."""
    sys.stdout.flush()
    sys.stdout.buffer.write(frame)
    sys.stdout.buffer.flush()
