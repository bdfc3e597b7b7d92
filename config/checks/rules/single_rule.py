"""Checks one rule for itself: its events, its steps, the name of its SSE event."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from config.checks.event_names import RUN_EVENTS, event_problem, taken
from config.checks.rules.data import check_expressions
from config.checks.rules.expressions import Expressions
from config.checks.rules.reachability import RuleReach
from config.checks.step_names import step_problem
from config.expressions.globs import CHUNKS
from config.expressions.types import EVENT_TYPES
from config.model.formats import is_narrower, takes_rest
from config.problems import WARNING
from config.source.nodes import Path, Source

RESERVED: Final = ("open", "error")  # EventSource dispatches these itself
CONTROL_FRAMES: Final = "stream."
MERGED_PARTS: Final = ("text", "reasoning")  # what chunks can be together, beside ``data-…``
TEXT: Final = re.compile(r"'[^']+'")
VALUE_LIKE: Final = re.compile(r"^(?:payload|metadata|parent)\.\w|\{.*\}")
"""What would be an expression or a template elsewhere."""

LINE_BREAK: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def check_rule(
    source: Source, path: Path, rule: dict[str, Any], shapes: Mapping[str, Any], expressions: Expressions
) -> RuleReach | None:
    """Checks one rule; what it takes, or None where that is not known."""
    events = source.names((*path, "events")) if "events" in rule else []
    steps = source.names((*path, "steps")) if "steps" in rule else []
    workflows = source.names((*path, "workflows")) if "workflows" in rule else []
    for place, pattern in events:
        found = event_problem(pattern) if pattern.strip() else None  # the model says that it is empty
        if found is not None:
            source.add(source.at(place), *found)
    for place, pattern in steps:
        unlikely = step_problem(pattern)
        if unlikely is not None:
            source.add(source.at(place), *unlikely, WARNING)
    matched = taken((pattern for _, pattern in events), steps="steps" in rule)
    check_reach_of_steps(source, path, rule, events)
    check_event_name(source, path, rule)
    payload = rule.get("payload")
    if payload in ("json", "auto") and events and matched and CHUNKS not in matched:
        message = f"`payload: {payload}` is only for chunks, and this rule takes no `step_stream`"
        source.add(
            source.key_at((*path, "payload")),
            "no-effect",
            message,
            "remove it: other payloads are JSON anyway",
            WARNING,
        )
    check_condition(source, path, rule.get("when"))
    check_whole(source, path, rule, matched)
    check_merge(source, path, rule, matched)
    check_expressions(path, rule, shapes, expressions, tuple(sorted(matched)) or EVENT_TYPES)
    if not matched or any(event_problem(pattern) for _, pattern in events):
        return None
    name, conditional = rule.get("name"), "when" in rule
    passes_on = payload == "json" and "on_error" not in rule
    return RuleReach(
        name if isinstance(name, str) else f"rules[{path[-1]}]",
        matched,
        tuple(step for _, step in steps) if "steps" in rule else None,
        not conditional,
        passes_on,
        rest=takes_rest(rule.get("as"), conditional=conditional, payload=rule.get("payload", "text")),
        narrower=is_narrower(conditional=conditional, payload=payload, passes_on=passes_on),
        workflows=tuple(name for _, name in workflows) if "workflows" in rule else None,
    )


def check_condition(source: Source, path: Path, condition: Any) -> None:
    """Warns of a condition that is a text: its quotes make an expression a constant, which is always true."""
    if isinstance(condition, str) and TEXT.fullmatch(condition.strip()):
        message = "this condition is a text and no expression, so it is always true"
        hint = f"take the quotes inside away: {condition.strip()[1:-1]}"
        source.add(source.at((*path, "when")), "constant-condition", message, hint, WARNING)


def check_whole(source: Source, path: Path, rule: dict[str, Any], events: frozenset[str]) -> None:
    """`whole` compares the text of chunks, so the rule must take chunks and read them as text."""
    if "whole" not in rule:
        return
    place = source.key_at((*path, "whole"))
    if events and CHUNKS not in events:
        message = f"`whole` is what chunks add up to, and this rule takes no `{CHUNKS}`"
        source.add(place, "whole", message, f"write it on the rule with `events: {CHUNKS}`")
    elif rule.get("payload") in ("json", "auto"):
        message = "`whole` compares texts, and this rule reads chunks as JSON"
        source.add(place, "whole", message, "remove `payload`, or `whole`")
    elif "steps" not in rule:
        message = "without `steps` this text is sent for every step, also for those that stream nothing"
        source.add(place, "whole", message, "name the steps that stream, like `steps: answer`", WARNING)


def check_merge(source: Source, path: Path, rule: dict[str, Any], events: frozenset[str]) -> None:
    """`merge` is for chunks, and for data that several of them can have together."""
    if "merge" not in rule:
        return
    place = source.key_at((*path, "merge"))
    part = rule.get("as")
    if events and CHUNKS not in events:
        message = f"`merge` is for chunks, and this rule takes no `{CHUNKS}`"
        source.add(place, "merge", message, f"write it on the rule with `events: {CHUNKS}`, or remove it")
    elif isinstance(part, str) and part not in MERGED_PARTS and not part.startswith("data-"):
        message = f"`merge` joins several chunks, and `as: {part}` is one thing for each"
        source.add(place, "merge", message, "remove `merge`")


def check_reach_of_steps(
    source: Source, path: Path, rule: dict[str, Any], events: Sequence[tuple[Path, str]]
) -> None:
    """Reports run events in a rule with steps, which never gets them."""
    if "steps" not in rule:
        return
    hint = "remove `steps`, or write a rule of its own for the run's events"
    runs = [(place, name) for place, name in events if name in RUN_EVENTS]
    if (
        events
        and not taken((name for _, name in events), steps=True)
        and not any(event_problem(n) for _, n in events)
    ):
        message = "this rule never matches: it names steps, and its events belong to the whole run"
        source.add(source.key_at((*path, "steps")), "never-matches", message, hint)
        return
    for place, name in runs:
        source.add(
            source.at(place),
            "never-matches",
            f"`{name}` never reaches this rule: it belongs to the whole run, and the rule names steps",
            hint,
            WARNING,
        )


def check_event_name(source: Source, path: Path, rule: dict[str, Any]) -> None:
    """Checks the name of the SSE event."""
    name = rule.get("event")
    if not isinstance(name, str):
        return
    place = source.at((*path, "event"))
    if name in RESERVED:
        hint = "EventSource itself uses this name for its connection; choose another, like `problem`"
        source.add(place, "reserved-event", f"`event` may not be `{name}`", hint)
    elif name.startswith(CONTROL_FRAMES):
        hint = "these names are the proxy's own frames; choose another"
        source.add(place, "reserved-event", f"`event` may not begin with `{CONTROL_FRAMES}`", hint)
    elif LINE_BREAK.search(name):
        source.add(
            place,
            "reserved-event",
            "`event` may not have line breaks or control characters",
            "write one word",
        )
    elif VALUE_LIKE.search(name) and place not in source.spoiled:
        message = f"this is the name `{name[:60]}` itself, not a value of the event"
        hint = "a rule's `event` is constant: write a rule for each name, with `when`, or send it in `data`"
        source.add(place, "constant", message, hint, WARNING)
