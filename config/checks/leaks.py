"""Finds rules that forward a failure's `detail`, which holds tracebacks, or the outputs of all steps.

The rule's expressions are evaluated on a sample event whose detail is a marker, and the result is searched
for the marker. So it does not matter how an expression reaches the detail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from config.expressions.api import ExpressionFailed, ExpressionProblem, compile_expression
from config.problems import WARNING
from config.source.nodes import Path, Source

MARK: Final = "\x00the detail\x00"
FAILURES: Final = ("step_failed", "run_failed", "step_retrying")
ENDS: Final = "run_completed"
SAFER: Final = "send payload.message, or a constant like \"'Something went wrong'\""


def sample(event: str) -> dict[str, Any]:
    """A sample event whose payload has the marker in the place that should not be forwarded."""
    payload: dict[str, Any] = {"message": "m", "detail": MARK, "step": "s"}
    if event == ENDS:
        payload = {MARK: {"output": 1}}
    run = event.startswith("run_")
    return {
        "type": event,
        "step": None if run else "s",
        "payload": payload,
        "run_id": "r",
        "step_run_id": None if run else "i",
        "attempt": None if run else 1,
        "index": None,
        "first_index": None,
        "at": "2026-01-01T00:00:00Z",
        "metadata": {},
        "recovered": False,
        "workflow": "w",
        "parent": None,
    }


def lets_out(text: str, event: str) -> bool:
    """Whether an expression's result has the marker."""
    try:
        return marked(compile_expression(text).evaluate(sample(event)))
    except (ExpressionProblem, ExpressionFailed):
        return False


def marked(value: Any) -> bool:
    """Whether a value contains the marker."""
    if isinstance(value, str):
        return MARK in value
    if isinstance(value, Mapping):
        return any(marked(key) or marked(inner) for key, inner in value.items())
    return isinstance(value, list | tuple) and any(marked(inner) for inner in value)


def check_details(source: Source, data: Iterable[tuple[Path, Any]], events: Iterable[str]) -> None:
    """Warns at each expression of a rule that forwards a detail, or a run's whole output."""
    failing = [event for event in FAILURES if event in events]
    ending = [ENDS] if ENDS in events else []
    for path, text in data:
        node = source.node(path)
        if not isinstance(text, str) or node is None or node.start in source.spoiled or source.enough:
            continue
        if found := next((event for event in failing if lets_out(text, event)), None):
            message = f"this forwards the `detail` of `{found}`, and details hold tracebacks"
            source.add(node.start, "detail", message, SAFER, WARNING)
        elif any(lets_out(text, event) for event in ending):
            message = f"this forwards every step's output: that is the payload of `{ENDS}`"
            source.add(
                node.start, "detail", message, "name what is needed, like payload.answer.text", WARNING
            )
