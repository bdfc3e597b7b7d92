"""Checks the tests beside the rules: their streams exist, and their events are possible."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any, Final

from config.checks.event_names import RUN_EVENTS, event_problem, is_glob
from config.checks.step_names import step_problem
from config.expressions.types import EVENT_TYPES
from config.model.types import nearest
from config.problems import WARNING
from config.source.nodes import Path, Source, scalars
from config.source.scalars import trap

FIELDS: Final = (
    *("type", "step", "payload", "run_id", "step_run_id", "attempt", "index", "at", "metadata", "recovered"),
    *("workflow", "parent"),
)
EVENTS: Final = ("given", "expect")
CLIENT: Final = ("claims", "run", "request", "allowed")
CLIENT_KEYS: Final = {"run": ("id", "metadata"), "request": ("params", "origin")}
EXAMPLES: Final = {"given": "{type: step_completed}", "expect": "{data: {text: Hi}}"}
PARENT: Final = ("run_id", "step", "workflow")
WITHOUT_PAYLOAD: Final = frozenset({"step_started", "step_skipped", "step_cancelled", "run_cancelled"})
FAILURE: Final = {
    "step_retrying": ("message", "detail"),
    "step_failed": ("message", "detail"),
    "run_failed": ("message", "detail", "step"),
}


def check_tests(source: Source) -> None:
    """All tests of a file."""
    data = source.data if isinstance(source.data, dict) else {}
    tests, streams = data.get("tests"), data.get("streams")
    seen: set[str] = set()
    for number, test in enumerate(tests if isinstance(tests, list) else []):
        if not isinstance(test, dict) or source.enough:
            continue
        path: Path = ("tests", number)
        name = test.get("stream")
        if isinstance(name, str) and isinstance(streams, dict) and name not in streams:
            hint = nearest(name, list(streams)) or "the streams are " + ", ".join(streams)
            source.add(
                source.at((*path, "stream")), "unknown-stream", f"there is no stream `{name[:60]}`", hint
            )
        title = test.get("name")
        if isinstance(title, str) and title in seen:
            message = "another test has this name"
            source.add(
                source.at((*path, "name")),
                "duplicate-name",
                message,
                "write another name, which says what this test shows",
                WARNING,
            )
        seen.add(str(title))
        stream = streams.get(name) if isinstance(streams, dict) and isinstance(name, str) else None
        if not check_parts(source, path, test, stream):
            continue
        given = test.get("given")
        several = isinstance(given, list)
        for place, event in enumerate(given if isinstance(given, list) else [given]):
            if not isinstance(event, dict):
                continue
            if "recording" in event and not several:
                check_recording(source, (*path, "given"), event)
                continue
            where: Path = (*path, "given", place) if several else (*path, "given")
            GivenEvent(source, where, event, repaired=repairs_texts(stream)).check()
        for part in ("given", "expect"):
            check_traps(source, (*path, part))


def check_parts(source: Source, path: Path, test: dict[str, Any], stream: Any) -> bool:
    """Checks what a test consists of; returns whether it gives events, and not a client of `allow`."""
    events, client = [key for key in EVENTS if key in test], [key for key in CLIENT if key in test]
    if not client:
        for key in EVENTS:
            if key not in test:
                hint = f"like `{key}: {EXAMPLES[key]}`; a test of `allow` has `claims` and `allowed` instead"
                source.add(
                    source.key_at(path), "missing-key", f"the key `{key}` is missing in the test", hint
                )
        return True
    if events:
        message = f"`{client[0]}` tests `allow`, and `{events[0]}` tests the rules"
        source.add(source.key_at((*path, client[0])), "two-tests", message, "write two tests")
        return True
    if "allowed" not in test:
        message = "the key `allowed` is missing in the test"
        source.add(source.key_at(path), "missing-key", message, "write `allowed: true` or `allowed: false`")
    if isinstance(stream, dict) and "allow" not in stream:
        message = "the stream has no `allow`: everybody who may connect can read it"
        source.add(
            source.key_at((*path, client[0])), "no-allow", message, "write its `allow`, or remove the test"
        )
    for key, known in CLIENT_KEYS.items():
        given = test.get(key)
        for name in given if isinstance(given, dict) else ():
            if name not in known:
                place = source.key_at((*path, key, name))
                hint = nearest(str(name), known) or f"it has {' and '.join(f'`{each}`' for each in known)}"
                source.add(place, "unknown-key", f"`{key}` has no `{str(name)[:60]}`", hint)
    return False


def check_recording(source: Source, path: Path, given: dict[str, Any]) -> None:
    """A recording is a file beside the YAML, or in a folder below."""
    for key in given:
        if key != "recording":
            message = "beside `recording` there can be no other key: a recording has all the events"
            source.add(source.key_at((*path, key)), "unknown-key", message, f"remove `{str(key)[:60]}`")
    file, place = given["recording"], source.at((*path, "recording"))
    if not isinstance(file, str) or not file:
        source.add(
            place, "wrong-type", "`recording` is the name of a file", "like {recording: runs/chat.jsonl}"
        )
    elif PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
        message = "a recording lies beside this file, or in a folder below"
        source.add(place, "recording", message, "like {recording: runs/chat.jsonl}")


def repairs_texts(stream: Any) -> bool:
    """Whether a rule of the stream, as it stands in the file, has `whole`."""
    rules = stream.get("rules") if isinstance(stream, dict) else None
    return isinstance(rules, list) and any(isinstance(rule, dict) and "whole" in rule for rule in rules)


class GivenEvent:
    """The event that a test gives."""

    def __init__(self, source: Source, path: Path, event: dict[str, Any], *, repaired: bool) -> None:
        """The event at `path`; `repaired`: a rule of the stream has `whole`, so chunks can be recovered."""
        self.source, self.path, self.event, self.repaired = source, path, event, repaired
        self.type = event.get("type")

    def wrong(self, field: str, message: str, hint: str = "") -> None:
        self.source.add(self.source.at((*self.path, field)), "impossible-event", message, hint)

    def check(self) -> None:
        """The event's fields, then what such an event can have."""
        for key in self.event:
            if key not in FIELDS:
                place = self.source.key_at((*self.path, key))
                hint = nearest(key, FIELDS) or f"an event has {', '.join(FIELDS)}"
                self.source.add(place, "unknown-key", f"an event has no field `{key[:60]}`", hint)
        if "type" not in self.event:
            place = self.source.key_at(self.path)
            self.source.add(
                place, "missing-key", "the event's `type` is missing", f"one of {', '.join(EVENT_TYPES)}"
            )
            return
        if not isinstance(self.type, str):
            self.wrong("type", "an event's `type` is text", f"one of {', '.join(EVENT_TYPES)}")
            return
        found = event_problem(self.type)
        if found is not None or is_glob(self.type):
            message, hint = (
                found[1:]
                if found
                else ("a test gives one event, no glob", f"one of {', '.join(EVENT_TYPES)}")
            )
            self.wrong("type", message, hint)
            return
        self.check_step()
        self.check_numbers()
        self.check_others()
        self.check_payload()

    def check_step(self) -> None:
        """Step events have a step (one is filled in where none is given), run events have none."""
        step = self.event.get("step")
        if self.type in RUN_EVENTS:
            for field in ("step", "step_run_id", "attempt"):
                if self.event.get(field) is not None:
                    self.wrong(
                        field, f"`{self.type}` is about the whole run: its `{field}` is null", "remove it"
                    )
        elif "step" in self.event and (not isinstance(step, str) or not step):
            self.wrong("step", "an event's `step` is the step's name", "in quotes, if it looks like a number")
        elif isinstance(step, str) and (found := step_problem(step)) is not None:
            self.source.add(self.source.at((*self.path, "step")), *found, WARNING)

    def check_numbers(self) -> None:
        """Attempts count from 1, indices from 0, and only chunks have an index."""
        attempt, index = self.event.get("attempt"), self.event.get("index")
        if attempt is not None and self.type not in RUN_EVENTS and not number(attempt, 1):
            self.wrong("attempt", "`attempt` is a whole number from 1", "1 is the first try")
        if index is not None and self.type != "step_stream":
            self.wrong("index", f"only `step_stream` has an `index`, and this is `{self.type}`", "remove it")
        elif index is not None and not number(index, 0):
            self.wrong("index", "`index` is a whole number from 0", "0 is the first chunk of an attempt")

    def check_others(self) -> None:
        """Ids, times, metadata."""
        for field in ("run_id", "step_run_id", "at", "workflow"):
            if self.event.get(field) is not None and not isinstance(self.event[field], str):
                self.wrong(field, f"`{field}` is text", "put it in quotes")
        if "metadata" in self.event and not isinstance(self.event["metadata"], dict):
            self.wrong("metadata", "`metadata` is a mapping", "like {user_id: u1}")
        self.check_parent()
        if "recovered" in self.event and not isinstance(self.event["recovered"], bool):
            self.wrong("recovered", "`recovered` is true or false")
        elif self.event.get("recovered") is True and self.type == "step_stream" and not self.repaired:
            message = "`recovered` is true for a chunk only where a rule of the stream has `whole`"
            self.wrong("recovered", message, "remove it")

    def check_parent(self) -> None:
        """A child run's `parent` has the fields that the proxy fills in."""
        parent = self.event.get("parent")
        if parent is None:
            return
        if not isinstance(parent, dict):
            self.wrong("parent", "`parent` is a mapping", f"it has {', '.join(PARENT)}")
            return
        for key, value in parent.items():
            place = (*self.path, "parent", key)
            if key not in PARENT:
                hint = nearest(key, PARENT) or f"it has {', '.join(PARENT)}"
                self.source.add(
                    self.source.key_at(place), "unknown-key", f"`parent` has no field `{key[:60]}`", hint
                )
            elif value is not None and not isinstance(value, str):
                message = f"`{key}` of `parent` is text"
                self.source.add(self.source.at(place), "impossible-event", message, "put it in quotes")

    def check_payload(self) -> None:
        """What the payload of such an event can be."""
        payload = self.event.get("payload")
        if self.type == "step_stream":
            if "payload" in self.event and not isinstance(payload, str):
                hint = (
                    "write it as the worker sends it, in quotes; a rule with `payload: json` reads it as JSON"
                )
                self.wrong("payload", "a chunk's payload is text", hint)
        elif self.type in WITHOUT_PAYLOAD and payload is not None:
            self.wrong("payload", f"the payload of `{self.type}` is null", "remove it")
        elif self.type in FAILURE and payload is not None:
            known = FAILURE[str(self.type)]
            if not isinstance(payload, dict):
                self.wrong(
                    "payload", f"the payload of `{self.type}` is a mapping", f"it has {', '.join(known)}"
                )
                return
            for key in payload:
                if key not in known:
                    place = self.source.key_at((*self.path, "payload", key))
                    hint = nearest(key, known) or f"it has {', '.join(known)}"
                    self.source.add(
                        place, "impossible-event", f"the payload of `{self.type}` has no `{key[:60]}`", hint
                    )
        elif self.type == "run_completed" and payload is not None and not isinstance(payload, dict):
            self.wrong(
                "payload",
                "the payload of `run_completed` has each step's output by its name",
                "like {answer: {text: Hi}}",
            )


def number(value: Any, least: int) -> bool:
    """Whether `value` is an integer, no boolean, and at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_traps(source: Source, path: Path) -> None:
    """Warns of plain text in a test that a YAML 1.1 reader would read as another type."""
    node = source.node(path)
    for scalar in scalars(node) if node is not None else ():
        if scalar.style is None and isinstance(scalar.value, str) and scalar.substitution is None:
            meant = trap(scalar.value)
            if meant is not None and not re.fullmatch("[yYnN]", scalar.value):
                message = f"`{scalar.value}` is text here; YAML 1.1 would read {meant}"
                hint = f'write "{scalar.value}" in quotes' + (
                    ", or true or false" if meant == "a boolean" else ""
                )
                source.add(scalar.start, "yaml-1.1", message, hint, WARNING)
