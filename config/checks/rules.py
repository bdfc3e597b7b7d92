"""Checks a stream's rules: events, expressions, names, and rules that get no event.

It works on the values as they are written, so that one mistake does not hide another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from config.checks.event_names import RUN_EVENTS, event_problem, is_glob, taken
from config.checks.leaks import check_details
from config.checks.reachability import Reachability, RuleReach
from config.checks.redaction import longest_first, unquoted, values
from config.checks.schema_errors import flow
from config.checks.step_names import step_problem
from config.expressions.api import MOST_READINGS, event_fields, lint, readings
from config.expressions.globs import CHUNKS, matches
from config.expressions.parser import LENGTH_LIMIT
from config.expressions.syntax_hints import constant
from config.expressions.types import EVENT_TYPES, Shape
from config.model.files import DEFAULT_DATA
from config.model.formats import is_narrower, spec_of, takes_rest
from config.model.streams import MOST_CONSTANTS
from config.model.types import nearest
from config.problems import ERROR, WARNING, Severity
from config.source.nodes import MOST_REPORTED, Path, Source

RESERVED: Final = ("open", "error")  # EventSource dispatches these itself
CONTROL_FRAMES: Final = "stream."
LINE_BREAK: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
EXPRESSION_LIKE: Final = re.compile(r"(payload|metadata)(\.[\w.\[\]]+)?$")
MOST_DIAGNOSTICS: Final = 20  # about one expression
MOST_WEIGHED_TEXT: Final = 32 << 10  # of the expressions in one file whose readings are added up
MOST_EXPRESSION_TEXT: Final = 128 << 10  # in one file; linting that much takes about a second


class Expressions:
    """Lints the expressions of a file, each text once for the same events."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.read = 0
        self.known: dict[tuple[str, str], list[Any]] = {}
        self.weighed = 0

    def lint(
        self,
        path: Path,
        text: Any,
        fields: Shape | Mapping[str, Any],
        surroundings: str,
        result: str | None = None,
    ) -> None:
        """Notes what is wrong with the expression at `path`; `result`: the JSON type that it must give."""
        node = self.source.node(path)
        if self.source.enough or node is None or node.start in self.source.spoiled:
            return
        if not isinstance(text, str) or not text.strip():
            return
        key = (surroundings, text)
        if key not in self.known:
            self.read += len(text)
            if self.read > MOST_EXPRESSION_TEXT:
                self.known[key] = []
                self.stop(path)
                return
            found_here = sorted(lint(text, fields, result), key=lambda each: each.severity)  # errors first
            self.known[key] = found_here[:MOST_DIAGNOSTICS]
        for found in self.known[key]:
            if self.source.enough:
                return
            if found.severity == WARNING and self.source.reported[WARNING] > MOST_REPORTED:
                continue
            severity: Severity = ERROR if found.severity == ERROR else WARNING
            place = self.source.inside(path, found.position)
            # A message quotes the expression in many ways, so its own variables' values are masked here.
            own = longest_first(values(node))
            message, hint = unquoted(found.message, own), unquoted(found.hint or "", own)
            hint = hint.replace(f"a text stands in single quotes: '{text}'", quoted_twice(text))
            if constant(text) in hint and path[-2:-1] == ("data",):
                hint += f"; or without them: `const: {flow({path[-1]: text})}`"
            self.source.add(place, found.code, message, hint, severity)

    def readings(self, text: Any) -> int:
        """How often an expression reads a long text; 0 where the file has too much text to look."""
        if not isinstance(text, str) or "(" not in text or self.weighed > MOST_WEIGHED_TEXT:
            return 0
        self.weighed += len(text)
        return readings(text)

    def stop(self, path: Path) -> None:
        """Reports once that the file has too much expression text."""
        if self.read < 1 << 40:
            hint = "remove generated rules, or split the file"
            said = f"more than {MOST_EXPRESSION_TEXT >> 10} KiB of expressions in one file"
            self.source.add(self.source.at(path), "too-large", said, hint)
            self.read = 1 << 40


def quoted_twice(text: str) -> str:
    """What to write where a whole value is one word: YAML took the quotes that the expression needs."""
    return f"a constant text is quoted twice, once for YAML: {constant(text)}"


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
                said = f"the name `{taker.name}` is used by two rules of this stream"
                source.add(
                    source.at((*here, "name")),
                    "duplicate-name",
                    said,
                    "errors and metrics could not tell them apart",
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
            said = f"up to this rule a text is read {asked + sum(data)} times: a long one would be stopped"
            hint = "ask for what is cheap first (events, steps), or look for fewer words"
            source = expressions.source
            source.add(source.at((*path, number)), "cost", said, hint, WARNING)
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
        said = (
            f"chunks that are no JSON never reach this rule: `{first.name}` reads them as JSON and skips them"
        )
        hint = f"remove `on_error` of `{first.name}`: then chunks that are no JSON are offered to this rule"
        source.add(source.at(path), "chunks-skipped", said, hint, WARNING)


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
            said = (
                f"`{pattern}` takes no chunks: globs do not match `{CHUNKS}`, "
                "and no rule of this stream names it"
            )
            hint = (
                f"to send chunks, add a rule with `events: {CHUNKS}` and the `steps` that stream; "
                "to send none, list the events instead of the glob"
            )
            source.add(source.at(place), "glob-without-chunks", said, hint, WARNING)
            return


def check_rule(
    source: Source, path: Path, rule: dict[str, Any], shapes: Mapping[str, Any], expressions: Expressions
) -> RuleReach | None:
    """Checks one rule; what it takes, or None where that is not known."""
    events = source.names((*path, "events")) if "events" in rule else []
    steps = source.names((*path, "steps")) if "steps" in rule else []
    for place, pattern in events:
        found = event_problem(pattern)
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
        said = f"`payload: {payload}` is only for chunks, and this rule takes no `step_stream`"
        source.add(
            source.key_at((*path, "payload")),
            "no-effect",
            said,
            "remove it: other payloads are JSON anyway",
            WARNING,
        )
    check_whole(source, path, rule, matched)
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
    )


def check_whole(source: Source, path: Path, rule: dict[str, Any], events: frozenset[str]) -> None:
    """`whole` compares the text of chunks, so the rule must take chunks and read them as text."""
    if "whole" not in rule:
        return
    place = source.key_at((*path, "whole"))
    if events and CHUNKS not in events:
        said = f"`whole` is what chunks add up to, and this rule takes no `{CHUNKS}`"
        source.add(place, "whole", said, f"write it on the rule with `events: {CHUNKS}`")
    elif rule.get("payload") in ("json", "auto"):
        said = "`whole` compares texts, and this rule reads chunks as JSON"
        source.add(place, "whole", said, "remove `payload`, or `whole`")
    elif "steps" not in rule:
        said = "without `steps` this text is sent for every step, also for those that stream nothing"
        source.add(place, "whole", said, "name the steps that stream, like `steps: answer`", WARNING)


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
        said = "this rule never matches: run events belong to no step, and it names steps"
        source.add(source.key_at((*path, "steps")), "never-matches", said, hint)
        return
    for place, name in runs:
        source.add(
            source.at(place),
            "never-matches",
            f"`{name}` never reaches this rule: the rule names steps",
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
        hint = "EventSource dispatches this itself, for its own connection; choose another, like `problem`"
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


def check_expressions(
    path: Path,
    rule: dict[str, Any],
    shapes: Mapping[str, Any],
    expressions: Expressions,
    events: tuple[str, ...],
) -> None:
    """Lints `when`, `whole`, `data` and the shape that is used."""
    payload = "json" if rule.get("payload") in ("json", "auto") else "text"
    fields = event_fields(events, payload)
    surroundings = f"{events} {payload}"
    expressions.lint((*path, "when"), rule.get("when"), fields, surroundings)
    output = event_fields(("step_completed",))
    expressions.lint((*path, "whole"), rule.get("whole"), output, "whole", "string")
    check_use(expressions.source, path, rule, shapes)
    check_constants(expressions.source, path, rule)
    for place, text in sent(path, rule, shapes):
        if place != path:
            expressions.lint(place, text, fields, surroundings)


def sent(path: Path, rule: dict[str, Any], shapes: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """The expressions of a rule's data and of its shape; the default's have the path of the rule."""
    own = rule.get("data")
    use = rule.get("use")
    if isinstance(use, str) and isinstance(shapes.get(use), dict):
        for place, text in data_of(shapes[use], ("shapes", use)):
            if not isinstance(own, dict) or place[-1] not in own:
                yield place, text
    elif not {"data", "use", "const"} & rule.keys():
        part = rule.get("as")
        usual = spec_of(part).default if isinstance(part, str) else None
        yield from ((path, text) for text in ([usual] if usual is not None else DEFAULT_DATA.values()))
    yield from data_of(own, (*path, "data"))


def data_of(data: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """The expressions of `data`: one, or one for each field."""
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict):
        for name, text in data.items():
            yield (*path, name), text


def check_use(source: Source, path: Path, rule: dict[str, Any], shapes: Mapping[str, Any]) -> None:
    """Checks that `use` names a shape and that `data` is a mapping."""
    use = rule.get("use")
    if not isinstance(use, str):
        return
    if use not in shapes:
        hint = nearest(use, list(shapes)) or (
            "the shapes are " + ", ".join(shapes) if shapes else "write it under `shapes:`"
        )
        source.add(source.at((*path, "use")), "unknown-shape", f"there is no shape `{use}`", hint)
    if isinstance(rule.get("data"), str):
        said = "`use` takes a shape's fields, but `data` is one expression"
        source.add(
            source.at((*path, "data")),
            "use-and-data",
            said,
            "write fields (`data: {name: expression}`), or remove one of the two",
        )


def check_constants(source: Source, path: Path, rule: dict[str, Any]) -> None:
    """Warns of constants that look like expressions; checks that `data` leaves room for them."""
    const, data = rule.get("const"), rule.get("data")
    if not isinstance(const, dict):
        return
    for name, value in const.items():
        if isinstance(value, str) and EXPRESSION_LIKE.match(value):
            said = f"this sends the text `{value[:60]}` itself, not its value"
            source.add(source.at((*path, "const", name)), "constant", said, "write it in `data`", WARNING)
    if isinstance(data, str) and len(data) > LENGTH_LIMIT - MOST_CONSTANTS:
        said = (
            f"with `const`, one expression in `data` has at most {LENGTH_LIMIT - MOST_CONSTANTS} characters"
        )
        source.add(source.at((*path, "data")), "too-large", said, "write fields (`data: {name: expression}`)")


def check_reach(source: Source, path: Path, rule: RuleReach, gone: Mapping[str, str]) -> None:
    """Reports events that earlier rules take from this one."""
    if len(gone) == len(rule.events):
        names = ", ".join(sorted({f"`{name}`" for name in gone.values()}))
        hint = "the first rule that matches decides: put the narrower one first, or give the other a `when`"
        said = f"no event reaches this rule: {names} takes them all"
        source.add(source.at(path), "unreachable", said, hint)
        return
    for place, name in source.names((*path, "events")):
        if name in gone and not is_glob(name):
            said = f"`{name}` never reaches this rule: `{gone[name]}` takes it"
            source.add(source.at(place), "unreachable", said, "remove it, or put this rule first", WARNING)
