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
from config.model.resolve import DEFAULT_TEAM, grant, team
from config.render.starter import starter, stream_name
from proxy.cli.commands.init import command
from proxy.rules.test_runner import run_tests
from proxy.simulator import Engine
from tests.support.secrets import HATCHET_TOKEN

ENV = {"HATCHET_CLIENT_TOKEN": HATCHET_TOKEN}


@pytest.mark.parametrize(
    "steps", [(), ("start",), ("start", "load_docs", "generate_response"), ("no", "012", "a-b")]
)
@pytest.mark.parametrize("metadata", [None, "message_id"])
def test_the_starter_passes_check_strict(steps: tuple[str, ...], metadata: str | None) -> None:
    checked = check("f.yaml", starter("chat", steps, metadata=metadata).encode(), Form.SINGLE, ENV)
    assert checked.problems == ()
    assert isinstance(checked.model, SingleFile)
    tokens, results, _ = checked.model.streams["chat"].rules
    assert tokens.steps == (steps[-1:] or None)
    assert results.steps == (steps or None)


def test_streaming_steps_can_be_named_and_default_to_the_last_step() -> None:
    given = starter("chat", ("plan", "answer", "mail"), streaming=("plan", "answer"))
    checked = check("f.yaml", given.encode(), Form.SINGLE, ENV)
    assert isinstance(checked.model, SingleFile)
    assert checked.model.streams["chat"].rules[0].steps == ("plan", "answer")


def test_the_starters_own_tests_pass() -> None:
    for steps in ((), ("start", "load_docs", "generate_response")):
        checked = check("f.yaml", starter("chat", steps).encode(), Form.SINGLE, ENV)
        assert isinstance(checked.model, SingleFile)
        results = run_tests(team(grant(DEFAULT_TEAM, checked.model), checked.model))
        assert [result.name for result in results if not result.passed] == []


def test_many_steps_are_written_over_several_lines() -> None:
    steps = tuple(f"a_step_with_a_long_name_{n}" for n in range(9))
    text = starter("chat", steps)
    assert check("f.yaml", text.encode(), Form.SINGLE, ENV).problems == ()
    assert "\n          a_step_with_a_long_name_8,\n" in text


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=20), max_size=4
    )
)
@settings(max_examples=100)
def test_any_step_name_is_written_correctly(steps: list[str]) -> None:
    wanted = tuple(step for step in dict.fromkeys(steps) if step.strip())
    checked = check("f.yaml", starter("chat", wanted).encode(), Form.SINGLE, ENV)
    if "${" not in "".join(wanted):
        assert isinstance(checked.model, SingleFile), checked.problems
        assert checked.model.streams["chat"].rules[1].steps == (wanted or None)


@pytest.mark.parametrize(
    ("workflow", "name"),
    [
        ("Answer Question", "Answer-Question"),
        ("a/b", "a-b"),
        ("metrics", "metrics-stream"),
        ("…", "chat-stream"),
    ],
)
def test_a_stream_is_named_after_the_workflow_as_far_as_a_path_allows(workflow: str, name: str) -> None:
    assert stream_name(workflow) == name


def test_init_writes_the_file_and_names_the_next_command(tmp_path: Path) -> None:
    file = tmp_path / "streams.yaml"
    result = CliRunner().invoke(command, ["start", "answer", "-o", str(file)])
    assert result.exit_code == 0
    assert result.output == f"Wrote {file}. Next: stream-proxy check --strict {file}\n"
    assert file.read_text() == starter("chat", ("start", "answer"))


def test_init_overwrites_a_file_only_with_force(tmp_path: Path) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text("mine")
    assert CliRunner().invoke(command, ["-o", str(file)]).exit_code == 2
    assert file.read_text() == "mine"
    assert CliRunner().invoke(command, ["--force", "-o", str(file)]).exit_code == 0


def test_init_prints_the_yaml_for_a_dash() -> None:
    result = CliRunner().invoke(command, ["one", "--stream", "mine", "--metadata", "id", "-o", "-"])
    assert result.output == starter("mine", ("one",), metadata="id")


def test_a_streaming_step_that_the_workflow_does_not_have_is_refused() -> None:
    result = CliRunner().invoke(command, ["start", "answer", "--tokens", "anwser", "-o", "-"])
    assert result.exit_code == 2
    assert "--tokens anwser: the workflow's steps are start, answer" in result.output


def test_init_needs_a_token_for_a_workflow() -> None:
    result = CliRunner().invoke(command, ["--workflow", "x", "-o", "-"], env={"HATCHET_CLIENT_TOKEN": ""})
    assert result.exit_code == 2
    assert "HATCHET_CLIENT_TOKEN is not set" in result.output


def test_a_malformed_token_is_reported() -> None:
    result = CliRunner().invoke(command, ["--workflow", "x", "-o", "-"], env={"HATCHET_CLIENT_TOKEN": "bad"})
    assert result.exit_code == 1
    assert "is no Hatchet API token" in result.output


def test_a_metadata_key_that_no_path_can_have_is_refused() -> None:
    assert CliRunner().invoke(command, ["--metadata", "a b", "-o", "-"]).exit_code == 2


def test_a_step_of_a_worker_in_typescript_is_written_with_a_remark() -> None:
    result = CliRunner().invoke(command, ["loadDocs", "answer", "-o", "-"])
    assert result.exit_code == 0
    assert result.stdout == starter("chat", ("loadDocs", "answer"))
    assert result.stderr.count("loadDocs") == 1
    assert "only workers in TypeScript or Go keep upper case" in result.stderr


def test_a_name_that_no_step_can_have_is_refused_once() -> None:
    result = CliRunner().invoke(command, ["load docs", "-o", "-"])
    assert result.exit_code == 2
    assert result.output.count("load docs") == 1


async def asking(workflow: str) -> Result:
    """The command, beside an engine that knows the workflow `chat`."""
    async with Engine() as engine:
        arguments = ["--workflow", workflow, "-o", "-"]
        return await asyncio.to_thread(CliRunner().invoke, command, arguments, env=engine.env)


async def test_init_gets_a_workflows_steps_from_hatchet() -> None:
    result = await asking("chat")
    assert result.output == starter("chat", ("start", "load_docs", "reason_docs", "generate_response"))


async def test_an_unknown_workflow_is_reported() -> None:
    result = await asking("nothing")
    assert result.exit_code == 1
    assert "knows no workflow 'nothing'" in result.output
