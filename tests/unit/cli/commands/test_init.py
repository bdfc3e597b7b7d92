"""`stream-proxy init` writes a file that passes `check --strict`, whatever the steps are called."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from config.checks.checker import Form, check
from config.model.files import SingleFile
from config.render.starter import sketch, stream_name
from proxy.cli.commands.init import command
from proxy.simulator import Engine

ENV = {"HATCHET_CLIENT_TOKEN": "t"}


@pytest.mark.parametrize(
    "steps", [(), ("start",), ("start", "load_docs", "generate_response"), ("no", "012", "a b")]
)
@pytest.mark.parametrize("metadata", [None, "message_id"])
def test_what_is_sketched_passes_check_strict(steps: tuple[str, ...], metadata: str | None) -> None:
    checked = check("f.yaml", sketch("chat", steps, metadata).encode(), Form.SINGLE, ENV)
    assert checked.problems == ()
    assert isinstance(checked.model, SingleFile)
    assert checked.model.streams["chat"].rules[0].steps == (steps or None)


def test_many_steps_go_over_several_lines() -> None:
    steps = tuple(f"a_step_with_a_long_name_{n}" for n in range(9))
    text = sketch("chat", steps)
    assert check("f.yaml", text.encode(), Form.SINGLE, ENV).problems == ()
    assert "\n          a_step_with_a_long_name_8,\n" in text


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=20), max_size=4
    )
)
@settings(max_examples=100, deadline=None)
def test_any_step_name_survives(steps: list[str]) -> None:
    wanted = tuple(step for step in dict.fromkeys(steps) if step.strip())
    checked = check("f.yaml", sketch("chat", wanted).encode(), Form.SINGLE, ENV)
    if "${" not in "".join(wanted):
        assert isinstance(checked.model, SingleFile), checked.problems
        assert checked.model.streams["chat"].rules[0].steps == (wanted or None)


@pytest.mark.parametrize(
    ("workflow", "name"),
    [
        ("Answer Question", "Answer-Question"),
        ("a/b", "a-b"),
        ("metrics", "metrics-stream"),
        ("…", "chat-stream"),
    ],
)
def test_a_stream_is_called_as_the_workflow_as_far_as_a_path_allows(workflow: str, name: str) -> None:
    assert stream_name(workflow) == name


def test_it_writes_the_file_and_says_what_is_next(tmp_path: Path) -> None:
    file = tmp_path / "streams.yaml"
    result = CliRunner().invoke(command, ["start", "answer", "-o", str(file)])
    assert result.exit_code == 0
    assert result.output == f"Wrote {file}. Next: stream-proxy check --strict {file}\n"
    assert file.read_text() == sketch("chat", ("start", "answer"))


def test_it_writes_over_nothing_unless_it_is_told_to(tmp_path: Path) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text("mine")
    assert CliRunner().invoke(command, ["-o", str(file)]).exit_code == 2
    assert file.read_text() == "mine"
    assert CliRunner().invoke(command, ["--force", "-o", str(file)]).exit_code == 0


def test_it_prints_where_a_dash_says_so() -> None:
    result = CliRunner().invoke(command, ["one", "--stream", "mine", "--metadata", "id", "-o", "-"])
    assert result.output == sketch("mine", ("one",), "id")


def test_it_cannot_ask_without_a_token() -> None:
    result = CliRunner().invoke(command, ["--workflow", "x", "-o", "-"], env={"HATCHET_CLIENT_TOKEN": ""})
    assert result.exit_code == 2
    assert "HATCHET_CLIENT_TOKEN is not set" in result.output


def test_a_token_that_is_none_is_said() -> None:
    result = CliRunner().invoke(command, ["--workflow", "x", "-o", "-"], env={"HATCHET_CLIENT_TOKEN": "bad"})
    assert result.exit_code == 1
    assert "is no Hatchet API token" in result.output


def test_a_metadata_key_that_no_path_can_have_is_refused() -> None:
    assert CliRunner().invoke(command, ["--metadata", "a b", "-o", "-"]).exit_code == 2


async def asking(workflow: str) -> Result:
    """The command, beside an engine that knows the workflow `chat`."""
    async with Engine() as engine:
        arguments = ["--workflow", workflow, "-o", "-"]
        return await asyncio.to_thread(CliRunner().invoke, command, arguments, env=engine.env)


async def test_it_asks_hatchet_for_a_workflows_steps() -> None:
    result = await asking("chat")
    assert result.output == sketch("chat", ("start", "load_docs", "reason_docs", "generate_response"))


async def test_a_workflow_that_hatchet_does_not_know_is_said() -> None:
    result = await asking("nothing")
    assert result.exit_code == 1
    assert "knows no workflow 'nothing'" in result.output
