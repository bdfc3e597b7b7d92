"""`explain` and `watch` on streams with a format."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from config.model.files import StreamConfig
from proxy.cli.commands.event_printer import EventPrinter
from proxy.cli.commands.explain import explain
from proxy.cli.main import main
from proxy.core.events import End, Item, Reset
from proxy.rules.dry_run import DryRun
from proxy.rules.ruleset import Rules
from proxy.streams.format_preview import FormatPreview
from tests.support.formats import chunk, event
from tests.support.streams import StreamRules, team_of

YAML = """
version: 1
hatchet: {token: t}
streams:
  chat: {format: FORMAT, rules: [{name: tokens, events: step_stream, steps: answer, as: text}]}
"""


def stream(rest: str) -> StreamConfig:
    rules = "rules: [{name: tokens, events: step_stream, steps: answer, as: text}]"
    return team_of(f"streams:\n  s:\n    {rest}\n    {rules}\n").streams["s"]


def explained(config: StreamConfig, *items: Item, capfd: pytest.CaptureFixture[str]) -> str:
    rules, preview = Rules(config), FormatPreview(config)
    run = DryRun(rules, single=len(items) == 1)
    for made in [*(made for item in items for made in run.take(item)), *run.finish()]:
        explain(rules, made, preview)
    return click.unstyle(capfd.readouterr().out)


@pytest.mark.parametrize(
    ("form", "last"),
    [
        ("ai-sdk", '"type":"text-delta"'),
        ("ag-ui", '"type":"TEXT_MESSAGE_CHUNK"'),
        ("openai", "held until the attempt of its step cannot fail any more"),
        ("text", "held until the attempt of its step cannot fail any more"),
    ],
)
def test_explain_shows_what_the_format_writes(tmp_path: Path, form: str, last: str) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(YAML.replace("FORMAT", form))
    text = '{"type": "step_stream", "step": "answer", "payload": "Hi"}'
    result = CliRunner().invoke(main, ["explain", str(file), "--event", text])
    assert result.exit_code == 0
    assert last in result.output.strip().splitlines()[-1]


def test_explain_shows_a_retry_and_the_end_as_the_format_writes_them(
    capfd: pytest.CaptureFixture[str],
) -> None:
    stream_rules = explained(
        stream("format: ai-sdk"),
        chunk("answer", "void"),
        Reset("answer", 2),
        event("step_completed", "answer", attempt=2),
        End("completed"),
        capfd=capfd,
    )
    assert "stream." not in stream_rules
    assert 'data: {"type":"reset-step"}' in stream_rules
    assert stream_rules.rstrip().endswith("data: [DONE]")


def test_explain_lets_out_what_is_held_where_the_step_ends(capfd: pytest.CaptureFixture[str]) -> None:
    stream_rules = explained(
        stream("format: text"), chunk("answer", "Hello"), event("step_completed", "answer"), capfd=capfd
    )
    assert stream_rules.rstrip().endswith("Hello")


def test_explain_without_control_frames_says_that_nothing_is_written(
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = team_of(
        "streams: {s: {control: off, rules: [{events: step_stream, steps: answer, data: payload}]}}"
    ).streams["s"]
    assert "`sse` writes nothing for it" in explained(config, Reset("answer", 2), capfd=capfd)


def test_watch_names_the_part_and_no_control_frame_that_is_not_sent() -> None:
    lines: list[str] = []
    rules = StreamRules("- {name: tokens, events: step_stream, steps: answer, as: text}", "ai-sdk").rules
    printer = EventPrinter(rules, lambda line: lines.append(click.unstyle(line)), controls=False)
    for item in (chunk("answer", "Hi"), Reset("answer", 2), End("completed")):
        printer.show(item)
    assert lines[0].endswith('tokens → text "Hi"')
    assert lines[1].startswith("reset ")
    assert lines[2].startswith("end ")
