"""What is known of an expression's root before any event arrives: fields, types, and what may be null."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from config.expressions.globs import CHUNKS, matches_event

EVENT_TYPES: Final = (
    "step_started",
    CHUNKS,
    "step_completed",
    "step_skipped",
    "step_retrying",
    "step_failed",
    "step_cancelled",
    "run_completed",
    "run_failed",
    "run_cancelled",
)
_WITHOUT_PAYLOAD: Final = frozenset({"step_started", "step_skipped", "step_cancelled", "run_cancelled"})
_FAILURES: Final = frozenset({"step_failed", "step_retrying", "run_failed"})


class Shape(Struct, frozen=True):
    """What is known of a value in advance; of kind ``any`` nothing is known."""

    kind: str = "any"  # any | object | array | string | number | boolean | null
    fields: Mapping[str, Shape] | None = None  # of an object: these and no others
    nullable: bool = True
    choices: tuple[str, ...] = ()  # of a string
    path: tuple[str | int, ...] | None = None  # the path as written, after the number of its scope
    elements: tuple[Shape, ...] = ()  # of an array that is written out: ``[a, b]``

    def at(self, path: tuple[str | int, ...] | None) -> Shape:
        """The same shape, at another path."""
        return replace(self, path=path)

    @property
    def written(self) -> str | None:
        """The path as text."""
        return ".".join(str(name) for name in self.path[1:]) if self.path and len(self.path) > 1 else None


ANY: Final = Shape()


def known(kind: str, nullable: bool = False, choices: tuple[str, ...] = ()) -> Shape:
    """The shape of a value whose type is known."""
    return Shape(kind, nullable=nullable, choices=choices)


def record(**fields: Shape) -> Shape:
    """The shape of an object with these fields and no others."""
    return Shape("object", fields, nullable=False)


PARENT: Final = record(
    run_id=known("string"), step=known("string", nullable=True), workflow=known("string", nullable=True)
)
"""What started a child run: its run, step and workflow."""


def of(fields: Shape | Mapping[str, Any]) -> Shape:
    """A shape from a plain mapping of names (to mappings, shapes, or None for anything)."""
    if isinstance(fields, Shape):
        return fields
    return record(**{name: ANY if inner is None else of(inner) for name, inner in fields.items()})


def event_fields(
    events: Iterable[str] = ("*", CHUNKS), payload: str = "text", steps: Iterable[str] | None = None
) -> Shape:
    """The root of `when` and `data` in a rule for these events (names and globs); `payload` is text, json
    or merged (an array of JSON).

    A rule with `steps` never sees run events.
    """
    return _event_fields(tuple(events), payload, None if steps is None else tuple(steps))


@lru_cache(maxsize=256)  # hundreds of rules are for the same few events
def _event_fields(patterns: tuple[str, ...], payload: str, steps: tuple[str, ...] | None) -> Shape:
    matched = {name for name in EVENT_TYPES if matches_event(patterns, name)}
    if steps is not None:
        matched = {name for name in matched if not name.startswith("run_")}
    matched = matched or set(EVENT_TYPES)
    runs = any(name.startswith("run_") for name in matched)
    return record(
        type=known("string", choices=tuple(name for name in EVENT_TYPES if name in matched)),
        step=known("string", nullable=runs),
        payload=_payload(matched, payload),
        run_id=known("string"),
        step_run_id=known("string", nullable=runs),
        attempt=known("number", nullable=runs),
        index=known("number", nullable=matched != {CHUNKS}),
        first_index=known("number", nullable=matched != {CHUNKS}),
        at=known("string", nullable=True),
        metadata=Shape("object", nullable=False),
        recovered=known("boolean"),
        workflow=known("string", nullable=True),
        parent=replace(PARENT, nullable=True),
    )


def _payload(events: set[str], payload: str) -> Shape:
    if events == {CHUNKS} and payload != "merged":
        return known("string") if payload == "text" else ANY
    if events == {CHUNKS}:
        return known("array")
    if events <= _WITHOUT_PAYLOAD:
        return known("null", nullable=True)
    if events <= _FAILURES:
        fields = {"message": known("string"), "detail": known("string")}
        if "run_failed" in events:
            fields["step"] = known("string", nullable=True)
        # Of a failed attempt before the last one, the history sometimes knows only that there was one.
        return Shape("object", fields, nullable="step_retrying" in events)
    return ANY


EVENT_FIELDS: Final = event_fields()
"""The event, for a rule whose events are not known."""

ALLOW_FIELDS: Final = record(
    claims=Shape("object", nullable=False),
    run=record(id=known("string"), metadata=Shape("object", nullable=False)),
    request=record(params=Shape("object", nullable=False), origin=known("string", nullable=True)),
)
"""What `allow` sees."""
