"""A script's file to a `Script`, or a ConfigError with every problem at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from config.checks.schema_errors import validate
from config.expressions.api import Expression, compile_expression
from config.load import content
from config.problems import ConfigError, Problem, errors
from config.source.reader import read
from proxy.simulator.script.model import (
    NOTHING,
    ON_SUCCESS,
    Backoff,
    Child,
    Chunks,
    Death,
    Eviction,
    Failure,
    Scope,
    Script,
    Step,
    Workflow,
    leaves,
)
from proxy.simulator.script.schema import (
    ChunkBlock,
    ChunksBlock,
    FailsBlock,
    ScriptFile,
    StepBlock,
    WorkflowBlock,
)
from proxy.simulator.script.validation import check, check_parts

FILLING = b"0123456789abcdef"


def load_script(path: Path) -> Script:
    """The script at `path`. Raises ConfigError."""
    return parse_script(str(path), content(path))


def parse_script(file: str, raw: bytes) -> Script:
    """A script's text. Raises ConfigError."""
    written, problems = check_script(file, raw)
    if written is None:
        raise ConfigError(problems)
    return Script(
        {name: _workflow(name, one) for name, one in written.workflows.items()}, dict(written.quirks)
    )


def check_script(file: str, raw: bytes) -> tuple[ScriptFile | None, tuple[Problem, ...]]:
    """A script's blocks, None where there is an error; and all its problems in the order of the lines."""
    source = read(file, raw, {})
    written = validate(source, ScriptFile) if source.root is not None else None
    if written is not None:
        check(source, cast(ScriptFile, written))
    else:
        check_parts(source)
    problems = tuple(sorted(set(source.problems), key=lambda one: (one.line, one.column)))
    return (None if errors(problems) else cast(ScriptFile, written)), problems


def _workflow(name: str, block: WorkflowBlock) -> Workflow:
    failure, success = block.on_failure, block.on_success
    steps = tuple(_step(of, step) for of, step in block.steps.items())
    if success is not None:
        last = _step(success.name + ON_SUCCESS, success)
        steps = (*steps, replace(last, parents=leaves(steps)))
    cleanup = _step(failure.name, failure) if failure is not None else None
    return Workflow(name, steps, cleanup, block.max_runs)


def _step(name: str, block: StepBlock) -> Step:
    return Step(
        name=name,
        parents=block.parents or (),
        takes=block.takes,
        chunks=_chunks(block.chunks) if block.chunks is not None else Chunks(),
        then=block.then,
        children=tuple(
            Child(one.workflow, _formula(one.input_of) if one.input_of else one.input, one.count)
            for one in block.children
        ),
        output=_output(block),
        fails=_failure(block.fails) if block.fails else None,
        dies=Death(block.dies.at, block.dies.noticed, block.dies.attempts) if block.dies else None,
        evicts=Eviction(block.evicts.after, block.evicts.away) if block.evicts else None,
        retries=block.retries,
        backoff=Backoff(block.backoff.factor, block.backoff.longest) if block.backoff else None,
        timeout=block.timeout,
        lingers=block.lingers,
        schedule_timeout=block.schedule_timeout,
        no_worker=block.no_worker,
        batch=block.batch,
        skipped=_formula(block.skip_if) if block.skip_if else block.skip,
        cancelled=_formula(block.cancel_if) if block.cancel_if else None,
        cancels=block.cancels,
        deaf=block.deaf,
    )


def _output(block: StepBlock) -> Any:
    if block.output_of is not None:
        return _formula(block.output_of)
    if block.output_size is not None:
        return {"filling": _filling(block.output_size).decode()}
    return NOTHING if block.output is NOTHING else block.output


def _failure(block: FailsBlock) -> Failure:
    error = block.error if block.size is None else block.error.ljust(block.size, ".")
    return Failure(error, block.attempts, block.final, block.first)


def _chunks(block: ChunksBlock) -> Chunks:
    if block.texts is not None:
        pauses = {number: one.after for number, one in enumerate(block.texts) if one.after}
        return Chunks(tuple(_chunk(one) for one in block.texts), block.every, pauses)
    if block.text is not None:
        return Chunks(cut(block.text, block.by), block.every)
    if block.of is not None:
        expression = compile_expression(block.of)
        return Chunks(lambda scope: _pieces(expression.evaluate(scope), block.by), block.every)
    numbered = range(block.count or 0)
    return Chunks(tuple(_numbered(number, block.size or 0) for number in numbered), block.every)


def _chunk(one: ChunkBlock) -> bytes:
    if one.text is not None:
        return one.text.encode()
    return bytes.fromhex(one.hex) if one.hex is not None else _filling(one.size or 0)


def _numbered(number: int, size: int) -> bytes:
    return f"{number} ".encode().ljust(size, b".")


def _pieces(value: Any, by: str) -> tuple[bytes, ...]:
    if isinstance(value, list):
        return tuple((one if isinstance(one, str) else json.dumps(one)).encode() for one in value)
    return () if value is None else cut(value if isinstance(value, str) else json.dumps(value), by)


def cut(text: str, by: str) -> tuple[bytes, ...]:
    """A text in pieces: words with the space before them, letters, or lines with their ends."""
    if by == "letter":
        return tuple(letter.encode() for letter in text)
    if by == "line":
        return tuple(line.encode() for line in text.splitlines(keepends=True))
    first, *rest = text.split(" ")
    return (first.encode(), *(f" {word}".encode() for word in rest))


def _filling(size: int) -> bytes:
    return (FILLING * (size // len(FILLING) + 1))[:size]


def _formula(text: str) -> Callable[[Scope], Any]:
    expression: Expression = compile_expression(text)

    def formula(scope: Scope) -> Any:
        return expression.evaluate(scope)

    return formula
