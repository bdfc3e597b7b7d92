"""Checks the rules of a stream together: rules that get no event, order, and what they cost.

It works on the values as they are written, so that one mistake does not hide another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from config.checks.event_names import event_problem, is_glob
from config.checks.leaks import check_details
from config.checks.rules.data import sent
from config.checks.rules.expressions import Expressions
from config.checks.rules.reachability import Reachability, RuleReach
from config.checks.rules.single_rule import check_rule
from config.expressions.api import MOST_READINGS
from config.expressions.globs import CHUNKS, matches
from config.problems import WARNING
from config.source.nodes import Path, Source


def check_rules(source: Source, path: Path, shapes: Mapping[str, Any], expressions: Expressions) -> None:
    """Checks all rules of the stream at `path` (…, "rules")."""
    node = source.node(path)
    if node is None or node.items is None:
        return
    if not node.items:
        source.add(node.start, "no-rules", "this stream forwards nothing", "add a rule", WARNING)
    check_globs(source, path, node.value)
    check_readings(expressions, path, node.value, shapes)
    before = Reachability()
    as_json: list[RuleReach] = []
    seen: dict[str, int] = {}
    for number, value in enumerate(node.value):
        if not isinstance(value, dict) or source.enough:
            continue
        here: Path = (*path, number)
        taker = check_rule(source, here, value, shapes, expressions)
        if taker is not None:
            if taker.name in seen:
                message = f"the name `{taker.name}` is used by two rules of this stream"
                source.add(
                    source.at((*here, "name")),
                    "duplicate-name",
                    message,
                    "give each rule another name: log lines and metrics name the rule",
                    WARNING,
                )
            seen[taker.name] = number
            gone = before.takers(taker)
            check_reach(source, here, taker, gone)
            before.add(taker)
            check_order_of_chunks(source, here, value, taker, as_json)
            check_details(source, sent(here, value, shapes), taker.events - gone.keys())


def check_readings(
    expressions: Expressions, path: Path, rules: Sequence[Any], shapes: Mapping[str, Any]
) -> None:
    """Warns at the rule with which the rules of a stream read long texts too often for one event.

    All conditions may be asked of one event, and the data of one rule; they share one budget.
    """
    asked = 0
    for number, rule in enumerate(rules):
        if not isinstance(rule, dict):
            continue
        condition = expressions.readings(rule.get("when"))
        data = [expressions.readings(text) for _, text in sent((*path, number), rule, shapes)]
        if max([condition, *data]) > MOST_READINGS:
            return  # the lint of that expression says it
        asked += condition
        if asked + sum(data) > MOST_READINGS:
            message = f"up to this rule a text is read {asked + sum(data)} times: a long one would be stopped"
            hint = "make the rule take fewer events (events, steps), or search for fewer words"
            source = expressions.source
            source.add(source.at((*path, number)), "cost", message, hint, WARNING)
            return


def check_order_of_chunks(
    source: Source, path: Path, rule: dict[str, Any], taker: RuleReach, as_json: list[RuleReach]
) -> None:
    """Warns at a rule for text behind one that reads the same steps' chunks as JSON and skips all others.

    `as_json` are the rules before it that do so under a condition; this one is added where it is such a rule.
    """
    if CHUNKS not in taker.events:
        return
    if rule.get("payload") == "json":
        if not taker.always and not taker.passes_on:
            as_json.append(taker)
        return
    first = next((each for each in as_json if each.shares_steps(taker)), None)
    if first is not None:
        message = (
            f"chunks that are no JSON never reach this rule: `{first.name}` reads them as JSON and skips them"
        )
        hint = f"remove `on_error` of `{first.name}`: then chunks that are no JSON are offered to this rule"
        source.add(source.at(path), "chunks-skipped", message, hint, WARNING)


def check_globs(source: Source, path: Path, rules: Sequence[Any]) -> None:
    """Warns at a glob that would take chunks if globs did, where no rule of the stream names the event."""
    named = [
        found
        for number, rule in enumerate(rules)
        if isinstance(rule, dict) and "events" in rule
        for found in source.names((*path, number, "events"))
    ]
    if any(pattern == CHUNKS for _, pattern in named):
        return
    for place, pattern in named:
        if matches((pattern,), CHUNKS) and event_problem(pattern) is None:
            message = (
                f"`{pattern}` takes no chunks: globs do not match `{CHUNKS}`, "
                "and no rule of this stream names it"
            )
            hint = (
                f"to send chunks, add a rule with `events: {CHUNKS}` and the `steps` that stream; "
                "to send none, list the events instead of the glob"
            )
            source.add(source.at(place), "glob-without-chunks", message, hint, WARNING)
            return


def check_reach(source: Source, path: Path, rule: RuleReach, gone: Mapping[str, str]) -> None:
    """Reports events that earlier rules take from this one."""
    if len(gone) == len(rule.events):
        names = ", ".join(sorted({f"`{name}`" for name in gone.values()}))
        hint = "the first rule that matches decides: put the narrower one first, or give the other a `when`"
        message = f"no event reaches this rule: {names} takes them all"
        source.add(source.at(path), "unreachable", message, hint)
        return
    for place, name in source.names((*path, "events")):
        if name in gone and not is_glob(name):
            message = f"`{name}` never reaches this rule: `{gone[name]}` takes it"
            source.add(source.at(place), "unreachable", message, "remove it, or put this rule first", WARNING)
