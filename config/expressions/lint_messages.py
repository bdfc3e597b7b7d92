"""The diagnostics about fields, types and literals, for readers who have never seen JMESPath."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Final

from config.expressions.ast import Diagnostic, Node, Token, Written
from config.expressions.cost import LARGE_TEXT
from config.expressions.functions import FUNCTIONS, Param
from config.expressions.notations import as_json
from config.expressions.syntax_hints import joined
from config.expressions.types import Shape
from config.expressions.validation import usage


def _spellings(word: str) -> tuple[str, str, str]:
    return word, word.title(), word.upper()


_CONSTANTS: Final = {
    **{name: f"`{name.lower()}`" for each in ("true", "false", "null") for name in _spellings(each)},
    **dict.fromkeys(("None", "nil", "undefined", "NaN", "nan", "Infinity"), "`null`"),
}
_MEANT: Final = {
    **dict.fromkeys(("data", "body"), "payload"),
    **dict.fromkeys(("workflowRunId", "workflow_run_id", "WORKFLOW_RUN_ID"), "run_id"),
    **dict.fromkeys(("stepName", "step_name", "task", "task_name", "name"), "step"),
    **dict.fromkeys(("time", "timestamp", "created_at"), "at"),
    **dict.fromkeys(("retry", "retry_count", "retryCount"), "attempt"),
    **dict.fromkeys(("event_type", "kind"), "type"),
}
_OF_ALLOW: Final = {
    "metadata": "the run's metadata is run.metadata",
    **dict.fromkeys(("id", "run_id", "workflowRunId"), "the run's id is run.id"),
    **dict.fromkeys(("params", "query"), "the request's parameters are request.params"),
    "origin": "the page's origin is request.origin",
    **dict.fromkeys(
        ("payload", "step", "type", "attempt", "workflow"), "allow sees no event: it has claims, run, request"
    ),
    **dict.fromkeys(
        ("user", "token", "jwt", "auth", "subject", "user_id"), "the token's subject is claims.sub"
    ),
}
"""Under `allow`: what is meant by a name that its root does not have."""

_NUMERIC: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_WORD_ENDS: Final = frozenset(
    {"literal", "unquoted_identifier", "quoted_identifier", "rparen", "rbracket", "rbrace", "current"}
)
_WORD_BEGINS: Final = frozenset({"literal", "unquoted_identifier", "quoted_identifier", "current", "not"})
_DEFAULTS: Final = {"array": "`[]`", "object": "`{}`", "number": "`0`", "string": "''"}
_A: Final = {"any": "anything", "array": "an array", "object": "an object", "null": "null"}


def _instead(literal: str) -> str:
    """What to write for a literal that is no JSON."""
    if literal in ("True", "False", "None"):
        return f"the constant is `{'null' if literal == 'None' else literal.lower()}`"
    if "${" in literal:
        return f"there are no templates: {joined(literal)}"
    return as_json(literal) or f"write the text in single quotes: '{literal.strip(chr(39))}'"


def words(tokens: list[Token]) -> Iterator[Diagnostic]:
    """Diagnostics from the tokens alone: literals that became strings, commas that the parser accepts."""
    for token in tokens:
        if token.old_literal:
            yield Diagnostic(
                token.position,
                "error",
                "literal-string",
                "the text in the backticks is not JSON, so it would be a string",
                _instead(str(token.value)),
            )
    for before, token in pairwise(tokens):
        if before.kind in ("eq", "ne") and token.kind == "flatten":
            yield Diagnostic(
                token.position,
                "error",
                "empty-list",
                "`[]` alone goes through this object's entries",
                "the empty list is `[]`, in backticks",
            )
        if before.kind in _WORD_ENDS and token.kind in _WORD_BEGINS:
            yield Diagnostic(
                token.position, "error", "missing-comma", "a comma is missing before this", "write (a, b)"
            )


def unknown_field(node: Node, value: Shape, quoted: bool) -> Diagnostic:
    """An object whose fields are known does not have this one."""
    name, fields = node.value, value.fields or {}
    where = f"`{value.written}`" if value.written else "the event" if "payload" in fields else "the root"
    close = get_close_matches(name, fields, 1)
    if name in _CONSTANTS:
        hint = f"the constant stands in backticks: {_CONSTANTS[name]}"
    elif quoted:
        hint = f"double quotes name a field; a text stands in single quotes: '{name}'"
    elif name in _MEANT and _MEANT[name] in fields:
        hint = f"did you mean {_MEANT[name]}?"
    elif name == "claims" and "payload" in fields:
        hint = "`claims` exists only under `allow`, where it is decided who may read a run"
    elif close:
        hint = f"did you mean {close[0]}?"
    elif "payload" in fields:
        hint = f"a step's output is under payload: payload.{name}; a text stands in single quotes: '{name}'"
    elif "claims" in fields:
        hint = _OF_ALLOW.get(name, f"what the token claims is under claims: claims.{name}")
    else:
        hint = f"it has {', '.join(fields)}"
    return Diagnostic(node.position, "error", "unknown-field", f"{where} has no field `{name}`", hint)


def root_named(first: Node, second: Node, root: Shape, text: str) -> Diagnostic | None:
    """``event.payload.x``: the event is the root and has no name."""
    fields = root.fields or {}
    if first.value in fields or second.value not in fields:
        return None
    start = "the event" if "payload" in fields else "the root"
    message = f"there is no `{first.value}` here: an expression starts at {start} already"
    path = re.match(r"[\w.\"\[\]@*-]+", text[second.position :])
    return Diagnostic(
        first.position, "error", "unknown-field", message, f"write {path[0] if path else second.value}"
    )


def no_fields(node: Node, value: Shape) -> Diagnostic:
    """A text or a number has no fields."""
    what = _what(value)
    hint = f"write {value.written} alone" if value.written else None
    if value.kind == "null":
        message, hint = f"{what} is always null here, it has no field `{node.value}`", None
    else:
        message = f"{what} is {_a(value.kind)}, it has no field `{node.value}`"
    if value.path and value.path[-1] == "payload" and value.kind == "array":
        hint = f"with `merge` it holds several chunks: write payload[].{node.value} for the field of each"
    if value.path and value.path[-1] == "payload" and value.kind == "string":
        hint = "to read chunks as JSON write payload: json in the rule"
    severity = "warning" if value.path and value.path[-1] == "payload" else "error"  # it comes out null
    return Diagnostic(node.position, severity, "no-fields", message, hint)


def too_many_readings(tree: Node, count: int) -> Diagnostic:
    """On a long text the expression is stopped by its budget."""
    message = f"this reads a text {count} times: on a text of {LARGE_TEXT >> 10} KiB it would be stopped"
    hint = "test the type and the step first, in rules of their own; or search for fewer words"
    return Diagnostic(tree.position, "warning", "cost", message, hint)


def bare_constant(node: Node) -> Diagnostic | None:
    """``true`` without backticks is a field's name, and such a field is null nearly everywhere."""
    constant = _CONSTANTS.get(node.value)
    if constant is None:
        return None
    message = f"`{node.value}` without backticks is a field's name and no constant"
    if node.value.lower() in ("nan", "infinity"):
        hint = "JSON has no such number: write `null`"
    else:
        hint = f"the constant stands in backticks: {constant}"
    return Diagnostic(node.position, "error", "bare-constant", message, hint)


def not_first(node: Node, written: Written) -> Diagnostic:
    """``!a.b`` and ``!a == 'x'``: JMESPath's `!` binds before everything else."""
    message = "`!` applies to the name right after it, not to all of this"
    hint = f"write !({written.operand(node.position)})"
    return Diagnostic(node.position, "error", "not-first", message, hint)


def piped_into_a_name(node: Node, written: Written) -> Diagnostic:
    """``items | length`` asks the list for a field called length."""
    name = str(node.value)
    left = written.left_of(node.position)
    call = f"{name}({left})" if FUNCTIONS[name].required == 1 else usage(name)
    message = f"after a | `{name}` is the name of a field, not a call of the function"
    hint = f'write {call}; for a field of that name write "{name}" in double quotes'
    return Diagnostic(node.position, "warning", "not-called", message, hint)


def division_by_zero(divisor: Node) -> Diagnostic | None:
    """``div(a, `0`)`` fails on every event."""
    if divisor.kind != "literal" or type(divisor.value) not in (int, float) or divisor.value != 0:
        return None
    hint = "divide by another number; where it may be 0: if(total == `0`, `0`, div(done, total))"
    return Diagnostic(divisor.position, "error", "division-by-zero", "div() cannot divide by 0", hint)


def property_length(node: Node, value: Shape) -> Diagnostic | None:
    """``items.length`` is a field's name here."""
    if value.path is None or value.path[0] != 0 or value.written is None:
        return None
    message = f"`{value.written}.length` is a field called length, not the number of characters or entries"
    hint = f'write length({value.written}); for a field of that name write {value.written}."length"'
    return Diagnostic(node.position, "warning", "no-fields", message, hint)


def not_a_list(node: Node, value: Shape) -> Diagnostic | None:
    """``[0]`` or ``[0:9]`` on what is no list: always null."""
    if value.kind in ("any", "array", "null"):
        return None
    part = "a slice" if node.kind == "slice" else "an index"
    message = f"{part} is for lists, and {_what(value)} is {_a(value.kind)}: this is always null"
    hint = "name a list, like payload.items"
    if value.kind == "string":
        hint = _slice_call(node, value.written or "@")
    elif value.kind == "object":
        hint = "name a field of it, or its values: values(…)[0]"
    return Diagnostic(node.position, "warning", "not-a-list", message, hint)


def _slice_call(node: Node, what: str) -> str:
    start, stop = (node.value, node.value + 1) if node.kind == "index" else node.value[:2]
    if node.kind == "slice" and node.value[2] not in (None, 1):
        return f"of a text slice() takes the characters in order: slice({what}, `0`, `100`)"
    end = "null" if stop is None or (node.kind == "index" and stop == 0) else str(stop)
    return f"for a part of a text write slice({what}, `{start or 0}`, `{end}`)"


def nothing_to_go_through(node: Node, base: Shape) -> Diagnostic | None:
    """``[*]``, ``[?…]``, ``[]`` or ``.*`` on a value that has no elements: always null."""
    wanted = "object" if node.kind == "value_projection" else "array"
    if base.kind in ("any", "null", wanted):
        return None
    message = f"{_what(base)} is {_a(base.kind)}, so there is nothing to go through: this is always null"
    hint = "name a list, like payload.items"
    if wanted == "object":
        hint = "write [*] for the elements of a list" if base.kind == "array" else "name an object"
    elif base.kind == "object":
        hint = "write .* for the values of an object"
    elif base.path and base.path[-1] == "payload":
        hint = "to read chunks as JSON write payload: json in the rule"
    return Diagnostic(node.position, "warning", "not-a-list", message, hint)


def ordering(node: Node, sides: tuple[Shape, Shape], written: Written) -> Diagnostic | None:
    """``<`` and its like: only two numbers or two texts have an order, and a text's is by characters."""
    kinds = [side.kind for side in sides]
    literals = [child.value if child.kind == "literal" else None for child in node.children]
    digits = next((each for each in literals if isinstance(each, str) and _NUMERIC.fullmatch(each)), None)
    unlike = "any" not in kinds and (kinds[0] != kinds[1] or kinds[0] not in ("number", "string"))
    hopeless = next((kind for kind in kinds if kind in ("array", "object", "boolean", "null")), None)
    if unlike or hopeless is not None:
        what = " and ".join(_a(kind) for kind in kinds if kind != "any")
        message = f"this is never true: only two numbers or two texts have an order, and here is {what}"
        hint = _order_hint(node, sides, digits, hopeless, written)
        return Diagnostic(node.position, "error", "never-ordered", message, hint)
    if digits is not None:
        message = "this compares texts, character by character: '10' comes before '5', and no number compares"
        return Diagnostic(node.position, "warning", "text-order", message, f"write the number: `{digits}`")
    if "string" in kinds and "any" in kinds:
        other = sides[kinds.index("any")]
        what = other.written or "…"
        message = f"this is never true where {_what(other)} is a number: a text is only compared with a text"
        hint = f"if both are texts, ask first: type({what}) == 'string' && {written.comparison(node)}"
        return Diagnostic(node.position, "warning", "text-order", message, hint)
    return None


def _order_hint(
    node: Node, sides: tuple[Shape, Shape], digits: str | None, hopeless: str | None, written: Written
) -> str:
    first = node.children[0]
    if first.kind == "not_expression":
        return f"write !({written.operand(first.position)})"
    if hopeless == "null":
        return "to test whether it is there write != `null`"
    if hopeless == "boolean":
        return "compare with == `true` or == `false`"
    if hopeless is not None:
        found = next(side for side in sides if side.kind == hopeless)
        return f"compare a number of it, like length({found.written or '…'})"
    if digits is not None:
        return f"write the number: `{digits}`"
    named = next((side for side in sides if side.kind == "string" and side.written), None)
    if named is not None and named.written == "at":
        return "`at` is a time as text: compare it with a text like '2026-01-31T00:00:00Z'"
    return f"read the text as a number: to_number({named.written if named else '…'})"


def contains_in_a_text(node: Node, subject: Shape, written: Written) -> Diagnostic:
    """Under `allow` ``contains('administrator', 'admin')`` would let in."""
    what, *rest = written.arguments(node)
    message = f"where {_what(subject)} is a text, contains() looks for a part of it: 'admin' is in 'nonadmin'"
    if subject.kind == "string":
        message = f"{_what(subject)} is a text, and contains() finds parts of it: 'admin' is in 'nonadmin'"
    hint = f"let it search a list only: contains({', '.join([f'to_array({what})', *rest])})"
    return Diagnostic(node.position, "warning", "contains-in-text", message, hint)


def double_quotes(node: Node) -> Diagnostic:
    """``== "x"`` compares with a field, which is rarely meant."""
    message = f'"{node.value}" in double quotes is a field, not a text'
    hint = f"a text stands in single quotes: '{node.value}'"
    return Diagnostic(node.position, "warning", "double-quotes", message, hint)


def null_comparison(node: Node) -> Diagnostic:
    """`allow` refuses where a side of a comparison is null."""
    message = "under allow a comparison with null refuses everybody"
    hint = "take it out: what is missing is refused anyway"
    return Diagnostic(node.position, "warning", "null-comparison", message, hint)


def wrong_result(tree: Node, result: Shape, wanted: str) -> Diagnostic:
    """The expression can never give the type that is needed."""
    message = f"this must give {_a(wanted)}, and it gives {_a(result.kind)}"
    hint = "name the field of the output that holds it, like payload.answer"
    if wanted == "string" and result.kind in ("number", "boolean") and result.written:
        hint = f"{hint}; or write it as text: to_string({result.written})"
    return Diagnostic(tree.position, "error", "wrong-result", message, hint)


def never_true(tree: Node, result: Shape) -> Diagnostic:
    """`allow` permits for true only, not for what is true-like elsewhere."""
    message = f"`allow` lets in only for true, and this gives {_a(result.kind)}: everybody is refused"
    hint = (
        "write a comparison, e.g. length(…) > `0`"
        if result.kind == "array"
        else "write a comparison, with =="
    )
    return Diagnostic(tree.position, "warning", "never-true", message, hint)


def no_such_choice(literal: Node, side: Shape) -> Diagnostic:
    """A field whose possible texts are known is compared with another text."""
    close = get_close_matches(literal.value, side.choices, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"here it is one of {', '.join(side.choices)}"
    message = f"`{side.written}` is never '{literal.value}'"
    return Diagnostic(literal.position, "warning", "never-equal", message, hint)


def never_equal(node: Node, side: Shape, other: Shape) -> Diagnostic:
    """The types of both sides are known and differ."""
    verdict = "never" if node.value == "eq" else "always"
    what = f"`{side.written}`" if side.written else "the one side"
    return Diagnostic(
        node.position,
        "warning",
        "never-equal",
        f"this is {verdict} true: {what} is {_a(side.kind)}, the other side {_a(other.kind)}",
        "numbers stand in backticks, `1`, texts in single quotes, '1'",
    )


def argument(
    name: str, node: Node, shape: Shape, param: Param, *, written: Sequence[str] = (), index: int = 0
) -> Diagnostic | None:
    """The error or warning about an argument of this shape, if any.

    `written`: all arguments of the call as text, of which this is the one at `index`; without them it is an
    element of a list.
    """
    if not param.types or node.kind == "expref" or "expression" in param.types:
        return None
    if shape.kind not in ("any", "null", *param.types):
        message = f"{name}() takes {param.wanted}, but {_what(shape)} is {_a(shape.kind)}"
        hint = _conversion(name, shape, param)
        return Diagnostic(node.position, "warning", "argument-type", message, hint)
    if not shape.nullable or "null" in param.types:
        return None
    default = next(text for kind, text in _DEFAULTS.items() if kind in param.types)
    guarded = f"not_null({written[index] if written else shape.written or '…'}, {default})"
    call = f"{name}({', '.join([*written[:index], guarded, *written[index + 1 :]])})" if written else guarded
    message = f"{name}() fails where {_what(shape)} is missing or null"
    return Diagnostic(node.position, "warning", "may-be-missing", message, f"give it a default: {call}")


def _conversion(name: str, shape: Shape, param: Param) -> str:
    what = shape.written or "…"
    if "string" in param.types and shape.kind in ("number", "boolean"):
        return f"as text: to_string({what})"
    if "number" in param.types and shape.kind == "string":
        return f"as a number: to_number({what})"
    if shape.kind in param.elements:
        return f"as an array: [{what}]"
    if shape.kind == "array" and FUNCTIONS[name].required == 1:
        return f"for each of its elements: map(&{name}(@), {what})"
    return f"write {usage(name)}"


def _what(shape: Shape) -> str:
    return f"`{shape.written}`" if shape.written else "this"


def _a(kind: str) -> str:
    return _A.get(kind, f"a {kind}")
