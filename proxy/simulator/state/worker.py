"""The simulated worker: what one attempt of a scripted step does, act by act.

Pure: an attempt is a generator of acts. Its caller decides how time passes, and stops the attempt by asking
for no further act.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.simulator.script.model import NOTHING, Child, Scope, Step


@dataclass(frozen=True, slots=True)
class Wait:
    """Work for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Put:
    """Send a chunk with put_stream."""

    chunk: bytes


@dataclass(frozen=True, slots=True)
class Evict:
    """Wait for `seconds` as a durable task: the engine evicts it and later runs it again from the top.

    In that second run of the attempt the wait is over at once.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Spawn:
    """Trigger child runs and wait for their results, which are stored under the children's workflow."""

    child: Child
    input: Any


@dataclass(frozen=True, slots=True)
class Return:
    """Return an output: JSON text, None for none."""

    output: str | None


@dataclass(frozen=True, slots=True)
class Raise:
    """Fail this attempt; `final`: with an error that is not retried."""

    error: str
    final: bool


@dataclass(frozen=True, slots=True)
class CancelMyself:
    """Call ctx.cancel()."""


Act = Wait | Put | Evict | Spawn | Return | Raise | CancelMyself


def attempt(step: Step, scope: Scope, children: Mapping[str, Any]) -> Iterator[Act]:
    """The acts of one attempt; `children` is filled with the results of child runs as they come."""
    try:
        yield from _attempt(step, scope, children)
    except Exception as failure:  # an expression that fails is a step that fails, as its code would
        yield Raise(f"{type(failure).__name__}: the script's formula failed", final=True)


def _attempt(step: Step, scope: Scope, children: Mapping[str, Any]) -> Iterator[Act]:
    if step.takes:
        yield Wait(step.takes)
    if step.cancels:
        yield CancelMyself()
    yield from _chunks(step, scope)
    if step.then:
        yield Wait(step.then)
    for child in step.children:
        yield Spawn(child, child.input({**scope}) if callable(child.input) else child.input)
    if step.fails is not None and step.fails.strikes(scope["attempt"]):
        yield Raise(step.fails.error, step.fails.final)
    yield Return(output(step, {**scope, "children": dict(children)}))


def _chunks(step: Step, scope: Scope) -> Iterator[Act]:
    evicts = step.evicts
    chunks = step.chunks.of(scope)
    for number, chunk in enumerate(chunks):
        if evicts is not None and number == evicts.after:
            yield Evict(evicts.away)
        wait = step.chunks.pauses.get(number, 0.0) + (step.chunks.every if number else 0.0)
        if wait:
            yield Wait(wait)
        yield Put(chunk)
    if evicts is not None and evicts.after >= len(chunks):
        yield Evict(evicts.away)


def output(step: Step, scope: Scope) -> str | None:
    """A step's output as JSON text; None where it returns none."""
    if step.output is NOTHING:
        return None
    value = step.output(scope) if callable(step.output) else step.output
    if value is NOTHING:
        return None
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
