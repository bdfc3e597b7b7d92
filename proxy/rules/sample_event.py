"""Makes an event from the fields that a person writes, for tests and `explain`; the others are filled in.

Only the fields that matter need to be written. A wrong field is refused with what to write instead. The
filled-in values are constants, so that a test has the same result everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from config.checks.event_names import event_problem
from config.expressions.types import EVENT_TYPES
from proxy.core import json_codec
from proxy.core.events import RUN_EVENTS, STEP_STREAM, Event

RUN_ID: Final = "00000000-0000-4000-8000-000000000001"
STEP_RUN_ID: Final = "00000000-0000-4000-8000-000000000002"
STEP: Final = "step"
AT: Final = "2026-01-01T00:00:00Z"

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "type": (str,),
    "step": (str, type(None)),
    "run_id": (str,),
    "step_run_id": (str, type(None)),
    "attempt": (int, type(None)),
    "index": (int, type(None)),
    "at": (str, type(None)),
    "metadata": (dict,),
    "recovered": (bool,),
    "workflow": (str, type(None)),
    "parent": (dict, type(None)),
}
_WORDS: Final = {str: "a text", int: "a whole number", dict: "a mapping", bool: "true or false"}
FIELDS: Final = (*_TYPES, "payload")


class GivenProblem(ValueError):
    """No such event is possible; the message says why, `hint` what to write instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def event_of(given: Mapping[str, Any]) -> Event:
    """The event with the fields `given`; raises GivenProblem."""
    _check(given)
    kind = given["type"]
    of_run = kind in RUN_EVENTS
    chunk = kind == STEP_STREAM
    filled: dict[str, Any] = {
        "run_id": RUN_ID,
        "step": None if of_run else STEP,
        "step_run_id": None if of_run else STEP_RUN_ID,
        "attempt": None if of_run else 1,
        "index": 0 if chunk else None,
        "at": AT,
    }
    payload = given.get("payload", "" if chunk else None)
    if chunk and not isinstance(payload, str):
        payload = json_codec.encode(payload).decode()  # a chunk is text: JSON is what a worker would send
    return Event(**{**filled, **given, "payload": payload})


def _check(given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in FIELDS:
            # swapped letters are the most common mistake, and difflib prefers other words then
            close = [field for field in FIELDS if sorted(field) == sorted(str(name))]
            close = close or get_close_matches(str(name), FIELDS, 1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(FIELDS)}"
            raise GivenProblem(f"an event has no field `{name}`", hint)
    if "type" not in given:
        raise GivenProblem("the event has no type", f"write type: and one of {', '.join(EVENT_TYPES)}")
    for name, types in _TYPES.items():
        value = given.get(name, given)  # itself where it is not written
        if value is not given and not _is(value, types):
            raise GivenProblem(
                f"the event's {name} must be {_WORDS[types[0]]}", f"write {name}: {_EXAMPLES[name]}"
            )
    _check_type(given)


_EXAMPLES: Final = {
    "type": "step_completed",
    "step": "start",
    "run_id": RUN_ID,
    "step_run_id": STEP_RUN_ID,
    "attempt": "1",
    "index": "0",
    "at": AT,
    "metadata": "{}",
    "recovered": "true",
    "workflow": "chat",
    "parent": "{run_id: …, step: plan, workflow: chat}",
}


def _is(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _check_type(given: Mapping[str, Any]) -> None:
    kind = given["type"]
    if kind not in EVENT_TYPES:
        found = event_problem(kind)
        several = ("an event has one type, and this is a glob", f"one of {', '.join(EVENT_TYPES)}")
        raise GivenProblem(*(several if found is None else found[1:]))
    if kind in RUN_EVENTS and given.get("step") is not None:
        raise GivenProblem(f"`{kind}` is about the run, it has no step", "remove the step")
    try:
        json_codec.encode(given.get("payload"))
    except json_codec.NotJson as error:
        raise GivenProblem(f"the payload {error}", "write a value that JSON has") from None
