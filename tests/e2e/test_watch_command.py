"""`stream-proxy watch`: a live run in the terminal, on the embedded engine; ends, Ctrl-C and refusals."""

from __future__ import annotations

import signal
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from proxy.cli.commands.event_printer import EventPrinter
from proxy.cli.commands.watch import Waiting
from proxy.cli.main import main
from proxy.core.events import End, Event, GapCause, Item, Reset, StepGap
from proxy.hatchet.errors import HatchetAway
from proxy.simulator.engine import Engine
from tests.support.processes import running
from tests.support.secrets import HATCHET_TOKEN
from tests.support.streams import StreamRules

YAML = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"}
streams:
  results:
    wait_for_run: 1s
    rules:
      - {name: results, events: step_completed, event: result, data: payload.status}
      - {name: sizes, events: run_completed, data: "length(payload.nothing)"}
"""
NOBODY = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "streams.yaml"
    file.write_text(YAML)
    return file


async def test_a_run_is_shown_to_its_verified_end_with_what_is_not_forwarded_and_why(path: Path) -> None:
    async with Engine(speed=20) as engine:
        run_id = await engine.trigger("chat", {}, {})
        async with running("watch", run_id, "--config", path, env=engine.env) as one:
            assert await one.ended(within=30) == 0
    assert 'step_completed start  results → result "reading hatchet docs"' in one.output
    assert "not forwarded: no rule matches (results: it is for step_completed, sizes: it is for" in one.output
    failed = "not forwarded: sizes: data: length() takes a string, an array or an object, but was given null"
    assert f"run_completed  the run  {failed}" in one.output
    assert one.output.endswith("stream.end     completed\n")


async def test_ctrl_c_ends_watch_without_a_traceback_and_the_run_continues(path: Path) -> None:
    async with Engine(speed=0.1) as engine:
        run_id = await engine.trigger("chat", {}, {})
        async with running("watch", run_id.upper(), "--config", path, env=engine.env) as one:
            await one.wait_for_output("step_started")
            assert await one.stop(signal.SIGINT) == 130
    assert "Traceback" not in one.output
    assert one.output.endswith("stopped watching; the run continues\n")


async def test_a_run_that_does_not_exist_is_status_1_after_wait_for_run(path: Path) -> None:
    async with Engine() as engine, running("watch", NOBODY, "--config", path, env=engine.env) as one:
        assert await one.ended(within=30) == 1
    assert one.output == "the run does not exist yet\nthere is no such run for this team's token\n"


async def test_a_refused_token_is_status_1_and_watch_waits_while_hatchet_is_unreachable(path: Path) -> None:
    async with Engine() as engine:
        engine.faults.refuse_tokens()
        async with running("watch", NOBODY, "--config", path, env=engine.env) as one:
            assert await one.ended(within=30) == 1
        assert "Hatchet refuses the token" in one.output
        env = dict(engine.env)
    async with running("watch", NOBODY, "--config", path, env=env) as one:
        await one.wait_for_output("waiting: .*does not answer")
        assert await one.stop(signal.SIGINT) == 130


async def test_an_outage_is_one_line_and_the_timeout_ends_it(path: Path) -> None:
    async with Engine() as engine:
        env = dict(engine.env)
    async with running("watch", NOBODY, "--config", path, "--timeout", "8s", env=env) as one:
        assert await one.ended(within=60) == 1
    waiting, stopped = one.output.splitlines()
    assert waiting.startswith("waiting: ")
    assert stopped == "stopped watching after 8 s; the run continues"


async def test_the_next_run_of_a_workflow_is_watched_to_its_end(path: Path) -> None:
    async with Engine(speed=20) as engine:
        await engine.trigger("chat", {}, {})  # an earlier one is not meant
        async with running("watch", "--workflow", "chat", "--config", path, env=engine.env) as one:
            await one.wait_for_output("waiting for the next run of chat")
            run_id = await engine.trigger("chat", {}, {})
            assert await one.ended(within=60) == 0
    assert f"watching {run_id}\n" in one.output
    assert one.output.endswith("stream.end     completed\n")


async def test_a_workflow_that_does_not_exist_is_status_1(path: Path) -> None:
    async with (
        Engine() as engine,
        running("watch", "--workflow", "nothing", "--config", path, env=engine.env) as one,
    ):
        assert await one.ended(within=60) == 1
    assert one.output == "there is no workflow nothing for this team's token\n"


def test_an_outage_is_counted_and_said_again_once_a_minute() -> None:
    printed, time = list[str](), 0.0
    waiting = Waiting(lambda line: printed.append(click.unstyle(line)), now=lambda: time)
    for second in range(130):
        time = float(second)
        waiting.met(HatchetAway("no answer" if second % 2 else "refused"))
    waiting.met(None)
    waiting.over()
    assert printed == [
        "waiting: refused",
        "waiting: refused (asked 61 times in 60 s)",
        "waiting: refused (asked 121 times in 120 s)",
        "Hatchet answers after 129 s",
    ]


def test_unusable_arguments_are_status_2(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HATCHET_CLIENT_TOKEN", HATCHET_TOKEN)
    for words in (
        ["no-uuid"],
        [],
        [NOBODY, "--stream", "x"],
        [NOBODY, "--team", "x"],
        [NOBODY, "--workflow", "chat"],
        [NOBODY, "--timeout", "5"],
    ):
        result = CliRunner().invoke(main, ["watch", *words, "--config", str(path)])
        assert result.exit_code == 2, result.output
    assert CliRunner().invoke(main, ["watch", NOBODY, "--config", "/nowhere.yaml"]).exit_code == 2


class PrintedLines:
    """The printed lines for items, without colours."""

    def __init__(self, rules: str) -> None:
        self.lines: list[str] = []
        self._printer = EventPrinter(
            StreamRules(rules).rules, lambda line: self.lines.append(click.unstyle(line))
        )

    def of(self, *items: Item) -> list[str]:
        self.lines.clear()
        for item in items:
            self._printer.show(item)
        return self.lines


def test_gaps_and_resets_are_shown_as_sent_only_where_chunks_are_forwarded() -> None:
    printed = PrintedLines("- {name: r, events: step_stream, steps: a, data: payload}")
    assert printed.of(
        StepGap(GapCause.JOINED_LATE, "a", 1, 3),
        StepGap(GapCause.UPSTREAM, "b", 1, None),
        StepGap(GapCause.UNKNOWN_CURSOR, None, None, None),
        Reset("a", 2),
        End("failed"),
    ) == [
        "stream.gap     a  3 chunks cannot be sent: joined_late",
        "stream.gap     b  some chunks cannot be sent: upstream"
        "  not sent: no rule forwards chunks of this step",
        "stream.gap     the whole stream  some chunks cannot be sent: unknown_cursor",
        "stream.reset   a  attempt 2 begins",
        "stream.end     failed",
    ]


def test_chunks_withheld_for_the_same_reason_are_counted() -> None:
    printed = PrintedLines("- {name: r, events: step_stream, when: payload != 'x', data: payload}")
    chunks = [Event("step_stream", "r", "a", "i", text, 1, n) for n, text in enumerate("xxxaxx")]
    assert printed.of(*chunks, End("completed")) == [
        "step_stream    a#0  not forwarded: no rule matches (r: when is not true: payload != 'x')",
        "               … 2 more chunks of step a, for the same reason",
        'step_stream    a#3  r → message "a"',
        "step_stream    a#4  not forwarded: no rule matches (r: when is not true: payload != 'x')",
        "               … 1 more chunk of step a, for the same reason",
        "stream.end     completed",
    ]
