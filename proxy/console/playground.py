"""The playground: YAML and events in; problems, verdicts, frames and test results out. Nothing is kept.

The text is somebody's draft: it is checked without variables, no file is read for it, and Hatchet is not
called. Its tokens and keys are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from config.checks.checker import Checked, Form, check
from config.expressions.api import ExpressionProblem
from config.model.files import GrantBlock, SingleFile, StreamConfig, TeamConfig, TeamFile
from config.model.resolve import grant, team
from config.problems import errors
from config.source.variables import WithoutSecrets
from proxy.console.run_view import verdict_as_json
from proxy.core import json_codec
from proxy.core.events import Event
from proxy.rules.dry_run import Cause, DryRun, Made
from proxy.rules.ruleset import Rules
from proxy.rules.sample_event import GivenProblem, event_of
from proxy.rules.test_runner import TestResult, as_message, run_tests
from proxy.streams.format_preview import FormatPreview

MOST_TEXT: Final = 64 << 10
"""Characters of YAML: checking so much takes a fraction of a second in a thread of its own."""
MOST_EVENTS: Final = 200
FILE: Final = "streams.yaml"
NAME: Final = "playground"
WHOLE_FILE: Final = re.compile(r"^(hatchet|server|auth|limits)[ \t]*:", re.MULTILINE)
"""A key that only a whole file has, at the beginning of a line; without one the text is a team's file."""


class BadDraft(ValueError):
    """The request has no draft that can be looked at; the text says why."""


def play(draft: Mapping[str, Any]) -> dict[str, Any]:
    """The result for ``{yaml, stream, events}``; raises BadDraft. It takes CPU time: call it in a thread."""
    text, name, events = draft.get("yaml"), draft.get("stream"), draft.get("events", [])
    if not isinstance(text, str) or len(text) > MOST_TEXT:
        raise BadDraft(f"`yaml` must be a text of at most {MOST_TEXT // 1024} KiB")
    if not isinstance(events, list) or len(events) > MOST_EVENTS:
        raise BadDraft(f"`events` must be a list of at most {MOST_EVENTS} events")
    form = Form.SINGLE if WHOLE_FILE.search(text) else Form.TEAM
    checked = check(FILE, text.encode("utf-8", "replace"), form, WithoutSecrets(), secrets=False)
    found: dict[str, Any] = {
        "problems": [problem.as_json() for problem in checked.problems],
        "streams": [],
        "stream": None,
        "events": [],
        "tests": [],
    }
    if checked.model is None or errors(checked.problems):
        return found
    config = _team(checked, form)
    stream = config.streams.get(str(name)) or next(iter(config.streams.values()), None)
    found["streams"] = list(config.streams)
    found["tests"] = [_test(result) for result in run_tests(config)]
    if stream is not None:
        found["stream"] = stream.name
        found["events"] = _explain(stream, events)
    return found


def _team(checked: Checked, form: Form) -> TeamConfig:
    if form is Form.SINGLE:
        file = cast(SingleFile, checked.model)
        return team(grant(NAME, file), file)
    granted = GrantBlock.model_validate({"hatchet": {"token": NAME}})
    return team(grant(NAME, granted), cast(TeamFile, checked.model))


def _test(result: TestResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "stream": result.stream,
        "passed": result.passed,
        "problem": result.problem,
        "diff": [] if result.passed else result.diff,
    }


def _explain(stream: StreamConfig, given: Sequence[Any]) -> list[dict[str, Any]]:
    """What the stream makes of each event, one after the other."""
    try:
        rules = Rules(stream)
    except ExpressionProblem as problem:
        return [{"problem": f"an expression cannot be run: {problem.message}"}]
    preview, run = FormatPreview(stream), DryRun(rules, single=len(given) == 1)
    found: list[dict[str, Any]] = []
    last: dict[str, Any] | None = None  # the last event that could be read
    for each in given:
        try:
            event = _event(each)
        except (GivenProblem, json_codec.NotJson) as wrong:
            hint = f" ({wrong.hint})" if isinstance(wrong, GivenProblem) else ""
            found.append({"problem": f"{wrong}{hint}"})
            continue
        last = {"rules": [], "frames": "", "silence": None, "messages": []}
        _add(last, run.take(event), preview)
        found.append(last)
    if last is not None:
        _add(last, run.finish(), preview)
    return found


def _add(entry: dict[str, Any], made: Iterable[Made], preview: FormatPreview) -> None:
    """Add to an event's entry what the stream does when the event has come.

    Chunks that were merged are shown with the event that ended their waiting.
    """
    for each in made:
        frames = preview.write(each).decode("utf-8", "replace")
        message = as_message(each)
        entry["rules"] += [verdict_as_json(verdict) for verdict in each.verdicts]
        entry["frames"] += frames
        if message is not None:
            entry["messages"].append(message if message["event"] is not None else _unnamed(message))
        if not frames and (message is not None or each.cause is Cause.WAITS):
            entry["silence"] = preview.silence(each)
    if entry["frames"]:
        entry["silence"] = None


def _unnamed(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "event"}


def _event(given: Any) -> Event:
    if not isinstance(given, dict):
        raise GivenProblem("an event is a JSON object", 'like {"type": "step_started", "step": "answer"}')
    return event_of(given)
