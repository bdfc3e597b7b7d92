"""docs/engine.md is true: its tables are those of the code, its scripts load, its commands and acts exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from proxy.cli.commands.engine import command as engine_command
from proxy.cli.commands.record import command as record_command
from proxy.simulator import Engine
from proxy.simulator.quirks import facts
from proxy.simulator.script.loader import check_script
from proxy.simulator.script.model import NOTHING
from proxy.simulator.script.schema import (
    BackoffBlock,
    ChildBlock,
    ChunkBlock,
    ChunksBlock,
    DiesBlock,
    EvictsBlock,
    FailsBlock,
    OnFailureBlock,
    OnSuccessBlock,
    ScriptFile,
    StepBlock,
    WorkflowBlock,
)

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "engine.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
BLOCKS: dict[str, type[BaseModel]] = {
    "The file": ScriptFile,
    "A workflow": WorkflowBlock,
    "A step": StepBlock,
    "`chunks`": ChunksBlock,
    "An entry of `texts`": ChunkBlock,
    "`fails`": FailsBlock,
    "`dies`": DiesBlock,
    "`evicts`": EvictsBlock,
    "`backoff`": BackoffBlock,
    "An entry of `children`": ChildBlock,
}


def table(block: type[BaseModel]) -> str:
    """A block's fields as they stand in the document."""
    rows = ["| key | default | |", "|---|---|---|"]
    for name, field in block.model_fields.items():
        rows.append(f"| `{name}` | {default(field.default, field.is_required())} | {field.description} |")
    return "\n".join(rows)


def default(value: object, required: bool) -> str:
    if required:
        return "required"
    if value is None or value is NOTHING or value in ([], {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@pytest.mark.parametrize("title", BLOCKS)
def test_each_blocks_table_is_the_codes(title: str) -> None:
    assert f"### {title}\n\n{table(BLOCKS[title])}\n" in TEXT


@pytest.mark.parametrize("block", [OnFailureBlock, OnSuccessBlock])
def test_the_steps_on_failure_and_on_success_differ_by_their_name_only(block: type[BaseModel]) -> None:
    assert set(block.model_fields) - set(StepBlock.model_fields) == {"name"}


def quirks() -> str:
    rows = ["| quirk | default | the fact |", "|---|---|---|"]
    rows += [f"| `{name}` | {'on' if on else 'off'} | {fact} |" for name, on, fact in facts()]
    return "\n".join(rows)


def test_the_table_of_quirks_is_the_codes() -> None:
    assert f"{quirks()}\n" in TEXT


@pytest.mark.parametrize("command", [engine_command, record_command], ids=["engine", "record"])
def test_every_option_is_there(command: click.Command) -> None:
    for parameter in command.params:
        for option in parameter.opts:
            if option.startswith("--"):
                assert f"`{option}" in TEXT


async def test_every_act_of_the_control_port_is_there() -> None:
    documented = set(re.findall(r"^\| `([a-z-]+)` \| `\{", TEXT, re.MULTILINE))
    async with Engine() as engine:
        assert documented == set(engine.control.acts)


@pytest.mark.parametrize("script", re.findall(r"```yaml\n(version: 1\n.*?)```", TEXT, re.DOTALL))
def test_every_script_in_it_loads_without_problems(script: str) -> None:
    assert check_script("docs/engine.md", script.encode())[1] == ()


if __name__ == "__main__":  # prints the tables, to copy after a change of a block
    for title, block in BLOCKS.items():
        print(f"### {title}\n\n{table(block)}\n")
    print(quirks())
