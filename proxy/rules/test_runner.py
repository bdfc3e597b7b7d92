"""The tests that stand beside the rules: an event in, the message that is expected, a verdict with reasons.

Data is compared as JSON values: the order of an object's fields does not matter, 1 is not true, 1 is 1.0.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from config.expressions.api import ExpressionProblem
from config.model.files import TeamConfig, TestConfig
from config.problems import ERROR, Place, Problem
from proxy.core import json_codec
from proxy.rules.ruleset import Rules, Verdict
from proxy.rules.sample_event import GivenProblem, event_of

NOTHING: Final = "nothing"


@dataclass(frozen=True, slots=True)
class Trial:
    """One test that was run."""

    name: str
    stream: str
    passed: bool
    problem: str | None = None  # why it could not be run at all
    expected: str = NOTHING
    got: str = NOTHING
    verdicts: tuple[Verdict, ...] = ()

    @property
    def decided(self) -> str | None:
        """The rule that decided; None where none matched."""
        return next((verdict.rule for verdict in self.verdicts if verdict.matched), None)

    @property
    def diff(self) -> list[str]:
        """What differs, line by line: ``- `` expected, ``+ `` got."""
        lines = difflib.ndiff(self.expected.splitlines(), self.got.splitlines())
        return [line.rstrip("\n") for line in lines if not line.startswith("? ")]


def run_tests(team: TeamConfig) -> list[Trial]:
    """Run all tests of a team, in order."""
    rules: dict[str, Rules] = {}
    return [_run(test, team, rules) for test in team.tests]


def failures(team: TeamConfig, places: Sequence[Place] = ()) -> tuple[Problem, ...]:
    """The team's failing tests as problems, for a reload; without any payload.

    `places` says where each test stands; a team that no file tells has none.
    """
    known = places or ((f"tests of {team.name}", 1, 1),) * len(team.tests)
    return tuple(
        Problem(
            *place,
            ERROR,
            "test-failed",
            f"the test `{trial.name}` of stream `{trial.stream}` {_shortly(trial)}",
            "run stream-proxy test to see what differs",
        )
        for trial, place in zip(run_tests(team), known, strict=True)
        if not trial.passed
    )


def unreached(team: TeamConfig, trials: Iterable[Trial]) -> list[tuple[str, str]]:
    """(stream, rule) of every rule that decided no test."""
    reached = {(trial.stream, trial.decided) for trial in trials}
    return [
        (stream.name, rule.name)
        for stream in team.streams.values()
        for rule in stream.rules
        if (stream.name, rule.name) not in reached
    ]


def _shortly(trial: Trial) -> str:
    if trial.problem is not None:
        return f"cannot be run: {trial.problem}"
    if NOTHING in (trial.expected, trial.got):
        return f"expected {_kind(trial.expected)} and got {_kind(trial.got)}"
    return "got another message than it expected"


def _kind(said: str) -> str:
    return said if said == NOTHING else "a message"


def _run(test: TestConfig, team: TeamConfig, compiled: dict[str, Rules]) -> Trial:
    stream = team.streams.get(test.stream)
    if stream is None:
        names = ", ".join(team.streams) or "none"
        problem = f"there is no stream `{test.stream}` (there are: {names})"
        return Trial(test.name, test.stream, False, problem)
    try:
        if test.stream not in compiled:
            compiled[test.stream] = Rules(stream)
        event = event_of(test.given)
    except GivenProblem as wrong:
        return Trial(test.name, test.stream, False, f"given: {wrong.message} ({wrong.hint})")
    except ExpressionProblem as wrong:
        return Trial(test.name, test.stream, False, f"an expression cannot be run: {wrong.message}")
    verdicts = tuple(compiled[test.stream].verdicts(event))
    message = next((verdict.message for verdict in verdicts if verdict.message is not None), None)
    got: Any = NOTHING
    if message is not None:
        got = {"event": message.event, "data": json_codec.decode(message.data.decode())}
    expected: Any = test.expect
    if isinstance(expected, dict):
        expected = {"event": expected.get("event"), "data": expected.get("data")}
    return Trial(test.name, test.stream, same(expected, got), None, _told(expected), _told(got), verdicts)


def same(one: Any, other: Any) -> bool:
    """Equal as JSON values."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _told(said: Any) -> str:
    """A message as lines, for the diff."""
    if said == NOTHING:
        return NOTHING
    data = json.dumps(said["data"], indent=2, ensure_ascii=False, sort_keys=True)
    event = [] if said["event"] is None else [f"event: {said['event']}"]
    return "\n".join([*event, f"data: {data}"])
