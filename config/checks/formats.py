"""Checks what concerns a stream's `format`: `as`, what it needs, parts that two rules would open, other keys.

The guard is here too: plain SSE rules that write a chat protocol's vocabulary break its clients at the first
retry or gap, because these do not skip a frame for its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from config.checks.event_names import RUN_EVENTS, taken
from config.checks.rules.expressions import Expressions
from config.expressions.api import event_fields
from config.expressions.globs import CHUNKS, matches
from config.expressions.types import EVENT_TYPES
from config.model.formats import AI_SDK, FORMATS, KNOWN, SSE, TEXT_PARTS, PartSpec, is_part, knows, spec_of
from config.model.types import alternatives, nearest
from config.problems import WARNING
from config.source.nodes import Path, Source

HOLD: Final = "hold"
STEP_EDGES: Final = frozenset(
    {"step_started", "step_completed", "step_skipped", "step_failed", "step_cancelled"}
)
REPEATS: Final = frozenset({"step_completed", "run_completed"})
"""Events whose payload repeats the text that the step streamed."""
SAME_FOR_ALL_CHUNKS: Final = re.compile(r"\s*(step_run_id|run_id|step|workflow|type|at|'[^']*')\s*")
"""An expression that gives the same for every chunk of a step."""
VOCABULARY: Final = (
    (
        AI_SDK,
        re.compile(
            r"""['"`](((text|reasoning)-(start|delta|end)|tool-(input|output)-[a-z]+|(start|finish|reset)-step"""
            r"""|message-metadata))['"`]"""
        ),
    ),
    (
        "ag-ui",
        re.compile(
            r"""['"`](((TEXT|REASONING)_MESSAGE|TOOL_CALL|THINKING_TEXT_MESSAGE)_[A-Z_]+"""
            r"""|RUN_(STARTED|FINISHED|ERROR)|STEP_(STARTED|FINISHED)|(STATE|MESSAGES)_(SNAPSHOT|DELTA))['"`]"""
        ),
    ),
    ("openai", re.compile(r"""['"`](chat\.completion\.chunk)['"`]|\{[^{}]*\b(choices)\s*:""")),
)
OPENAI_KEY: Final = "choices"


class _Opener(Struct, frozen=True):
    """A rule that writes a part, as far as it matters for another rule that writes the same."""

    path: Path
    name: str
    part: str
    events: frozenset[str]
    steps: tuple[str, ...] | None
    conditional: bool
    id: str | None


def check_format(
    source: Source, path: Path, block: Mapping[str, Any], shapes: Mapping[str, Any], expressions: Expressions
) -> None:
    """Checks the stream at `path`."""
    form = block.get("format", SSE)
    if form not in FORMATS:
        return  # the model says so
    rules = [
        ((*path, "rules", number), rule)
        for number, rule in enumerate(block["rules"] if isinstance(block.get("rules"), list) else [])
        if isinstance(rule, dict)
    ]
    if form == SSE:
        check_sse(source, path, block, rules, shapes)
        return
    if "control" in block:
        message = f"`control` is for `format: {SSE}`: `{form}` has no control frames"
        source.add(source.key_at((*path, "control")), "no-effect", message, "remove it")
    openers: list[_Opener] = []
    for place, rule in rules:
        if source.enough:
            return
        check_part(source, place, form, rule)
        part = rule.get("as")
        if isinstance(part, str) and knows(form, part):
            check_data(source, place, part, rule, shapes)
            check_text(place, part, rule, shapes, expressions)
            check_edges(source, place, part, rule)
            opener = opener_of(source, place, part, rule, shapes)
            check_same(source, opener, openers)
            openers.append(opener)


# -- plain SSE ------------------------------------------------------------------------------------


def check_sse(
    source: Source,
    path: Path,
    block: Mapping[str, Any],
    rules: list[tuple[Path, dict[str, Any]]],
    shapes: Mapping[str, Any],
) -> None:
    """Keys that only another format has, and the guard."""
    others = alternatives(FORMATS[1:])
    if block.get("retry") == HOLD:
        message = f"`retry: {HOLD}` needs a `format` other than `{SSE}`"
        hint = f"write `format:` with {others}; or a duration, like `retry: 3s`"
        source.add(source.at((*path, "retry")), "needs-format", message, hint)
    if block.get("control") == "off":
        message = (
            "without control frames losses and retries are silent: text of a failed attempt stays on the page"
        )
        hint = "a page that can take them should: EventSource only delivers the names that it listens for"
        source.add(source.at((*path, "control")), "silent-losses", message, hint, WARNING)
    for place, rule in rules:
        if "as" in rule:
            message = (
                "`as` needs a `format`: this stream speaks plain SSE, where an event is what `data` says"
            )
            hint = f"write `format:` with {others} on the stream, or remove `as`"
            source.add(source.key_at((*place, "as")), "needs-format", message, hint)
    for place, rule in rules:
        found = foreign_word(place, rule, shapes)
        if found is not None:
            at, form, word = found
            message = (
                f"`{word}` is a word of a chat protocol, written by hand: its clients break at the first "
                "retry or gap, because they read this stream's control frames as messages"
            )
            hint = f"write `format: {form}` on the stream, and say with `as` what each event is"
            source.add(source.at(at), "format-by-hand", message, hint, WARNING)
            return


def foreign_word(path: Path, rule: dict[str, Any], shapes: Mapping[str, Any]) -> tuple[Path, str, str] | None:
    """The first word of a chat protocol that a rule writes: its place, the protocol's format, the word."""
    for place, name, text in written(path, rule, shapes):
        if name == OPENAI_KEY:
            return place, "openai", OPENAI_KEY
        for form, pattern in VOCABULARY:
            match = pattern.search(text)
            if match is not None:
                return place, form, next(group for group in match.groups() if group)
    return None


def written(path: Path, rule: dict[str, Any], shapes: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """Place, field and text of what a rule writes; constants as they would stand in an expression."""
    use = rule.get("use")
    groups: list[tuple[Path, Any, bool]] = [
        ((*path, "data"), rule.get("data"), False),
        ((*path, "const"), rule.get("const"), True),
    ]
    if isinstance(use, str):
        groups.append((("shapes", use), shapes.get(use), False))
    for place, value, constant in groups:
        fields = value if isinstance(value, dict) else {"": value}
        for name, text in fields.items():
            if isinstance(text, str):
                at = (*place, name) if isinstance(value, dict) else place
                yield at, str(name), f"'{text}'" if constant else text
            elif name == OPENAI_KEY:
                yield (*place, name), str(name), ""


# -- one rule of a format -------------------------------------------------------------------------


def check_part(source: Source, path: Path, form: str, rule: dict[str, Any]) -> None:
    """`as` is there, the format knows it, and no key is written that has no effect."""
    known = alternatives(tuple(KNOWN[form]))
    part = rule.get("as")
    if "as" not in rule:
        message = f"this rule needs `as`: what its events are in a message of `{form}`"
        source.add(source.at(path), "missing-as", message, f"write `as:` with {known}")
    elif isinstance(part, str) and is_part(part) and not knows(form, part):
        message = f"`{form}` has no `{part}`"
        better = [each for each in FORMATS if knows(each, part)]
        hint = f"it has {known}; `{part}` needs `format:` with {alternatives(tuple(better))}"
        source.add(source.at((*path, "as")), "unknown-as", message, hint)
    if "event" in rule:
        message = f"`event` has no effect: `{form}` has names of its own"
        source.add(
            source.key_at((*path, "event")), "no-effect", message, "remove it: `as` says what the event is"
        )


def fields_of(rule: dict[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of a rule's data with those of its shape and its constants; None where it has none."""
    own, use = rule.get("data"), rule.get("use")
    if own is not None and not isinstance(own, dict):
        return None
    groups = (shapes.get(use) if isinstance(use, str) else None, own, rule.get("const"))
    mappings = [group for group in groups if isinstance(group, dict)]
    return {name: text for group in mappings for name, text in group.items()} if mappings else None


def check_data(
    source: Source, path: Path, part: str, rule: dict[str, Any], shapes: Mapping[str, Any]
) -> None:
    """The data has what the part needs."""
    spec, fields = spec_of(part), fields_of(rule, shapes)
    written_key = next((key for key in ("data", "const") if key in rule), "as")
    place = source.at((*path, written_key))
    example = f"like `data: {spec.example}`"
    if not {"data", "use", "const"} & rule.keys():
        if spec.default is None:
            source.add(place, "missing-data", f"`as: {part}` needs `data`: {needs(spec)}", example)
        return
    if fields is None:
        return
    if spec.text:
        message = f"`as: {part}` needs one expression that gives text, and this is a mapping"
        source.add(place, "wrong-data", message, example)
        return
    missing = [name for name in spec.fields if name not in fields]
    if missing:
        message = f"`as: {part}` needs {alternatives(tuple(missing)).replace(' or ', ' and ')} in `data`"
        source.add(place, "missing-data", message, example)
    allowed = (*spec.fields, *spec.optional)
    for name in fields:
        if spec.fields and name not in allowed:
            message = f"`as: {part}` has no `{str(name)[:60]}`"
            hint = nearest(name, list(allowed)) or f"it has {alternatives(allowed).replace(' or ', ' and ')}"
            own = isinstance(rule.get("data"), dict) and name in rule["data"]
            at = source.key_at((*path, "data", name)) if own else place
            source.add(at, "wrong-data", message, hint)


def needs(spec: PartSpec) -> str:
    """What a part's data must be, in words."""
    if spec.fields:
        return ", ".join(f"`{name}`" for name in spec.fields)
    if spec.text:
        return spec.sentence
    return "an object" if spec.mapping else "what is sent"


def check_text(
    path: Path, part: str, rule: dict[str, Any], shapes: Mapping[str, Any], expressions: Expressions
) -> None:
    """Expressions that must give text cannot be seen to give anything else."""
    spec, fields = spec_of(part), fields_of(rule, shapes)
    events = tuple(sorted(events_of(expressions.source, path, rule))) or EVENT_TYPES
    payload = rule.get("payload") if isinstance(rule.get("payload"), str) else "text"
    known = event_fields(events, "text" if payload == "text" else "json")
    wanted: list[tuple[Path, Any]] = []
    if spec.text and isinstance(rule.get("data"), str):
        wanted = [((*path, "data"), rule["data"])]
    elif fields is not None and isinstance(rule.get("data"), dict):
        wanted = [((*path, "data", name), fields[name]) for name in spec.texts if name in rule["data"]]
    for place, text in wanted:
        expressions.lint(place, text, known, f"{events} {payload} text", "string")
    if spec.mapping and isinstance(rule.get("data"), str):
        expressions.lint((*path, "data"), rule["data"], known, f"{events} {payload} object", "object")


def events_of(source: Source, path: Path, rule: dict[str, Any]) -> frozenset[str]:
    """The events that a rule takes."""
    return taken((name for _, name in source.names((*path, "events"))), steps="steps" in rule)


def check_edges(source: Source, path: Path, part: str, rule: dict[str, Any]) -> None:
    """`as: step` marks where a step begins and ends."""
    if part != "step":
        return
    wrong = sorted(events_of(source, path, rule) - STEP_EDGES)
    if wrong:
        message = f"`as: step` is for the beginning and the end of a step, and this rule takes `{wrong[0]}`"
        hint = "take `step_started` and `step_completed`; the end of a step that was begun is written anyway"
        at = (*path, "events")
        source.add(source.at(at), "wrong-events", message, hint)


# -- two rules that open the same part ------------------------------------------------------------


def opener_of(
    source: Source, path: Path, part: str, rule: dict[str, Any], shapes: Mapping[str, Any]
) -> _Opener:
    """What a rule opens."""
    steps = tuple(name for _, name in source.names((*path, "steps"))) if "steps" in rule else None
    name = rule.get("name")
    found = (fields_of(rule, shapes) or {}).get("id")
    return _Opener(
        path,
        name if isinstance(name, str) else f"rules[{path[-1]}]",
        part,
        events_of(source, path, rule),
        steps,
        "when" in rule,
        found.strip() if isinstance(found, str) else None,
    )


def check_same(source: Source, rule: _Opener, before: list[_Opener]) -> None:
    """Reports that `rule` opens a part that it has opened already, or that an earlier rule opens."""
    at = (*rule.path, "as")
    if rule.part in TEXT_PARTS:
        if CHUNKS in rule.events and rule.events & REPEATS:
            again(
                source,
                at,
                rule.part,
                f"`{CHUNKS}`",
                sorted(rule.events & REPEATS)[0],
                error=not rule.conditional,
            )
            return
        for other in before:
            if other.part == rule.part and overlap(other, rule):
                check_same_text(source, at, rule, other)
                return
    elif rule.part in ("tool-input", "tool-output") and rule.id is not None:
        if CHUNKS in rule.events and SAME_FOR_ALL_CHUNKS.fullmatch(rule.id):
            message = f"every chunk would open the same tool call: `{rule.id}` is the same for all of them"
            hint = "take the id from the chunk, like `id: payload.id`"
            source.add(source.at((*rule.path, "data", "id")), "same-part", message, hint)
            return
        for other in before:
            same = other.part == rule.part and other.id == rule.id and overlap(other, rule)
            if same and SAME_FOR_ALL_CHUNKS.fullmatch(rule.id):
                message = (
                    f"`{other.name}` opens the same tool call: both have the id `{rule.id}` for these steps"
                )
                source.add(source.at(at), "same-part", message, "give each an id of its own", WARNING)
                return


def check_same_text(source: Source, at: Path, rule: _Opener, other: _Opener) -> None:
    """Two rules write text of one kind for the same step."""
    firm = not (rule.conditional or other.conditional)
    if CHUNKS in rule.events and CHUNKS in other.events:
        message = f"`{other.name}` opens the same part: both write the {rule.part} of these steps' chunks"
        hint = "their pieces are joined in the order of the chunks; where that is not meant, use another `as`"
        source.add(source.at(at), "same-part", message, hint, WARNING)
    elif CHUNKS in other.events and rule.events & REPEATS:
        again(source, at, rule.part, f"`{other.name}`", sorted(rule.events & REPEATS)[0], error=firm)
    elif CHUNKS in rule.events and other.events & REPEATS:
        again(source, at, rule.part, f"`{other.name}`", CHUNKS, error=firm)


def again(source: Source, at: Path, part: str, first: str, second: str, *, error: bool) -> None:
    """The text of a step would be shown twice."""
    message = f"the {part} would be shown twice: {first} opens it, and `{second}` has it again"
    hint = (
        f"write `whole: payload.text` on the rule for `{CHUNKS}`, which sends only what is missing at the end"
    )
    if error:
        source.add(source.at(at), "same-part", message, hint)
    else:
        source.add(source.at(at), "same-part", message, hint, WARNING)


def overlap(one: _Opener, other: _Opener) -> bool:
    """Whether two rules may take events of the same step."""
    runs = frozenset(RUN_EVENTS)
    if one.steps is None or other.steps is None or one.events & runs or other.events & runs:
        return True
    return any(a == b or matches((a,), b) or matches((b,), a) for a in one.steps for b in other.steps)
