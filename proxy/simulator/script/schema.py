"""The script's YAML: each field declared once, read and checked as streams.yaml is.

These are the blocks as written. ``loader`` makes a `Script` of them, ``validation`` checks what concerns
several fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator

from config.model.files import PART, Block, Expression, Version, choice, first_version, setting
from config.model.types import (
    Count,
    Duration,
    Flag,
    Lasting,
    OneOrMany,
    Size,
    Text,
    Word,
    integer,
    kind,
    listed,
    mapping,
    nearest,
    text,
    wrong,
)
from proxy.simulator.quirks import facts
from proxy.simulator.script.model import NAME, NOTHING

QUIRKS: Final = tuple(name for name, _, _ in facts())
MOST_RETRIES: Final = 100
MOST_CHUNKS: Final = 1_000_000


def growth(value: Any) -> float:
    """A backoff's factor."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 100:
        return float(value)
    raise wrong("wrong-type", f"must be a number from 1 to 100, but this is {kind(value)}")


def hexadecimal(value: Any) -> str:
    """Bytes as hexadecimal digits."""
    try:
        bytes.fromhex(text(value))
    except ValueError:
        raise wrong(
            "hex", f"must be pairs of hexadecimal digits, but this is {kind(value)}", 'like "fffe00"'
        ) from None
    return str(value)


def hatchet_name(value: Any) -> str:
    """The name of a workflow or a step, as the engine accepts it."""
    if NAME.fullmatch(written := text(value)):
        return written
    raise wrong(
        "name", f"must match the regex ^{NAME.pattern}$, but this is {kind(value)}", "Hatchet refuses it"
    )


def chunk(value: Any) -> Any:
    """A chunk: a block, or its text alone."""
    return value if isinstance(value, dict | Block) else {"text": text(value)}


def switches(value: Any) -> Any:
    """Quirks by their names."""
    for name in mapping(value):
        if name not in QUIRKS:
            raise wrong(
                "quirk", f"has no quirk `{name}`", nearest(name, QUIRKS) or f"known: {', '.join(QUIRKS)}"
            )
    return value


class ChunkBlock(Block):
    """A chunk: its text, or what it is like."""

    text: Text | None = setting(None, "Its text; alone it needs no key.", "Hel")
    hex: Annotated[str, BeforeValidator(hexadecimal)] | None = setting(
        None, "Its bytes as hexadecimal digits; they need not be UTF-8.", '"fffe00"'
    )
    size: Size | None = setting(None, "Its size.", "20KiB")
    after: Duration = setting("0ms", "A pause before it, beside `every`.", "7s")


class ChunksBlock(Block):
    """What a step streams in each attempt."""

    texts: (
        Annotated[tuple[Annotated[ChunkBlock, BeforeValidator(chunk)], ...], BeforeValidator(listed)] | None
    ) = setting(None, "The chunks, one by one.", ["Hel", "lo"])
    text: Text | None = setting(None, "A text that is cut into chunks.", "the quick brown fox")
    of: Expression | None = setting(
        None, "A JMESPath expression that gives a list of chunks, or a text to cut.", "input.words"
    )
    count: Annotated[int, BeforeValidator(integer(1, MOST_CHUNKS))] | None = setting(
        None, "The number of chunks, where they only have a number and a `size`.", 100
    )
    size: Size | None = setting(None, "The size of each of `count` chunks.", "200B")
    by: Annotated[Literal["word", "letter", "line"], choice("word", "letter", "line")] = setting(
        "word", "How a text is cut.", "letter"
    )
    every: Duration = setting("100ms", "The time from one chunk to the next.", "40ms")


class BackoffBlock(Block):
    """How long a retry waits: factor to the power of its number, in seconds."""

    factor: Annotated[float, BeforeValidator(growth)] = setting(
        ..., "The factor between a wait and the one before it.", 2
    )
    longest: Duration = setting("60s", "No wait is longer.", "10s")


class FailsBlock(Block):
    """Attempts that fail."""

    error: Word = setting(
        "RuntimeError: scripted failure", "The error, as `Type: message`.", "ValueError: boom"
    )
    attempts: Count | None = setting(None, "How many attempts fail; by default all.", 1)
    first: Count = setting(1, "The first attempt that fails. Attempts of a replay continue the count.", 2)
    final: Flag = setting(False, "Whether no retry may follow, whatever `retries` says.", "true")
    size: Size | None = setting(None, "The size to which the error's message is filled up.", "200KiB")


class DiesBlock(Block):
    """A worker that dies: the engine gives the step to another, which is no retry of `retries`."""

    attempts: Count = setting(1, "The number of attempts in which it dies.", 2)
    at: Duration = setting("0ms", "The time from the start of the attempt to its death.", "300ms")
    noticed: Duration = setting("30s", "How long the engine takes to notice.", "2s")


class EvictsBlock(Block):
    """A durable task that is evicted while it waits, and then runs again from the top in the same attempt."""

    after: Annotated[int, BeforeValidator(integer(0, MOST_CHUNKS))] = setting(
        0, "The number of chunks after which it waits.", 5
    )
    away: Duration = setting("2s", "How long it is evicted from its worker.", "500ms")


class ChildBlock(Block):
    """Child runs that the step starts and waits for."""

    workflow: Word = setting(..., "A workflow of this script.", "child")
    input: Any = setting(None, "Their input.", {"a": 1})
    input_of: Expression | None = setting(None, "Their input, as a JMESPath expression.", "input.item")
    count: Annotated[int, BeforeValidator(integer(1, 10_000))] = setting(1, "How many there are.", 3)


class StepBlock(Block):
    """A step: it works, streams, works, waits for child runs, and ends."""

    parents: OneOrMany | None = setting(None, "The steps that must be over before it begins.", ["start"])
    takes: Duration = setting("0ms", "How long it works before its first chunk.", "500ms")
    chunks: Annotated[ChunksBlock, PART] | None = setting(None, "What it streams.", {"text": "a b c"})
    then: Duration = setting("0ms", "How long it works after its last chunk.", "300ms")
    children: Annotated[tuple[Annotated[ChildBlock, PART], ...], BeforeValidator(listed)] = setting(
        [], "Child runs that it starts and waits for.", [{"workflow": "child"}]
    )
    output: Any = setting(NOTHING, "What it returns; by default nothing.", {"status": "complete"})
    output_of: Expression | None = setting(
        None,
        "What it returns, as a JMESPath expression over input, parents, children, metadata, attempt, run_id.",
        '"{answer: input.question}"',
    )
    output_size: Size | None = setting(None, "The size of a generated output.", "200KiB")
    fails: Annotated[FailsBlock, PART] | None = setting(
        None, "Which attempts fail, and how.", {"error": "ValueError: boom", "attempts": 1}
    )
    retries: Annotated[int, BeforeValidator(integer(0, MOST_RETRIES))] = setting(
        0, "How many attempts may follow the first.", 2
    )
    backoff: Annotated[BackoffBlock, PART] | None = setting(
        None, "How long a retry waits; by default not at all.", {"factor": 2}
    )
    timeout: Lasting = setting("60s", "How long an attempt may take.", "3s")
    lingers: Duration = setting(
        "0ms", "How long its worker streams on after a timeout, beside the next attempt.", "1s"
    )
    schedule_timeout: Lasting = setting("5m", "How long it may wait for a worker.", "2s")
    no_worker: Flag = setting(False, "Whether no worker ever takes it: `schedule_timeout` ends it.", "true")
    batch: Duration | None = setting(None, "For a batch task: how long it waits for its batch.", "200ms")
    dies: Annotated[DiesBlock, PART] | None = setting(
        None, "Attempts in which its worker dies.", {"at": "300ms", "noticed": "2s"}
    )
    evicts: Annotated[EvictsBlock, PART] | None = setting(
        None, "For a durable task: when it is evicted.", {"after": 5, "away": "2s"}
    )
    skip: Flag = setting(False, "Whether it is skipped.", "true")
    skip_if: Expression | None = setting(
        None, "Whether it is skipped, as a JMESPath expression.", "parents.start.skip_me"
    )
    cancel_if: Expression | None = setting(
        None, "Whether it is cancelled instead of run, as a JMESPath expression.", "parents.start.stop"
    )
    cancels: Flag = setting(False, "Whether it cancels itself when it has worked for `takes`.", "true")
    deaf: Flag = setting(False, "Whether it goes on streaming after a cancellation.", "true")


class OnFailureBlock(StepBlock):
    """The step that runs when another has failed."""

    name: Annotated[str, BeforeValidator(hatchet_name)] = setting(
        "on_failure", "Its name; Hatchet adds `-on-failure`.", "cleanup"
    )


class OnSuccessBlock(StepBlock):
    """The step that runs when all others have succeeded."""

    name: Annotated[str, BeforeValidator(hatchet_name)] = setting(
        "on_success", "Its name; Hatchet adds `-on-success`.", "report"
    )


class WorkflowBlock(Block):
    """A workflow: one step is a standalone task, more are a DAG."""

    steps: Annotated[dict[str, Annotated[StepBlock, PART]], BeforeValidator(mapping)] = setting(
        ..., "The steps by their names.", {"start": {"output": {"ok": True}}}
    )
    on_failure: Annotated[OnFailureBlock, PART] | None = setting(
        None, "A step that runs when another has failed.", {"name": "cleanup"}
    )
    on_success: Annotated[OnSuccessBlock, PART] | None = setting(
        None, "A step that runs when all others have succeeded.", {"name": "report"}
    )
    max_runs: Count | None = setting(
        None, "How many runs may go on at once; a further one is cancelled (CANCEL_NEWEST).", 1
    )


class ScriptFile(Block):
    """A script for the embedded engine."""

    version: Annotated[Version, BeforeValidator(first_version)] = setting(
        ..., "The version of this format: 1.", 1
    )
    quirks: Annotated[dict[str, Flag], BeforeValidator(switches)] = setting(
        {}, "Quirks that are switched; by default all are on.", {"five-second-hold": False}
    )
    workflows: Annotated[dict[str, Annotated[WorkflowBlock, PART]], BeforeValidator(mapping)] = setting(
        ..., "The workflows by their names.", {"chat": {"steps": {"start": {"takes": "500ms"}}}}
    )
