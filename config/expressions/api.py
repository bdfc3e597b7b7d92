"""JMESPath for rules: expressions are linted, compiled once and evaluated within a budget.

    compile_expression("payload.items[0].name").evaluate(event) -> a JSON value
    compile_allow("claims.sub == run.metadata.user_id").permits(root) -> bool
    lint("payload.itmes") -> [Diagnostic(...)]

Evaluation ends soon (it has a budget) and gives JSON values only. An error never contains a value of the
event. An expression whose result could grow exponentially is not compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from config.expressions import lint as linter
from config.expressions import types
from config.expressions.ast import Diagnostic, ExpressionFailed, ExpressionProblem
from config.expressions.budget import TOO_MUCH, WORK_LIMIT, Meter, weigh
from config.expressions.comparison import falsy
from config.expressions.compiler import Lowering
from config.expressions.cost import COPIES_LIMIT, MOST_READINGS, copies_of, copies_of_all, readings_of
from config.expressions.parser import parse
from config.expressions.types import ALLOW_FIELDS, EVENT_FIELDS, Shape, event_fields
from config.expressions.validation import check_structure

RESULT_LIMIT: Final = 64 * 1024 * 1024
"""The largest value in characters of JSON: twice Hatchet's largest message (``max_message``, 32 MiB), so that
any payload can be sent once, but not several copies of a large one."""

FEW_COPIES: Final = 4
"""A result with at most so many copies of the event is not weighed: weighing takes time, and such a result
stays near RESULT_LIMIT."""


def check_size(value: Any) -> None:
    """Raise ExpressionFailed where `value` is too large to be written as JSON."""
    if weigh(value, Meter()) > RESULT_LIMIT:
        raise ExpressionFailed("gives a value that is too large to be sent")


class Expression:
    """A compiled expression, for one thread at a time."""

    def __init__(self, text: str, meter: Meter | None = None) -> None:
        """Compile `text`; raises ExpressionProblem. The owner of a shared `meter` fills it."""
        tree, tokens = parse(text)
        check_structure(tree, tokens)
        self.text = text
        self.tree = tree
        self.copies = copies_of(tree)
        self._meter = meter or Meter()
        self._fills = meter is None
        lowering = Lowering(self._meter)
        self.closure = lowering.lower(tree)
        self.plain = not lowering.metered and self.copies <= FEW_COPIES

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def evaluate(self, root: Mapping[str, Any]) -> Any:
        """The value on `root` (a dict of JSON values); raises ExpressionFailed."""
        if self.plain:
            return self.closure(root)
        if self._fills:
            self._meter.left = WORK_LIMIT
        try:
            result = self.closure(root)
        except ExpressionFailed:
            raise
        except Exception as error:
            # Python itself refuses: a number too large, a recursion too deep. Its text may quote values.
            raise ExpressionFailed(f"cannot be evaluated on this event ({type(error).__name__})") from None
        if self.copies > FEW_COPIES:
            check_size(result)
        return result

    def holds(self, root: Mapping[str, Any]) -> bool:
        """Whether the value is not false-like (JMESPath's: 0 is true); raises ExpressionFailed."""
        return not falsy(self.evaluate(root))


class AllowExpression:
    """A compiled `allow`: only true permits; any other value refuses, and so does an error."""

    def __init__(self, text: str) -> None:
        """Compile `text`; raises ExpressionProblem."""
        tree, tokens = parse(text)
        check_structure(tree, tokens)
        self.text = text
        self._meter = Meter()
        self._closure = Lowering(self._meter, strict=True).lower(tree)

    def permits(self, root: Mapping[str, Any]) -> bool:
        """Whether `root` (claims, run, request) is permitted; never raises."""
        return self.refusal(root) is None

    def refusal(self, root: Mapping[str, Any]) -> str | None:
        """Why `root` is refused, without a value of it; None where it is permitted."""
        self._meter.left = WORK_LIMIT
        try:
            result = self._closure(root)
        except ExpressionFailed as failed:
            return failed.reason
        except Exception as error:
            return f"cannot be evaluated ({type(error).__name__})"
        return None if result is True else "the expression is not true"


def compile_expression(text: str, meter: Meter | None = None) -> Expression:
    """Compile `when` or `data`; raises ExpressionProblem.

    Several expressions can share a `meter`; its owner sets `left` to WORK_LIMIT for each event.
    """
    return Expression(text, meter)


def compile_allow(text: str) -> AllowExpression:
    """Compile `allow`; raises ExpressionProblem."""
    return AllowExpression(text)


def readings(text: str) -> int:
    """How often `text` reads the event's longest text; 0 where it is no expression."""
    try:
        return readings_of(parse(text)[0])
    except ExpressionProblem:
        return 0


def lint(
    text: str, fields: Shape | Mapping[str, Any] = EVENT_FIELDS, result: str | None = None
) -> list[Diagnostic]:
    """The errors and warnings about `text`, in the order of their positions; never raises.

    `fields` is what the root has: EVENT_FIELDS, ALLOW_FIELDS, or `event_fields(...)` of a rule's events.
    `result` is the JSON type that the expression must give, like "string"; None where any will do.
    """
    try:
        tree, tokens = parse(text)
    except ExpressionProblem as problem:
        return [problem.diagnostic]
    return linter.diagnostics(text, tree, tokens, types.of(fields), result)


__all__ = [
    "ALLOW_FIELDS",
    "COPIES_LIMIT",
    "EVENT_FIELDS",
    "FEW_COPIES",
    "MOST_READINGS",
    "TOO_MUCH",
    "WORK_LIMIT",
    "AllowExpression",
    "Diagnostic",
    "Expression",
    "ExpressionFailed",
    "ExpressionProblem",
    "Meter",
    "check_size",
    "compile_allow",
    "compile_expression",
    "copies_of_all",
    "event_fields",
    "falsy",
    "lint",
    "readings",
]
